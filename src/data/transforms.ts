/**
 * From an image to what a model takes: resizing, cropping, mirroring, normalising. A transform is plain data, so that
 * worker threads and checkpoints can carry it.
 *
 * Source: torchvision and timm, whose rounding is kept.
 */
import { native } from '../native.js';
import { fail, shown } from '../tensor/error.js';
import { type KindNames, type OptionNames, expectKind, expectOptions } from '../tensor/options.js';
import { roundEven } from '../tensor/round.js';
import type { AffineMode, Colour } from './augment/affine.js';
import { ERASING, type RandomErasing } from './augment/erase.js';
import { type ColourJitter, colourJitter } from './augment/jitter.js';
import { type AugmentPolicy, POLICIES, augment } from './augment/policy.js';
import { cut } from './cut.js';
import type { Image } from './image.js';
import { type ResizeMode, resize, resizeWindow } from './resize.js';
import type { SampleRandom } from './sample-random.js';

/** One number for a square, or height and width. */
export type Size = number | readonly [height: number, width: number];

/** A step from an image to another; sizes are in pixels, probabilities in [0, 1]. */
export type TransformStep =
  /** To a size; one number is the shorter side, the other follows. */
  | { readonly kind: 'resize'; readonly size: Size; readonly mode?: ResizeMode }
  /** The middle; a smaller image is padded with black. */
  | { readonly kind: 'centerCrop'; readonly size: Size }
  /** A random part of the area, of a random shape, resized. Source: Szegedy et al., 2015. */
  | {
      readonly kind: 'randomResizedCrop';
      readonly size: Size;
      readonly scale?: readonly [min: number, max: number];
      readonly ratio?: readonly [min: number, max: number];
      readonly mode?: ResizeMode;
    }
  /** A random place after padding each side. */
  | { readonly kind: 'randomCrop'; readonly size: Size; readonly padding: number; readonly fill?: number }
  | { readonly kind: 'horizontalFlip'; readonly p: number }
  | { readonly kind: 'verticalFlip'; readonly p: number }
  /** RandAugment or 3-Augment; `fill` is what comes in from outside the image. */
  | {
      readonly kind: 'augment';
      readonly policy: AugmentPolicy;
      readonly mode: AffineMode;
      readonly fill: Colour;
    }
  | ({ readonly kind: 'colourJitter' } & ColourJitter);

/** Steps, and what becomes of the pixels: `(x / 255 - mean) / std` for red, green and blue. */
export interface Transform {
  readonly steps: readonly TransformStep[];
  /** Of the result. */
  readonly size: readonly [height: number, width: number];
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Of the normalised pixels. Default: none. */
  readonly erasing?: RandomErasing;
}

const STEPS = {
  resize: { kind: true, size: true, mode: true },
  centerCrop: { kind: true, size: true },
  randomResizedCrop: { kind: true, size: true, scale: true, ratio: true, mode: true },
  randomCrop: { kind: true, size: true, padding: true, fill: true },
  horizontalFlip: { kind: true, p: true },
  verticalFlip: { kind: true, p: true },
  augment: { kind: true, policy: true, mode: true, fill: true },
  colourJitter: { kind: true, brightness: true, contrast: true, saturation: true },
} satisfies KindNames<TransformStep>;

const TRANSFORM = {
  steps: true,
  size: true,
  mean: true,
  std: true,
  erasing: true,
} satisfies OptionNames<Transform>;

/** A transform may be made of a model's `InputSpec`, which has these too. */
const OF_INPUT = { interpolation: true, cropPct: true, cropMode: true } as const;

/** Mean of red, green and blue over ImageNet's training images, in [0, 1]. */
export const IMAGENET_MEAN: readonly number[] = [0.485, 0.456, 0.406];
/** Standard deviation of red, green and blue over ImageNet's training images, in [0, 1]. */
export const IMAGENET_STD: readonly number[] = [0.229, 0.224, 0.225];

const pair = (size: Size): readonly [number, number] => (typeof size === 'number' ? [size, size] : size);

type Step<Kind extends TransformStep['kind']> = Extract<TransformStep, { kind: Kind }>;

