/**
 * The op test table. One case says what an op computes (a plain reference), on which samples and dtypes, and how it
 * fails; `opCases` makes of it, for every device: the result against the reference in every dtype, the gradient against
 * finite differences in float64 and in every other dtype against that, the same on strided views, errors with their
 * text, and a check that no tensor and no byte stays behind.
 *
 * With TENON_TEST_REPORT in the environment, a line of JSON for each fact is added to the file of that name: whether it
 * holds, and which kernels the op launched (gpu/ops-report.ts reads them).
 */
import { appendFileSync } from 'node:fs';
import { inspect } from 'node:util';

import test, { type ExecutionContext } from 'ava';

import { grad, tensor } from '../../src/index.js';
import { native } from '../../src/native.js';
import type * as allOps from '../../src/ops/index.js';
import {
  type DType,
  type Device,
  type ErrorCode,
  type FloatDType,
  type Tensor as AnyTensor,
  Tensor,
  TensorError,
  devices,
  isFloating,
  leakCheck,
  memoryStats,
  scope,
} from '../../src/tensor/index.js';
import { deviceIndex } from '../../src/tensor/device.js';
import { Nd, generator, permuted, restartSamples, sizeOf } from './nd.js';

/** An op, or what stands for it. Arguments are what the op takes, with an Nd in place of each tensor. */
type Call = (...args: never[]) => unknown;

/** The arguments of one call. */
export interface Sample {
  readonly args: readonly unknown[];
  /** False where the derivative does not exist, or is a convention that finite differences do not follow. */
  readonly gradient?: boolean;
}

export interface OpCase {
  /** Computes the result in plain loops: an Nd in place of each tensor. An Nd without a dtype has the tested one. */
  readonly reference: Call;
  readonly samples: readonly (Sample | readonly unknown[])[];
  /** Calls that must throw (at once, or where their result is read), the code, and the whole message. */
  readonly errors?: readonly (readonly [call: () => unknown, code: ErrorCode, message: string])[];
  /** Default: the four floating-point dtypes. */
  readonly dtypes?: readonly DType[];
  /** False for an op that has no gradient. Default true. */
  readonly gradient?: boolean;
  /** How often a result is rounded to its dtype on the way, where devices differ on each. Default 1: only at the end. */
  readonly roundings?: number | Readonly<Record<'cpu' | 'cuda', number>>;
  /** The dtype of results that stand for none of their own. Default: the dtype under test. */
  readonly resultDType?: (dtype: DType, result: number) => DType;
  /** Calls the op in a special way. Default: the exported function of the case's name. */
  readonly op?: Call;
}

export const FLOATS: readonly DType[] = ['float32', 'float64', 'bfloat16', 'float16'];
export const INTEGERS: readonly DType[] = ['int32', 'int64', 'uint8'];
export const NUMERIC: readonly DType[] = [...FLOATS, ...INTEGERS];
export const ALL: readonly DType[] = [...NUMERIC, 'bool'];

/** What JavaScript may give in the place of any tensor. */
const STRANGERS: readonly unknown[] = [null, [1, 2], { stride: 2 }, new Float32Array(2), Promise.resolve()];

/** A call that the types forbid. */
export function forbidden(op: unknown, ...args: unknown[]): () => unknown {
  return () => (op as Run)(...args);
}

/** The names of a module's exports that src/ops/index.ts exports: its ops. toArray only reads; it makes no tensor. */
type OpsOf<M> = Exclude<Extract<keyof M, keyof typeof allOps>, 'toArray'>;

/** Registers the tests of every op of one file of src/ops; an op without a case does not compile. */
export function opCases<M extends object>(ops: M, cases: Readonly<Record<OpsOf<M>, OpCase>>): void {
  for (const [name, opCase] of Object.entries<OpCase>(cases)) {
    const op = opCase.op ?? (ops as Record<string, Call>)[name];
    for (const device of TESTED) new Runner(name, op as Run, opCase, device).register();
    registered.push({ name, op: op as Run, opCase });
  }
  restartSamples();
}

/** A line of the report. */
export interface Fact {
  readonly op: string;
  readonly device: Device;
  readonly fact: string;
  /** Of the results that were compared with the reference. */
  readonly dtype?: DType | undefined;
  readonly passed: boolean;
  readonly kernels: readonly string[];
}

