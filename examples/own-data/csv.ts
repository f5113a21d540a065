/**
 * A data set of your own: images that a CSV file names, a line `path,class` for each. Threads that decode import this.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type DatasetSource, readImage } from '../../src/index.js';

/** The images of a CSV file, whose paths are relative to it. */
export async function openCsv(path: string): Promise<DatasetSource> {
  const lines = (await readFile(path, 'utf8')).trim().split('\n');
  const rows = lines.map((line) => line.trim().split(','));
  const classes = [...new Set(rows.map(([, name]) => name))].sort();
  const where = (index: number): string => join(dirname(path), rows[index][0]);
  return {
    name: path,
    classes,
    length: rows.length,
    label: (index) => classes.indexOf(rows[index][1]),
    where,
    read: (index) => readImage(where(index)),
  };
}