const filterOf = (mode: ResizeMode | undefined): { mode?: ResizeMode } =>
  mode === undefined ? {} : { mode };

/** Height and width that a resize step gives. */
function resizedSize({ height, width }: Image, size: Size): readonly [height: number, width: number] {
  if (typeof size !== 'number') return size;
  const [short, long] = height <= width ? [height, width] : [width, height];
  const other = Math.max(1, Math.trunc((size * long) / short)); // torchvision truncates
  return height <= width ? [size, other] : [other, size];
}

/** Where the middle of an image begins; below 0 where it is smaller. */
function middle(
  height: number,
  width: number,
  [cropHeight, cropWidth]: readonly [number, number],
): [top: number, left: number] {
  return [roundEven((height - cropHeight) / 2), roundEven((width - cropWidth) / 2)];
}

/** Resizes what the crop keeps, and no more: an image of 1 x 2000 pixels would become one of 248 x 496000. */
function resizedMiddle(image: Image, { size, mode }: Step<'resize'>, cropSize: Size): Image {
  const resized = resizedSize(image, size);
  const crop = pair(cropSize);
  const [top, left] = middle(...resized, crop);
  const height = Math.min(crop[0], resized[0]);
  const width = Math.min(crop[1], resized[1]);
  const window = { top: Math.max(0, top), left: Math.max(0, left), height, width };
  const kept = resizeWindow(image, resized, window, filterOf(mode));
  return cut(kept, Math.min(0, top), Math.min(0, left), ...crop);
}

function randomResizedCrop(image: Image, step: Step<'randomResizedCrop'>, random: SampleRandom): Image {
  const { scale = [0.08, 1], ratio = [3 / 4, 4 / 3] } = step;
  const { height: H, width: W } = image;
  let box: readonly [left: number, top: number, width: number, height: number] | undefined;
  for (let attempt = 0; attempt < 10 && box === undefined; attempt++) {
    const area = random.range(scale[0], scale[1]) * H * W;
    const aspect = Math.exp(random.range(Math.log(ratio[0]), Math.log(ratio[1])));
    const w = roundEven(Math.sqrt(area * aspect));
    const h = roundEven(Math.sqrt(area / aspect));
    if (w < 1 || h < 1 || w > W || h > H) continue;
    const top = random.int(H - h + 1);
    const left = random.int(W - w + 1);
    box = [left, top, w, h];
  }
  if (box === undefined) {
    const aspect = W / H;
    const w = aspect > ratio[1] ? roundEven(H * ratio[1]) : W;
    const h = aspect < ratio[0] ? roundEven(W / ratio[0]) : H;
    box = [Math.floor((W - w) / 2), Math.floor((H - h) / 2), Math.max(1, w), Math.max(1, h)];
  }
  const [left, top, w, h] = box;
  const [height, width] = pair(step.size);
  const all = { top: 0, left: 0, height, width };
  return resizeWindow(image, [height, width], all, filterOf(step.mode), { top, left, height: h, width: w });
}

function mirror(image: Image): Image {
  const { data, height, width } = image;
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (
      let x = 0, from = y * width * 3, to = ((y + 1) * width - 1) * 3;
      x < width;
      x++, from += 3, to -= 3
    ) {
      out[to] = data[from];
      out[to + 1] = data[from + 1];
      out[to + 2] = data[from + 2];
    }
  }
  return { data: out, height, width };
}

function upsideDown(image: Image): Image {
  const { data, height, width } = image;
  const out = new Uint8Array(data.length);
  const stride = width * 3;
  for (let y = 0; y < height; y++)
    out.set(data.subarray(y * stride, (y + 1) * stride), (height - 1 - y) * stride);
  return { data: out, height, width };
}

