/**
 * Rollout, relevance, distance and masks: the reference numbers, and what must hold for any attention.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import test from 'ava';

import {
  type LayerAttention,
  type Tensor,
  attentionDistance,
  attentionRelevance,
  attentionRollout,
  eye,
  full,
  gradientRollout,
  massMask,
  softmax,
  stack,
  sum,
  tensor,
  uniform,
} from '../../src/index.js';
import { sharedTest } from '../helpers/golden.js';

/** Three layers, two heads, five tokens: a class token and 2 x 2 patches. */
interface Golden {
  readonly A: number[][][][];
  readonly G: number[][][][];
  readonly [result: string]: unknown;
}

const path = fileURLToPath(new URL('../../../../shared/reference/golden_attention.json', import.meta.url));
const golden = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Golden) : undefined;

/** `[1, H, N, N]` of each layer. */
const layersOf = (layers: number[][][][]): Tensor<'float32'>[] => layers.map((layer) => tensor([layer]));
const attentions = (): Tensor<'float32'>[] => layersOf(golden!.A);
const explained = (): LayerAttention[] => {
  const gradients = layersOf(golden!.G);
  return attentions().map((attention, i) => ({ attention, gradient: gradients[i] }));
};

/** The largest difference between a tensor and numbers. */
function difference(found: Tensor, expected: unknown): number {
  const numbers = [expected].flat(Infinity) as number[];
  const values = found.dataSync() as Float32Array;
  if (values.length !== numbers.length) return Infinity;
  return Math.max(...numbers.map((value, i) => Math.abs(Number(value) - values[i])));
}

const firstRow = (matrix: Tensor<'float32'>): Tensor<'float32'> => matrix.select(1, 0);

sharedTest('attention rollout is that of the reference, for each way to join heads', path, (t) => {
  const layers = attentions();
  t.true(difference(attentionRollout(layers), golden!['rollout_mean_full']) < 1e-6);
  for (const headFusion of ['max', 'min'] as const) {
    const row = firstRow(attentionRollout(layers, { headFusion }));
    t.true(difference(row, golden![`rollout_${headFusion}_row0`]) < 1e-6, headFusion);
  }
  const discarded = firstRow(attentionRollout(layers, { discardRatio: 0.5 }));
  t.true(difference(discarded, golden!['rollout_mean_discard0.5_row0']) < 1e-6);
});

sharedTest('gradient rollout and relevance are those of the reference', path, (t) => {
  t.true(difference(firstRow(gradientRollout(explained())), golden!['grad_rollout_no_discard_row0']) < 1e-6);
  t.true(difference(firstRow(attentionRelevance(explained())), golden!['chefer2021b_row0']) < 1e-6);
});

sharedTest('mean attention distances and masks are those of the reference', path, (t) => {
  const place = { grid: [2, 2], patchSize: 16 } as const;
  const distances = (renormalize: boolean): Tensor<'float32'> =>
    stack(attentions().map((layer) => attentionDistance(layer, { ...place, renormalize })));
  t.true(difference(distances(false), golden!['mean_attention_distance_P16_not_renormalised']) < 1e-5);
  t.true(difference(distances(true), golden!['mean_attention_distance_P16_renormalised']) < 1e-5);
  const last = attentions()[2].select(2, 0).narrow(2, 1, 4); // [1, heads, patches]
  t.deepEqual(
    [...massMask(last, 0.6).dataSync()].map(Number),
    [golden!['dino_keep_thr0.6_last_layer']].flat(2),
  );
});

/** Attention of random scores. */
const random = (batch: number, heads: number, n: number): Tensor<'float32'> =>
  softmax(uniform([batch, heads, n, n], { low: -2, high: 2 }));

test('rows of a rollout sum to 1, whatever is discarded, and samples are apart', (t) => {
  const layers = [random(3, 2, 7), random(3, 2, 7), random(3, 2, 7)];
  for (const options of [{}, { discardRatio: 0.9 }, { headFusion: 'max' }, { startLayer: 2 }] as const) {
    const rollout = attentionRollout(layers, options);
    t.deepEqual(rollout.shape, [3, 7, 7]);
    t.true(difference(sum(rollout, { dim: 2 }), Array<number>(21).fill(1)) < 1e-6);
    t.true(Math.min(...rollout.dataSync()) >= 0);
    const alone = attentionRollout(
      layers.map((layer) => layer.narrow(0, 1, 1)),
      options,
    );
    t.true(difference(rollout.narrow(0, 1, 1), [...alone.dataSync()]) < 1e-6);
  }
});

test('a rollout of identities is the identity, and of even attention known', (t) => {
  const [n, depth] = [6, 4];
  const identity = eye(n).reshape([1, 1, n, n]);
  t.true(difference(attentionRollout([identity, identity]), [...eye(n).dataSync()]) === 0);
  const even = Array.from({ length: depth }, () => full([1, 2, n, n], 1 / n));
  const expected = Array.from(
    { length: n * n },
    (_, i) => (Math.floor(i / n) === i % n ? 2 ** -depth : 0) + (1 - 2 ** -depth) / n,
  );
  t.true(difference(attentionRollout(even), expected) < 1e-6);
});

test('even attention over 14 x 14 patches of 16 pixels looks 116.492 pixels far', (t) => {
  const even = full([2, 3, 196, 196], 1 / 196);
  const found = attentionDistance(even, { grid: [14, 14], patchSize: 16, prefixTokens: 0 });
  t.true(difference(found, [116.492, 116.492, 116.492]) < 1e-3);
});

test('a mask holds its share with the fewest patches', (t) => {
  const map = tensor([
    [0.5, 0.125, 0.25, 0.125],
    [1, 2, 3, 4],
  ]);
  t.deepEqual([...massMask(map, 0.5).dataSync()].map(Number), [1, 0, 0, 0, 0, 0, 1, 1]);
  t.deepEqual([...massMask(map, 1).dataSync()].map(Number), [1, 1, 1, 1, 1, 1, 1, 1]);
});

test('what does not fit is an error in one sentence', (t) => {
  const layer = random(1, 2, 5);
  const errors: [() => unknown, string][] = [
    [() => attentionRollout([]), 'attentionRollout: expected at least one layer, got none'],
    [
      () => attentionRollout([layer, random(1, 2, 4)]),
      'attentionRollout: expected layers [B, H, N, N] of one size, got [1, 2, 5, 5] and [1, 2, 4, 4]',
    ],
    [
      () => attentionRollout([layer], { discardRatio: 1 }),
      'attentionRollout: expected a discardRatio in [0, 1), got 1',
    ],
    [
      () => attentionRollout([layer], { startLayer: 1 }),
      'attentionRollout: expected a startLayer from 0 to 0, got 1',
    ],
    [
      () => attentionRollout([layer], { headFusion: 'sum' as 'max' }),
      "attentionRollout: expected a headFusion of mean, max or min, got 'sum'",
    ],
    [
      () => attentionDistance(layer, { grid: [2, 3], patchSize: 16 }),
      'attentionDistance: expected attention [B, H, N, N] with N = 1 + 2 * 3, got [1, 2, 5, 5]',
    ],
    [() => massMask(layer, 0), 'massMask: expected a share in (0, 1], got 0'],
  ];
  for (const [run, message] of errors) t.throws(run, { message });
});
