/**
 * Shapes with more elements than can be counted: made of users' numbers, they wrapped around 64 bits, and kernels wrote
 * beyond a tensor's memory.
 */
import { constants } from 'node:buffer';

import test from 'ava';

import {
  adaptiveAvgPool2d,
  add,
  avgPool2d,
  cat,
  conv2d,
  expand,
  eye,
  interpolate,
  maxPool2d,
  normal,
  oneHot,
  ones,
  pad,
  randint,
  repeat,
  reshape,
  slice,
  tensor,
  windowAttention,
  zeros,
  type Tensor,
} from '../../src/index.js';

const [G4, T1, MOST] = [2 ** 32, 2 ** 40, 2 ** 53];
const one = tensor([1]);
const image = zeros([1, 1, 4, 4]);
/** 2^52 elements that are one. */
const wide = expand(one, [MOST / 2]);

const tooMany = (op: string, shape: readonly number[]): RegExp =>
  new RegExp(`^${op}: expected a shape of at most 2\\^53 elements, got \\[${shape.join(', ')}\\]$`);

const CASES: readonly [what: string, call: () => unknown, code: string, message: RegExp | string][] = [
  ['zeros', () => zeros([G4, G4]), 'SHAPE', tooMany('zeros', [G4, G4])],
  ['zeros, beyond 2^64', () => zeros([T1, T1, 3]), 'SHAPE', tooMany('zeros', [T1, T1, 3])],
  ['an empty shape', () => zeros([T1, T1, 0]), 'SHAPE', tooMany('zeros', [T1, T1, 0])],
  ['eye', () => eye(G4), 'SHAPE', tooMany('eye', [G4, G4])],
  ['tensor', () => tensor([], { shape: [T1, 0, T1] }), 'SHAPE', tooMany('tensor', [T1, 0, T1])],
  ['normal', () => normal([G4, G4]), 'SHAPE', tooMany('normal', [G4, G4])],
  ['randint', () => randint([G4, G4], 0, 2), 'SHAPE', tooMany('randint', [G4, G4])],
  ['expand', () => expand(one, [G4, G4]), 'SHAPE', tooMany('expand', [G4, G4])],
  ['repeat', () => repeat(one, 'a -> a b c', { b: G4, c: G4 }), 'SHAPE', tooMany('repeat', [1, G4, G4])],
  ['reshape', () => reshape(one, [G4, G4, -1]), 'SHAPE', tooMany('reshape', [G4, G4, 1])],
  ['reshape to as many', () => reshape(one, [G4, G4, 1]), 'SHAPE', tooMany('reshape', [G4, G4, 1])],
  ['add', () => add(expand(one, [G4, 1]), expand(one, [G4])), 'SHAPE', tooMany('add', [G4, G4])],
  ['cat', () => cat([wide, wide, wide]), 'SHAPE', tooMany('cat', [1.5 * MOST])],
  ['pad', () => pad(one, [[MOST - 1, MOST - 2]]), 'SHAPE', tooMany('pad', [2 * MOST - 2])],
  ['oneHot', () => oneHot(tensor([[1]], { dtype: 'int32' }).expand([2, T1]), T1), 'SHAPE', tooMany('oneHot', [2, T1, T1])], // prettier-ignore
  ['interpolate', () => interpolate(image, [G4, G4]), 'SHAPE', tooMany('interpolate', [1, 1, G4, G4])],
  ['pooling', () => adaptiveAvgPool2d(image, G4), 'SHAPE', tooMany('adaptiveAvgPool2d', [1, 1, G4, G4])],
  [
    'padding',
    () => conv2d(image, ones([1, 1, 1, 1]), undefined, { padding: 2 ** 30 }),
    'SHAPE',
    tooMany('conv2d', [1, 1, 2 ** 31 + 4, 2 ** 31 + 4]),
  ],
  [
    'a table of places',
    () => windowAttention(zeros([1, 4, 4, 12]), zeros([1, 1]), { window: T1 }),
    'SHAPE',
    tooMany('windowAttention', [2 * T1 - 1, 2 * T1 - 1]),
  ],
  [
    'a window',
    () => avgPool2d(image, MOST - 1, { padding: 1 }),
    'VALUE',
    `avgPool2d: expected a kernel below 2^31, got [${MOST - 1}, ${MOST - 1}]`,
  ],
  [
    'dilation',
    () => maxPool2d(image, 3, { dilation: MOST - 1 }),
    'VALUE',
    `maxPool2d: expected a dilation below 2^31, got [${MOST - 1}, ${MOST - 1}]`,
  ],
];

for (const [what, call, code, message] of CASES) {
  test(`more elements than can be counted: ${what}`, (t) => {
    t.throws(call, { code, message } as object);
  });
}

test('a view may have as many elements as can be counted, but not the memory for them', async (t) => {
  t.deepEqual(wide.shape, [MOST / 2]);
  t.deepEqual(await wide.slice([-2]).toArray(), [1, 1]);
  t.throws(() => (wide as Tensor).clone(), { code: 'MEMORY' } as object);
});

test('values that no array of JavaScript holds are refused, not waited for', async (t) => {
  const { MAX_LENGTH } = constants; // 2^32 in Node 20, and no limit in later versions
  const refused =
    MAX_LENGTH < MOST / 2
      ? {
          code: 'VALUE',
          message: `data: expected at most ${MAX_LENGTH} elements, as an array of this Node.js takes, got ${wide.toString()}; read it in parts`,
        }
      : { code: 'MEMORY' };
  await t.throwsAsync(wide.data(), refused as object);
  t.throws(() => wide.dataSync(), refused as object);
  const many = expand(tensor([1]), [2 ** 13, 2 ** 13 + 1]);
  await t.throwsAsync(many.toArray(), {
    code: 'VALUE',
    message: `toArray: expected at most 2^26 elements, got ${many.toString()}; data() gives more`,
  } as object);
});

test('a step beyond the end leaves the first element', async (t) => {
  const x = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  t.deepEqual(await slice(x, [undefined, undefined, MOST - 1]).toArray(), [[1, 2, 3]]);
});
