/**
 * A data set that a module of yours makes: every thread that decodes imports it and makes the set anew.
 */
import { fail } from '../tensor/error.js';
import type { Dataset } from './dataset.js';
import { type DatasetSource, openSource } from './source.js';

/** A data set of your own; see `moduleData`. */
export interface ModuleSpec {
  readonly kind: 'module';
  readonly url: string;
  readonly name: string;
  readonly args: readonly unknown[];
}

/**
 * A data set of your own: the function `name` that a module exports is called with `args` and gives a `DatasetSource`, or a
 * promise of one. Each thread that decodes calls it too and must get the same images, so the module is a file without
 * other effects: not the program itself.
 *
 * @param url of the module
 * @param args plain data and typed arrays; each thread gets a copy, unless the memory is a SharedArrayBuffer
 * @throws TensorError VALUE for what is no URL, or arguments that threads cannot be sent
 * @example
 * const dataset = await openDataset(moduleData(new URL('./csv.js', import.meta.url), 'openCsv', 'photos/labels.csv'));
 */
export function moduleData(url: URL | string, name: string, ...args: readonly unknown[]): ModuleSpec {
  if (!URL.canParse(String(url))) {
    fail(
      'moduleData',
      'VALUE',
      `expected the URL of a module, such as new URL('./data.js', import.meta.url), got '${String(url)}'`,
    );
  }
  try {
    structuredClone(args);
  } catch (error) {
    fail(
      'moduleData',
      'VALUE',
      `expected arguments that threads can be sent, got ${(error as Error).message}`,
    );
  }
  return { kind: 'module', url: String(url), name, args };
}

/** @internal */
export async function openModule(spec: ModuleSpec): Promise<Dataset> {
  const { url, name, args } = spec;
  let exported: unknown;
  try {
    exported = ((await import(url)) as Record<string, unknown>)[name];
  } catch (error) {
    return fail('openDataset', 'IO', `expected a module at ${url}, got ${(error as Error).message}`);
  }
  if (typeof exported !== 'function')
    return fail(
      'openDataset',
      'VALUE',
      `expected ${url} to export a function ${name}, got ${typeof exported}`,
    );
  const make = exported as (...args: readonly unknown[]) => DatasetSource | Promise<DatasetSource>;
  return openSource(await make(...args), spec);
}