/** What the table says of an op (scripts/op-table.mjs). */
export interface OpFacts {
  readonly name: string;
  readonly dtypes: readonly DType[];
  /** Those of `backend.h`, forward and backward, of the samples that an emulated GPU runs; on every device the same. */
  readonly kernels: readonly string[];
  /** Whether an emulated GPU has samples to run. */
  readonly emulated: boolean;
}

const registered: { name: string; op: Run; opCase: OpCase }[] = [];

/** Of every op whose cases have been imported. Runs them on the CPU. */
export function opFacts(): OpFacts[] {
  return registered.map(({ name, op, opCase }) => {
    const { dtypes = FLOATS } = opCase;
    const samples = smallSamples(opCase);
    const kernels = new Runner(name, op, opCase, 'cpu').kernelsOf(samples);
    return { name, dtypes, kernels, emulated: samples.length > 0 };
  });
}

/** Set by emulated-cuda.ts: an emulated GPU runs small samples, and the facts that are about kernels. */
const EMULATED = process.env['TENON_TEST_EMULATED'] !== undefined;
const MOST_EMULATED = 1500; // elements of an input

function samplesOf({ samples }: OpCase): Sample[] {
  return samples.map((sample) => ('args' in sample ? sample : { args: sample }));
}

function smallSamples(opCase: OpCase): Sample[] {
  return samplesOf(opCase).filter(({ args }) =>
    arraysIn(args).every((nd) => nd.data.length <= MOST_EMULATED),
  );
}

/** The CPU and the first GPU, where there is one; or an emulated GPU alone. */
const TESTED: readonly Device[] = EMULATED ? ['cuda:0'] : devices().slice(0, 2);

type Run = (...args: unknown[]) => unknown;

/** Relative to each number, and to the largest one (1 where that is smaller). */
interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
}

/** What an exact result rounded to a dtype may be off by, relative to it. */
const ROUNDING: Record<FloatDType, number> = {
  float64: 2 ** -53,
  float32: 2 ** -24,
  bfloat16: 2 ** -8,
  float16: 2 ** -11,
};

/** Twice the error of the exact result rounded to the dtype, and what sums in float64 and float32 add. */
function resultTolerance(dtype: FloatDType, roundings: number): Tolerance {
  const rounding = 2 * ROUNDING[dtype];
  const sums =
    dtype === 'float64' ? { relative: 1e-12, absolute: 1e-13 } : { relative: 5e-6, absolute: 2e-6 };
  return {
    relative: rounding + sums.relative,
    absolute: (roundings - 1) * rounding + sums.absolute,
  };
}

/** Gradients pass through more roundings; what counts is the largest element. */
const GRADIENT: Record<FloatDType, Tolerance> = {
  float64: { relative: 1e-11, absolute: 1e-11 },
  float32: { relative: 2e-5, absolute: 2e-5 },
  bfloat16: { relative: 2 ** -5, absolute: 2 ** -5 },
  float16: { relative: 2 ** -8, absolute: 2 ** -8 },
};

/** How an input lies in memory. */
type Layout = 'contiguous' | 'permuted' | 'sliced' | 'flipped';

class Runner {
  private readonly samples: readonly Sample[];
  private readonly references = new Map<Sample, Map<DType, Nd[]>>();
  private readonly kernels = new Set<string>();

  constructor(
    private readonly name: string,
    private readonly op: Run,
    private readonly opCase: OpCase,
    private readonly device: Device,
  ) {
    this.samples = EMULATED ? smallSamples(opCase) : samplesOf(opCase);
  }

  register(): void {
    const { dtypes = FLOATS, gradient = true, errors = [] } = this.opCase;
    const title = `${this.name}${this.device === 'cpu' ? '' : ` on ${this.device}`}:`;
    // One at a time: the leak check sees the tensors of every test that runs meanwhile.
    const check = (fact: string, run: (t: ExecutionContext) => void, dtype?: DType): void =>
      test.serial(`${title} ${fact}`, async (t) => {
        this.kernels.clear();
        let passed = false;
        try {
          await this.withoutLeaks(t, () => run(t));
          passed = true;
        } finally {
          this.report(fact, dtype, passed);
        }
      });

    const differentiable: FloatDType[] = gradient ? dtypes.filter((dtype) => isFloating(dtype)) : [];
    if (EMULATED) return this.registerEmulated(check, dtypes, differentiable);
    for (const dtype of dtypes) {
      check(`${dtype} results agree with the reference`, (t) => this.forward(t, dtype, 'contiguous'), dtype);
    }
    const strided = dtypes.find((dtype) => dtype === 'float32') ?? dtypes[0];
    for (const layout of ['permuted', 'sliced', 'flipped'] as const) {
      check(`results of ${layout} inputs agree with the reference`, (t) => this.forward(t, strided, layout));
    }
    if (differentiable.length > 0) {
      check('gradients agree with finite differences', (t) => this.finiteDifferences(t));
      for (const dtype of differentiable.filter((d) => d !== 'float64')) {
        check(`${dtype} gradients agree with float64`, (t) => this.gradients(t, dtype, 'contiguous'));
      }
      check('gradients of permuted inputs agree with float64', (t) =>
        this.gradients(t, 'float32', 'permuted'),
      );
      check('gradients of sliced inputs agree with float64', (t) => this.gradients(t, 'float32', 'sliced'));
    }
    if (errors.length > 0) check('errors', (t) => this.errors(t));
    check('what is no tensor is refused in each place', (t) => this.strangers(t));
    if (this.samples.some(({ args }) => isPlainObject(args.at(-1)))) {
      check('a name that no option has is refused', (t) => this.misspelt(t));
    }
  }

