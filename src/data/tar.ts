/**
 * Tar shards in the WebDataset layout: files that share a name up to its first dot are one sample, an image and a `.cls`
 * file with the class's number or name. The shards are indexed once, by their headers, and read at random.
 *
 * Source: POSIX ustar and pax; GNU long names.
 */
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isMainThread } from 'node:worker_threads';

import { fail } from '../tensor/error.js';
import type { Dataset } from './dataset.js';
import { isImageFile } from './folder.js';
import { type Image, decodeImage } from './image.js';
import { checkIndex, checkLabels, sharedFloat64, sharedInt32 } from './labels.js';

/** Tar shards as a data set: where in them each image is. */
export interface TarSpec {
  readonly kind: 'tar';
  readonly shards: readonly string[];
  readonly classes: readonly string[];
  readonly names: readonly string[];
  /** For each sample: its shard, and where in it the image's bytes are. */
  readonly shard: Int32Array;
  readonly offset: Float64Array;
  readonly size: Float64Array;
  readonly labels: Int32Array;
}

const BLOCK = 512;

interface Entry {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** The files in a tar, in order. */
function* entriesOf(fd: number, path: string): Generator<Entry> {
  const total = fstatSync(fd).size;
  const header = Buffer.alloc(BLOCK);
  let longName: string | undefined;
  for (let at = 0; ;) {
    if (at + BLOCK > total) {
      fail(
        'openDataset',
        'IO',
        `expected the end of the archive in ${path}, got that of the file: it is cut`,
      );
    }
    readSync(fd, header, 0, BLOCK, at);
    if (header.every((byte) => byte === 0)) return; // the end of the archive
    checkHeader(header, path, at);
    const size = parseSize(header, path, at);
    const type = String.fromCharCode(header[156]);
    const offset = at + BLOCK;
    if (offset + size > total) {
      fail(
        'openDataset',
        'IO',
        `expected ${size} bytes at ${offset} in ${path}, got ${total - offset}: the file is cut`,
      );
    }
    const prefix = header.toString('latin1', 257, 262) === 'ustar' ? text(header, 345, 155) : '';
    const own = text(header, 0, 100);
    const name = longName ?? (prefix === '' ? own : `${prefix}/${own}`);
    longName = undefined;
    if (type === 'L' || type === 'x') {
      const body = Buffer.alloc(size);
      readSync(fd, body, 0, size, offset);
      longName = type === 'L' ? text(body, 0, size) : paxPath(body);
    } else if (type === '0' || type === '\0') {
      yield { name, offset, size };
    }
    at = offset + Math.ceil(size / BLOCK) * BLOCK;
  }
}

function text(buffer: Buffer, start: number, length: number): string {
  const end = buffer.indexOf(0, start);
  return buffer.toString('utf8', start, end < 0 || end > start + length ? start + length : end);
}

/** Octal digits, or a big-endian number with its first bit set. */
function parseSize(header: Buffer, path: string, at: number): number {
  if (header[124] >= 0x80) return Number(header.readBigUInt64BE(128));
  const size = parseInt(text(header, 124, 12).trim() || '0', 8);
  if (!Number.isSafeInteger(size))
    fail('openDataset', 'IO', `expected a size in the header at ${at} of ${path}, got none`);
  return size;
}

function checkHeader(header: Buffer, path: string, at: number): void {
  let sum = 8 * 32; // the checksum's own field counts as spaces
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i];
  if (parseInt(text(header, 148, 8).trim(), 8) !== sum) {
    fail('openDataset', 'IO', `expected a tar header at byte ${at} of ${path}, got something else`);
  }
}

/** `path` among pax records: `<length> <key>=<value>\n`. */
function paxPath(body: Buffer): string | undefined {
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(32, at);
    const length = Number(body.toString('latin1', at, space));
    if (space < 0 || !(length > 0)) return undefined;
    const [key, ...value] = body.toString('utf8', space + 1, at + length - 1).split('=');
    if (key === 'path') return value.join('=');
    at += length;
  }
  return undefined;
}

