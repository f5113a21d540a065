/**
 * Attention, written out: `softmax(q k^T * scale + bias + mask) v`, as the patterns that runtimes know and fuse.
 */
import type { Graph, Input } from '../graph.js';
import { type Size, type Value } from '../program.js';
import { rolled, sliced } from './shapes.js';
import {
  type Translation,
  type Translations,
  byArguments,
  expectFixed,
  fixed,
  times,
} from './translation.js';

interface Settings {
  readonly scale: number;
}

/** What is added to the scores `[..., H, Nq, Nk]`, and where they count. */
interface Scores {
  readonly scale: number;
  readonly bias?: Input | undefined;
  readonly mask?: Input | undefined;
}

/** q `[..., Nq, d]`, k turned `[..., d, Nk]`, v `[..., Nk, d]` -> `[..., Nq, d]`. */
function attended(graph: Graph, q: Input, kTurned: Input, v: Input, { scale, bias, mask }: Scores): Input {
  let scores: Input = graph.node('MatMul', [graph.node('Mul', [q, graph.scalar(scale)]), kTurned]);
  if (bias !== undefined) scores = graph.node('Add', [scores, bias]);
  if (mask !== undefined) scores = graph.node('Where', [mask, scores, graph.scalar(-Infinity)]);
  let weights: Input = graph.node('Softmax', [scores], { axis: -1 });
  // A query that sees no key gives zeros, where softmax gives NaN.
  if (mask !== undefined) weights = graph.node('Where', [mask, weights, graph.scalar(0)]);
  return graph.node('MatMul', [weights, v]);
}

/** q, k and v of a packed projection `[...lead, N, 3 * H * d]`, with heads before tokens, and k turned. */
function unpacked(
  graph: Graph,
  qkv: Input,
  lead: readonly Size[],
  [n, heads, headDim]: readonly [n: Size, heads: number, headDim: number],
  queries: Size,
): [q: Input, kTurned: Input, v: Input] {
  const axis = lead.length + 1;
  const split = graph.reshape(qkv, [...lead, n, 3, heads, headDim]);
  const first = lead.map((_, dim) => dim);
  const [N, H, D] = [axis - 1, axis, axis + 1];
  const [q, k, v] = [0, 1, 2].map((index) =>
    graph.node('Gather', [split, graph.scalar(index, 'int64')], { axis }),
  );
  const turn = (x: Input, last: readonly number[]): Input =>
    graph.node('Transpose', [x], { perm: [...first, ...last] });
  const asking =
    queries === n
      ? q
      : sliced(graph, q, [{ dim: N, start: 0, stop: fixed('attentionPacked', queries), step: 1 }]);
  return [turn(asking, [H, N, D]), turn(k, [H, D, N]), turn(v, [H, N, D])];
}

/** `[...lead, H, N, d]` -> `[...lead, N, H * d]` */
function joined(graph: Graph, x: Input, lead: readonly Size[], n: Size, features: number): Input {
  const L = lead.length;
  const perm = [...lead.map((_, dim) => dim), L + 1, L, L + 2];
  return graph.reshape(graph.node('Transpose', [x], { perm }), [...lead, n, features]);
}

const attention: Translation = (graph, step) => {
  expectFixed(step);
  const [q, k, v, bias, mask, { scale }] = step.args as unknown as [
    q: Value,
    k: Value,
    v: Value,
    bias: Value | undefined,
    mask: Value | undefined,
    settings: Settings,
  ];
  const kTurned = graph.node('Transpose', [k], { perm: [0, 1, 3, 2] });
  return [attended(graph, q, kTurned, v, { scale, bias, mask }), undefined];
};

const attentionPacked: Translation = (graph, step) => {
  const [qkv, bias, mask, heads, queries, { scale }] = step.args as unknown as [
    qkv: Value,
    bias: Value | undefined,
    mask: Value | undefined,
    heads: number,
    queries: number,
    settings: Settings,
  ];
  expectFixed(step);
  const [batch, n, packed] = qkv.shape;
  const features = fixed('attentionPacked', packed) / 3;
  const [q, k, v] = unpacked(graph, qkv, [batch], [n, heads, features / heads], queries);
  const out = attended(graph, q, k, v, { scale, bias, mask });
  return [joined(graph, out, [batch], queries, features), undefined];
};

type Two = readonly [number, number];

/** What a map and its windows measure. */
interface Windows {
  readonly map: Two;
  readonly padded: Two;
  readonly window: Two;
  readonly shift: Two;
  /** Windows down and across. */
  readonly grid: Two;
}

/** The region of a place on the padded map: windows before the last, and the last one's two sides of the seam. */
const region = (i: number, size: number, window: number, shift: number): number =>
  shift === 0 || i < size - window ? 0 : i < size - shift ? 1 : 2;

