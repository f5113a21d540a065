/**
 * Tensor names of other libraries, as tables.
 *
 * Tenon's own names are those of today's timm. A layout says by rules what the same tensors are called elsewhere:
 *
 *   ['blocks.{i}.norm1', '[vit.]encoder.layer.{i}.layernorm_before']
 *
 * Each side names a tensor or a module (then all below it); `{i}` is a number that both sides share, `{s-1}` one that is
 * smaller there, and what is in brackets may be missing when a file is read. A list of names stands for tensors that
 * Tenon joins into one along their first dimension. The first rule that fits wins, and a name that no rule fits stays.
 *
 * A family lists its layouts in one file of this folder and in its `layouts`. A file is read by the first layout whose
 * `mark` one of its names bears, or else as timm's. A layout of transformers also has `config`, which turns the settings
 * of `config.json` into the family's and back.
 */
import type { FloatTensor } from '../../nn/index.js';
import { cat, split } from '../../ops/index.js';
import { fail } from '../../tensor/error.js';
import { type Tensor, keep, noGrad, scope } from '../../tensor/index.js';

/** Layouts that can be written: timm's today, transformers', its newer names, the models' authors', and torchvision's. */
export type LayoutName = 'timm' | 'hf' | 'hf-current' | 'original' | 'torchvision';

/** Tenon's name, and the name or names elsewhere. */
export type Rule = readonly [own: string, stored: string | readonly string[]];

/** A JSON object from outside. */
export type Json = Readonly<Record<string, unknown>>;

/** The settings of a transformers model in `config.json`. */
export interface HfConfig {
  /** `architectures` of config.json. */
  readonly architecture: string;
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** From config.json to the family's settings. @throws TensorError VALUE for what the family lacks */
  readonly read: (json: Json) => Json;
  /** From the family's settings to config.json; where transformers has no such model, what it lacks, in words. */
  readonly write: (settings: Json) => Json | string;
}

/** Names of tensors elsewhere. */
export interface Layout {
  readonly name: LayoutName;
  /** A stored name that only this layout has. */
  readonly mark: RegExp;
  readonly rules: readonly Rule[];
  /** Stored names of tensors that no classifier needs: constants, and heads for other tasks. */
  readonly ignored?: RegExp;
  readonly config?: HfConfig;
}

/** Tenon's own names. */
const TIMM: Layout = { name: 'timm', mark: /^/, rules: [], ignored: /(^|\.)pre_logits\./ };

/** One way through a rule, from a pattern to what replaces it. */
interface Translation {
  readonly pattern: RegExp;
  readonly replace: (groups: Readonly<Record<string, string>>, rest: string) => string;
}

/** `blocks.{i}.norm1` as a pattern: numbers become groups (once more, that number again), brackets are optional. */
function patternOf(template: string): { pattern: RegExp; offsets: Map<string, number> } {
  const offsets = new Map<string, number>();
  const source = template
    .replace(/[.\]]/g, (c) => (c === '.' ? '\\.' : ')?'))
    .replace(/\[/g, '(?:')
    .replace(/\{(\w)(-1)?\}/g, (_, letter: string, less: string | undefined) => {
      if (offsets.has(letter)) return `\\k<${letter}>`;
      offsets.set(letter, less === undefined ? 0 : 1);
      return `(?<${letter}>\\d+)`;
    });
  return { pattern: new RegExp(`^${source}(?<rest>\\..*)?$`), offsets };
}

function translation(from: string, to: string): Translation {
  const { pattern, offsets } = patternOf(from);
  return {
    pattern,
    replace: (groups, rest) =>
      to
        .replace(/[[\]]/g, '')
        .replace(/\{(\w)(-1)?\}/g, (_, letter: string, less: string | undefined) =>
          String(Number(groups[letter]) + (offsets.get(letter) ?? 0) - (less === undefined ? 0 : 1)),
        ) + rest,
  };
}

function translate({ pattern, replace }: Translation, name: string): string | undefined {
  const groups = pattern.exec(name)?.groups;
  return groups && replace(groups, groups['rest'] ?? '');
}

/** The layout of a file's names. */
export function recognizeLayout(layouts: readonly Layout[], names: readonly string[]): Layout {
  return layouts.find(({ mark }) => names.some((name) => mark.test(name))) ?? TIMM;
}

/** The layout of a name among a family's, first of several. */
export function layoutsNamed(layouts: readonly Layout[], name: LayoutName): readonly Layout[] {
  return name === 'timm' ? [TIMM] : layouts.filter((layout) => layout.name === name);
}

/**
 * Renames the tensors of a file to Tenon's names. Those joined into one are freed.
 *
 * @returns the tensors, and the stored names that were left out
 * @throws TensorError VALUE when a part of a joined tensor is missing
 */
export function toOwnNames(
  layout: Layout,
  stored: Readonly<Record<string, Tensor>>,
): { tensors: Record<string, Tensor>; ignored: string[] } {
  const ways = layout.rules.flatMap(([own, names]) =>
    [names].flat().map((name, part) => ({ ...translation(name, own), part, parts: [names].flat().length })),
  );
  const tensors: Record<string, Tensor> = {};
  const ignored: string[] = [];
  const joined = new Map<string, (Tensor | undefined)[]>();
  for (const [name, tensor] of Object.entries(stored)) {
    if (layout.ignored?.test(name) === true) {
      ignored.push(name);
      tensor.dispose();
      continue;
    }
    const way = ways.find(({ pattern }) => pattern.test(name));
    const own = (way && translate(way, name)) ?? name;
    if (way === undefined || way.parts === 1) {
      tensors[own] = tensor;
      continue;
    }
    const parts = joined.get(own) ?? new Array<undefined>(way.parts).fill(undefined);
    parts[way.part] = tensor;
    joined.set(own, parts);
  }
  for (const [own, parts] of joined) {
    const whole = parts.filter((part) => part !== undefined);
    if (whole.length < parts.length) {
      fail('loadPretrained', 'VALUE', `expected ${parts.length} parts of ${own}, got ${whole.length}`);
    }
    tensors[own] = scope(() => keep(noGrad(() => cat(whole, 0))));
    for (const part of whole) part.dispose();
  }
  return { tensors, ignored };
}

/** Renames tensors of Tenon's names for a file; those cut into several are views to dispose of. */
export function toStoredNames(
  layout: Layout,
  tensors: Readonly<Record<string, Tensor>>,
): Record<string, Tensor> {
  const ways = layout.rules.map(([own, names]) => [names].flat().map((name) => translation(own, name)));
  const stored: Record<string, Tensor> = {};
  for (const [own, tensor] of Object.entries(tensors)) {
    const way = ways.find(([{ pattern }]) => pattern.test(own));
    if (way === undefined) stored[own] = tensor;
    else if (way.length === 1) stored[translate(way[0], own) ?? own] = tensor;
    else {
      const parts = noGrad(() => split(tensor as FloatTensor, tensor.shape[0] / way.length, 0));
      way.forEach((translation, i) => (stored[translate(translation, own) ?? own] = parts[i]));
    }
  }
  return stored;
}
