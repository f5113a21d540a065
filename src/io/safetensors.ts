/**
 * Safetensors: tensors by name in one file. Eight bytes (little-endian) give the length of a JSON header, which gives
 * each tensor's dtype, shape and place in the bytes that follow. Source: the safetensors format of Hugging Face.
 *
 * A file may come from anywhere, so every length, offset, dtype and name is checked before a byte is used.
 */
import { type FileHandle, open } from 'node:fs/promises';

import { native } from '../native.js';
import { type OptionNames, expectOptions, expectTensorsByName } from '../tensor/arguments.js';
import { type Device, deviceIndex } from '../tensor/device.js';
import { type DType, dtypeCode } from '../tensor/dtype.js';
import { TensorError, fail } from '../tensor/error.js';
import { keep } from '../tensor/scope.js';
import { type Tensor, wrap } from '../tensor/tensor.js';
import { writeFileAtomic } from './atomic.js';

/** The largest header that is read, in bytes. */
const MAX_HEADER = 100_000_000;

/** Bytes of a tensor that are read or written at once: the system takes less than 2 GiB, and memory holds one piece. */
const PIECE = 2 ** 26;

const DTYPES: Readonly<Record<string, { readonly dtype: DType; readonly bytes: number }>> = {
  F64: { dtype: 'float64', bytes: 8 },
  F32: { dtype: 'float32', bytes: 4 },
  F16: { dtype: 'float16', bytes: 2 },
  BF16: { dtype: 'bfloat16', bytes: 2 },
  I64: { dtype: 'int64', bytes: 8 },
  I32: { dtype: 'int32', bytes: 4 },
  U8: { dtype: 'uint8', bytes: 1 },
  BOOL: { dtype: 'bool', bytes: 1 },
};

/** By Tenon's dtype: the format's name and the bytes of an element. */
const NAMES = Object.fromEntries(
  Object.entries(DTYPES).map(([stored, { dtype, bytes }]) => [dtype, { stored, bytes }]),
) as Readonly<Record<DType, { readonly stored: string; readonly bytes: number }>>;

/** Where a tensor is in the file, and what it is. */
export interface SafetensorsEntry {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** First byte and the one after the last, counted from the end of the header. */
  readonly offsets: readonly [begin: number, end: number];
}

/** A file's header. */
export interface SafetensorsHeader {
  readonly entries: Readonly<Record<string, SafetensorsEntry>>;
  /** Text that the writer stored along. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Where the tensors' bytes begin. */
  readonly dataStart: number;
}

/** The tensors of a file by name, and its metadata. */
export interface SafetensorsFile {
  readonly tensors: Record<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** What to read of a safetensors file, and to which device. */
export interface ReadSafetensorsOptions {
  /** Read these alone. Default: all. */
  readonly names?: readonly string[];
  /** Default 'cpu'. */
  readonly device?: Device;
}

const READ_OPTIONS = { names: true, device: true } satisfies OptionNames<ReadSafetensorsOptions>;

function bad(path: string, expected: string, got: string): never {
  return fail('readSafetensors', 'IO', `expected ${expected} in ${path}, got ${got}`);
}

/** Opens a file for reading, and turns the system's errors into sentences. */
async function withFile<T>(path: string, use: (file: FileHandle, size: number) => Promise<T>): Promise<T> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    const stat = await file.stat();
    if (!stat.isFile()) bad(path, 'a file', 'something else');
    return await use(file, stat.size);
  } catch (error) {
    if (error instanceof TensorError) throw error;
    return fail('readSafetensors', 'IO', `expected to read ${path}, got ${(error as Error).message}`);
  } finally {
    await file?.close();
  }
}

async function readBytes(file: FileHandle, path: string, start: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(bytes, done, length - done, start + done);
    if (bytesRead === 0) bad(path, `${start + length} bytes`, `${start + done}`);
    done += bytesRead;
  }
  return bytes;
}

/** How a file that only Python reads becomes one for all. */
export const CONVERSION = "write it with safetensors' save_file, or save_pretrained, in Python";

/** Whether a file begins as a zip archive or a pickle, which torch.save writes. */
function isPyTorchs([a, b, c, d]: Uint8Array): boolean {
  return (a === 0x50 && b === 0x4b && c === 3 && d === 4) || (a === 0x80 && b <= 5);
}

