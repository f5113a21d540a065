/**
 * `tenon explain`: a picture for each image, for the class and by the method that are asked for.
 */
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { decodeImage, explainFiles, loadModel } from '../../src/index.js';
import { TINY_FLAGS, cli, tinyPhotos } from '../helpers/training.js';

let folder: string;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  await tinyPhotos(join(folder, 'photos'));
  await cli(folder, ['train', 'photos', '--lr', '1e-2', '--seed', '3', ...TINY_FLAGS]);
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

const explain = (...args: string[]): ReturnType<typeof cli> =>
  cli(folder, ['explain', ...args, '--checkpoint', 'runs/photos']);

test.serial('it draws a picture for each image and lists them', async (t) => {
  const { code, stdout, stderr } = await explain('photos/red', 'photos/blue/3.jpg', '-b', '3');
  t.is(code, 0, stderr);
  const files = (await readdir(join(folder, 'explained'))).sort();
  const images = (await readdir(join(folder, 'photos/red'))).length + 1;
  t.is(files.length, images);
  t.true(files.includes('3.png') && files.includes('3-2.png')); // of red and of blue
  const { height, width } = await decodeImage(await readFile(join(folder, 'explained/3.png')));
  t.deepEqual([height, width], [224, 224]);
  const lines = stdout.trimEnd().split('\n');
  t.regex(lines[1], /image +│ class +│ probability +│ picture/);
  t.regex(lines[2], /photos\/red\/0\.jpg +│ (red|green|blue) +│ +\d+\.\d % │ explained\/0\.png/);
});

test.serial('its maps are those of the model, for the class that is named', async (t) => {
  const { model, info } = await loadModel(join(folder, 'runs/photos/checkpoints/best.safetensors'));
  const files = [join(folder, 'photos/red/0.jpg'), join(folder, 'photos/green/1.jpg')];
  const labels: string[] = [];
  for await (const seen of explainFiles(model, info, files, { label: 'blue', method: 'rollout' })) {
    if ('error' in seen) return t.fail(seen.error);
    labels.push(seen.label);
    t.is(seen.map.length, seen.grid[0] * seen.grid[1]);
    const sum = seen.map.reduce((a, b) => a + b, 0);
    t.true(sum > 0 && sum < 1); // a row of a rollout, less the class token's own part
    t.true(seen.probability > 0 && seen.probability < 1);
  }
  t.deepEqual(labels, ['blue', 'blue']);
  model.dispose();
  const { code, stdout } = await explain('photos/red/0.jpg', '--class', 'blue', '-o', 'pictures/blue');
  t.is(code, 0);
  t.regex(stdout, /photos\/red\/0\.jpg +│ blue +│ +\d+\.\d % │ pictures\/blue\/0\.png/);
});

test.serial('what it cannot do is one sentence', async (t) => {
  await writeFile(join(folder, 'broken.jpg'), 'no image');
  const errors: [string[], RegExp][] = [
    [['photos/none'], /^tenon: explain: expected an image or a folder, got photos\/none, which does not exist$/],
    [['photos/red', '--class', 'purple'], /^tenon: explain: expected one of the model's classes \(blue, green, red\), got 'purple'$/],
    [['photos/red', '--method', 'activation'], /^tenon: explain: expected a model whose head is the mean of a map, for the method 'activation'$/],
    [['photos/red', '--method', 'lime'], /^tenon: option '--method <name>' argument 'lime' is invalid\. Allowed choices are relevance, rollout, /],
  ]; // prettier-ignore
  for (const [args, sentence] of errors) {
    const { code, stdout, stderr } = await explain(...args);
    t.is(code, 1, args.join(' '));
    t.is(stdout, '');
    t.regex(stderr.trimEnd(), sentence);
  }
  const { code, stdout, stderr } = await explain('broken.jpg', 'photos/red/0.jpg', '-o', 'some');
  t.is(code, 1);
  t.regex(stderr, /^tenon: decodeImage: expected a whole image in broken\.jpg, got /);
  t.regex(stdout, /some\/0\.png/);
});
