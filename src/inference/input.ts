/**
 * How images become what a model sees.
 */
import { type Image, SampleRandom, type Transform, applySteps, normalizeInto } from '../data/index.js';
import { expectNormalization } from '../data/transforms.js';
import type { InputSpec, ModelInfo } from '../models/index.js';
import { tensor } from '../ops/index.js';
import type { Tensor } from '../tensor/index.js';
import type { ImageModel } from './evaluate.js';

/**
 * The preparation of images for a model, without augmentation.
 *
 * @throws TensorError VALUE unless there are three finite means, and three deviations above 0
 */
export function inputTransform(input: InputSpec): Transform {
  return transformOf('inputTransform', input);
}

/** @internal The same for who names itself. */
export function transformOf(op: string, input: InputSpec): Transform {
  expectNormalization(op, input);
  const { size, mean, std, interpolation: mode, cropPct, cropMode } = input;
  const [height, width] = size;
  // timm resizes the shorter side of a square crop, and both sides of another.
  const resize =
    height === width && cropMode !== 'squash'
      ? Math.floor(height / cropPct)
      : ([height / cropPct, width / cropPct].map(Math.floor) as [number, number]);
  return {
    steps: [
      { kind: 'resize', size: resize, mode },
      { kind: 'centerCrop', size },
    ],
    size,
    mean,
    std,
  };
}

/** What a model sees of images, before it is normalised. */
export function viewsOf(images: readonly Image[], info: ModelInfo): Image[] {
  const { steps } = transformOf('explain', info.input);
  const still = new SampleRandom(0, 0, 0); // evaluation draws nothing
  return images.map((image) => applySteps(image, steps, still));
}

/** Views as a model takes them, where it is: `[count, 3, height, width]`, normalised. */
export function modelInput(
  views: readonly Image[],
  { input: { size, mean, std } }: ModelInfo,
  model: ImageModel,
): Tensor<'float32'> {
  const values = 3 * size[0] * size[1];
  const pixels = new Float32Array(views.length * values);
  for (const [i, view] of views.entries()) normalizeInto(view, mean, std, pixels, i * values);
  return tensor(pixels, { shape: [views.length, 3, ...size], device: model.device });
}
