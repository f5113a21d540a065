/**
 * What two recordings of one model, made with batches of different sizes, have in common: the same ops, with sizes that are either
 * fixed or so many times the batch. What depends on the input in a way that no op shows differs between the two, and is an error.
 */
import { expand, narrow } from '../ops/index.js';
import { fail } from '../tensor/error.js';
import { type DType, type Tensor, inferenceMode } from '../tensor/index.js';
import { type Form, type Recording, type Ref, type Step, isRef } from './recording.js';

/** A size that grows with the batch. */
export class BatchSize {
  constructor(
    /** How many there are for each sample. */
    readonly times: number,
  ) {}
}

/** A size: a number of elements, or so many for each sample. */
export type Size = number | BatchSize;

/** A shape and a dtype. */
export interface ValueForm {
  readonly shape: readonly Size[];
  readonly dtype: DType;
}

/** A tensor of the program. */
export class Value implements ValueForm {
  constructor(
    readonly shape: readonly Size[],
    readonly dtype: DType,
    readonly source:
      | { readonly kind: 'input' }
      | { readonly kind: 'result'; readonly step: ProgramStep; readonly output: number }
      | { readonly kind: 'constant'; readonly tensor: Tensor; readonly name: string },
  ) {}
}

/** One op: its arguments have values in the place of tensors, and sizes in the place of numbers that grow with the batch. */
export interface ProgramStep {
  readonly name: string;
  readonly args: readonly unknown[];
  readonly outputs: readonly ValueForm[];
}

/** A model as a list of ops. */
export interface Program {
  readonly steps: readonly ProgramStep[];
  readonly result: Value;
  /** Frees what it has made of the recordings' constants. */
  dispose(): void;
}

/** A recording, and the size of the batch that it was made with. */
export interface Sample {
  readonly recording: Recording;
  readonly batch: number;
}

const differ = (what: string, a: unknown, b: unknown): never =>
  fail(
    'exportOnnx',
    'VALUE',
    `expected a model that runs the same ops for every batch, got ${String(a)} and ${String(b)} ${what}`,
  );

class Joiner {
  readonly steps: ProgramStep[] = [];
  private readonly results: ProgramStep[] = [];
  private readonly made = new Map<Step, ProgramStep>();
  private readonly constants = new Map<Ref, Value>();
  private readonly owned: Tensor[] = [];
  private readonly input: Value;

  constructor(
    private readonly a: Sample,
    private readonly b: Sample,
    input: ValueForm,
  ) {
    this.input = new Value(input.shape, input.dtype, { kind: 'input' });
  }

  async join(): Promise<Program> {
    const [a, b] = [this.a.recording, this.b.recording];
    for (let i = 0; i < Math.max(a.steps.length, b.steps.length); i++) {
      const [one, other] = [a.steps.at(i), b.steps.at(i)];
      if (one?.name !== other?.name)
        return differ(`as op number ${i + 1}`, one?.name ?? 'none', other?.name ?? 'none');
      this.results.push(await this.step(one as Step, other as Step));
    }
    return {
      steps: this.steps,
      result: await this.value(a.result, b.result, 'as the result'),
      dispose: () => this.dispose(),
    };
  }

  dispose(): void {
    for (const tensor of this.owned) tensor.dispose();
  }

  private async step(a: Step, b: Step): Promise<ProgramStep> {
    const where = `in '${a.name}'`;
    const args = (await this.argument(a.args, b.args, where)) as readonly unknown[];
    if (a.outputs.length !== b.outputs.length)
      return differ(`results ${where}`, a.outputs.length, b.outputs.length);
    const step = {
      name: a.name,
      args,
      outputs: a.outputs.map((form, i) => this.form(form, b.outputs[i], where)),
    };
    this.steps.push(step);
    return step;
  }

