/**
 * MNIST and its kin in the IDX format, gzipped or not. Source: LeCun et al., "The MNIST database of handwritten digits".
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { fail } from '../tensor/error.js';
import { type MemorySpec, memoryData } from './memory.js';

/** Images and labels of a part, with their paths; undefined where one is missing. */
function partOf(path: string, prefix: string): [images: string, labels: string] | undefined {
  const find = (kind: string): string | undefined =>
    [`${prefix}-${kind}-ubyte`, `${prefix}-${kind}-ubyte.gz`, `${prefix}-${kind.replace('-', '.')}-ubyte`]
      .map((file) => join(path, file))
      .find((file) => existsSync(file));
  const images = find('images-idx3');
  const labels = find('labels-idx1');
  return images === undefined || labels === undefined ? undefined : [images, labels];
}

/** The IDX files in a folder; undefined where there are none. */
export function mnistFiles(
  path: string,
): { train: [images: string, labels: string]; val: [images: string, labels: string] } | undefined {
  const train = partOf(path, 'train');
  const val = partOf(path, 't10k') ?? partOf(path, 'test');
  return train === undefined || val === undefined ? undefined : { train, val };
}

/** An IDX file of bytes: its sizes and its data. */
async function readIdx(path: string): Promise<{ sizes: number[]; data: Uint8Array }> {
  let bytes: Buffer = await readFile(path);
  try {
    if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = gunzipSync(bytes);
  } catch (error) {
    fail('openDataset', 'IO', `expected a whole gzip file in ${path}, got ${(error as Error).message}`);
  }
  const isIdx = bytes.length >= 4 && bytes[0] === 0 && bytes[1] === 0 && bytes[2] === 0x08;
  const ndim = bytes[3];
  if (!isIdx || bytes.length < 4 + 4 * ndim) {
    return fail('openDataset', 'IO', `expected an IDX file of bytes in ${path}, got something else`);
  }
  const sizes = Array.from({ length: ndim }, (_, i) => bytes.readUInt32BE(4 + 4 * i));
  const data = bytes.subarray(4 + 4 * ndim);
  const needed = sizes.reduce((product, n) => product * n, 1);
  if (data.length !== needed) {
    fail(
      'openDataset',
      'IO',
      `expected ${needed} bytes for [${sizes.join(', ')}] in ${path}, got ${data.length}`,
    );
  }
  return { sizes, data };
}

/** Reads a part whole. @throws TensorError IO */
export async function listMnist([imagesPath, labelsPath]: readonly [string, string]): Promise<MemorySpec> {
  const images = await readIdx(imagesPath);
  const labels = await readIdx(labelsPath);
  if (images.sizes.length !== 3 || labels.sizes.length !== 1 || images.sizes[0] !== labels.sizes[0]) {
    fail(
      'openDataset',
      'IO',
      `expected as many labels as images in ${imagesPath}, got [${images.sizes.join(', ')}] and [${labels.sizes.join(', ')}]`,
    );
  }
  const highest = labels.data.reduce((most, label) => Math.max(most, label), 9);
  return memoryData({
    name: imagesPath,
    classes: Array.from({ length: highest + 1 }, (_, i) => String(i)),
    pixels: images.data,
    height: images.sizes[1],
    width: images.sizes[2],
    channels: 1,
    labels: Int32Array.from(labels.data),
  });
}
