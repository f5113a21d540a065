/**
 * Models by name: the families joined into one table.
 */
import { fail } from '../tensor/error.js';
import { DEIT } from './deit-variants.js';
import type { DistilledVisionTransformer } from './deit.js';
import type { Family, Model, ModelConfig, ModelCount } from './family.js';
import { REGNET } from './regnet-variants.js';
import { RESNET } from './resnet-variants.js';
import { SWIN } from './swin-variants.js';
import { VIT } from './vit-variants.js';

/** Every family, by what the names of its models begin with. A new family is one line here. */
const FAMILIES = {
  vit: VIT,
  deit: DEIT,
  swin: SWIN,
  resnet: RESNET,
  regnet: REGNET,
} as const;

/** A family's name. */
export type FamilyName = keyof typeof FAMILIES;

/** The names of a family's models, and its own for its default settings. */
type NamesOf<F extends FamilyName> = F | Extract<keyof (typeof FAMILIES)[F]['entries'], string>;

/** A model's name. */
export type ModelName = { [F in FamilyName]: NamesOf<F> }[FamilyName];

/** The family of a name. */
type FamilyOf<Name extends ModelName> = {
  [F in FamilyName]: Name extends NamesOf<F> ? (typeof FAMILIES)[F] : never;
}[FamilyName];

/** What `createModel` returns for a name: its family's class. */
export type ModelOf<Name extends ModelName> = Name extends `deit_${string}_distilled_${string}`
  ? DistilledVisionTransformer
  : ReturnType<FamilyOf<Name>['create']>;

/** What a model may be made with, where its name is not known beforehand; its family checks the settings. */
export type ModelOptions = Partial<ModelConfig> & Readonly<Record<string, unknown>>;

/** What the model of a name may be made with: every setting of its family. */
export type ModelOptionsOf<Name extends ModelName> = Parameters<FamilyOf<Name>['create']>[0];

/** A line of the registry. */
export interface ModelEntry {
  readonly name: string;
  readonly family: FamilyName;
  readonly config: ModelOptions;
}

const REGISTRY = new Map(
  families().flatMap(([family, { entries }]) =>
    Object.entries(entries).map(([name, config]): [string, ModelEntry] => [name, { name, family, config }]),
  ),
);

/** The registered models, in the order of the registry; `filter` is a part of the name in either case, with `*` for anything. */
export function listModels(filter = '*'): ModelEntry[] {
  const words = filter.split('*').map((word) => word.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  const pattern = new RegExp(filter.includes('*') ? `^${words.join('.*')}$` : words[0], 'i');
  return [...REGISTRY.values()].filter(({ name }) => pattern.test(name));
}

/**
 * Makes a model by its timm name, with random weights; options override the named settings.
 *
 * @throws TensorError VALUE for an unknown name, with the nearest ones, or for settings that make no sense
 * @example
 * const model = createModel('vit_tiny_patch16_224', { numClasses: 10, imgSize: 96 });
 */
export function createModel<Name extends ModelName>(
  name: Name,
  options?: ModelOptionsOf<Name>,
): ModelOf<Name>;
/** The same for a name that the compiler does not know. */
export function createModel<Name extends string>(
  name: string extends Name ? Name : never,
  options?: ModelOptions,
): Model;
export function createModel(name: string, options: ModelOptions = {}): Model {
  const { family, config } = modelEntry(name);
  return familyOf(family).create({ ...config, ...options });
}

/** A family by its name. */
export function familyOf(name: FamilyName): Family {
  return FAMILIES[name];
}

/** Every family with its name. */
export function families(): readonly (readonly [name: FamilyName, family: Family])[] {
  return Object.entries(FAMILIES) as [FamilyName, Family][];
}

/** Whether `createModel` knows a name: a registered one, or a family's for its default settings. */
export function isModelName(name: string): boolean {
  return REGISTRY.has(name) || Object.hasOwn(FAMILIES, name);
}

/** The name of a model with some settings: a registered one that has them all, or else the family's. */
export function nameOfModel(family: FamilyName, options: ModelOptions): string {
  const entries = listModels().filter((entry) => entry.family === family);
  const has = (entry: ModelEntry, free: readonly string[]): boolean =>
    Object.entries(entry.config).every(
      ([key, value]) => free.includes(key) || JSON.stringify(options[key]) === JSON.stringify(value),
    );
  const entry =
    entries.find((one) => has(one, ['numClasses'])) ??
    entries.find((one) => has(one, ['numClasses', 'imgSize']));
  return entry?.name ?? family;
}

/** The registered model that has the most of some settings, and none that they leave out; undefined where all have. */
export function nearestEntry(family: FamilyName, options: ModelOptions): ModelEntry | undefined {
  const common = (entry: ModelEntry): number =>
    Object.entries(entry.config).filter(
      ([key, value]) => JSON.stringify(options[key]) === JSON.stringify(value),
    ).length;
  const entries = listModels().filter(
    (entry) => entry.family === family && Object.keys(entry.config).every((key) => key in options),
  );
  return entries.sort((a, b) => common(b) - common(a)).at(0); // stable: the first of equals
}

/** The line of a name; a family's own name stands for its default settings. @throws TensorError VALUE for an unknown one, with the nearest ones */
export function modelEntry(name: string): ModelEntry {
  const entry = REGISTRY.get(name);
  if (entry !== undefined) return entry;
  if (isModelName(name)) return { name, family: name as FamilyName, config: {} };
  const near = [...REGISTRY.keys()]
    .map((known) => ({ known, begins: known.startsWith(name), distance: editDistance(name, known) }))
    .sort((a, b) => Number(b.begins) - Number(a.begins) || a.distance - b.distance)
    .slice(0, 3)
    .map(({ known }) => known);
  return fail(
    'createModel',
    'VALUE',
    `expected a registered model such as ${near.join(', ')}, got '${name}'`,
  );
}

/** Levenshtein's distance: the insertions, deletions and replacements from a to b. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}

/** A registered model in numbers. */
export interface ModelDescription extends ModelEntry, Omit<ModelCount, 'macs'> {
  /** Billions of floating-point operations for one image: two for each multiply-accumulate. */
  readonly gflops: number;
}

/** Parameters and operations of a registered model, counted without making it. */
export function describeModel(entry: ModelEntry): ModelDescription {
  const { imgSize, parameters, macs } = familyOf(entry.family).count(entry.config);
  return { ...entry, imgSize, parameters, gflops: (2 * macs) / 1e9 };
}
