import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import test from 'ava';

import {
  type Image,
  type RandAugment,
  SampleRandom,
  augment,
  colourJitter,
  decodeImage,
  parseAugment,
} from '../../src/index.js';
import {
  type AffineMode,
  affine,
  rotation,
  shearX,
  shearY,
  translation,
} from '../../src/data/augment/affine.js';
import { drawMagnitude, drawOps } from '../../src/data/augment/policy.js';
import { gaussianBlur } from '../../src/data/augment/filter.js';
import { INCREASING, OPS, type OpName } from '../../src/data/augment/ops.js';
import { goldenPath, readGolden, sharedTest } from '../helpers/golden.js';
import { countsFollow, follows, normalShare } from '../helpers/distributions.js';
import { difference, flat, pattern, pixelAt } from '../helpers/images.js';

const PILLOW = fileURLToPath(new URL('../../../../shared/reference/golden_pillow_6x5.json', import.meta.url));
const NUMBERS = fileURLToPath(new URL('../../../../shared/reference/golden_numbers.json', import.meta.url));
const FILL = [124, 116, 104] as const;

sharedTest(
  'every operation is what Pillow makes of a picture, bit for bit',
  goldenPath('preprocess/augment.json'),
  async (t) => {
    const cases = JSON.parse(readFileSync(goldenPath('preprocess/augment.json'), 'utf8')) as {
      key: string;
      op: OpName;
      args: number[];
    }[];
    const { tensors } = readGolden('preprocess/augment.safetensors');
    const source = await decodeImage(readFileSync(goldenPath('preprocess/augment-source.png')));
    t.is(cases.length, Object.keys(tensors).length);
    for (const { key, op, args } of cases) {
      const { data } = OPS[op].apply(source, args[0], 'bicubic', FILL);
      t.is(difference(data, tensors[key].data).worst, 0, key);
    }
  },
);

sharedTest('a 6 x 5 image is changed as Pillow does it, bit for bit', PILLOW, (t) => {
  const golden = JSON.parse(readFileSync(PILLOW, 'utf8')) as Record<string, number[][][]>;
  const image = { data: Uint8Array.from(golden.input.flat(2)), height: 5, width: 6 };
  const names: Readonly<Record<string, OpName>> = {
    autocontrast: 'AutoContrast',
    equalize: 'Equalize',
    invert: 'Invert',
    posterize: 'Posterize',
    solarize: 'Solarize',
    color: 'Color',
    contrast: 'Contrast',
    brightness: 'Brightness',
    sharpness: 'Sharpness',
    shear_x: 'ShearX',
    shear_y: 'ShearY',
    translate_x_rel: 'TranslateXRel',
    translate_y_rel: 'TranslateYRel',
    rotate: 'Rotate',
  };
  const done = new Set<string>();
  for (const [key, expected] of Object.entries(golden)) {
    const [, name, argument, mode] = /^([a-z_]+?)(?:_(-?[\d.]+))?(?:_(bilinear|bicubic))?$/.exec(key) ?? [];
    if (!(name in names)) continue;
    const { apply } = OPS[names[name]];
    const { data } = apply(image, Number(argument), (mode ?? 'bicubic') as AffineMode, FILL);
    t.deepEqual([...data], expected.flat(2), key);
    done.add(name);
  }
  t.deepEqual([...done].sort(), Object.keys(names).sort());
});

test('every filter moves whole pixels without changing them', (t) => {
  const image = pattern(5, 7);
  for (const mode of ['nearest', 'bilinear', 'bicubic'] as const) {
    const moved = affine(image, translation(2, -1), mode, [1, 2, 3]);
    t.deepEqual(pixelAt(moved, 3, 1), pixelAt(image, 2, 3), mode);
    t.deepEqual(
      [pixelAt(moved, 0, 0), pixelAt(moved, 4, 5)],
      [
        [1, 2, 3],
        [1, 2, 3],
      ],
      mode,
    );
  }
});

