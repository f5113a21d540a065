import { readFileSync } from 'node:fs';

import test from 'ava';

import {
  IMAGENET_MEAN,
  IMAGENET_STD,
  type Image,
  type Size,
  type TransformStep,
  applySteps,
  decodeImage,
  normalizeInto,
} from '../../src/index.js';
import { SampleRandom } from '../../src/data/sample-random.js';
import { goldenPath, sharedTest } from '../helpers/golden.js';
import { flat, pattern, pixelAt } from '../helpers/images.js';

const still = new SampleRandom(0, 0, 0);

/** Red tells x and green tells y, so that a crop tells where it came from. */
function coordinates(height: number, width: number): Image {
  const data = Uint8Array.from(
    { length: height * width * 3 },
    (_, i) => [Math.floor(i / 3) % width, Math.floor(i / 3 / width), 0][i % 3],
  );
  return { data, height, width };
}

test('the shorter side is resized to a number, the other follows, truncated', (t) => {
  const size = (height: number, width: number, short: number): number[] => {
    const image = applySteps(flat(height, width, [1, 2, 3]), [{ kind: 'resize', size: short }], still);
    return [image.height, image.width];
  };
  t.deepEqual(size(30, 40, 12), [12, 16]);
  t.deepEqual(size(40, 30, 12), [16, 12]);
  t.deepEqual(size(30, 50, 7), [7, 11]); // 11.67
  t.deepEqual(size(30, 50, 30), [30, 50]);
});

test('the middle is cut with offsets rounded half to even, and padded with black', (t) => {
  const image = coordinates(8, 9);
  const first = (size: [number, number]): number[] =>
    pixelAt(applySteps(image, [{ kind: 'centerCrop', size }], still), 0, 0);
  t.deepEqual(first([4, 4]), [2, 2, 0]); // offsets 2 and 2.5
  t.deepEqual(first([5, 2]), [4, 2, 0]); // offsets 1.5 and 3.5
  const padded = applySteps(pattern(4, 6), [{ kind: 'centerCrop', size: [8, 6] }], still);
  t.deepEqual([pixelAt(padded, 1, 0), pixelAt(padded, 2, 0)], [[0, 0, 0], pixelAt(pattern(4, 6), 0, 0)]);
});

test('what a crop keeps of a resized image is computed alone, to the same bits', (t) => {
  const images = [[7, 9], [40, 61], [61, 40], [24, 24], [30, 24], [24, 31], [300, 3], [1, 90]] as const; // prettier-ignore
  const sizes: Size[] = [24, 25, 7, [24, 24], [30, 24], [31, 17], [5, 61]];
  const crops: Size[] = [24, 7, 6, 1, [24, 23], [5, 12], [40, 3], [3, 40], 70]; // some are padded
  let cases = 0;
  for (const [height, width] of images) {
    const image = pattern(height, width);
    for (const mode of ['nearest', 'bilinear', 'bicubic', 'lanczos'] as const) {
      for (const size of sizes) {
        const resized = applySteps(image, [{ kind: 'resize', size, mode }], still);
        for (const crop of crops) {
          const steps = [
            { kind: 'resize', size, mode } as const,
            { kind: 'centerCrop', size: crop } as const,
          ];
          const whole = applySteps(resized, [steps[1]], still);
          const alone = applySteps(image, steps, still);
          const same = Buffer.compare(alone.data, whole.data) === 0;
          if (!same || alone.height !== whole.height || alone.width !== whole.width)
            t.fail(`${height} x ${width} to ${String(size)}, ${String(crop)} of it, ${mode}`);
          cases += 1;
        }
      }
    }
  }
  t.is(cases, images.length * 4 * sizes.length * crops.length);
});