async function headerOf(file: FileHandle, path: string, size: number): Promise<SafetensorsHeader> {
  if (size < 8) bad(path, 'at least 8 bytes', `${size}`);
  const prefix = await readBytes(file, path, 0, 8);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER)) {
    if (isPyTorchs(prefix)) bad(path, 'safetensors', `PyTorch's own format; ${CONVERSION}`);
    bad(path, `a header of at most ${MAX_HEADER} bytes`, `a length of ${length}`);
  }
  if (8n + length > BigInt(size)) bad(path, `a header of ${length} bytes`, `a file of ${size} bytes`);
  const text = await readBytes(file, path, 8, Number(length));
  return parseHeader(path, text, size);
}

/** Checks everything that a header says. */
function parseHeader(path: string, bytes: Uint8Array, size: number): SafetensorsHeader {
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (error) {
    return bad(path, 'a header of UTF-8 JSON', (error as Error).message);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    return bad(path, 'a header that is a JSON object', text.slice(0, 40));
  }
  const duplicate = duplicateKey(text);
  if (duplicate !== undefined) bad(path, 'each name once', `'${duplicate}' twice`);

  const dataStart = 8 + bytes.length;
  let metadata: Record<string, string> = {};
  const entries: Record<string, SafetensorsEntry> = Object.create(null) as Record<string, SafetensorsEntry>;
  for (const [name, value] of Object.entries(json as Record<string, unknown>)) {
    if (name === '__metadata__') metadata = parseMetadata(path, value);
    else entries[name] = parseEntry(path, name, value);
  }
  checkTiling(path, entries, size - dataStart);
  return { entries, metadata, dataStart };
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject || Object.values(value).some((item) => typeof item !== 'string')) {
    return bad(path, '__metadata__ to hold strings', JSON.stringify(value).slice(0, 60));
  }
  return value as Record<string, string>;
}

function parseEntry(path: string, name: string, value: unknown): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets, ...rest } = (value ?? {}) as Record<string, unknown>;
  const known =
    typeof dtype === 'string' ? (DTYPES[dtype] as (typeof DTYPES)[string] | undefined) : undefined;
  if (known === undefined || typeof dtype !== 'string' || !Object.hasOwn(DTYPES, dtype)) {
    return bad(
      path,
      `'${name}' to have one of the dtypes ${Object.keys(DTYPES).join(', ')}`,
      JSON.stringify(dtype) ?? 'none',
    );
  }
  const isSize = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    return bad(path, `'${name}' to have a shape of whole numbers`, JSON.stringify(shape) ?? 'none');
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1]) {
    return bad(path, `'${name}' to have two rising offsets`, JSON.stringify(offsets) ?? 'none');
  }
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) bad(path, `'${name}' to have dtype, shape and data_offsets`, `'${unknown}'`);
  const [begin, end] = offsets as [number, number];
  const needed = shape.reduce((product, n) => product * n, known.bytes);
  if (needed !== end - begin) {
    bad(
      path,
      `'${name}' ${dtype} [${shape.join(', ')}] to take ${needed} bytes`,
      `offsets ${begin} to ${end}`,
    );
  }
  return { dtype: known.dtype, shape: shape, offsets: [begin, end] };
}

/** The tensors cover the bytes after the header exactly: no gap, no overlap, nothing left over. */
function checkTiling(
  path: string,
  entries: Readonly<Record<string, SafetensorsEntry>>,
  available: number,
): void {
  const sorted = Object.entries(entries).sort(
    ([, a], [, b]) => a.offsets[0] - b.offsets[0] || a.offsets[1] - b.offsets[1],
  );
  let at = 0;
  for (const [name, { offsets }] of sorted) {
    if (offsets[0] !== at)
      bad(path, `'${name}' to begin at byte ${at}, where the one before ends`, `${offsets[0]}`);
    at = offsets[1];
  }
  if (at !== available) bad(path, `${at} bytes of tensors`, `${available}`);
}

/** A key that some object of the JSON text holds twice; JSON.parse would keep the last without a word. */
function duplicateKey(text: string): string | undefined {
  const scopes: (Set<string> | undefined)[] = []; // undefined stands for an array
  let expectsKey = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      const start = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++;
      const keys = scopes.at(-1);
      if (!expectsKey || keys === undefined) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (keys.has(key)) return key;
      keys.add(key);
      expectsKey = false;
    } else if (c === '{') {
      scopes.push(new Set());
      expectsKey = true;
    } else if (c === '[') {
      scopes.push(undefined);
    } else if (c === '}' || c === ']') {
      scopes.pop();
      expectsKey = false;
    } else if (c === ',') {
      expectsKey = scopes.at(-1) !== undefined;
    }
  }
  return undefined;
}