test('quarter turns of a square are exact, and counter-clockwise', (t) => {
  const image = pattern(6, 6);
  for (const mode of ['nearest', 'bilinear', 'bicubic'] as const) {
    const turned = (degrees: number): Image => affine(image, rotation(degrees, image), mode, FILL);
    t.deepEqual(pixelAt(turned(90), 1, 0), pixelAt(image, 0, 4), mode);
    t.deepEqual(turned(180).data, turned(-180).data, mode);
    t.deepEqual(pixelAt(turned(180), 0, 1), pixelAt(image, 5, 4), mode);
    t.deepEqual(pixelAt(turned(270), 1, 0), pixelAt(image, 5, 1), mode);
    t.deepEqual(turned(360).data, image.data, mode);
  }
});

test('nearest takes the pixel below the point, in steps of 1/65536', (t) => {
  const image = pattern(4, 8);
  const leaning = affine(image, shearX(0.75), 'nearest', FILL); // x + 0.5 + 0.75 (y + 0.5)
  t.deepEqual(pixelAt(leaning, 0, 2), pixelAt(image, 0, 2)); // 2.875
  t.deepEqual(pixelAt(leaning, 3, 2), pixelAt(image, 3, 5)); // 5.125
  t.deepEqual(pixelAt(leaning, 3, 6), [...FILL]);
  const steep = affine(image, shearY(0.75), 'nearest', FILL);
  t.deepEqual(pixelAt(steep, 1, 1), pixelAt(image, 2, 1)); // 2.625
});

test('a blur spreads an edge as the Gaussian of that deviation does, along both axes', (t) => {
  const width = 64;
  const edge: Image = {
    data: Uint8Array.from({ length: width * width * 3 }, (_, i) =>
      Math.floor(i / 3) % width < 32 ? 0 : 255,
    ),
    height: width,
    width,
  };
  const turned = affine(edge, rotation(90, edge), 'nearest', FILL);
  for (const sigma of [0.1, 0.5, 1, 1.7, 2]) {
    const blurred = gaussianBlur(edge, sigma);
    const along = gaussianBlur(turned, sigma);
    for (let x = 0; x < width; x++) {
      const [level] = pixelAt(blurred, 20, x);
      t.true(
        sigma < 1 || Math.abs(level - 255 * normalShare((x - 31.5) / sigma)) < 9,
        `sigma ${sigma} at ${x}: ${level}`,
      );
      t.deepEqual(pixelAt(along, width - 1 - x, 20), [level, level, level]);
    }
    // The variance of the steps is that of the three boxes, the Gaussian's.
    const steps = Array.from(
      { length: width - 1 },
      (_, x) => pixelAt(blurred, 0, x + 1)[0] - pixelAt(blurred, 0, x)[0],
    );
    const variance = steps.reduce((sum, step, x) => sum + (step * (x - 31) ** 2) / 255, 0);
    t.true(
      Math.abs(variance - sigma ** 2) < 0.02 * sigma ** 2 + 0.02,
      `sigma ${sigma}: variance ${variance}`,
    );
  }
  const one = flat(5, 6, [250, 128, 3]);
  t.deepEqual(gaussianBlur(one, 2).data, one.data);
});

sharedTest('a magnitude means to each operation what it means to timm', NUMBERS, (t) => {
  const golden = (
    JSON.parse(readFileSync(NUMBERS, 'utf8')) as { timm_randaug_args: Record<string, Record<string, number>> }
  ).timm_randaug_args;
  t.is(Object.keys(golden).length, 6);
  for (const [m, wanted] of Object.entries(golden)) {
    /** The arguments that 40 draws give, in order. */
    const drawn = (name: OpName): number[] => {
      const random = new SampleRandom(1, 2, 3);
      const seen = Array.from({ length: 40 }, () => OPS[name].argument(Number(m), random));
      return [...new Set(seen)].sort((a, b) => a - b);
    };
    const near = (name: OpName, ...expected: number[]): void => {
      const got = drawn(name);
      t.true(
        got.length === expected.length && got.every((x, i) => Math.abs(x - expected[i]) < 1e-12),
        `${name} at ${m}: ${got.join()}`,
      );
    };
    const {
      Rotate,
      Shear,
      TranslateRel,
      enhance_plus: more,
      enhance_minus: less,
      Color_noninc: factor,
    } = wanted;
    near('Rotate', -Rotate, Rotate);
    for (const name of ['ShearX', 'ShearY'] as const) near(name, -Shear, Shear);
    for (const name of ['TranslateXRel', 'TranslateYRel'] as const) near(name, -TranslateRel, TranslateRel);
    for (const name of [
      'ColorIncreasing',
      'ContrastIncreasing',
      'BrightnessIncreasing',
      'SharpnessIncreasing',
    ] as const)
      near(name, less, more);
    for (const name of ['Color', 'Contrast', 'Brightness', 'Sharpness'] as const) near(name, factor);
    near('PosterizeIncreasing', wanted.PosterizeIncreasing_bits);
    near('SolarizeIncreasing', wanted.SolarizeIncreasing_thresh);
    near('SolarizeAdd', wanted.SolarizeAdd_add);
    near('Posterize', wanted.Posterize_noninc_bits);
    near('PosterizeOriginal', wanted.Posterize_noninc_bits + 4);
    near('Solarize', wanted.Solarize_noninc_thresh);
  }
});

