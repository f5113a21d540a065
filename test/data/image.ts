import { readFileSync } from 'node:fs';

import test from 'ava';
import sharp from 'sharp';

import { TensorError } from '../../src/index.js';
import { type Image, decodeImage, readImage } from '../../src/data/image.js';
import { resize } from '../../src/data/resize.js';
import { SampleRandom } from '../../src/data/sample-random.js';
import {
  IMAGENET_MEAN,
  IMAGENET_STD,
  type TransformStep,
  applySteps,
  normalizeInto,
} from '../../src/data/transforms.js';
import { goldenPath, readGolden, sharedTest } from '../helpers/golden.js';

function largestDifference(image: Image, expected: ArrayLike<number | bigint>): number {
  if (image.data.length !== expected.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < expected.length; i++)
    worst = Math.max(worst, Math.abs(image.data[i] - Number(expected[i])));
  return worst;
}

/** Image of known pixels: (7x + 11y + 85c) mod 256. */
function pattern(height: number, width: number): Image {
  const data = Uint8Array.from(
    { length: height * width * 3 },
    (_, i) => (7 * (Math.floor(i / 3) % width) + 11 * Math.floor(i / 3 / width) + 85 * (i % 3)) % 256,
  );
  return { data, height, width };
}

const still = new SampleRandom(0, 0, 0);

sharedTest('decoding, resizing and cropping are those of Pillow', goldenPath('preprocess'), async (t) => {
  const { tensors } = readGolden('preprocess/expected.safetensors');
  let compared = 0;
  let exact = 0;
  for (const [key, expected] of Object.entries(tensors)) {
    const [file, what] = key.split('/');
    const image = await readImage(goldenPath(`preprocess/${file}`), { orient: false });
    const size = /^(bicubic|bilinear)-(\d+)x(\d+)$/.exec(what);
    let result: Image;
    if (what === 'decoded') result = image;
    else if (what === 'short248-bicubic-center224') {
      const steps: TransformStep[] = [
        { kind: 'resize', size: 248, mode: 'bicubic' },
        { kind: 'centerCrop', size: 224 },
      ];
      result = applySteps(image, steps, still);
    } else if (what === 'crop-10-5-100-90-bicubic-64x48') {
      // The filter reaches beyond the box into the image.
      result = resize(image, [48, 64], { mode: 'bicubic', box: [10, 5, 110, 95] });
    } else if (size !== null) {
      result = resize(image, [Number(size[3]), Number(size[2])], {
        mode: size[1] as 'bicubic' | 'bilinear',
      });
    } else {
      t.fail(`unknown case ${key}`);
      continue;
    }
    t.deepEqual([result.height, result.width, 3], [...expected.shape], key);
    const difference = largestDifference(result, expected.data);
    t.true(difference <= 1, `${key}: ${difference} levels`);
    if (difference === 0) exact += 1;
    compared += 1;
  }
  t.true(compared > 60);
  // A weight of an enlargement may round the other way in Pillow's build.
  t.log(`${exact} of ${compared} cases are exact`);
  t.true(exact >= compared - 2);
});

sharedTest('EXIF orientation is applied unless told otherwise', goldenPath('preprocess'), async (t) => {
  const path = goldenPath('preprocess/exif-rotated.jpg');
  const raw = await readImage(path, { orient: false });
  const upright = await readImage(path);
  t.deepEqual([upright.height, upright.width], [raw.width, raw.height]);
});

sharedTest('16 bits are scaled to 8', goldenPath('preprocess'), async (t) => {
  const { data } = await readImage(goldenPath('preprocess/gray16.png'));
  const spread = Math.max(...data) - Math.min(...data);
  t.true(spread > 128, `a spread of ${spread} levels`);
  t.true([0, 300, 600].every((i) => data[i] === data[i + 1] && data[i] === data[i + 2]));
});

test('damaged, cut and foreign files are errors that name them', async (t) => {
  const jpeg = await sharp(pattern(64, 64).data, { raw: { width: 64, height: 64, channels: 3 } })
    .jpeg()
    .toBuffer();
  t.is((await decodeImage(jpeg)).data.length, 64 * 64 * 3);
  for (const bytes of [jpeg.subarray(0, jpeg.length / 2), Buffer.from('not an image'), Buffer.alloc(0)]) {
    await t.throwsAsync(decodeImage(bytes, { where: 'holiday.jpg' }), {
      instanceOf: TensorError,
      message: /^decodeImage: expected a whole image in holiday\.jpg, got .+/,
    });
  }
  await t.throwsAsync(readImage('/nowhere/cat.jpg'), {
    message: /^readImage: expected to read \/nowhere\/cat\.jpg, got ENOENT/,
  });
});

test('resizing to the same size changes nothing, and bad sizes are errors', (t) => {
  const image = pattern(5, 7);
  t.is(resize(image, [5, 7]), image);
  t.deepEqual(resize(image, [3, 2], { mode: 'nearest' }).data.length, 18);
  t.throws(() => resize(image, [0, 4]), { message: /height and width above 0, got 0 and 4/ });
  t.throws(() => resize(image, [4, 4], { box: [0, 0, 8, 5] }), {
    message: /box within 7 x 5, got \[0, 0, 8, 5\]/,
  });
});

