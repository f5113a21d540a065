import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { TensorError, findData, listTar, openDataset } from '../../src/index.js';
import { temporaryFolder } from '../helpers/files.js';
import { flat, pixelAt, toSharp } from '../helpers/images.js';
import { type TarEntry, paxPath, sample, tarOf } from '../helpers/tar.js';

const png = (r: number): Promise<Buffer> =>
  toSharp(flat(3, 5, [r, 0, 0]))
    .png()
    .toBuffer();
const images = await Promise.all([10, 20, 30, 40].map(png));

test('samples of several shards are read, in order, with their labels', async (t) => {
  const root = await temporaryFolder(t, {
    'a.tar': tarOf([...sample('x/000', images[0], 2), ...sample('x/001', images[1], 0)]),
    'b.tar': tarOf([...sample('x/002', images[2], 1)]),
  });
  const dataset = await openDataset(listTar([join(root, 'a.tar'), join(root, 'b.tar')]));
  t.deepEqual(dataset.classes, ['0', '1', '2']);
  t.deepEqual(
    [0, 1, 2].map((i) => dataset.label(i)),
    [2, 0, 1],
  );
  t.is(dataset.where(2), `${join(root, 'b.tar')}:x/002.jpg`);
  t.is(dataset.name, `2 shards in ${root}`);
  for (const [i, level] of [10, 20, 30].entries()) {
    const image = await dataset.read(i);
    t.deepEqual([image.height, image.width, ...pixelAt(image, 2, 4)], [3, 5, level, 0, 0]);
  }
  await dataset.close();
});

test('a key ends at the first dot of the file, not of its folders', async (t) => {
  const root = await temporaryFolder(t, {
    'a.tar': tarOf([
      { name: 'v1.0/001.jpg', body: images[0] },
      { name: 'v1.0/001.cls', body: '0\n' },
      { name: 'v1.1/001.cls', body: '1' }, // a label may come first
      { name: 'v1.1/001.jpg', body: images[1] },
      { name: 'v1.1/002.left.png', body: images[2] },
      { name: 'v1.1/002.cls', body: '2' },
      { name: 'v1.1/002.json', body: '{}' },
      { name: 'v1.1/._002.jpg', body: 'attributes of a Mac' },
      { name: 'v1.2', body: '', type: '5' },
    ]),
  });
  const spec = listTar([join(root, 'a.tar')]);
  t.deepEqual(spec.names, ['v1.0/001.jpg', 'v1.1/001.jpg', 'v1.1/002.left.png']);
  t.deepEqual([...spec.labels], [0, 1, 2]);
});

test('two images of one key are an error, not a loss', async (t) => {
  const root = await temporaryFolder(t, {
    'a.tar': tarOf([...sample('cat.1', images[0], 0), ...sample('cat.2', images[1], 0)]),
  });
  const path = join(root, 'a.tar');
  t.throws(() => listTar([path]), {
    instanceOf: TensorError,
    message: `openDataset: expected one image for cat in ${path}, got cat.1.jpg and cat.2.jpg: keys end at the first dot`,
  });
});

test('long names come from pax records, GNU headers or the ustar prefix', async (t) => {
  const long = (letter: string): string => `${letter.repeat(120)}/${letter.repeat(60)}`;
  const label = (name: string, extra: TarEntry[]): TarEntry[] => [
    ...extra,
    { name: 'short.cls', body: name },
  ];
  const root = await temporaryFolder(t, {
    'a.tar': tarOf([
      { name: 'x', body: paxPath(`${long('p')}.jpg`), type: 'x' },
      { name: 'short.jpg', body: images[0] },
      ...label('0', [{ name: 'x', body: paxPath(`${long('p')}.cls`), type: 'x' }]),
      { name: '././@LongLink', body: `${long('g')}.jpg\0`, type: 'L' },
      { name: 'short.jpg', body: images[1] },
      ...label('1', [{ name: '././@LongLink', body: `${long('g')}.cls\0`, type: 'L' }]),
      { name: `${'u'.repeat(60)}.jpg`, prefix: 'u'.repeat(120), body: images[2] },
      { name: `${'u'.repeat(60)}.cls`, prefix: 'u'.repeat(120), body: '2' },
    ]),
  });
  const dataset = await openDataset(listTar([join(root, 'a.tar')]));
  t.deepEqual(
    [0, 1, 2].map((i) => dataset.where(i).split('.tar:')[1]),
    ['p', 'g', 'u'].map((letter) => `${long(letter)}.jpg`),
  );
  t.deepEqual(
    [0, 1, 2].map((i) => dataset.label(i)),
    [0, 1, 2],
  );
  t.deepEqual(pixelAt(await dataset.read(1), 0, 0), [20, 0, 0]);
  await dataset.close();
});