const rand = (text: string): RandAugment => parseAugment(text) as RandAugment;

test("timm's notation is read", (t) => {
  t.deepEqual(parseAugment('rand'), {
    kind: 'rand',
    magnitude: 10,
    magnitudeStd: 0,
    magnitudeMax: 10,
    count: 2,
    p: 0.5,
    set: 'plain',
  });
  const all = {
    kind: 'rand',
    magnitude: 9,
    magnitudeStd: 0.5,
    magnitudeMax: 8,
    count: 3,
    p: 0.7,
    set: 'increasing',
  };
  t.deepEqual(parseAugment('rand-m9-mstd0.5-mmax8-n3-p0.7-inc1'), all as RandAugment);
  t.is(rand('rand-mstd101').magnitudeStd, Infinity);
  t.is(rand('rand-inc0').set, 'plain');
  for (const set of ['weights', '3a', '3aw'] as const) t.is(rand(`rand-t${set}-inc1`).set, set);
  t.deepEqual(parseAugment('3a'), { kind: '3a' });
});

test('a policy that is none is an error that shows the part', (t) => {
  const message = (text: string): string => t.throws(() => parseAugment(text))?.message ?? '';
  t.is(
    message('autoaugment'),
    "parseAugment: expected '3a', or 'rand' and sections between dashes such as rand-m9-mstd0.5-inc1, got 'autoaugment'",
  );
  t.is(
    message('rand-m9-q3'),
    "parseAugment: expected sections m, n, p, mstd, mmax, inc and t, not 'q3', got 'rand-m9-q3'",
  );
  t.is(
    message('rand-mx'),
    "parseAugment: expected sections m, n, p, mstd, mmax, inc and t, not 'mx', got 'rand-mx'",
  );
  t.regex(message('rand-m'), /expected a magnitude of at least 0, not 'm', got 'rand-m'$/);
  t.regex(message('rand-n1.5'), /expected a whole number of operations above 0, not 'n1.5'/);
  t.regex(message('rand-p2'), /expected a probability in \[0, 1\], not 'p2'/);
  t.regex(message('rand-inc2'), /expected inc0 or inc1, not 'inc2'/);
  t.regex(message('rand-tall'), /expected tweights, t3a or t3aw, not 'tall'/);
  t.regex(message('rand-m9-m8'), /expected each section once, not m again/);
  t.regex(message('rand--m9'), /not '', got/);
});

const draws = <T>(n: number, draw: (random: SampleRandom) => T, seed = 1): T[] =>
  Array.from({ length: n }, (_, i) => draw(new SampleRandom(seed, 0, i)));

test('magnitudes are normal about their mean and cut off at their limit, or even', (t) => {
  const normal = draws(10000, (random) => drawMagnitude(rand('rand-m9-mstd0.5'), random));
  const cut = normal.filter((m) => m === 10).length;
  const beyond = 1 - normalShare(2);
  countsFollow(t, [cut, normal.length - cut], [beyond, 1 - beyond], 'cut off');
  follows(
    t,
    normal.filter((m) => m < 10),
    (m) => normalShare((m - 9) / 0.5) / normalShare(2),
    'normal',
  );
  follows(
    t,
    draws(5000, (random) => drawMagnitude(rand('rand-m8-mstd101'), random)),
    (m) => m / 8,
    'even',
  );
  t.deepEqual([...new Set(draws(50, (random) => drawMagnitude(rand('rand-m7'), random)))], [7]);
  t.deepEqual(
    draws(1, (random) => drawMagnitude(rand('rand-m30-mmax20'), random)),
    [20],
  );
});

