/**
 * Resizing against the weights' definition: a filter over the input for each output row and column.
 */
import { zeros } from '../../src/index.js';
import * as ops from '../../src/ops/interpolate.js';
import { forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, random, table } from '../helpers/nd.js';

type Mode = 'nearest' | 'bilinear' | 'bicubic';

const triangle = (x: number): number => Math.max(0, 1 - Math.abs(x));

/** Keys' cubic: a = -0.75 as PyTorch's, -0.5 as Pillow's, which PyTorch takes with antialias. */
function cubic(x: number, a: number): number {
  const d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? a * (((d - 5) * d + 8) * d - 4) : 0;
}

/** For each of `to` outputs, the weight of each of `from` inputs. */
function weights(from: number, to: number, mode: Mode, antialias: boolean): number[][] {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    const row = new Array<number>(from).fill(0);
    if (mode === 'nearest') {
      row[Math.min(Math.floor(i * scale), from - 1)] = 1;
      return row;
    }
    const centre = (i + 0.5) * scale;
    if (antialias) {
      const stretch = Math.max(scale, 1);
      const reach = (mode === 'bilinear' ? 1 : 2) * stretch;
      const first = Math.max(Math.floor(centre - reach + 0.5), 0);
      const last = Math.min(Math.floor(centre + reach + 0.5), from);
      for (let j = first; j < last; j++) {
        const x = (j + 0.5 - centre) / stretch;
        row[j] = mode === 'bilinear' ? triangle(x) : cubic(x, -0.5);
      }
      const total = row.reduce((a, b) => a + b, 0);
      return row.map((w) => w / total);
    }
    const at = mode === 'bilinear' ? Math.max(centre - 0.5, 0) : centre - 0.5;
    const base = Math.floor(at);
    for (let j = base - 1; j <= base + 2; j++) {
      const w = mode === 'bilinear' ? triangle(at - j) : cubic(at - j, -0.75);
      row[Math.min(Math.max(j, 0), from - 1)] += w;
    }
    return row;
  });
}

function resized(
  x: Nd,
  [height, width]: readonly [number, number],
  options: ops.InterpolateOptions = {},
): Nd {
  const { mode = 'bilinear', antialias = false } = options;
  const [batch, channels, h, w] = x.shape;
  const down = weights(h, height, mode, antialias);
  const across = weights(w, width, mode, antialias);
  const rows = table([batch, channels, h, width], (b, c, i, j) =>
    across[j].reduce((total, weight, k) => total + weight * x.at([b, c, i, k]), 0),
  );
  return table([batch, channels, height, width], (b, c, i, j) =>
    down[i].reduce((total, weight, k) => total + weight * rows.at([b, c, k, j]), 0),
  );
}

const KINDS: readonly ops.InterpolateOptions[] = [
  { mode: 'nearest' },
  { mode: 'bilinear' },
  { mode: 'bicubic' },
  { mode: 'bilinear', antialias: true },
  { mode: 'bicubic', antialias: true },
];

const image = zeros([1, 2, 4, 4]);

opCases(ops, {
  interpolate: {
    reference: resized,
    samples: [
      ...KINDS.flatMap((kind) => [
        [random([2, 3, 5, 7]), [5, 7], kind],
        [random([1, 2, 5, 7]), [11, 9], kind],
        [random([1, 2, 13, 17]), [5, 6], kind],
        [random([1, 1, 1, 1]), [3, 2], kind],
        [random([1, 1, 4, 6]), [1, 1], kind],
        [random([0, 3, 4, 4]), [2, 2], kind],
      ]),
      [random([1, 2, 4, 4]), [8, 8]],
      [random([2, 3, 40, 48]), [64, 33], { mode: 'bicubic', antialias: true }],
    ],
    errors: [
      [
        forbidden(ops.interpolate, zeros([1, 1, 2, 2], { dtype: 'uint8' }), [2, 2]),
        'DTYPE',
        'interpolate: expected a floating-point x, got uint8',
      ],
      [
        () => ops.interpolate(zeros([2, 4, 4]), [2, 2]),
        'SHAPE',
        'interpolate: expected x [B, C, H, W] with 4 dimensions, got [2, 4, 4]',
      ],
      [
        () => ops.interpolate(image, [0, 2]),
        'SHAPE',
        'interpolate: expected sizes of 1 or more, got [1, 2, 4, 4] and [0, 2]',
      ],
      [
        () => ops.interpolate(image, [2, 2], { mode: 'nearest', antialias: true }),
        'VALUE',
        'interpolate: expected bilinear or bicubic with antialias, got nearest',
      ],
      [
        forbidden(ops.interpolate, image, [2, 2], { mode: 'area' }),
        'VALUE',
        "interpolate: expected a mode of nearest, bilinear or bicubic, got 'area'",
      ],
    ],
  },
});
