/**
 * The rivals' packages, from the separate install under bench/. They are optional, so they have no types here: each
 * rival declares the part that it calls.
 */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

const require = createRequire(new URL('../../../bench/package.json', import.meta.url)); // from dist/bench/rivals/

/** Loads a package. @throws Error that says how to install it, or why it does not load */
export function loadPackage(name: string): unknown {
  try {
    return require(name);
  } catch (cause) {
    const missing = (cause as { code?: string }).code === 'MODULE_NOT_FOUND';
    const message = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    const own = missing && message.includes(`'${name}'`);
    // Loader messages carry absolute paths, which have no place in a results file.
    const reason = own
      ? 'it is not installed; bench/README.md says how'
      : message.replace(/(\/[^\s/']+)+\//g, '');
    throw new Error(`${name}: ${reason}`, { cause });
  }
}

/** The version of an installed package. */
export function packageVersion(name: string): string {
  return (require(`${name}/package.json`) as { version: string }).version;
}

/** The folder of an installed package's main file, with a slash at the end. */
export function packageFolder(name: string): string {
  return `${dirname(require.resolve(name))}/`;
}
