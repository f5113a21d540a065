/**
 * What JavaScript may give in the place of options: TypeScript refuses it, and here it becomes a sentence. Beside
 * arguments.ts, for what that cannot be imported by: the tensor itself, and threads that run without the addon.
 */
import { fail, shown } from './error.js';

type Known = Readonly<Record<string, true>>;

/** @internal The names of options; `satisfies OptionNames<…>` keeps them those of the interface. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/** @internal The same for each kind of a union. */
export type KindNames<Union extends { readonly kind: string }> = {
  readonly [Kind in Union['kind']]: OptionNames<Extract<Union, { readonly kind: Kind }>>;
};

/**
 * @internal What is misspelled, or stands where options do, would be ignored.
 * @throws TensorError VALUE for what is no object, or has a name that is not known
 */
export function expectOptions(op: string, options: unknown, known: Known): void {
  if (typeof options !== 'object' || options === null) return wrongOptions(op, shown(options), known);
  for (const name in options) {
    if (known[name] !== true) wrongOptions(op, stranger(options, name), known);
  }
}

/**
 * @internal The same for options whose names depend on their kind.
 * @throws TensorError VALUE for a kind that is not known; and as `expectOptions`
 */
export function expectKind(op: string, options: unknown, known: Readonly<Record<string, Known>>): void {
  const { kind } = (options ?? {}) as { readonly kind?: unknown };
  if (typeof kind !== 'string' || !Object.hasOwn(known, kind)) {
    return fail(op, 'VALUE', `expected a kind of ${Object.keys(known).join(', ')}, got ${shown(kind)}`);
  }
  expectOptions(op, options, known[kind]);
}

function stranger(options: object, name: string): string {
  const came = shown(options);
  const isData = Array.isArray(options) || ArrayBuffer.isView(options) || came.startsWith('Tensor ');
  return isData ? came : `one named '${name}'`;
}

function wrongOptions(op: string, came: string, known: Known): never {
  return fail(op, 'VALUE', `expected options { ${Object.keys(known).join(', ')} }, got ${came}`);
}
