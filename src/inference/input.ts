/**
 * How images become what a model sees.
 */
import type { Transform } from '../data/index.js';
import { expectNormalization } from '../data/transforms.js';
import type { InputSpec } from '../models/index.js';

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