  private registerEmulated(
    check: (fact: string, run: (t: ExecutionContext) => void, dtype?: DType) => void,
    dtypes: readonly DType[],
    differentiable: readonly FloatDType[],
  ): void {
    for (const dtype of dtypes) {
      check(`${dtype} results agree with the reference`, (t) => this.forward(t, dtype, 'contiguous'), dtype);
    }
    check('results of sliced inputs agree with the reference', (t) => this.forward(t, dtypes[0], 'sliced'));
    for (const dtype of differentiable.filter((d) => d === 'float32' || d === 'bfloat16')) {
      check(`${dtype} gradients agree with float64 on the CPU`, (t) =>
        this.gradients(t, dtype, 'contiguous', 'cpu'),
      );
    }
  }

  private report(fact: string, dtype: DType | undefined, passed: boolean): void {
    const path = process.env['TENON_TEST_REPORT'];
    if (path === undefined) return;
    const line: Fact = {
      op: this.name,
      device: this.device,
      fact,
      dtype,
      passed,
      kernels: [...this.kernels],
    };
    appendFileSync(path, `${JSON.stringify(line)}\n`);
  }

  kernelsOf(samples: readonly Sample[]): string[] {
    const { dtypes = FLOATS, gradient = true } = this.opCase;
    const dtype = dtypes.includes('float32') ? 'float32' : dtypes[0];
    for (const sample of samples) {
      scope(() => {
        if (gradient && sample.gradient !== false && isFloating(dtype)) {
          this.backward(sample, dtype, 'contiguous');
        } else {
          const { args } = this.place(sample, dtype, 'contiguous');
          this.watched(() => this.op(...args));
        }
      });
    }
    return [...this.kernels].sort();
  }

  /** Notes the kernels that are launched meanwhile. */
  private watched<T>(run: () => T): T {
    const device = deviceIndex(this.device);
    native.launchedKernels(device);
    const result = run();
    for (const kernel of native.launchedKernels(device)) this.kernels.add(kernel);
    return result;
  }

  private async withoutLeaks(t: ExecutionContext, run: () => void): Promise<void> {
    const before = memoryStats(this.device);
    await leakCheck(() => scope(run));
    const after = memoryStats(this.device);
    t.is(after.tensors, before.tensors, 'native tensors left');
    t.is(after.current, before.current, 'bytes left');
  }

  /** Tensors for the arguments, and the arguments with the values that the tensors really hold. */
  private place(
    sample: Sample,
    dtype: DType,
    layout: Layout,
    device = this.device,
  ): { args: unknown[]; exact: unknown[] } {
    const pairs = new Map<Nd, { x: AnyTensor; held: Nd }>();
    for (const nd of arraysIn(sample.args)) {
      const x = upload(nd, nd.dtype ?? dtype, layout, device);
      pairs.set(nd, { x, held: new Nd(nd.shape, read(x), nd.dtype) });
    }
    const pick = <K extends 'x' | 'held'>(key: K): unknown[] =>
      mapArrays(sample.args, (nd) => pairs.get(nd)?.[key]) as unknown[];
    return { args: pick('x'), exact: pick('held') };
  }

  /** An op that is given no tensor makes one, where its options say. */
  private located(args: readonly unknown[]): readonly unknown[] {
    if (this.device === 'cpu' || tensorsIn(args).length > 0) return args;
    const last: unknown = args.at(-1);
    const options = isPlainObject(last) ? last : {};
    return [...(isPlainObject(last) ? args.slice(0, -1) : args), { ...options, device: this.device }];
  }