test('an image of 1 x 1,000,000 pixels is as little work as another', (t) => {
  const steps: TransformStep[] = [
    { kind: 'resize', size: 248, mode: 'bicubic' },
    { kind: 'centerCrop', size: 224 },
  ];
  const data = new Uint8Array(3e6).map((_, i) => Math.floor(i / 3) >> 10);
  for (const [height, width] of [
    [1, 1e6],
    [1e6, 1],
  ] as const) {
    // prettier-ignore
    const started = performance.now();
    const before = process.memoryUsage().arrayBuffers;
    const view = applySteps({ data, height, width }, steps, still);
    const megabytes = (process.memoryUsage().arrayBuffers - before) / 2 ** 20;
    const milliseconds = performance.now() - started;
    t.log(`${milliseconds.toFixed(1)} ms, ${megabytes.toFixed(1)} MiB`);
    t.true(milliseconds < 1000 && megabytes < 16, `${milliseconds} ms, ${megabytes} MiB`);
    t.deepEqual([view.height, view.width], [224, 224]);
    t.deepEqual(pixelAt(view, 112, 112), [232, 232, 232]); // 500,000 / 1024 = 488 = 232 + 256
  }
});

test('flips move pixels where they should', (t) => {
  const image = pattern(4, 6);
  const flipped = applySteps(image, [{ kind: 'horizontalFlip', p: 1 }], still);
  t.deepEqual(pixelAt(flipped, 1, 0), pixelAt(image, 1, 5));
  const turned = applySteps(image, [{ kind: 'verticalFlip', p: 1 }], still);
  t.deepEqual(pixelAt(turned, 0, 2), pixelAt(image, 3, 2));
  t.is(applySteps(image, [{ kind: 'horizontalFlip', p: 0 }], still), image);
  const twice = applySteps(flipped, [{ kind: 'horizontalFlip', p: 1 }], still);
  t.deepEqual(twice, image);
});

test('flips happen at their rate', (t) => {
  const image = pattern(1, 2);
  const n = 4000;
  for (const kind of ['horizontalFlip', 'verticalFlip'] as const) {
    for (const p of [0.5, 0.1]) {
      const upright = kind === 'verticalFlip' ? pattern(2, 1) : image;
      let flipped = 0;
      for (let i = 0; i < n; i++) {
        if (applySteps(upright, [{ kind, p }], new SampleRandom(5, 0, i)) !== upright) flipped += 1;
      }
      const sigma = Math.sqrt(n * p * (1 - p));
      t.true(Math.abs(flipped - n * p) < 4 * sigma, `${kind} ${p}: ${flipped} of ${n}`);
    }
  }
});

