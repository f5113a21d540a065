/**
 * A teacher's logits on the disk, one file for each epoch, for runs that show the same images in the same order: with the
 * same data, augmentation, seed and batch size.
 *
 * A file is a header (magic, classes, the teacher's digest) and a record for each batch: its number, its size, a
 * fingerprint of its images, and its logits as float32. Fingerprints tell whether the images are still the same,
 * whatever it is that has changed. A file gets its name when its epoch is whole.
 */
import { existsSync } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { Batch } from '../data/index.js';
import type { FloatTensor } from '../nn/index.js';
import { fail } from '../tensor/error.js';

const MAGIC = 'TENONLG1';
const DIGEST = 64; // sha256 in hexadecimal
const HEADER = MAGIC.length + 4 + DIGEST;
const RECORD = 12;

/** Values of a batch that go into its fingerprint, about. */
const SAMPLES = 4096;

/** FNV-1a of a batch's indices and of values spread over its images. */
function fingerprint({ images, indices }: Pick<Batch, 'images' | 'indices'>): number {
  let hash = 0x811c9dc5;
  const add = (word: number): void => {
    hash = Math.imul(hash ^ word, 0x01000193) >>> 0;
  };
  indices.forEach(add);
  const words = new Uint32Array(images.buffer, images.byteOffset, images.length);
  const stride = Math.floor(words.length / SAMPLES) | 1; // odd, to meet all columns and channels
  for (let i = 0; i < words.length; i += stride) add(words[i]);
  return hash;
}

interface Mark {
  readonly number: number;
  readonly size: number;
  readonly fingerprint: number;
}

/** Keeps a teacher's logits in a folder. One epoch at a time, its batches in order. */
export class LogitCache {
  private readonly folder: string;
  private readonly digest: string;
  private readonly classes: number;
  private epoch = 0;
  private file: FileHandle | undefined;
  private mode: 'read' | 'write' = 'read';
  private at = HEADER;
  private mark: Mark | undefined;
  private writing: Promise<void> = Promise.resolve();

  /**
   * @param folder where the files are, or come to be
   * @param digest of the teacher's weights and of what it computes in: 64 hexadecimal digits
   */
  constructor(folder: string, digest: string, classes: number) {
    this.folder = folder;
    this.digest = digest;
    this.classes = classes;
  }

  private get path(): string {
    return join(this.folder, `epoch-${String(this.epoch + 1).padStart(4, '0')}.logits`);
  }

  private get temporary(): string {
    return `${this.path}.${process.pid}.tmp`;
  }

  /**
   * Turns to an epoch, from `firstBatch` on: reads its file, or makes it. An epoch that does not begin with its first
   * batch makes none.
   *
   * @throws TensorError IO when the file cannot be read or made; VALUE when it is another teacher's
   */
  async begin(epoch: number, firstBatch: number): Promise<void> {
    await this.close();
    this.epoch = epoch;
    this.at = HEADER;
    const header = Buffer.alloc(HEADER);
    header.write(MAGIC);
    header.writeUInt32LE(this.classes, MAGIC.length);
    header.write(this.digest, MAGIC.length + 4);
    try {
      this.mode = existsSync(this.path) ? 'read' : 'write';
      if (this.mode === 'write') {
        if (firstBatch > 0) return;
        await mkdir(this.folder, { recursive: true });
        this.file = await open(this.temporary, 'w');
        await this.file.write(header, 0, HEADER, 0);
        return;
      }
      this.file = await open(this.path, 'r');
      const stored = await this.bytes(HEADER, 0);
      if (!stored.equals(header)) this.stale('the logits of this teacher in its precision');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
      fail('teacher cache', 'IO', `expected to use ${this.path}, got ${(error as Error).message}`);
    }
  }

  /** The logits of a batch `[size, classes]`; undefined where they are still to be computed. @throws TensorError VALUE */
  async read(batch: Batch): Promise<Float32Array | undefined> {
    this.mark = { number: batch.number, size: batch.size, fingerprint: fingerprint(batch) };
    if (this.file === undefined || this.mode === 'write') return undefined;
    for (;;) {
      const record = await this.bytes(RECORD, this.at);
      const [number, size, print] = [0, 4, 8].map((at) => record.readUInt32LE(at));
      const length = 4 * size * this.classes;
      const start = this.at + RECORD;
      this.at = start + length;
      if (number < batch.number) continue; // a run that goes on in the middle of an epoch
      if (number !== batch.number || size !== batch.size || print !== this.mark.fingerprint) {
        this.stale('logits for these images');
      }
      const logits = await this.bytes(length, start);
      return new Float32Array(logits.buffer, logits.byteOffset, size * this.classes);
    }
  }

  /** Keeps the logits of the batch that was read last, and disposes of them. An error comes up in `finish`. */
  write(logits: FloatTensor): void {
    const { file, mark, at } = this;
    if (file === undefined || this.mode === 'read' || mark === undefined) {
      logits.dispose();
      return;
    }
    const length = 4 * mark.size * this.classes;
    this.at += RECORD + length;
    this.writing = this.writing.then(async () => {
      const record = Buffer.alloc(RECORD + length);
      record.writeUInt32LE(mark.number, 0);
      record.writeUInt32LE(mark.size, 4);
      record.writeUInt32LE(mark.fingerprint, 8);
      const values = Float32Array.from(await logits.data());
      logits.dispose();
      record.set(new Uint8Array(values.buffer), RECORD);
      await file.write(record, 0, record.length, at);
    });
    this.writing.catch(() => undefined); // it is awaited in `finish`
  }

  /** Ends an epoch: the file that was written gets its name. @throws TensorError IO */
  async finish(): Promise<void> {
    if (this.file !== undefined && this.mode === 'write') {
      try {
        await this.writing;
        await this.file.sync();
        await rename(this.temporary, this.path);
      } catch (error) {
        fail('teacher cache', 'IO', `expected to write ${this.path}, got ${(error as Error).message}`);
      }
    }
    await this.close();
  }

  /** Lets go of the file; one that is not whole is removed. */
  async close(): Promise<void> {
    const { file } = this;
    if (file === undefined) return;
    this.file = undefined;
    await this.writing.catch(() => undefined);
    await file.close();
    if (this.mode === 'write') await rm(this.temporary, { force: true });
  }

  private async bytes(length: number, position: number): Promise<Buffer> {
    const buffer = Buffer.from(new ArrayBuffer(length)); // aligned, for Float32Array
    const { bytesRead } = (await this.file?.read(buffer, 0, length, position)) ?? { bytesRead: 0 };
    return bytesRead === length ? buffer : this.stale('the logits of a whole epoch');
  }

  private stale(expected: string): never {
    return fail(
      'teacher cache',
      'VALUE',
      `expected ${expected} in ${this.path}, got others; remove it, or name another folder`,
    );
  }
}