/**
 * What a file holds, without reading its tensors.
 *
 * @throws TensorError IO when the file cannot be read or breaks the format's rules
 * @example
 * const { entries } = await readSafetensorsHeader('model.safetensors');
 * console.log(entries['head.weight'].shape);
 */
export function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return withFile(path, (file, size) => headerOf(file, path, size));
}

/**
 * The tensors of a file, by name. They belong to the caller, outside every scope.
 *
 * @throws TensorError IO when the file cannot be read, breaks the format's rules or lacks a name
 * @example
 * const { tensors, metadata } = await readSafetensors('model.safetensors');
 * model.loadStateDict(tensors);
 */
export async function readSafetensors(
  path: string,
  options: ReadSafetensorsOptions = {},
): Promise<SafetensorsFile> {
  expectOptions('readSafetensors', options, READ_OPTIONS);
  const device = deviceIndex(options.device ?? 'cpu');
  return withFile(path, async (file, size) => {
    const { entries, metadata, dataStart } = await headerOf(file, path, size);
    const tensors: Record<string, Tensor> = {};
    try {
      for (const name of options.names ?? Object.keys(entries)) {
        const entry =
          (entries[name] as SafetensorsEntry | undefined) ?? bad(path, `a tensor '${name}'`, 'none');
        tensors[name] = await readTensor(file, path, dataStart, entry, device);
      }
    } catch (error) {
      for (const tensor of Object.values(tensors)) tensor.dispose();
      throw error;
    }
    return { tensors, metadata };
  });
}

/** One tensor of a file. */
async function readTensor(
  file: FileHandle,
  path: string,
  dataStart: number,
  { dtype, shape, offsets: [begin, end] }: SafetensorsEntry,
  device: number,
): Promise<Tensor> {
  const code = dtypeCode(dtype);
  const upload = async (start: number, stop: number, to: readonly number[]): Promise<Tensor> => {
    const bytes = await readBytes(file, path, dataStart + start, stop - start);
    return keep(wrap(native.upload(device, code, to, bytes)));
  };
  if (end - begin <= PIECE) return upload(begin, end, shape);
  const whole = keep(wrap(native.full(device, shape, 0, code)));
  const { bytes } = NAMES[dtype];
  try {
    for (const [start, stop, part] of partsOf(whole)) {
      const piece = await upload(begin + bytes * start, begin + bytes * stop, [stop - start]);
      native.copyInto(part.id, piece.id);
      piece.dispose();
    }
  } catch (error) {
    whole.dispose();
    throw error;
  }
  return whole;
}

/** A tensor's elements in order, as views of at most PIECE bytes; of one that is not contiguous, of a copy. */
function* partsOf(x: Tensor): Generator<[start: number, stop: number, part: Tensor]> {
  const most = PIECE / NAMES[x.dtype].bytes;
  const flat = keep(wrap(native.reshape(x.id, [x.size])));
  try {
    for (let start = 0; start < x.size; start += most) {
      const stop = Math.min(start + most, x.size);
      const part = keep(wrap(native.slice(flat.id, 0, start, stop, 1)));
      try {
        yield [start, stop, part];
      } finally {
        part.dispose();
      }
    }
  } finally {
    flat.dispose();
  }
}

/**
 * Writes tensors to a file, atomically: on any failure the file of before is still whole. Tensors are read one after
 * the other, in pieces of 64 MiB; do not change them in place until the promise resolves.
 *
 * @throws TensorError IO with the path and the reason
 * @example
 * await saveSafetensors('model.safetensors', model.stateDict(), { author: 'me' });
 */
export async function saveSafetensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  expectTensorsByName('saveSafetensors', 'tensors', tensors);
  if (Object.hasOwn(tensors, '__metadata__')) {
    fail('saveSafetensors', 'VALUE', "expected any name but '__metadata__', got it");
  }
  // By falling size of elements, so that every tensor is aligned; then by name, so that equal tensors give equal files.
  const ordered = Object.entries(tensors)
    .map(([name, tensor]) => ({ name, tensor, ...NAMES[tensor.dtype] }))
    .sort((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1));
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0) header['__metadata__'] = metadata;
  let at = 0;
  for (const { name, tensor, stored, bytes } of ordered) {
    const end = at + bytes * tensor.size;
    header[name] = { dtype: stored, shape: tensor.shape, data_offsets: [at, end] };
    at = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(8 * Math.ceil(json.length / 8), ' ');
  json.copy(padded);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(padded.length));

  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield prefix;
    yield padded;
    for (const { tensor } of ordered) {
      for (const [, , part] of partsOf(tensor)) yield new Uint8Array(await native.read(part.id));
    }
  }
  await writeFileAtomic(path, chunks());
}
