/**
 * CIFAR-10 and CIFAR-100 in their binary form: records of one label (CIFAR-100: a coarse and a fine one) and 3 x 32 x 32
 * pixels, plane by plane. Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
 */
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { fail } from '../tensor/error.js';
import type { Dataset } from './dataset.js';
import type { Image } from './image.js';
import { checkIndex, checkLabels, sharedInt32 } from './labels.js';

/** CIFAR's binary files as a data set, read whole. */
export interface CifarSpec {
  readonly kind: 'cifar';
  readonly path: string;
  readonly classes: readonly string[];
  /** Every image, plane by plane. */
  readonly planes: Uint8Array;
  readonly labels: Int32Array;
}

const SIDE = 32;
const PIXELS = SIDE * SIDE;

/** The binary files in a folder: of CIFAR-10, or CIFAR-100; undefined where there are none. */
export function cifarFiles(path: string): { train: string[]; val: string[]; labelBytes: 1 | 2 } | undefined {
  const ten = [1, 2, 3, 4, 5]
    .map((i) => join(path, `data_batch_${i}.bin`))
    .filter((file) => existsSync(file));
  const tenTest = join(path, 'test_batch.bin');
  if (ten.length > 0 && existsSync(tenTest)) return { train: ten, val: [tenTest], labelBytes: 1 };
  const [train, test] = ['train.bin', 'test.bin'].map((file) => join(path, file));
  if (existsSync(train) && existsSync(test)) return { train: [train], val: [test], labelBytes: 2 };
  return undefined;
}

/** Reads binary files whole. @throws TensorError IO for a file that is no whole number of records */
export async function listCifar(
  path: string,
  files: readonly string[],
  labelBytes: 1 | 2,
): Promise<CifarSpec> {
  const record = labelBytes + 3 * PIXELS;
  const parts = await Promise.all(files.map((file) => readFile(file)));
  for (const [i, part] of parts.entries()) {
    if (part.length === 0 || part.length % record !== 0) {
      fail(
        'openDataset',
        'IO',
        `expected records of ${record} bytes in ${files[i]}, got ${part.length} bytes`,
      );
    }
  }
  const count = parts.reduce((sum, part) => sum + part.length / record, 0);
  const planes = new Uint8Array(new SharedArrayBuffer(count * 3 * PIXELS));
  const labels: number[] = [];
  for (const part of parts) {
    for (let at = 0; at < part.length; at += record) {
      planes.set(part.subarray(at + labelBytes, at + record), labels.length * 3 * PIXELS);
      labels.push(part[at + labelBytes - 1]); // the fine label is the second of two
    }
  }
  const classes = classNames(
    path,
    labelBytes === 1 ? 'batches.meta.txt' : 'fine_label_names.txt',
    labelBytes === 1 ? 10 : 100,
  );
  const shared = sharedInt32(labels);
  checkLabels(path, shared, classes.length);
  return { kind: 'cifar', path, classes, planes, labels: shared };
}

function classNames(path: string, file: string, count: number): string[] {
  const full = join(path, file);
  if (!existsSync(full)) return Array.from({ length: count }, (_, i) => String(i));
  return readFileSync(full, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .slice(0, count);
}

/** @internal */
export function openCifar(spec: CifarSpec): Promise<Dataset> {
  const { path, classes, planes, labels } = spec;
  return Promise.resolve({
    name: path,
    classes,
    length: labels.length,
    spec,
    label: (index) => labels[index],
    where: (index) => `${path}: image ${index}`,
    read(index): Promise<Image> {
      checkIndex(path, index, labels.length);
      const data = new Uint8Array(3 * PIXELS);
      const start = index * 3 * PIXELS;
      for (let c = 0; c < 3; c++) {
        for (let i = 0; i < PIXELS; i++) data[3 * i + c] = planes[start + c * PIXELS + i];
      }
      return Promise.resolve({ data, height: SIDE, width: SIDE });
    },
    close: () => Promise.resolve(),
  });
}