  /** What the reference says. It is slow, and every layout holds the same numbers: each sample asks it once a dtype. */
  private expected(sample: Sample, dtype: DType, exact: readonly unknown[]): Nd[] {
    const known = this.references.get(sample) ?? new Map<DType, Nd[]>();
    const results = known.get(dtype) ?? arraysIn((this.opCase.reference as Run)(...exact));
    this.references.set(sample, known.set(dtype, results));
    return results;
  }

  private forward(t: ExecutionContext, dtype: DType, layout: Layout): void {
    const { roundings: of = 1, resultDType = (tested: DType) => tested } = this.opCase;
    const roundings = typeof of === 'number' ? of : of[this.device === 'cpu' ? 'cpu' : 'cuda'];
    for (const sample of this.samples) {
      scope(() => {
        const { args, exact } = this.place(sample, dtype, layout);
        const results = this.watched(() => tensorsIn(this.op(...this.located(args))));
        const expected = this.expected(sample, dtype, exact);
        const about = describe(sample);
        t.is(results.length, expected.length, `${about}: number of results`);
        results.forEach((y, i) => {
          const wanted = expected[i];
          t.deepEqual(y.shape, wanted.shape, `${about}: shape`);
          t.is(y.dtype, wanted.dtype ?? resultDType(dtype, i), `${about}: dtype`);
          t.is(y.device, this.device);
          const tolerance = isFloating(y.dtype) ? resultTolerance(y.dtype, roundings) : undefined;
          close(t, read(y), held(wanted.data, y.dtype), tolerance, about);
        });
        tensorsIn(args).forEach((x, i) => {
          // Not deepEqual: it lists the keys of an array, which takes longer than the op.
          const before = tensorsOf(exact)[i].data;
          const now = read(x);
          t.is(now.length, before.length, about);
          t.true(
            now.every((v, k) => Object.is(v, before[k])),
            `${about}: input ${i} is left alone`,
          );
        });
      });
    }
  }

  private get smooth(): readonly Sample[] {
    return this.samples.filter((sample) => sample.gradient !== false);
  }

  /** Directional derivatives of the weighted sum of the results, along random directions, for each input. */
  private finiteDifferences(t: ExecutionContext): void {
    const step = 1e-5;
    for (const sample of this.smooth) {
      scope(() => {
        const next = generator(7);
        const { weights, gradients, inputs } = this.backward(sample, 'float64', 'contiguous');
        inputs.forEach((nd, i) => {
          const direction = Float64Array.from(nd.data, () => 2 * next() - 1);
          const along = (h: number): number =>
            scope(() => {
              const moved = new Nd(
                nd.shape,
                nd.data.map((v, k) => v + h * direction[k]),
              );
              const args = mapArrays(sample.args, (other) => (other === nd ? moved : other)) as unknown[];
              const placed = this.place({ args }, 'float64', 'contiguous');
              return dot(tensorsIn(this.op(...placed.args)), weights);
            });
          const slope = (along(step) - along(-step)) / (2 * step);
          const given = gradients[i].data.reduce((total, g, k) => total + g * direction[k], 0);
          const size = gradients[i].data.reduce((total, g) => total + Math.abs(g), 0);
          const bound = 1e-7 * (1 + size + weights.reduce((n, w) => n + (w?.size ?? 0), 0));
          const about = `${describe(sample)}: derivative by input ${i}: expected ${slope}, got ${given}`;
          t.true(Math.abs(given - slope) <= bound, about);
        });
      });
    }
  }

  private gradients(t: ExecutionContext, dtype: FloatDType, layout: Layout, exactly = this.device): void {
    for (const sample of this.smooth) {
      scope(() => {
        // Both start from the numbers that the narrower dtype holds.
        const held = { args: this.place(sample, dtype, 'contiguous').exact };
        const expected = this.backward(held, 'float64', 'contiguous', exactly).gradients;
        const { gradients } = this.backward(held, dtype, layout);
        gradients.forEach((gradient, i) => {
          t.deepEqual(gradient.shape, expected[i].shape);
          close(
            t,
            gradient.data,
            expected[i].data,
            GRADIENT[dtype],
            `${describe(sample)}: gradient of input ${i}`,
          );
        });
      });
    }
  }