test('labels may be names, and classes.txt beside the shards gives their order', async (t) => {
  const shard = tarOf([...sample('0', images[0], 'dog'), ...sample('1', images[1], 'cat')]);
  const bare = await temporaryFolder(t, { 'a.tar': shard });
  const named = await temporaryFolder(t, { 'a.tar': shard, 'classes.txt': 'elk\ndog\ncat\n' });
  const byName = listTar([join(bare, 'a.tar')]);
  t.deepEqual(
    [byName.classes, [...byName.labels]],
    [
      ['cat', 'dog'],
      [1, 0],
    ],
  );
  const given = listTar([join(named, 'a.tar')]);
  t.deepEqual(
    [given.classes, [...given.labels]],
    [
      ['elk', 'dog', 'cat'],
      [1, 2],
    ],
  );
});

test('validation shards take the classes of the training shards', async (t) => {
  const train = tarOf([
    ...sample('0', images[0], 'ant'),
    ...sample('1', images[1], 'cat'),
    ...sample('2', images[2], 'dog'),
  ]);
  const root = await temporaryFolder(t, {
    'train-0.tar': train,
    'val-0.tar': tarOf(sample('0', images[3], 'dog')), // alone, it would be class 0
  });
  const { train: trainSpec, val } = await findData(root);
  t.deepEqual(val.kind === 'tar' && [val.classes, [...val.labels]], [['ant', 'cat', 'dog'], [2]]);
  t.is(trainSpec.kind, 'tar');

  const strange = await temporaryFolder(t, {
    'train-0.tar': train,
    'val-0.tar': tarOf(sample('0', images[3], 'fox')),
  });
  await t.throwsAsync(findData(strange), {
    message: `openDataset: expected one of the classes ant, cat, dog in ${join(strange, 'val-0.tar')}, got fox`,
  });
});

test('a truncated shard is an error that names it, wherever it is cut', async (t) => {
  const whole = tarOf([...sample('0', images[0], 0), ...sample('1', images[1], 1)]);
  // In the second image, before it, in a header, and after the last file.
  const firstImage = 512 + 512 * Math.ceil(images[0].length / 512);
  for (const [cut, message] of [
    [firstImage + 1024 + 512 + 10, /expected \d+ bytes at \d+ in .*a\.tar, got 10: the file is cut/],
    [firstImage + 1024, /expected the end of the archive in .*a\.tar, got that of the file: it is cut/],
    [firstImage + 100, /expected the end of the archive in .*a\.tar, got that of the file: it is cut/],
    [whole.length - 1024, /expected the end of the archive in .*a\.tar, got that of the file: it is cut/],
    [0, /expected the end of the archive in .*a\.tar, got that of the file: it is cut/],
  ] as const) {
    const root = await temporaryFolder(t, { 'a.tar': whole.subarray(0, cut) });
    t.throws(() => listTar([join(root, 'a.tar')]), { instanceOf: TensorError, message }, `cut at ${cut}`);
  }
});

test('a file that is no tar, or a tar without images or labels, is an error that names it', async (t) => {
  const root = await temporaryFolder(t, {
    'text.tar': 'not a tar'.repeat(200),
    'empty.tar': tarOf([{ name: 'README', body: 'nothing' }]),
    'unlabelled.tar': tarOf([...sample('0', images[0], 0), { name: '1.jpg', body: images[1] }]),
  });
  const listed = (name: string) => (): unknown => listTar([join(root, name)]);
  t.throws(listed('text.tar'), {
    message: `openDataset: expected a tar header at byte 0 of ${root}/text.tar, got something else`,
  });
  t.throws(listed('empty.tar'), {
    message: `openDataset: expected images in ${root}/empty.tar, found none`,
  });
  t.throws(listed('unlabelled.tar'), {
    message: `openDataset: expected 1.cls beside 1.jpg in ${root}/unlabelled.tar, found none`,
  });
  const high = await temporaryFolder(t, {
    'a.tar': tarOf(sample('0', images[0], 7)),
    'classes.txt': 'cat\ndog',
  });
  t.throws(() => listTar([join(high, 'a.tar')]), {
    message: `openDataset: expected labels below 2 in ${join(high, 'a.tar')}, got 7 for image 0`,
  });
  await t.throwsAsync(findData(root), {
    message: `findData: expected shards train*.tar and val*.tar or test*.tar in ${root}, got empty.tar, text.tar, unlabelled.tar`,
  });
});

test('a damaged image in a shard is an error that names both', async (t) => {
  const root = await temporaryFolder(t, { 'a.tar': tarOf(sample('7', Buffer.from('broken'), 0)) });
  const dataset = await openDataset(listTar([join(root, 'a.tar')]));
  const error = await t.throwsAsync(dataset.read(0), { instanceOf: TensorError });
  t.true(error?.message.startsWith(`decodeImage: expected a whole image in ${root}/a.tar:7.jpg, got `));
  await dataset.close();
});

/** How often this process has a file open. */
function timesOpen(path: string): number {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // closed in the meantime
    }
  });
  return targets.filter((target) => target === path).length;
}

(existsSync('/proc/self/fd') ? test : test.skip)('closing lets go of the shards', async (t) => {
  const path = join(await temporaryFolder(t, { 'a.tar': tarOf(sample('0', images[0], 0)) }), 'a.tar');
  const dataset = await openDataset(listTar([path]));
  t.is(timesOpen(path), 1);
  await dataset.close();
  t.is(timesOpen(path), 0);
});
