import { join, sep } from 'node:path';

import type { Dataset } from '../data/index.js';
import { fail } from '../tensor/error.js';

/** Classes in words, for messages: `4 classes (bird, dog, insect, reptile)`, at most six by name. */
export function describeClasses(classes: readonly string[]): string {
  const shown = classes.slice(0, 6).join(', ') + (classes.length > 6 ? ', …' : '');
  return `${classes.length} ${classes.length === 1 ? 'class' : 'classes'} (${shown})`;
}

/**
 * One class is nothing to learn: every model says it at once. Mostly it is a path one level too high.
 *
 * @throws TensorError IO for a data set of fewer than two classes
 */
export function checkClasses({ name, classes, spec }: Dataset): void {
  if (classes.length >= 2) return;
  const [lone] = classes;
  const holdsFolders = spec?.kind === 'folder' && spec.files.every((file) => file.split(sep).length > 2);
  const hint = holdsFolders ? `, which holds folders: did you mean ${join(name, lone)}?` : '';
  fail('train', 'IO', `expected at least two classes in ${name}, got one (${lone})${hint}`);
}