  /** Runs forward and backward, from the same weights for every dtype and layout. */
  private backward(
    sample: Sample,
    dtype: FloatDType,
    layout: Layout,
    device = this.device,
  ): { inputs: Nd[]; gradients: Nd[]; weights: (Nd | undefined)[] } {
    const { args, exact } = this.place(sample, dtype, layout, device);
    const arrays = tensorsOf(exact);
    const leaves = tensorsIn(args)
      .map((x, i) => ({ x, nd: arraysIn(sample.args)[i], held: arrays[i] }))
      .filter(({ nd, x }) => nd.dtype === undefined && isFloating(x.dtype));
    for (const { x } of leaves) (x as AnyTensor<FloatDType>).setRequiresGrad();
    const results = this.watched(() => tensorsIn(this.op(...args)));
    const outputs = results.filter((y) => y.requiresGrad);
    const next = generator(3);
    const weights = results.map((y) => {
      if (!y.requiresGrad) return undefined;
      const data = Float64Array.from({ length: sizeOf(y.shape) }, () => Math.round(16 * next() - 8) / 8);
      return new Nd(y.shape, data);
    });
    const gradients = weights
      .filter((w) => w !== undefined)
      .map((w, i) => upload(w, outputs[i].dtype, layout, device));
    const inputs = leaves.map(({ x }) => x);
    const found = this.watched(() => grad(outputs, inputs, { gradients }));
    return {
      inputs: leaves.map(({ nd }) => nd),
      gradients: found.map((g, i) =>
        g === undefined
          ? new Nd(leaves[i].x.shape, new Float64Array(sizeOf(leaves[i].x.shape)))
          : new Nd(g.shape, read(g)),
      ),
      weights,
    };
  }

  /** Some ops take a number for a tensor, and some tensors may be left out: those are refused, or taken. */
  private strangers(t: ExecutionContext): void {
    const { dtypes = FLOATS } = this.opCase;
    for (const sample of this.samples) {
      for (const nd of new Set(arraysIn(sample.args))) {
        for (const stranger of [...STRANGERS, undefined, 5]) {
          const args = mapArrays(sample.args, (other) => (other === nd ? stranger : other)) as unknown[];
          const about = `${describe({ args })} for ${describe(sample)}`;
          try {
            scope(() => this.op(...this.place({ args }, dtypes[0], 'contiguous').args));
            t.false(STRANGERS.includes(stranger), about);
          } catch (error) {
            t.true(error instanceof TensorError, about);
            const { op, code } = error as TensorError;
            t.deepEqual([op, code], [this.name, 'VALUE'], about);
          }
        }
      }
    }
  }

  private misspelt(t: ExecutionContext): void {
    const { dtypes = FLOATS } = this.opCase;
    for (const sample of this.samples.filter(({ args }) => isPlainObject(args.at(-1)))) {
      const args = [...sample.args.slice(0, -1), { ...(sample.args.at(-1) as object), nonsense: 1 }];
      const call = (): unknown => scope(() => this.op(...this.place({ args }, dtypes[0], 'contiguous').args));
      const error = t.throws(call, { instanceOf: TensorError, code: 'VALUE', message: /nonsense/ });
      t.is(error?.op, this.name);
    }
  }

  private errors(t: ExecutionContext): void {
    for (const [call, code, message] of this.opCase.errors ?? []) {
      const error = t.throws(() => scope(() => tensorsIn(call()).forEach(read)), undefined, message);
      if (!(error instanceof TensorError)) return t.fail(`expected a TensorError, got ${String(error)}`);
      t.is(error.message, message);
      t.is(error.code, code);
      t.is(error.op, message.slice(0, message.indexOf(':')));
    }
  }
}

/** The sum of the products of the elements; tensors without weights do not count. */
function dot(tensors: readonly AnyTensor[], weights: readonly (Nd | undefined)[]): number {
  return weights.reduce(
    (total, w, i) =>
      w === undefined ? total : read(tensors[i]).reduce((s, v, k) => s + v * w.data[k], total),
    0,
  );
}

/** The numbers of a tensor, waited for. */
function read(x: AnyTensor): Float64Array {
  return Float64Array.from(x.dataSync() as ArrayLike<number>);
}