test('operations are drawn evenly, or by their weights without any twice', (t) => {
  const policy = rand('rand-inc1-n2');
  const names = draws(6000, (random) => drawOps(policy, random));
  t.true(names.every((pair) => pair.length === 2));
  const counts = INCREASING.map((name) => names.flat().filter((drawn) => drawn === name).length);
  countsFollow(
    t,
    counts,
    counts.map(() => 1 / 15),
    'increasing',
  );
  t.true(
    names.some(([a, b]) => a === b),
    'with replacement',
  );

  const weighted = draws(6000, (random) => drawOps(rand('rand-tweights-n3'), random));
  t.true(weighted.every((drawn) => new Set(drawn).size === 3));
  const first = ['Rotate', 'ShearX', 'ShearY', 'TranslateXRel', 'TranslateYRel'] as const;
  const firsts = first.map((name) => weighted.filter(([drawn]) => drawn === name).length);
  const rest = weighted.length - firsts.reduce((a, b) => a + b, 0);
  countsFollow(t, [...firsts, rest], [0.3, 0.2, 0.2, 0.1, 0.1, 0.1], 'weights');
});

test('an operation happens at its probability, its sign at a half', (t) => {
  const image = pattern(6, 6);
  for (const p of [0.5, 0.2]) {
    const policy = rand(`rand-n1-p${p}-m5-inc1`);
    const changed = draws(4000, (random) => augment(image, policy, 'bicubic', FILL, random) !== image);
    const count = changed.filter(Boolean).length;
    countsFollow(t, [count, 4000 - count], [p, 1 - p], `p ${p}`);
  }
  const left = draws(4000, (random) => OPS.Rotate.argument(9, random) < 0).filter(Boolean).length;
  countsFollow(t, [left, 4000 - left], [0.5, 0.5], 'sign');
});

test('3-Augment is one of grey, solarize and blur, a third of the time each', (t) => {
  const image = flat(4, 4, [200, 100, 50]);
  const kinds = draws(3000, (random) => {
    const [r, g, b] = pixelAt(augment(image, parseAugment('3a'), 'bicubic', FILL, random), 0, 0);
    if (r === g && g === b) return 'grey';
    return r === 55 ? 'solarized' : 'blurred';
  });
  const counts = ['grey', 'solarized', 'blurred'].map((kind) => kinds.filter((k) => k === kind).length);
  countsFollow(t, counts, [1 / 3, 1 / 3, 1 / 3]);
});

test('colour jitter draws each factor evenly', (t) => {
  const grey = flat(2, 2, [100, 100, 100]);
  const none = { brightness: 0, contrast: 0, saturation: 0 };
  const levels = draws(
    5000,
    (random) => pixelAt(colourJitter(grey, { ...none, brightness: 0.3 }, random), 0, 0)[0],
  );
  const counts = Array.from({ length: 60 }, (_, i) => levels.filter((level) => level === 70 + i).length);
  t.is(
    counts.reduce((a, b) => a + b, 0),
    5000,
  );
  countsFollow(
    t,
    counts,
    counts.map(() => 1 / 60),
  );
  t.is(colourJitter(grey, none, new SampleRandom(0, 0, 0)), grey);
  const red = flat(1, 1, [170, 90, 90]);
  const apart = draws(4000, (random) => {
    const [r, g] = pixelAt(colourJitter(red, { ...none, saturation: 1 }, random), 0, 0);
    return (r - g) / 80;
  });
  const shares = Array.from({ length: 10 }, (_, i) => apart.filter((x) => Math.floor(x * 5) === i).length);
  countsFollow(
    t,
    shares,
    shares.map(() => 0.1),
  );
});
