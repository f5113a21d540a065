import { adaptiveAvgPool2d } from '../ops/pool2d.js';
import { Conv2d } from './conv2d.js';
import { type FloatTensor, Module } from './module.js';

/**
 * Squeeze and excitation: scales each channel by what a small network makes of the channels' means,
 * `y = x sigmoid(fc2(relu(fc1(mean of x))))`.
 *
 * Shapes: x `[B, C, H, W]`, and y alike. Source: Hu, Shen, Sun, "Squeeze-and-Excitation networks", 2018.
 *
 * @example
 * const y = new SqueezeExcite(64, 16).call(x);
 */
export class SqueezeExcite extends Module<[x: FloatTensor], FloatTensor> {
  readonly fc1: Conv2d;
  readonly fc2: Conv2d;

  constructor(channels: number, squeezed: number) {
    super();
    this.fc1 = new Conv2d(channels, squeezed, 1);
    this.fc2 = new Conv2d(squeezed, channels, 1);
  }

  override forward(x: FloatTensor): FloatTensor {
    const hidden = this.fc1.call(adaptiveAvgPool2d(x, 1), { activation: 'relu' });
    return x.mul(this.fc2.call(hidden).sigmoid());
  }
}