/** A tensor with the numbers of an array; whole ones, ten times as large, for an integer dtype under test. */
function upload(nd: Nd, dtype: DType, layout: Layout, device: Device): AnyTensor {
  const whole = nd.dtype === undefined && !isFloating(dtype);
  const source = whole ? nd.map((v) => wholeNumber(v, dtype)) : nd;
  switch (layout) {
    case 'contiguous':
      return place(source, dtype, device);
    case 'permuted': {
      const backwards = nd.shape.map((_, dim) => nd.shape.length - 1 - dim);
      return place(permuted(source, backwards), dtype, device).permute(backwards);
    }
    case 'sliced': {
      // Every other element of each dimension, from the second on.
      const wide = sparse(source, (n) => 2 * n + 1, 2, 1);
      return place(wide, dtype, device).slice(...nd.shape.map((n) => [1, 2 * n + 1, 2] as const));
    }
    case 'flipped': {
      const back = new Nd(nd.shape, source.data.slice().reverse());
      return place(back, dtype, device).slice(...nd.shape.map(() => [undefined, undefined, -1] as const));
    }
  }
}

function place(nd: Nd, dtype: DType, device: Device): AnyTensor {
  return tensor(nd.data, { shape: nd.shape, dtype, device });
}

function wholeNumber(v: number, dtype: DType): number {
  if (dtype === 'bool') return v > 0 ? 1 : 0;
  const whole = Math.round(10 * v);
  return dtype === 'uint8' ? Math.abs(whole) % 256 : whole;
}

/** x's elements spread over a larger array of other numbers. */
function sparse(x: Nd, size: (n: number) => number, step: number, first: number): Nd {
  const shape = x.shape.map(size);
  const data = new Float64Array(sizeOf(shape)).fill(77);
  const wide = new Nd(shape, data);
  const visit = (dim: number, from: number, to: number): void => {
    if (dim === x.shape.length) {
      data[to] = x.data[from];
      return;
    }
    for (let i = 0; i < x.shape[dim]; i++) {
      visit(dim + 1, from * x.shape[dim] + i, to * shape[dim] + first + step * i);
    }
  };
  visit(0, 0, 0);
  return wide;
}

/** Expected numbers as a dtype holds them: an integer wraps around, a float becomes infinite. */
function held(data: Float64Array, dtype: DType): Float64Array {
  switch (dtype) {
    case 'uint8':
      return data.map((v) => ((v % 256) + 256) % 256);
    case 'float16':
      return data.map((v) => (Math.abs(v) >= 65520 ? Math.sign(v) * Infinity : v));
    case 'float32':
    case 'bfloat16':
      return data.map((v) => (Math.abs(v) >= 2 ** 128 ? Math.sign(v) * Infinity : v));
    default:
      return data;
  }
}

/** Equal up to a tolerance; exactly without one. NaN equals NaN, an infinity itself alone. */
function close(
  t: ExecutionContext,
  actual: Float64Array,
  expected: Float64Array,
  tolerance: Tolerance | undefined,
  about: string,
): void {
  const { relative, absolute } = tolerance ?? { relative: 0, absolute: 0 };
  const largest = expected.reduce((most, v) => (Number.isFinite(v) ? Math.max(most, Math.abs(v)) : most), 1);
  const fits = (got: number, wanted: number): boolean =>
    Object.is(got, wanted) ||
    got === wanted ||
    (Number.isFinite(wanted) && Math.abs(got - wanted) <= relative * Math.abs(wanted) + absolute * largest);
  const wrong = actual.findIndex((got, i) => !fits(got, expected[i]));
  t.is(actual.length, expected.length, about);
  t.is(wrong, -1, `${about}: expected ${expected[wrong]} at element ${wrong}, got ${actual[wrong]}`);
}

function describe(sample: Sample): string {
  return sample.args
    .map((arg) =>
      inspect(
        mapArrays(arg, (nd) => nd.shape),
        { breakLength: Infinity, maxArrayLength: 8 },
      ),
    )
    .join(', ');
}

/** The arrays in a value, in order: the value itself, or in arrays and plain objects. */
function arraysIn(value: unknown): Nd[] {
  const found: Nd[] = [];
  mapArrays(value, (nd) => found.push(nd));
  return found;
}

const tensorsOf = arraysIn;

function isPlainObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** A value with each Nd in it replaced. */
function mapArrays(value: unknown, f: (nd: Nd) => unknown): unknown {
  if (value instanceof Nd) return f(value);
  if (Array.isArray(value)) return value.map((item) => mapArrays(item, f));
  if (isPlainObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapArrays(item, f)]));
  }
  return value;
}

/** The tensors in a value, in order. */
function tensorsIn(value: unknown): AnyTensor[] {
  if (value instanceof Tensor) return [value as AnyTensor];
  if (Array.isArray(value)) return value.flatMap(tensorsIn);
  if (typeof value === 'object' && value !== null) return Object.values(value).flatMap(tensorsIn);
  return [];
}