test('crops and flips move pixels where they should', (t) => {
  const image = pattern(4, 6);
  const at = ({ data, width }: Image, y: number, x: number): number[] => [
    ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
  ];
  const flipped = applySteps(image, [{ kind: 'horizontalFlip', p: 1 }], still);
  t.deepEqual(at(flipped, 1, 0), at(image, 1, 5));
  const turned = applySteps(image, [{ kind: 'verticalFlip', p: 1 }], still);
  t.deepEqual(at(turned, 0, 2), at(image, 3, 2));
  const centre = applySteps(image, [{ kind: 'centerCrop', size: [2, 2] }], still);
  t.deepEqual(at(centre, 0, 0), at(image, 1, 2));
  const padded = applySteps(image, [{ kind: 'centerCrop', size: [8, 6] }], still);
  t.deepEqual([at(padded, 1, 0), at(padded, 2, 0)], [[0, 0, 0], at(image, 0, 0)]);
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    const crop = applySteps(
      image,
      [{ kind: 'randomCrop', size: [4, 6], padding: 1, fill: 9 }],
      new SampleRandom(1, 0, i),
    );
    seen.add(crop.data.join());
  }
  t.is(seen.size, 9, 'three places along each side');
  t.throws(() => applySteps(image, [{ kind: 'randomCrop', size: 9, padding: 1 }], still), {
    message: /got 4 x 6/,
  });
});

test('random resized crops have the area and shape that they should', (t) => {
  // A picture whose red is x and green is y shows where a crop came from.
  const image: Image = {
    data: Uint8Array.from(
      { length: 200 * 250 * 3 },
      (_, i) => [Math.floor(i / 3) % 250, Math.floor(i / 750), 0][i % 3],
    ),
    height: 200,
    width: 250,
  };
  let areas = 0;
  const n = 400;
  for (let i = 0; i < n; i++) {
    const { data } = applySteps(
      image,
      [{ kind: 'randomResizedCrop', size: 32, scale: [0.25, 0.5], mode: 'bilinear' }],
      new SampleRandom(3, 1, i),
    );
    const width = ((data[31 * 3] - data[0]) / 31) * 32;
    const height = ((data[31 * 32 * 3 + 1] - data[1]) / 31) * 32;
    const area = (width * height) / (200 * 250);
    t.true(area > 0.22 && area < 0.54, `area ${area}`);
    t.true(width / height > 0.7 && width / height < 1.42, `shape ${width / height}`);
    areas += area / n;
  }
  t.true(Math.abs(areas - 0.375) < 0.02, `mean area ${areas}`);
});

test('normalising gives (x / 255 - mean) / std, channel by channel', (t) => {
  const image = pattern(2, 3);
  const out = new Float32Array(20);
  normalizeInto(image, IMAGENET_MEAN, IMAGENET_STD, out, 2);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < 6; i++) {
      const expected = (image.data[3 * i + c] / 255 - IMAGENET_MEAN[c]) / IMAGENET_STD[c];
      t.true(Math.abs(out[2 + 6 * c + i] - expected) < 1e-5);
    }
  }
  t.throws(() => normalizeInto(image, IMAGENET_MEAN, IMAGENET_STD, out, 3), {
    message: /room for 18 numbers, got 17/,
  });
});

test('the random numbers of a sample depend on seed, epoch and index, and are uniform', (t) => {
  const draw = (seed: number, epoch: number, index: number): number =>
    new SampleRandom(seed, epoch, index).uniform();
  t.is(draw(1, 2, 3), draw(1, 2, 3));
  t.is(
    new Set([draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(1 + 2 ** 40, 2, 3)]).size,
    5,
  );
  const n = 20000;
  const bins = new Array<number>(20).fill(0);
  let mean = 0;
  let square = 0;
  for (let i = 0; i < n; i++) {
    const random = new SampleRandom(7, 0, i); // a fresh one each time: first draws must be uniform, too
    bins[Math.floor(random.uniform() * 20)] += 1;
    const z = random.normal();
    mean += z / n;
    square += (z * z) / n;
  }
  const chi = bins.reduce((sum, count) => sum + (count - n / 20) ** 2 / (n / 20), 0);
  t.true(chi < 43.8, `chi squared ${chi}`); // 0.999 of 19 degrees of freedom
  t.true(Math.abs(mean) < 0.025 && Math.abs(square - 1) < 0.04, `${mean} ${square}`);
  const random = new SampleRandom(1, 1, 1);
  t.true(Array.from({ length: 1000 }, () => random.int(3)).every((k) => k === 0 || k === 1 || k === 2));
});

sharedTest(
  'speed: a photograph becomes a 224-pixel crop in milliseconds',
  goldenPath('preprocess'),
  async (t) => {
    const bytes = readFileSync(goldenPath('preprocess/photo0.jpg'));
    const image = await decodeImage(bytes);
    const step: TransformStep = { kind: 'randomResizedCrop', size: 224, mode: 'bicubic' };
    const started = performance.now();
    for (let i = 0; i < 20; i++) applySteps(image, [step], new SampleRandom(0, 0, i));
    const milliseconds = (performance.now() - started) / 20;
    t.log(`${milliseconds.toFixed(1)} ms for a crop of ${image.width} x ${image.height} to 224`);
    t.true(milliseconds < 100);
  },
);