  private async argument(a: unknown, b: unknown, where: string): Promise<unknown> {
    if (isRef(a) && isRef(b)) return this.value(a, b, where);
    if (typeof a === 'number' && typeof b === 'number') return this.size(a, b, where);
    if (typeof a === 'function' || typeof b === 'function') return undefined;
    if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) {
      return Object.is(a, b) ? a : differ(where, a, b);
    }
    if (Array.isArray(a) && Array.isArray(b) && a.length !== b.length) {
      return differ(`items ${where}`, a.length, b.length);
    }
    const keys = Object.keys(a);
    if (keys.join() !== Object.keys(b).join()) return differ(where, keys.join(), Object.keys(b).join());
    const entries: [string, unknown][] = [];
    for (const key of keys) {
      const [one, other] = [a, b].map((of) => (of as Readonly<Record<string, unknown>>)[key]);
      entries.push([key, await this.argument(one, other, where)]);
    }
    return Array.isArray(a) ? entries.map(([, item]) => item) : Object.fromEntries(entries);
  }

  private size(a: number, b: number, where: string): Size {
    if (Object.is(a, b)) return a;
    const times = a / this.a.batch;
    const grows = Number.isSafeInteger(times) && times * this.b.batch === b;
    return grows ? new BatchSize(times) : differ(where, a, b);
  }

  private form(a: Form, b: Form, where: string): ValueForm {
    if (a.dtype !== b.dtype) return differ(where, a.dtype, b.dtype);
    if (a.shape.length !== b.shape.length)
      return differ(where, `[${a.shape.join(', ')}]`, `[${b.shape.join(', ')}]`);
    return { shape: a.shape.map((n, i) => this.size(n, b.shape[i], where)), dtype: a.dtype };
  }

  private async value(a: Ref, b: Ref, where: string): Promise<Value> {
    if (a.kind !== b.kind) return differ(where, `a tensor of ${a.kind}`, `one of ${b.kind}`);
    if (a.kind === 'input') return this.input;
    if (a.kind === 'result' && b.kind === 'result') {
      if (a.step.index !== b.step.index || a.output !== b.output)
        return differ(where, `the result of '${a.step.name}'`, `that of '${b.step.name}'`);
      return resultOf(this.results[a.step.index], a.output);
    }
    const known = this.constants.get(a);
    if (known !== undefined) return known;
    const value = await this.constant(a as ConstantRef, b as ConstantRef, where);
    this.constants.set(a, value);
    return value;
  }

  private async constant(a: ConstantRef, b: ConstantRef, where: string): Promise<Value> {
    const form = this.form(a, b, where);
    const { tensor, name } = a;
    if (await isSame(a.tensor, b.tensor))
      return new Value(form.shape, form.dtype, { kind: 'constant', tensor, name });
    if (a.made !== undefined && b.made !== undefined) {
      const step = this.made.get(a.made.step) ?? (await this.step(a.made.step, b.made.step));
      this.made.set(a.made.step, step);
      return resultOf(step, a.made.output);
    }
    // Zeros of the batch's shape, say, are one sample's, repeated.
    const repeated = await repeatedPart(a.tensor, b.tensor);
    if (repeated !== undefined) {
      this.owned.push(repeated);
      const part = new Value(repeated.shape, form.dtype, { kind: 'constant', tensor: repeated, name });
      const step = { name: 'expand', args: [part], outputs: [form] };
      this.steps.push(step);
      return resultOf(step, 0);
    }
    return fail(
      'exportOnnx',
      'VALUE',
      `expected tensors that come of the input by ops, or are the same for every input, got ${name} ` +
        `(${tensor.toString()}) ${where}, whose values changed with the input`,
    );
  }
}

type ConstantRef = Extract<Ref, { kind: 'constant' }>;

function resultOf(step: ProgramStep, output: number): Value {
  const { shape, dtype } = step.outputs[output];
  return new Value(shape, dtype, { kind: 'result', step, output });
}

async function isSame(a: Tensor, b: Tensor): Promise<boolean> {
  if (a.handle === b.handle) return true;
  if (a.shape.join() !== b.shape.join() || a.dtype !== b.dtype) return false;
  const [x, y] = (await Promise.all([a.data(), b.data()])).map(({ buffer, byteOffset, byteLength }) =>
    Buffer.from(buffer, byteOffset, byteLength),
  );
  return x.equals(y); // bits, so that NaN is NaN
}

/** One sample of two tensors that repeat it along the dimensions in which they differ; undefined where they do not. */
async function repeatedPart(a: Tensor, b: Tensor): Promise<Tensor | undefined> {
  const grown = a.shape.flatMap((n, dim) => (n === b.shape[dim] ? [] : [dim]));
  if (grown.length === 0) return undefined;
  const one = (x: Tensor): Tensor => grown.reduce((part, dim) => narrow(part, dim, 0, 1), x);
  const parts = inferenceMode(() => [one(a), one(b), expand(one(a), a.shape), expand(one(b), b.shape)]);
  const [first, other, whole, wholeOther] = parts;
  const same = (await isSame(first, other)) && (await isSame(whole, a)) && (await isSame(wholeOther, b));
  for (const part of [other, whole, wholeOther]) part.dispose();
  if (same) return first;
  first.dispose();
  return undefined;
}

/**
 * The program of a model, from recordings with two sizes of the batch.
 *
 * @param input the shape of the input
 * @throws TensorError VALUE where the two differ in more than sizes that are multiples of the batch's
 */
export async function joinRecordings(a: Sample, b: Sample, input: ValueForm): Promise<Program> {
  const joiner = new Joiner(a, b, input);
  try {
    return await joiner.join();
  } catch (error) {
    joiner.dispose();
    throw error;
  }
}
