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

/** How many images each class has. */
export function imagesOfClasses(dataset: Dataset): number[] {
  const counts = dataset.classes.map(() => 0);
  for (let i = 0; i < dataset.length; i++) counts[dataset.label(i)] += 1;
  return counts;
}

/**
 * Weights that make classes count alike, `n / (k n_c)` of n images in k classes with n_c each: their mean over the images is 1.
 * A class without images is none of the k, and has a weight of 1: nothing teaches it, but smoothing spreads a little to it as
 * to the others.
 *
 * Source: scikit-learn's `class_weight='balanced'`; King and Zeng, "Logistic regression in rare events data", 2001.
 */
export function balancedWeights(images: readonly number[]): number[] {
  const present = images.filter((n) => n > 0);
  const mean = present.reduce((sum, n) => sum + n, 0) / present.length;
  return images.map((n) => (n === 0 ? 1 : mean / n));
}
