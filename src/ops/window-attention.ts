/**
 * Attention inside the (shifted) windows of a map of tokens, as Swin computes it, fused: the cyclic shift, the partition
 * into windows, the bias by relative position, the mask between the ends of the map that a shift brings together, and the
 * way back are index arithmetic in one kernel, forward and backward. No rolled, partitioned or masked copy exists.
 *
 * Source: Liu et al., "Swin Transformer: hierarchical vision transformer using shifted windows", 2021, section 3.2.
 */
import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensors, optionalId } from '../tensor/arguments.js';
import { ownOp } from '../tensor/define-op.js';
import type { FloatDType } from '../tensor/dtype.js';
import { fail } from '../tensor/error.js';
import { type RandomState, getRandomState, takeRandom } from '../tensor/random.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { type Pair, pairOf } from './operand.js';

/** Which windows there are, and how scores become weights. */
export interface WindowAttentionOptions<D extends FloatDType = FloatDType> {
  /** Tokens of a window, down and across. */
  readonly window: Pair;
  /** How far the windows are shifted down and to the right, cyclically; less than the window. Default 0. */
  readonly shift?: Pair;
  /**
   * q, k and v of the positions that fill up the windows at the bottom and the right of a map that the window does not
   * divide, `[3 * heads * d]`: the bias of the projection, as it is what a token of zeros is projected to. Has a
   * gradient. Default: zeros.
   */
  readonly padding?: Tensor<D> | undefined;
  /** Default 1 / sqrt(d). */
  readonly scale?: number;
  /** Probability of dropping an attention weight. Default 0. */
  readonly dropout?: number;
}

const OPTIONS = {
  window: true,
  shift: true,
  padding: true,
  scale: true,
  dropout: true,
} satisfies OptionNames<WindowAttentionOptions>;

interface Settings {
  readonly window: readonly [number, number];
  readonly shift: readonly [number, number];
  readonly scale: number;
  readonly dropout: number;
  readonly random: RandomState;
}

const windowAttentionOp = ownOp({
  name: 'windowAttention',
  autocast: 'lower',
  forward(ctx, qkv: Tensor, table: Tensor, padding: Tensor | undefined, s: Settings): Tensor {
    const { window, shift, scale, dropout, random } = s;
    const ids = native.windowAttention(
      qkv.id,
      table.id,
      optionalId('windowAttention', 'padding', padding),
      window,
      shift,
      scale,
      dropout,
      random.seed,
      random.offset,
    );
    const out = wrap(ids[0]);
    ctx.save(qkv, table, padding, out, wrap(ids[1]));
    ctx.state = s;
    return out;
  },
  backward({ saved: [qkv, table, padding, out, lse], needsGrad, state }, dout) {
    if (dout === undefined) return [];
    const { window, shift, scale, dropout, random } = state as Settings;
    return native
      .windowAttentionBackward(
        dout.id,
        qkv.id,
        table.id,
        (padding as Tensor | undefined)?.id,
        out.id,
        lse.id,
        window,
        shift,
        scale,
        dropout,
        random.seed,
        random.offset,
        needsGrad[1],
        needsGrad[2],
      )
      .map((id) => ((id as unknown) === undefined ? undefined : wrap(id)));
  },
});

/**
 * Self-attention inside windows: the map is shifted by `-shift`, cut into windows, each attends to itself, and the result
 * is shifted back:
 *
 *   `out = softmax(q k^T * scale + table[relative position] + mask) v`
 *
 * with a mask of -100 between tokens that only the shift has brought together. A map that the window does not divide is
 * filled up with `padding` at the bottom and the right after the shift, as timm does it.
 *
 * Shapes: qkv `[B, H, W, 3 * heads * d]`, its features ordered (q, k, v), head, d; table `[(2 h - 1) (2 w - 1), heads]` for
 * windows of h x w: the row of a query at (y, x) and a key at (y', x') of a window is
 * `(y - y' + h - 1) (2 w - 1) + x - x' + w - 1` -> `[B, H, W, heads * d]`; d up to 256.
 *
 * @throws TensorError SHAPE, DTYPE or VALUE
 * @example
 * const out = windowAttention(normal([8, 56, 56, 288]), zeros([169, 3]), { window: 7, shift: 3 });
 */
export function windowAttention<D extends FloatDType>(
  qkv: Tensor<D>,
  table: Tensor<D>,
  options: WindowAttentionOptions<D>,
): Tensor<D> {
  expectTensors('windowAttention', qkv, table);
  expectOptions('windowAttention', options, OPTIONS);
  if (qkv.ndim !== 4 || table.ndim !== 2) {
    fail(
      'windowAttention',
      'SHAPE',
      `expected qkv [B, H, W, 3 * heads * d] and a table [offsets, heads], got [${qkv.shape.join(', ')}] and ` +
        `[${table.shape.join(', ')}]`,
    );
  }
  const [batch, height, width, features] = qkv.shape;
  const heads = table.shape[1];
  const window = pairOf('windowAttention', 'window', options.window);
  const dropout = options.dropout ?? 0;
  const windows = batch * Math.ceil(height / window[0]) * Math.ceil(width / window[1]);
  const scores = windows * heads * (window[0] * window[1]) ** 2;
  const settings: Settings = {
    window,
    shift: pairOf('windowAttention', 'shift', options.shift ?? 0),
    scale: options.scale ?? 1 / Math.sqrt(features / (3 * heads)),
    dropout,
    random: dropout > 0 ? getRandomState() : { seed: 0, offset: 0 },
  };
  const { padding } = options as { padding?: Tensor };
  const out = windowAttentionOp(qkv, table, padding, settings);
  if (dropout > 0) takeRandom(scores); // an error leaves the sequence where it was
  return out as unknown as Tensor<D>;
}