/** Names of the classes, from `classes.txt` beside the shards. */
function classesBeside(shard: string): string[] | undefined {
  const path = join(dirname(shard), 'classes.txt');
  if (!existsSync(path)) return undefined;
  return readFileSync(path, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/**
 * Indexes shards. The classes are those of `classes.txt` beside them, else the labels found: names in order, or numbers.
 *
 * @param known classes to take instead: those of the training images, for the validation images
 * @throws TensorError IO for a file that is no tar, a cut one, samples without a label or with two images, a label that
 *   is no class, or no sample
 * @example
 * const train = listTar(['train-0.tar', 'train-1.tar']);
 * const val = listTar(['val-0.tar'], train.classes);
 */
export function listTar(shards: readonly string[], known?: readonly string[]): TarSpec {
  const names: string[] = [];
  const shardOf: number[] = [];
  const offsets: number[] = [];
  const sizes: number[] = [];
  const labels: string[] = [];
  for (const [number, path] of shards.entries()) {
    const fd = openSync(path, 'r');
    try {
      const images = new Map<string, Entry>();
      const classes = new Map<string, string>();
      for (const entry of entriesOf(fd, path)) {
        const file = basename(entry.name);
        if (file.startsWith('._')) continue; // macOS keeps attributes in such files
        const key = entry.name.slice(0, entry.name.length - file.length) + file.split('.')[0];
        if (isImageFile(file)) {
          const other = images.get(key);
          if (other !== undefined && other.name !== entry.name) {
            fail(
              'openDataset',
              'IO',
              `expected one image for ${key} in ${path}, got ${other.name} and ${entry.name}: keys end at the first dot`,
            );
          }
          images.set(key, entry);
        } else if (file.endsWith('.cls')) {
          const body = Buffer.alloc(entry.size);
          readSync(fd, body, 0, entry.size, entry.offset);
          classes.set(key, body.toString('utf8').trim());
        }
      }
      for (const [key, { name, offset, size }] of images) {
        const label = classes.get(key);
        if (label === undefined)
          return fail('openDataset', 'IO', `expected ${key}.cls beside ${name} in ${path}, found none`);
        names.push(name);
        shardOf.push(number);
        offsets.push(offset);
        sizes.push(size);
        labels.push(label);
      }
    } finally {
      closeSync(fd);
    }
  }
  if (names.length === 0) fail('openDataset', 'IO', `expected images in ${shards.join(', ')}, found none`);
  const [classes, numbers] = numberLabels(shards[0], labels, known ?? classesBeside(shards[0]));
  checkLabels(shards[0], numbers, classes.length);
  return {
    kind: 'tar',
    shards,
    classes,
    names,
    shard: sharedInt32(shardOf),
    offset: sharedFloat64(offsets),
    size: sharedFloat64(sizes),
    labels: numbers,
  };
}

function numberLabels(
  path: string,
  labels: readonly string[],
  known: readonly string[] | undefined,
): [readonly string[], Int32Array] {
  if (labels.every((label) => /^\d+$/.test(label))) {
    const numbers = sharedInt32(labels.map(Number));
    const highest = numbers.reduce((most, label) => Math.max(most, label), 0);
    return [known ?? Array.from({ length: highest + 1 }, (_, i) => String(i)), numbers];
  }
  const classes = known ?? [...new Set(labels)].sort();
  const place = new Map(classes.map((name, i) => [name, i]));
  const stranger = labels.find((label) => !place.has(label));
  if (stranger !== undefined) {
    fail(
      'openDataset',
      'IO',
      `expected one of the classes ${classes.join(', ')} in ${path}, got ${stranger}`,
    );
  }
  return [classes, sharedInt32(labels.map((label) => place.get(label) ?? -1))];
}

/** @internal */
export async function openTar(spec: TarSpec): Promise<Dataset> {
  const files: FileHandle[] = [];
  for (const path of spec.shards) files.push(await open(path, 'r'));
  const name =
    spec.shards.length === 1 ? spec.shards[0] : `${spec.shards.length} shards in ${dirname(spec.shards[0])}`;
  const where = (index: number): string => `${spec.shards[spec.shard[index]]}:${spec.names[index]}`;
  return {
    name,
    classes: spec.classes,
    length: spec.names.length,
    spec,
    label: (index) => spec.labels[index],
    where,
    async read(index): Promise<Image> {
      checkIndex(name, index, spec.names.length);
      const bytes = Buffer.alloc(spec.size[index]);
      const file = files[spec.shard[index]];
      if (isMainThread) await file.read(bytes, 0, bytes.length, spec.offset[index]);
      else readSync(file.fd, bytes, 0, bytes.length, spec.offset[index]); // a worker has nothing else to do
      return decodeImage(bytes, { where: where(index) });
    },
    async close() {
      for (const file of files.splice(0)) await file.close();
    },
  };
}
