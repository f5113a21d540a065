import { symlink } from 'node:fs/promises';
import { join } from 'node:path';

import test from 'ava';

import { TensorError, findData, listFolder, openDataset, splitFolder } from '../../src/index.js';
import { temporaryFolder } from '../helpers/files.js';
import { flat, pixelAt, toSharp } from '../helpers/images.js';

const red = await toSharp(flat(4, 6, [255, 0, 0]))
  .png()
  .toBuffer();
const blue = await toSharp(flat(4, 6, [0, 0, 255]))
  .png()
  .toBuffer();

test('classes and images are in the order of their names, with images in folders below', async (t) => {
  const root = await temporaryFolder(t, {
    'dog/b.png': red,
    'dog/a.PNG': blue,
    'cat/deep/er/c.jpeg': red,
    'cat/z.webp': red,
    'ant eater/1.gif': red,
  });
  const spec = await listFolder(root);
  t.deepEqual(spec.classes, ['ant eater', 'cat', 'dog']);
  t.deepEqual(spec.files, [
    join('ant eater', '1.gif'),
    join('cat', 'deep', 'er', 'c.jpeg'),
    join('cat', 'z.webp'),
    join('dog', 'a.PNG'),
    join('dog', 'b.png'),
  ]);
  t.deepEqual([...spec.labels], [0, 1, 1, 2, 2]);
  const dataset = await openDataset(spec);
  t.is(dataset.length, 5);
  t.is(dataset.label(4), 2);
  t.is(dataset.where(4), join(root, 'dog', 'b.png'));
  const image = await dataset.read(3);
  t.deepEqual([image.height, image.width, ...pixelAt(image, 0, 0)], [4, 6, 0, 0, 255]);
  await t.throwsAsync(() => dataset.read(5), { message: /expected an image below 5 of .*, got 5/ });
});

test('what is no image is not seen: other files, hidden ones, folders named like images', async (t) => {
  const root = await temporaryFolder(t, {
    'README.txt': 'about',
    'lone.png': red,
    '.git/x.png': red,
    'cat/a.png': red,
    'cat/._a.png': 'attributes of a Mac',
    'cat/.cache/b.png': red,
    'cat/notes.txt': 'notes',
    'cat/Thumbs.db': 'thumbs',
    'cat/album.png/b.png': red,
  });
  const spec = await listFolder(root);
  t.deepEqual(spec.classes, ['cat']);
  t.deepEqual(spec.files, [join('cat', 'a.png'), join('cat', 'album.png', 'b.png')]);
});

test('links to class folders and to images count, links to nowhere do not', async (t) => {
  const elsewhere = await temporaryFolder(t, { 'a.png': red });
  const root = await temporaryFolder(t, { 'cat/x.png': red });
  await symlink(elsewhere, join(root, 'dog'));
  await symlink(join(elsewhere, 'a.png'), join(root, 'cat', 'y.png'));
  await symlink(join(elsewhere, 'gone'), join(root, 'elk'));
  const spec = await listFolder(root);
  t.deepEqual(spec.classes, ['cat', 'dog']);
  t.deepEqual(spec.files, [join('cat', 'x.png'), join('cat', 'y.png'), join('dog', 'a.png')]);
});

test('a folder without images, or that is none, is an error that names it', async (t) => {
  const root = await temporaryFolder(t, { 'cat/notes.txt': 'notes', 'file.txt': '' });
  await t.throwsAsync(listFolder(root), {
    instanceOf: TensorError,
    message: `openDataset: expected images in folders by class in ${root}, found none`,
  });
  await t.throwsAsync(listFolder(join(root, 'nowhere')), {
    instanceOf: TensorError,
    message: `openDataset: expected a folder at ${root}/nowhere, got ENOENT: no such file or directory, scandir '${root}/nowhere'`,
  });
  const empty = await temporaryFolder(t);
  await t.throwsAsync(findData(empty), { message: /expected images in folders by class in .*, found none$/ });
});