/** -100 between tokens of a window that only the shift has brought together: `[windows, 1, N, N]`. */
function seamMask(graph: Graph, { padded, window, shift, grid }: Windows): string {
  const n = window[0] * window[1];
  const values: number[] = [];
  for (let i = 0; i < grid[0] * grid[1]; i++) {
    const [top, left] = [Math.floor(i / grid[1]) * window[0], (i % grid[1]) * window[1]];
    const ids = Array.from({ length: n }, (_, j) => {
      const [y, x] = [top + Math.floor(j / window[1]), left + (j % window[1])];
      return 3 * region(y, padded[0], window[0], shift[0]) + region(x, padded[1], window[1], shift[1]);
    });
    for (const a of ids) for (const b of ids) values.push(a === b ? 0 : -100);
  }
  return graph.numbers(values, [grid[0] * grid[1], 1, n, n], 'float32');
}

/** The rows of a table of relative positions for each query and key of a window: `[H, N, N]`. */
function relativeBias(graph: Graph, table: Value, [h, w]: Two): Input {
  const n = h * w;
  const rows = Array.from({ length: n * n }, (_, i) => {
    const [query, key] = [Math.floor(i / n), i % n];
    const dy = Math.floor(query / w) - Math.floor(key / w) + h - 1;
    return dy * (2 * w - 1) + (query % w) - (key % w) + w - 1;
  });
  const picked = graph.node('Gather', [table, graph.integers(rows)], { axis: 0 });
  const square = graph.reshape(picked, [n, n, fixed('windowAttention', table.shape[1])]);
  return graph.node('Transpose', [square], { perm: [2, 0, 1] });
}

/** Fills up the bottom and the right of a map with a token, or zeros. */
function filledUp(graph: Graph, x: Input, { map, padded }: Windows, padding: Value | undefined): Input {
  if (map[0] === padded[0] && map[1] === padded[1]) return x;
  const pads = [0, 0, 0, 0, 0, padded[0] - map[0], padded[1] - map[1], 0];
  const zeros = graph.node('Pad', [x, graph.integers(pads), graph.scalar(0)]);
  if (padding === undefined) return zeros;
  const outside = Array.from({ length: padded[0] * padded[1] }, (_, i) =>
    Number(Math.floor(i / padded[1]) >= map[0] || i % padded[1] >= map[1]),
  );
  const mask = graph.numbers(outside, [1, ...padded, 1], 'bool');
  return graph.node('Where', [mask, padding, zeros]);
}

const windowAttention = byArguments(
  (
    graph,
    [qkv, table, padding, settings]: [
      qkv: Value,
      table: Value,
      padding: Value | undefined,
      settings: Settings & { readonly window: Two; readonly shift: Two },
    ],
  ) => {
    const { window, shift, scale } = settings;
    const [batch, height, width, packed] = qkv.shape;
    const map = [fixed('windowAttention', height), fixed('windowAttention', width)] as const;
    const grid = [Math.ceil(map[0] / window[0]), Math.ceil(map[1] / window[1])] as const;
    const padded = [grid[0] * window[0], grid[1] * window[1]] as const;
    const windows: Windows = { map, padded, window, shift, grid };
    const features = fixed('windowAttention', packed) / 3;
    const heads = fixed('windowAttention', table.shape[1]);
    const [n, count] = [window[0] * window[1], grid[0] * grid[1]];
    const isShifted = shift.some((by) => by !== 0);

    const roll = (x: Input, sign: 1 | -1): Input =>
      [1, 2].reduce((y, dim) => rolled(graph, y, sign * shift[dim - 1], dim, map[dim - 1]), x);
    const cut = graph.reshape(filledUp(graph, roll(qkv, -1), windows, padding), [
      batch,
      grid[0],
      window[0],
      grid[1],
      window[1],
      3 * features,
    ]);
    const partitioned = graph.node('Transpose', [cut], { perm: [0, 1, 3, 2, 4, 5] });
    // The mask is one of each window of an image; without it all windows are alike.
    const lead = isShifted ? [batch, count] : [times(batch, count)];
    const [q, k, v] = unpacked(graph, partitioned, lead, [n, heads, features / heads], n);
    const relative = relativeBias(graph, table, window);
    const bias = isShifted ? graph.node('Add', [relative, seamMask(graph, windows)]) : relative;
    const mixed = joined(graph, attended(graph, q, k, v, { scale, bias }), lead, n, features);

    const tiles = graph.reshape(mixed, [batch, grid[0], grid[1], window[0], window[1], features]);
    const rows = graph.node('Transpose', [tiles], { perm: [0, 1, 3, 2, 4, 5] });
    const whole = graph.reshape(rows, [batch, ...padded, features]);
    const ends = [1, 2].filter((dim) => map[dim - 1] !== padded[dim - 1]);
    const inside = sliced(
      graph,
      whole,
      ends.map((dim) => ({ dim, start: 0, stop: map[dim - 1], step: 1 })),
    );
    return roll(inside, 1);
  },
);

export const ATTENTION: Translations = { attention, attentionPacked, windowAttention };
