/**
 * Every op that has a translation, by its name. A new one is a line in the table of its kind.
 */
import { ATTENTION } from './attention.js';
import { ELEMENTWISE } from './elementwise.js';
import { LAYERS } from './layers.js';
import { REDUCTIONS } from './reductions.js';
import { SHAPES } from './shapes.js';
import type { Translation, Translations } from './translation.js';

const TRANSLATIONS: Translations = { ...ELEMENTWISE, ...SHAPES, ...REDUCTIONS, ...LAYERS, ...ATTENTION };

/** The ops that have translations. */
export const TRANSLATED: readonly string[] = Object.keys(TRANSLATIONS).sort();

/** The translation of an op; undefined where there is none. */
export function translationOf(op: string): Translation | undefined {
  return Object.hasOwn(TRANSLATIONS, op) ? TRANSLATIONS[op] : undefined;
}
