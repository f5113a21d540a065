/**
 * How images become a model's input, and the same in transformers' `preprocessor_config.json` and timm's
 * `pretrained_cfg`.
 */
import { fail } from '../tensor/error.js';
import type { Json } from './layouts/layout.js';

/** How images become the model's input. */
export interface InputSpec {
  readonly size: readonly [height: number, width: number];
  /** Of red, green and blue, for values in [0, 1]. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly interpolation: 'bilinear' | 'bicubic';
  /** Share of the resized image that the central crop keeps. */
  readonly cropPct: number;
  /**
   * How the image is resized before the crop: 'center' (the default) its shorter side, 'squash' both sides, whatever
   * its shape.
   */
  readonly cropMode?: 'center' | 'squash';
}

/** All of it but the size: what the images of a family's published models went through. */
export type Preprocessing = Omit<InputSpec, 'size'>;

const HALF = [0.5, 0.5, 0.5];

/** timm's default for what was trained on ImageNet with its mean and deviation. */
export const IMAGENET_INPUT: Preprocessing = {
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
  interpolation: 'bicubic',
  cropPct: 0.9,
};

/** What transformers does where nothing is said. */
const HF_DEFAULT: Preprocessing = {
  mean: HALF,
  std: HALF,
  interpolation: 'bilinear',
  cropPct: 1,
  cropMode: 'squash',
};

/** Pillow's numbers of the filters that Tenon has. */
const RESAMPLE = { bilinear: 2, bicubic: 3 } as const;

/** The input that `preprocessor_config.json` describes; without a file, transformers' defaults. @throws TensorError VALUE */
export function readPreprocessor(json: Json | undefined, size: InputSpec['size']): InputSpec {
  if (json === undefined) return { ...HF_DEFAULT, size };
  const scale = json['rescale_factor'] ?? 1 / 255;
  if (typeof scale !== 'number' || Math.abs(scale * 255 - 1) > 1e-6) bad('rescale_factor', '1/255', scale);
  const normalizes = json['do_normalize'] !== false;
  const mean = normalizes ? rgbOf(json, 'image_mean') : [0, 0, 0];
  const std = normalizes ? rgbOf(json, 'image_std') : [1, 1, 1];
  const code = json['resample'] ?? RESAMPLE.bilinear;
  const interpolation =
    code === RESAMPLE.bicubic
      ? 'bicubic'
      : code === RESAMPLE.bilinear
        ? 'bilinear'
        : bad('resample', '2 or 3', code);
  return { size, mean, std, interpolation, ...croppingOf(json, size) };
}

/** From `size`, `crop_size` and `crop_pct`: a square to squash into, or the shorter side. */
function croppingOf(json: Json, size: InputSpec['size']): Pick<InputSpec, 'cropPct' | 'cropMode'> {
  const wanted = json['size'] ?? Math.max(...size);
  const shortest =
    typeof wanted === 'object' && wanted !== null ? (wanted as Json)['shortest_edge'] : undefined;
  const side = shortest ?? (typeof wanted === 'number' ? wanted : (wanted as Json)['height']);
  if (typeof side !== 'number') return bad('size', 'a number, height and width, or shortest_edge', wanted);
  const cropMode = shortest === undefined ? 'squash' : 'center';
  // ConvNeXt's and ResNet's processors: `shortest_edge` is the crop, and `crop_pct` its share of the resized image.
  if (typeof json['crop_pct'] === 'number' && cropMode === 'center')
    return { cropPct: json['crop_pct'], cropMode };
  const crops = json['do_center_crop'] === true;
  return { cropPct: crops ? shareOf(size[0], side) : 1, cropMode };
}

/** The share whose inverse, times the crop, cut to whole pixels, is the side again. */
function shareOf(crop: number, side: number): number {
  return Math.floor(crop / (crop / side)) === side ? crop / side : crop / (side + 0.5);
}

/** The same as `preprocessor_config.json`. */
export function writePreprocessor({ size, mean, std, interpolation, cropPct, cropMode }: InputSpec): Json {
  const [height, width] = size.map((side) => Math.floor(side / cropPct));
  return {
    do_resize: true,
    size: cropMode === 'squash' || height !== width ? { height, width } : { shortest_edge: height },
    do_center_crop: cropPct !== 1,
    crop_size: { height: size[0], width: size[1] },
    resample: RESAMPLE[interpolation],
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: mean,
    image_std: std,
    image_processor_type: 'ViTImageProcessor',
  };
}

/** The input that timm's `pretrained_cfg` describes, with a family's own where it is silent. @throws TensorError VALUE */
export function readPretrainedCfg(json: Json, size: InputSpec['size'], otherwise: Preprocessing): InputSpec {
  const { interpolation, crop_pct: cropPct, crop_mode: cropMode } = json;
  return {
    ...otherwise,
    size,
    ...(json['mean'] !== undefined && { mean: rgbOf(json, 'mean') }),
    ...(json['std'] !== undefined && { std: rgbOf(json, 'std') }),
    ...((interpolation === 'bilinear' || interpolation === 'bicubic') && { interpolation }),
    ...(typeof cropPct === 'number' && { cropPct }),
    ...((cropMode === 'center' || cropMode === 'squash') && { cropMode }),
  };
}

/** The same as timm's `pretrained_cfg`. */
export function writePretrainedCfg({ size, cropPct, cropMode = 'center', ...rest }: InputSpec): Json {
  return { ...rest, input_size: [3, ...size], crop_pct: cropPct, crop_mode: cropMode };
}

function rgbOf(json: Json, key: string): number[] {
  const value = json[key] ?? HALF;
  const fits = Array.isArray(value) && value.length === 3 && value.every((x) => typeof x === 'number');
  return fits ? value : bad(key, 'three numbers', value);
}

function bad(key: string, expected: string, got: unknown): never {
  return fail(
    'loadPretrained',
    'VALUE',
    `expected ${key} of the preprocessing to be ${expected}, got ${JSON.stringify(got)}`,
  );
}
