/**
 * What the models of transformers share in `config.json`. Dropout rates are left to the settings of training.
 */
import { fail } from '../../tensor/error.js';
import type { ImageSize } from '../position.js';
import type { Json } from './layout.js';

/** A number of `config.json`, or what transformers takes where it is not given. @throws TensorError VALUE */
export function numberOf(json: Json, key: string, otherwise: number): number {
  const value = json[key] ?? otherwise;
  return typeof value === 'number' ? value : badValue(key, 'a number', value);
}

/** The same for a list of numbers. @throws TensorError VALUE */
export function numbersOf(json: Json, key: string, otherwise: readonly number[]): readonly number[] {
  const value = json[key] ?? otherwise;
  return Array.isArray(value) && value.every((item) => typeof item === 'number')
    ? value
    : badValue(key, 'numbers', value);
}

/** `image_size`: one number, or height and width. @throws TensorError VALUE */
export function imageSizeOf(json: Json, otherwise = 224): ImageSize {
  const value = json['image_size'] ?? otherwise;
  if (typeof value === 'number') return value;
  const pair = numbersOf(json, 'image_size', []);
  return pair.length === 2 ? [pair[0], pair[1]] : badValue('image_size', 'one number or two', value);
}

/** Checks that a setting is the one that a family knows. @throws TensorError VALUE */
export function expectValue(json: Json, key: string, expected: unknown): void {
  const value = json[key] ?? expected;
  if (value !== expected) badValue(key, JSON.stringify(expected), value);
}

/** What transformers lacks of a model, in words: a setting that has only one value there. */
export function lacks(key: string, value: unknown, only: unknown): string {
  return `${key} ${JSON.stringify(value)}, where transformers has ${only === undefined ? 'none' : `${JSON.stringify(only)} alone`}`;
}

/** `mlp_ratio` as a factor whose product with the width, cut to a whole number, is `hidden`. */
export function ratioOf(hidden: number, width: number): number {
  const ratio = hidden / width;
  return Math.trunc(width * ratio) === hidden ? ratio : (hidden + 0.5) / width;
}

function badValue(key: string, expected: string, got: unknown): never {
  return fail(
    'loadPretrained',
    'VALUE',
    `expected ${key} of config.json to be ${expected}, got ${JSON.stringify(got)}`,
  );
}

/** Labels of `id2label` by number; those of `num_labels` without names where it is missing. Default: two, as there. */
export function labelsOf(json: Json): string[] {
  const labels = json['id2label'];
  if (typeof labels !== 'object' || labels === null) return unnamedLabels(numberOf(json, 'num_labels', 2));
  const entries = Object.entries(labels as Record<string, unknown>).sort(([a], [b]) => Number(a) - Number(b));
  const whole = entries.every(([id, label], i) => Number(id) === i && typeof label === 'string');
  return whole
    ? entries.map(([, label]) => label as string)
    : badValue('id2label', 'labels numbered from 0', labels);
}

/** What transformers calls classes without names. */
export function unnamedLabels(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `LABEL_${i}`);
}
