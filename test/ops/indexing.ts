/**
 * Reading and adding at indices.
 */
import test from 'ava';

import { grad, ones, tensor, zeros } from '../../src/index.js';
import * as ops from '../../src/ops/indexing.js';
import { type DType, type Tensor } from '../../src/tensor/index.js';
import { ALL, NUMERIC, forbidden, opCases } from '../helpers/op-case.js';
import { type Nd, indices, place, random, table, values } from '../helpers/nd.js';

const ints = (...data: number[]): Tensor<'int64'> => tensor(BigInt64Array.from(data, BigInt));
const float = zeros([2]);

const wrongDType = (op: string): string => `${op}: expected index to be int32 or int64, got float32`;
const outside = (op: string, i: number, n: number): string =>
  `${op}: expected indices from 0 to ${n - 1}, got ${i}`;

opCases(ops, {
  indexSelect: {
    reference: (x: Nd, dim: number, index: Nd) => {
      const at = place(dim, x.shape.length);
      return table(x.shape.with(at, index.size), (...i) => x.at(i.with(at, index.data[i[at]])));
    },
    samples: [
      [random([7]), 0, indices([3], 7)],
      [random([3, 5]), 0, values([2, 2, 0], [3], 'int64')],
      [random([3, 5]), -1, indices([9], 5, 'int32')],
      [random([2, 3, 4]), 1, indices([2], 3)],
      [random([3, 5]), 0, indices([0], 3)],
      [random([1, 33]), 0, values([0, 0, 0], [3], 'int64')],
      [random([400, 65]), 0, indices([300], 400)],
    ],
    dtypes: ALL,
    errors: [
      [forbidden(ops.indexSelect, zeros([3]), 0, float), 'DTYPE', wrongDType('indexSelect')],
      [
        () => ops.indexSelect(zeros([3]), 0, zeros([1, 1], { dtype: 'int64' })),
        'SHAPE',
        'indexSelect: expected index with 1 dimension, got [1, 1]',
      ],
      [
        () => ops.indexSelect(zeros([]), 0, ints(0)),
        'SHAPE',
        'indexSelect: expected at least one dimension, got a scalar',
      ],
      [
        () => ops.indexSelect(zeros([3]), 1, ints(0)),
        'INDEX',
        'indexSelect: dim 1 is outside [-1, 1) for a tensor with 1 dimension',
      ],
      [() => ops.indexSelect(zeros([3]), 0, ints(1, 3)), 'INDEX', outside('indexSelect', 3, 3)],
      [() => ops.indexSelect(zeros([3]), 0, ints(-1)), 'INDEX', outside('indexSelect', -1, 3)],
    ],
  },
  embedding: {
    reference: (index: Nd, weight: Nd) =>
      table([...index.shape, ...weight.shape.slice(1)], (...i) => {
        const lead = index.shape.length;
        return weight.at([index.at(i.slice(0, lead)), ...i.slice(lead)]);
      }),
    samples: [
      [indices([4], 7), random([7, 5])],
      [indices([2, 3], 7, 'int32'), random([7, 5])],
      [indices([], 7), random([7, 5])],
      [indices([0], 7), random([7, 5])],
      [values([3, 3, 3], [3], 'int64'), random([7, 33])],
    ],
    errors: [
      [forbidden(ops.embedding, float, zeros([3, 2])), 'DTYPE', wrongDType('embedding')],
      [
        () => ops.embedding(ints(0), zeros([])),
        'SHAPE',
        'embedding: expected a weight with at least one dimension, got a scalar',
      ],
      [() => ops.embedding(ints(7), zeros([3, 2])), 'INDEX', outside('indexSelect', 7, 3)],
    ],
  },
  indexAdd: {
    reference: (x: Nd, dim: number, index: Nd, src: Nd, { alpha = 1 }: ops.IndexAddOptions = {}) => {
      const at = place(dim, x.shape.length);
      const out = x.map((v) => v);
      table(src.shape, (...i) => {
        const to = i.with(at, index.data[i[at]]).reduce((offset, k, d) => offset * x.shape[d] + k, 0);
        return (out.data[to] += alpha * src.at(i));
      });
      return out;
    },
    samples: [
      [random([7]), 0, indices([3], 7), random([3])],
      [random([3, 5]), 0, values([2, 2, 0, 2], [4], 'int64'), random([4, 5])],
      [random([3, 5]), -1, indices([9], 5, 'int32'), random([3, 9])],
      [random([2, 3, 4]), 1, indices([2], 3), random([2, 2, 4])],
      [random([3, 5]), 0, indices([0], 3), random([0, 5])],
      [random([40, 65]), 0, indices([300], 40), random([300, 65])],
    ],
    dtypes: NUMERIC,
    roundings: 10,
    errors: [
      [forbidden(ops.indexAdd, zeros([3]), 0, float, zeros([2])), 'DTYPE', wrongDType('indexAdd')],
      [
        () => ops.indexAdd(zeros([3]), 0, zeros([1, 1], { dtype: 'int64' }), zeros([1])),
        'SHAPE',
        'indexAdd: expected index with 1 dimension, got [1, 1]',
      ],
      [
        () => ops.indexAdd(zeros([3, 2]), 0, ints(0, 1), zeros([3, 2])),
        'SHAPE',
        'indexAdd: expected src [2, 2], got [3, 2]',
      ],
      [
        forbidden(ops.indexAdd, zeros([3]), 0, ints(0), zeros([1], { dtype: 'float64' })),
        'DTYPE',
        'indexAdd: dtypes differ: x is float32, src is float64; convert one with to()',
      ],
      [
        () => {
          const whole = zeros([3], { dtype: 'int32' });
          return ops.indexAdd(whole, 0, ints(0), zeros([1], { dtype: 'int32' }), { alpha: 2 });
        },
        'DTYPE',
        'indexAdd: expected a floating-point x for an alpha of 2, got int32',
      ],
      [
        () => ops.indexAdd(zeros([]), 0, ints(0), zeros([1])),
        'SHAPE',
        'indexAdd: expected at least one dimension, got a scalar',
      ],
      [() => ops.indexAdd(zeros([3]), 0, ints(3), zeros([1])), 'INDEX', outside('indexAdd', 3, 3)],
    ],
  },
  gather: {
    reference: (x: Nd, dim: number, index: Nd) => {
      const at = place(dim, x.shape.length);
      return table(index.shape, (...i) => x.at(i.with(at, index.at(i))));
    },
    samples: [
      [random([7]), 0, indices([3], 7)],
      [random([3, 5]), 1, indices([3, 2], 5)],
      [random([3, 5]), 0, indices([4, 3], 3, 'int32')],
      [random([2, 3, 4]), -1, indices([2, 1, 6], 4)],
      [random([3, 5]), 1, indices([0, 2], 5)],
      [random([200, 129]), 1, indices([200, 129], 129)],
    ],
    dtypes: ALL,
    errors: [
      [forbidden(ops.gather, zeros([3]), 0, float), 'DTYPE', wrongDType('gather')],
      [
        () => ops.gather(zeros([2, 3]), 1, zeros([3, 1], { dtype: 'int64' })),
        'SHAPE',
        'gather: expected an index no larger than [2, 3] outside dim 1, got [3, 1]',
      ],
      [
        () => ops.gather(zeros([2, 3]), 1, ints(0)),
        'SHAPE',
        'gather: expected an index no larger than [2, 3] outside dim 1, got [1]',
      ],
      [
        () => ops.gather(zeros([]), 0, ints(0)),
        'SHAPE',
        'gather: expected at least one dimension, got a scalar',
      ],
      [() => ops.gather(zeros([3]), 0, ints(3)), 'INDEX', outside('gather', 3, 3)],
    ],
  },
  scatterAdd: {
    reference: (x: Nd, dim: number, index: Nd, src: Nd) => {
      const at = place(dim, x.shape.length);
      const out = x.map((v) => v);
      table(src.shape, (...i) => {
        const to = i.with(at, index.at(i)).reduce((offset, k, d) => offset * x.shape[d] + k, 0);
        return (out.data[to] += src.at(i));
      });
      return out;
    },
    samples: [
      [random([7]), 0, indices([3], 7), random([3])],
      [random([3, 5]), 1, indices([3, 4], 5), random([3, 4])],
      [random([3, 5]), 0, indices([6, 2], 3, 'int32'), random([6, 2])],
      [random([2, 3, 4]), -1, indices([2, 3, 1], 4), random([2, 3, 1])],
      [random([3]), 0, indices([0], 3), random([0])],
      [random([200, 129]), 1, indices([200, 129], 129), random([200, 129])],
      [random([50, 129]), 0, indices([200, 129], 50), random([200, 129])],
    ],
    dtypes: NUMERIC,
    roundings: 4,
    errors: [
      [forbidden(ops.scatterAdd, zeros([3]), 0, float, zeros([2])), 'DTYPE', wrongDType('scatterAdd')],
      [
        () => ops.scatterAdd(zeros([3]), 0, ints(0, 1), zeros([3])),
        'SHAPE',
        'scatterAdd: expected src [2], got [3]',
      ],
      [
        forbidden(ops.scatterAdd, zeros([3]), 0, ints(0), zeros([1], { dtype: 'float64' })),
        'DTYPE',
        'scatterAdd: dtypes differ: x is float32, src is float64; convert one with to()',
      ],
      [() => ops.scatterAdd(zeros([3]), 0, ints(-1), zeros([1])), 'INDEX', outside('scatterAdd', -1, 3)],
    ],
  },
  oneHot: {
    reference: (index: Nd, classes: number, { dtype = 'float32' }: { dtype?: DType } = {}) =>
      table(
        [...index.shape, classes],
        (...i) => (index.at(i.slice(0, -1)) === i[i.length - 1] ? 1 : 0),
        dtype,
      ),
    samples: [
      [indices([], 3), 3],
      [indices([5], 3), 3],
      [indices([2, 3], 7, 'int32'), 7],
      [indices([0], 3), 3],
      ...ALL.map((dtype) => [indices([4], 5), 5, { dtype }]),
    ],
    dtypes: ['float32'],
    gradient: false,
    errors: [
      [forbidden(ops.oneHot, float, 3), 'DTYPE', wrongDType('oneHot')],
      [() => ops.oneHot(ints(0), 0), 'VALUE', 'oneHot: expected at least one class, got 0'],
      [() => ops.oneHot(ints(3), 3), 'INDEX', outside('oneHot', 3, 3)],
    ],
  },
});

test('indexAdd scales the source by alpha, and its gradient', (t) => {
  for (const dtype of ['float32', 'float64', 'bfloat16', 'float16'] as const) {
    const x = ones([3, 2], { dtype }).setRequiresGrad();
    const src = tensor(
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      { dtype },
    ).setRequiresGrad();
    const y = ops.indexAdd(x, 0, ints(2, 0, 2), src, { alpha: -0.5 });
    t.deepEqual(Array.from(y.to('float64').dataSync()), [-0.5, -1, 1, 1, -2, -3], dtype);
    const dy = tensor(
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
      { dtype },
    );
    const [dx, dsrc] = grad(y, [x, src], { gradients: [dy] });
    t.deepEqual(Array.from(dx?.to('float64').dataSync() ?? []), [1, 2, 3, 4, 5, 6], dtype);
    t.deepEqual(Array.from(dsrc?.to('float64').dataSync() ?? []), [-2.5, -3, -0.5, -1, -2.5, -3], dtype);
  }
});
