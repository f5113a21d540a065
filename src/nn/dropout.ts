import { dropPath, dropout, takeKept } from '../ops/dropout.js';
import { indexAdd, indexSelect } from '../ops/indexing.js';
import { tensor } from '../ops/tensor.js';
import { type OptionNames, expectNumber, expectOptions, expectTensors } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import type { Linear } from './linear.js';
import { type FloatTensor, Module } from './module.js';

function checkRate(op: string, p: number): number {
  expectNumber(op, 'p', p);
  return p >= 0 && p < 1 ? p : fail(op, 'VALUE', `expected a probability in [0, 1), got ${p}`);
}

/** In training, zeroes elements with probability p and divides the others by 1 - p. */
export class Dropout extends Module<[x: FloatTensor], FloatTensor> {
  readonly p: number;

  constructor(p: number) {
    super();
    this.p = checkRate('Dropout', p);
  }

  override forward(x: FloatTensor): FloatTensor {
    expectTensors('Dropout', x);
    return this.training ? dropout(x, this.p) : x;
  }

  /** Whether a call would change anything now. */
  get active(): boolean {
    return this.training && this.p > 0;
  }
}

/** `drop(layer(x)) + residual`: in one kernel where no dropout stands between the product and the sum. */
export function dropAndAdd(
  layer: Linear,
  drop: Dropout,
  x: FloatTensor,
  residual?: FloatTensor,
): FloatTensor {
  if (!drop.active) return layer.call(x, residual);
  const y = drop.call(layer.call(x));
  return residual === undefined ? y : y.add(residual);
}

/** A residual branch: what it makes of x, and plus `residual` if one is given. */
export type Branch = (x: FloatTensor, residual?: FloatTensor) => FloatTensor;

/** What `DropPath.residual` may be told of a branch. */
export interface BranchOptions {
  /** What the branch is computed from. Default: x. */
  readonly from?: FloatTensor;
  /**
   * Whether the branch has dropout of its own: it is then computed for all samples, which so get the same random numbers
   * on every device. Default false.
   */
  readonly draws?: boolean;
}

const BRANCH_OPTIONS = { from: true, draws: true } satisfies OptionNames<BranchOptions>;

/**
 * Stochastic depth: in training, zeroes whole samples with probability p and divides the others by 1 - p.
 *
 * Source: Huang et al., "Deep networks with stochastic depth", 2016.
 */
export class DropPath extends Module<[x: FloatTensor], FloatTensor> {
  readonly p: number;

  constructor(p: number) {
    super();
    this.p = checkRate('DropPath', p);
  }

  override forward(x: FloatTensor): FloatTensor {
    expectTensors('DropPath', x);
    return this.training ? dropPath(x, this.p) : x;
  }

  /**
   * `x + forward(branch(from))`, for a branch that computes every sample by itself. On the CPU it is computed for the
   * samples alone that keep it; on a GPU, whose captured steps have fixed shapes, for all. Where nothing is dropped, the
   * branch adds x itself.
   */
  residual(x: FloatTensor, branch: Branch, options: BranchOptions = {}): FloatTensor {
    expectOptions('DropPath', options, BRANCH_OPTIONS);
    const { from = x, draws = false } = options;
    if (!this.active) return branch(from, x);
    if (draws || x.device !== 'cpu' || x.ndim === 0 || x.size === 0) return x.add(this.forward(branch(from)));
    const samples = x.shape[0];
    const kept = takeKept(samples, this.p);
    // Where all are dropped, one has the weight 0, so that the branch's parameters get gradients.
    const index = tensor(kept.length > 0 ? kept : [0], { dtype: 'int64' });
    const some = kept.length === samples ? from : indexSelect(from, 0, index);
    return indexAdd(x, 0, index, branch(some), { alpha: kept.length > 0 ? 1 / (1 - this.p) : 0 });
  }

  /** Whether a call would change anything now. */
  get active(): boolean {
    return this.training && this.p > 0;
  }
}