test('a class without images is an error that names it; in validation it may be', async (t) => {
  const root = await temporaryFolder(t, {
    'train/cat/1.png': red,
    'train/dog/1.png': red,
    'val/cat/2.png': blue,
    'val/dog/notes.txt': 'none yet',
  });
  const { val } = await findData(root);
  t.deepEqual([val.kind, (await openDataset(val)).length], ['folder', 1]);
  const gaps = await temporaryFolder(t, { 'cat/1.png': red, 'dog/.1.png': red, 'elk/notes.txt': 'none yet' });
  await t.throwsAsync(listFolder(gaps), {
    instanceOf: TensorError,
    message: `openDataset: expected images in each folder of ${gaps}, found none in dog, elk`,
  });
});

test('one image of each class leaves none for validation, which is an error', async (t) => {
  const root = await temporaryFolder(t, { 'cat/1.png': red, 'dog/1.png': red, 'elk/1.png': red });
  await t.throwsAsync(findData(root), {
    instanceOf: TensorError,
    message: `splitFolder: expected two images of a class in ${root}, one of them for validation, got one of each`,
  });
});

test('a folder with train and val takes the classes of train, and val may lack one', async (t) => {
  const root = await temporaryFolder(t, {
    'train/cat/1.png': red,
    'train/dog/1.png': red,
    'train/elk/1.png': red,
    'validation/elk/2.png': blue,
  });
  const { train, val } = await findData(root);
  const [trainSet, valSet] = [await openDataset(train), await openDataset(val)];
  t.deepEqual(trainSet.classes, ['cat', 'dog', 'elk']);
  t.deepEqual(valSet.classes, ['cat', 'dog', 'elk']);
  t.deepEqual([valSet.length, valSet.label(0)], [1, 2]);
});

test('a validation folder of an unknown class is an error', async (t) => {
  const root = await temporaryFolder(t, {
    'train/cat/1.png': red,
    'train/dog/1.png': red,
    'val/fox/1.png': red,
  });
  await t.throwsAsync(findData(root), {
    message: `openDataset: expected folders named after the classes cat, dog in ${join(root, 'val')}, got fox`,
  });
});

test('a folder of classes alone is parted: a share of each class, the same for a seed', async (t) => {
  const files: Record<string, Uint8Array> = { 'one/0.png': red, 'two/0.png': red, 'two/1.png': red };
  for (let i = 0; i < 20; i++) files[`many/${i}.png`] = red;
  const root = await temporaryFolder(t, files);
  const parts = async (seed: number): Promise<{ train: string[]; val: string[] }> => {
    const { train, val } = splitFolder(await listFolder(root), 0.25, seed);
    return { train: [...train.files], val: [...val.files] };
  };
  const { train, val } = await parts(0);
  t.deepEqual([...train, ...val].sort(), Object.keys(files).sort());
  const count = (list: string[], name: string): number => list.filter((file) => file.startsWith(name)).length;
  t.deepEqual([count(train, 'many'), count(val, 'many')], [15, 5]);
  t.deepEqual([count(train, 'one'), count(val, 'one')], [1, 0], 'a lone image is trained on');
  t.deepEqual([count(train, 'two'), count(val, 'two')], [1, 1]);
  t.deepEqual(await parts(0), { train, val });
  t.notDeepEqual((await parts(1)).val, val);
  const found = await findData(root, { valFraction: 0.25, seed: 0 });
  t.is(found.val.kind === 'folder' && found.val.files.join(), val.join());
});

test('a folder with train alone is parted, too', async (t) => {
  const root = await temporaryFolder(t, {
    'train/cat/1.png': red,
    'train/cat/2.png': red,
    'train/dog/1.png': red,
    'train/dog/2.png': red,
  });
  const { train, val } = await findData(root);
  const [trainSet, valSet] = [await openDataset(train), await openDataset(val)];
  t.deepEqual([trainSet.length, valSet.length], [2, 2]);
  t.is(valSet.where(0).startsWith(join(root, 'train', 'cat')), true);
});