function applyStep(image: Image, step: TransformStep, random: SampleRandom): Image {
  switch (step.kind) {
    case 'resize':
      return resize(image, resizedSize(image, step.size), filterOf(step.mode));
    case 'centerCrop': {
      const size = pair(step.size);
      return cut(image, ...middle(image.height, image.width, size), ...size);
    }
    case 'randomResizedCrop':
      return randomResizedCrop(image, step, random);
    case 'randomCrop': {
      const [height, width] = pair(step.size);
      const { padding, fill } = step;
      const freeY = image.height + 2 * padding - height;
      const freeX = image.width + 2 * padding - width;
      if (freeY < 0 || freeX < 0) {
        fail(
          'randomCrop',
          'VALUE',
          `expected images of at least ${height} x ${width} with ${padding} pixels of padding, got ${image.height} x ${image.width}`,
        );
      }
      const top = random.int(freeY + 1) - padding;
      const left = random.int(freeX + 1) - padding;
      return cut(image, top, left, height, width, fill);
    }
    case 'horizontalFlip':
      return random.uniform() < step.p ? mirror(image) : image;
    case 'verticalFlip':
      return random.uniform() < step.p ? upsideDown(image) : image;
    case 'augment':
      return augment(image, step.policy, step.mode, step.fill, random);
    case 'colourJitter': {
      const { brightness, contrast, saturation } = step;
      return colourJitter(image, { brightness, contrast, saturation }, random);
    }
  }
}

function expectSteps(op: string, steps: readonly TransformStep[]): void {
  const given: unknown = steps;
  if (!Array.isArray(given)) fail(op, 'VALUE', `expected an array, got ${shown(given)} for steps`);
  for (const step of steps) {
    expectKind(op, step, STEPS);
    if (step.kind === 'augment') expectKind(op, step.policy, POLICIES);
  }
}

/** @internal @throws TensorError VALUE unless there are three finite means, and three deviations above 0 */
export function expectNormalization(op: string, { mean, std }: Pick<Transform, 'mean' | 'std'>): void {
  const three = (values: unknown, fits: (x: number) => boolean): boolean =>
    Array.isArray(values) &&
    values.length === 3 &&
    values.every((x) => Number.isFinite(x) && fits(x as number));
  if (!three(mean, () => true))
    fail(op, 'VALUE', `expected three finite numbers for mean, got ${numbersOf(mean)}`);
  if (!three(std, (x) => x > 0))
    fail(op, 'VALUE', `expected three finite numbers above 0 for std, got ${numbersOf(std)}`);
}

const numbersOf = (values: unknown): string =>
  Array.isArray(values) ? `[${values.map(shown).join(', ')}]` : shown(values);

/**
 * @internal
 * @throws TensorError VALUE for a name that a transform, its erasing or one of its steps has not, or numbers that normalise nothing
 */
export function expectTransform(op: string, transform: Transform): void {
  expectOptions(op, transform, { ...TRANSFORM, ...OF_INPUT });
  expectNormalization(op, transform);
  expectSteps(op, transform.steps);
  if (transform.erasing !== undefined) expectOptions(op, transform.erasing, ERASING);
}

/**
 * Applies steps in order.
 *
 * @throws TensorError VALUE for a step that there is not, or that does not fit the image
 * @example
 * applySteps(image, [{ kind: 'resize', size: 248 }, { kind: 'centerCrop', size: 224 }], new SampleRandom(0, 0, 0));
 */
export function applySteps(image: Image, steps: readonly TransformStep[], random: SampleRandom): Image {
  expectSteps('applySteps', steps);
  let current = image;
  for (let i = 0; i < steps.length; i++) {
    const [step, next] = [steps[i], steps.at(i + 1)];
    if (step.kind === 'resize' && next?.kind === 'centerCrop') {
      current = resizedMiddle(current, step, next.size);
      i += 1; // both are done
    } else current = applyStep(current, step, random);
  }
  return current;
}

/** Writes an image as `[3, height, width]` of `(x / 255 - mean) / std` into `out` from `offset` on. */
export function normalizeInto(
  image: Image,
  mean: readonly number[],
  std: readonly number[],
  out: Float32Array,
  offset: number,
): void {
  const { data } = image;
  const pixels = image.height * image.width;
  if (offset + 3 * pixels > out.length) {
    fail('normalizeInto', 'VALUE', `expected room for ${3 * pixels} numbers, got ${out.length - offset}`);
  }
  native.normalizeImage(data, mean, std, out, offset);
}
