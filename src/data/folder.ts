/**
 * A folder with one folder of images for each class.
 */
import { readdir, stat } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';

import { fail } from '../tensor/error.js';
import type { Dataset } from './dataset.js';
import { type Image, readImage } from './image.js';
import { checkIndex, sharedInt32 } from './labels.js';
import { SampleRandom } from './sample-random.js';

const EXTENSIONS = new Set(['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif']);

/** A folder of images as a data set: its files and their classes. */
export interface FolderSpec {
  readonly kind: 'folder';
  readonly path: string;
  readonly classes: readonly string[];
  /** Below the path, in order. */
  readonly files: readonly string[];
  readonly labels: Int32Array;
}

/** Whether a name is that of an image. */
export function isImageFile(name: string): boolean {
  return EXTENSIONS.has(extname(name).toLowerCase());
}

/** The class folders in a folder, in order; links to folders count. */
async function classFolders(path: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    return fail('openDataset', 'IO', `expected a folder at ${path}, got ${(error as Error).message}`);
  }
  const isFolder = await Promise.all(
    names.map(async (name) => {
      const status = await stat(join(path, name)).catch(() => undefined); // a link may lead nowhere
      return !name.startsWith('.') && status?.isDirectory() === true;
    }),
  );
  return names.filter((_, i) => isFolder[i]).sort();
}

/** The images in a folder and below, in order, by their paths in it. Names that begin with a dot are not seen. @internal */
export async function imagesBelow(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => isImageFile(entry.name) && !entry.isDirectory())
    .map((entry) => relative(path, join(entry.parentPath, entry.name)))
    .filter((file) => !file.split(sep).some((part) => part.startsWith('.')))
    .sort();
}

/**
 * Lists a folder of class folders; images may be in folders below them.
 *
 * @param classes to take instead of the folders' names: those of the training images, for the validation images
 * @throws TensorError IO when there is no image, a class without one, or a folder that is no class
 */
export async function listFolder(path: string, classes?: readonly string[]): Promise<FolderSpec> {
  const found = await classFolders(path);
  const names = classes ?? found;
  const stranger = found.find((name) => !names.includes(name));
  if (stranger !== undefined) {
    fail(
      'openDataset',
      'IO',
      `expected folders named after the classes ${names.join(', ')} in ${path}, got ${stranger}`,
    );
  }
  const files: string[] = [];
  const labels: number[] = [];
  const empty: string[] = [];
  for (const [label, name] of names.entries()) {
    if (!found.includes(name)) continue;
    const images = await imagesBelow(join(path, name));
    if (images.length === 0) empty.push(name);
    for (const file of images) {
      files.push(join(name, file));
      labels.push(label);
    }
  }
  if (files.length === 0)
    fail('openDataset', 'IO', `expected images in folders by class in ${path}, found none`);
  // A model would learn never to say such a class, and still give it some probability. Validation may lack one.
  if (classes === undefined && empty.length > 0)
    fail('openDataset', 'IO', `expected images in each folder of ${path}, found none in ${empty.join(', ')}`);
  return { kind: 'folder', path, classes: names, files, labels: sharedInt32(labels) };
}

/**
 * Parts a list in two, the same share of every class, at random by the seed.
 *
 * @throws TensorError IO when no class has an image to spare
 */
export function splitFolder(
  spec: FolderSpec,
  valFraction: number,
  seed: number,
): { train: FolderSpec; val: FolderSpec } {
  const isVal = new Uint8Array(spec.files.length);
  for (const label of spec.classes.keys()) {
    const members = [...spec.labels.keys()].filter((i) => spec.labels[i] === label);
    const random = new SampleRandom(seed, 0, label);
    for (let i = members.length - 1; i > 0; i--) {
      const j = random.int(i + 1);
      [members[i], members[j]] = [members[j], members[i]];
    }
    // A class with one image trains on it; any other has at least one image on each side.
    const count = Math.min(members.length - 1, Math.max(1, Math.round(members.length * valFraction)));
    for (const i of members.slice(0, count)) isVal[i] = 1;
  }
  if (!isVal.includes(1)) {
    fail(
      'splitFolder',
      'IO',
      `expected two images of a class in ${spec.path}, one of them for validation, got one of each`,
    );
  }
  const part = (value: number): FolderSpec => {
    const kept = [...isVal.keys()].filter((i) => isVal[i] === value);
    return {
      ...spec,
      files: kept.map((i) => spec.files[i]),
      labels: sharedInt32(kept.map((i) => spec.labels[i])),
    };
  };
  return { train: part(0), val: part(1) };
}

/** @internal */
export function openFolder(spec: FolderSpec): Promise<Dataset> {
  const where = (index: number): string => join(spec.path, spec.files[index]);
  return Promise.resolve({
    name: spec.path,
    classes: spec.classes,
    length: spec.files.length,
    spec,
    label: (index) => spec.labels[index],
    where,
    async read(index): Promise<Image> {
      checkIndex(spec.path, index, spec.files.length);
      return readImage(where(index));
    },
    close: () => Promise.resolve(),
  });
}
