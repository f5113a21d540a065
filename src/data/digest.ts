/**
 * Whether data is still the same: a digest of which images there are, in which order and of which classes.
 */
import { type Hash, createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, join, sep } from 'node:path';

import type { DatasetSpec } from './dataset.js';

/** Files whose sizes are asked for at a time. */
const AT_ONCE = 256;

/**
 * A digest of data sets, in 64 hexadecimal digits. Files count by their names in the data's folder and their sizes, which
 * an epoch's reading of them makes cheap; not by where that folder is.
 */
export async function digestOfData(specs: readonly DatasetSpec[]): Promise<string> {
  const hash = createHash('sha256');
  for (const spec of specs) await add(hash, spec);
  return hash.digest('hex');
}

async function add(hash: Hash, spec: DatasetSpec): Promise<void> {
  const text = (value: unknown): Hash => hash.update(`${JSON.stringify(value)}\n`);
  const bytes = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Hash =>
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  text(spec.kind);
  switch (spec.kind) {
    case 'folder':
      text(spec.classes);
      for (let start = 0; start < spec.files.length; start += AT_ONCE) {
        const files = spec.files.slice(start, start + AT_ONCE);
        // A file without a size, a link to nowhere, is a damaged image: training will say so.
        const sizes = await Promise.all(
          files.map((file) =>
            stat(join(spec.path, file)).then(
              ({ size }) => size,
              () => -1,
            ),
          ),
        );
        text(files.map((file, i) => [file.replaceAll(sep, '/'), sizes[i]]));
      }
      bytes(spec.labels);
      return;
    case 'tar':
      text([spec.classes, spec.shards.map((path) => basename(path)), spec.names]);
      for (const array of [spec.shard, spec.offset, spec.size, spec.labels]) bytes(array);
      return;
    case 'cifar':
      text(spec.classes);
      for (const array of [spec.planes, spec.labels]) bytes(array);
      return;
    case 'memory':
      text([spec.classes, spec.height, spec.width, spec.channels]);
      for (const array of [spec.pixels, spec.labels]) bytes(array);
      return;
    case 'shapes':
      text(spec);
      return;
    case 'module': // what it makes of its arguments is its own affair
      text([spec.url, spec.name, spec.args]);
      return;
    case 'subset':
      bytes(spec.indices);
      await add(hash, spec.of);
  }
}