test('a padded crop is at each place as often as at any other', (t) => {
  const image = coordinates(32, 32);
  const step: TransformStep = { kind: 'randomCrop', size: 32, padding: 4, fill: 200 };
  const n = 8100;
  const counts = new Map<string, number>();
  for (let i = 0; i < n; i++) {
    const crop = applySteps(image, [step], new SampleRandom(1, 0, i));
    const [x, y] = pixelAt(crop, 16, 16);
    const place = `${x - 16} ${y - 16}`;
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  t.is(counts.size, 81, 'nine places along each side');
  const chi = [...counts.values()].reduce((sum, count) => sum + (count - n / 81) ** 2 / (n / 81), 0);
  t.true(chi < 125, `chi squared ${chi}`); // 0.999 of 80 degrees of freedom
});

test('what a padded crop adds is its fill, black unless given', (t) => {
  const image = flat(2, 2, [9, 9, 9]);
  const colours = (fill?: number): string[] => {
    const step = { kind: 'randomCrop', size: 2, padding: 2, ...(fill !== undefined && { fill }) } as const;
    const seen = new Set<string>();
    for (let i = 0; i < 50; i++) {
      const crop = applySteps(image, [step], new SampleRandom(0, 0, i));
      for (let p = 0; p < 4; p++) seen.add(pixelAt(crop, p >> 1, p & 1).join());
    }
    return [...seen].sort();
  };
  t.deepEqual(colours(), ['0,0,0', '9,9,9']);
  t.deepEqual(colours(70), ['70,70,70', '9,9,9']);
});

test('a crop that does not fit is an error', (t) => {
  t.throws(() => applySteps(pattern(4, 6), [{ kind: 'randomCrop', size: 9, padding: 1 }], still), {
    message: 'randomCrop: expected images of at least 9 x 9 with 1 pixels of padding, got 4 x 6',
  });
});

/** Where random resized crops of a 200 x 250 image came from. */
function crops(
  n: number,
  options: Pick<Extract<TransformStep, { kind: 'randomResizedCrop' }>, 'scale' | 'ratio'>,
): { width: number; height: number; x: number; y: number }[] {
  const image = coordinates(200, 250);
  return Array.from({ length: n }, (_, i) => {
    const step: TransformStep = { kind: 'randomResizedCrop', size: 32, mode: 'bilinear', ...options };
    const { data } = applySteps(image, [step], new SampleRandom(3, 1, i));
    // Away from the border, where the filter is cut, red and green rise evenly by the size of the crop / 32.
    const dx = (data[(16 * 32 + 27) * 3] - data[(16 * 32 + 4) * 3]) / 23;
    const dy = (data[(27 * 32 + 16) * 3 + 1] - data[(4 * 32 + 16) * 3 + 1]) / 23;
    const centre = (15 * 32 + 15) * 3;
    return { width: 32 * dx, height: 32 * dy, x: data[centre] + dx / 2, y: data[centre + 1] + dy / 2 };
  });
}

/** The largest distance of a sample's distribution from uniform in [0, 1] (Kolmogorov and Smirnov). */
function fromUniform(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.reduce((worst, value, i) => {
    return Math.max(worst, Math.abs(value - i / sorted.length), Math.abs(value - (i + 1) / sorted.length));
  }, 0);
}

test('random resized crops have areas and log ratios that are uniform, and lie anywhere', (t) => {
  const n = 1500;
  const scale = [0.1, 0.45] as const; // every such crop fits, so that none is drawn again
  const ratio = [3 / 4, 4 / 3] as const;
  const found = crops(n, { scale, ratio });
  const area = found.map(
    ({ width, height }) => ((width * height) / (200 * 250) - scale[0]) / (scale[1] - scale[0]),
  );
  const shape = found.map(
    ({ width, height }) => (Math.log(width / height) - Math.log(ratio[0])) / Math.log(ratio[1] / ratio[0]),
  );
  const limit = 1.95 / Math.sqrt(n) + 0.02; // 0.999 of the test, and what rounding to pixels and levels adds
  t.true(fromUniform(area) < limit, `area ${fromUniform(area)}`);
  t.true(fromUniform(shape) < limit, `ratio ${fromUniform(shape)}`);
  const left = found.map(({ x, width }) => (x - width / 2) / (250 - width));
  const top = found.map(({ y, height }) => (y - height / 2) / (200 - height));
  t.true(fromUniform(left) < limit, `left ${fromUniform(left)}`);
  t.true(fromUniform(top) < limit, `top ${fromUniform(top)}`);
});

test('a crop that never fits becomes the middle of the nearest shape', (t) => {
  const wide = crops(3, { scale: [1, 1], ratio: [0.5, 0.6] });
  for (const { width, height, x, y } of wide) {
    t.true(Math.abs(width - 120) < 3 && Math.abs(height - 200) < 3, `${width} x ${height}`); // 200 * 0.6
    t.true(Math.abs(x - 125) < 2 && Math.abs(y - 100) < 2);
  }
});

test('the size of a random resized crop is that asked for', (t) => {
  const step: TransformStep = { kind: 'randomResizedCrop', size: [20, 30] };
  const crop = applySteps(pattern(60, 50), [step], new SampleRandom(0, 0, 0));
  t.deepEqual([crop.height, crop.width, crop.data.length], [20, 30, 1800]);
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
  t.deepEqual([...out.subarray(0, 2)], [0, 0]);
  t.throws(() => normalizeInto(image, IMAGENET_MEAN, IMAGENET_STD, out, 3), {
    message: 'normalizeInto: expected room for 18 numbers, got 17',
  });
});

sharedTest('a photograph becomes a 224-pixel crop in milliseconds', goldenPath('preprocess'), async (t) => {
  const image = await decodeImage(readFileSync(goldenPath('preprocess/photo0.jpg')));
  const step: TransformStep = { kind: 'randomResizedCrop', size: 224, mode: 'bicubic' };
  const started = performance.now();
  for (let i = 0; i < 20; i++) applySteps(image, [step], new SampleRandom(0, 0, i));
  const milliseconds = (performance.now() - started) / 20;
  t.log(`${milliseconds.toFixed(1)} ms for a crop of ${image.width} x ${image.height} to 224`);
  t.true(milliseconds < 100);
});
