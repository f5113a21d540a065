import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import test from 'ava';

import {
  DTYPES,
  type Tensor,
  TensorError,
  arange,
  equal,
  memoryStats,
  randint,
  readSafetensors,
  readSafetensorsHeader,
  saveSafetensors,
  scope,
  tensor,
  uniform,
  zeros,
} from '../../src/index.js';
import { writeFileAtomic } from '../../src/io/index.js';
import { goldenPath, readGolden, sharedTest } from '../helpers/golden.js';

async function folder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'tenon-io-'));
}

/** A file with a header of our own. */
function bytesOf(header: unknown, data: number): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json, Buffer.alloc(data, 1)]);
}

test('every dtype comes back byte for byte, scalars, empty tensors and views too', async (t) => {
  const dir = await folder();
  const tensors: Record<string, Tensor> = {};
  for (const dtype of DTYPES)
    tensors[`values.${dtype}`] = tensor([1, 0, 1, 1, 0, 1], { dtype }).reshape([2, 3]);
  tensors['scalar'] = tensor(2.5);
  tensors['empty'] = zeros([0, 4]);
  tensors['view'] = arange(6, { dtype: 'float32' }).reshape([2, 3]).transpose();
  const path = join(dir, 'a.safetensors');
  await saveSafetensors(path, tensors, { note: 'grüße "quoted"' });
  const { tensors: back, metadata } = await readSafetensors(path);
  t.deepEqual(metadata, { note: 'grüße "quoted"' });
  t.deepEqual(Object.keys(back).sort(), Object.keys(tensors).sort());
  for (const [name, expected] of Object.entries(tensors)) {
    t.is(back[name].dtype, expected.dtype);
    t.deepEqual(await back[name].toArray(), await expected.toArray(), name);
    t.deepEqual(back[name].shape, expected.shape);
  }
  const again = join(dir, 'b.safetensors');
  await saveSafetensors(again, back, metadata);
  t.deepEqual(await readFile(again), await readFile(path), 'equal tensors give equal files');
  const { entries } = await readSafetensorsHeader(path);
  t.deepEqual(entries['view'].shape, [3, 2]);
  const some = await readSafetensors(path, { names: ['scalar'] });
  t.deepEqual(Object.keys(some.tensors), ['scalar']);
  await rm(dir, { recursive: true });
});

test('tensors of more than 64 MiB, which go through in pieces, come back, views too', async (t) => {
  const dir = await folder();
  const path = join(dir, 'large.safetensors');
  const before = memoryStats().current;
  const long = randint([2 ** 26 + 5], 0, 256, { dtype: 'uint8' });
  const wide = uniform([3, 2 ** 23]);
  const view = wide.transpose();
  await saveSafetensors(path, { long, view, 'one more': tensor([1, 2]) });
  const { tensors: back } = await readSafetensors(path);
  t.deepEqual(back['view'].shape, [2 ** 23, 3]);
  const same = async (a: Tensor, b: Tensor): Promise<boolean> => scope(() => equal(a, b).all()).item();
  t.true(await same(back['long'], long));
  t.true(await same(back['view'], view));
  t.deepEqual(await back['one more'].toArray(), [1, 2]);
  for (const x of [long, wide, view, ...Object.values(back)]) x.dispose();
  t.true(memoryStats().current - before < 2 ** 20, 'no view of a piece holds its tensor');
  await rm(dir, { recursive: true });
});

sharedTest('files that PyTorch wrote are read', goldenPath('models/timm-vit'), async (t) => {
  const path = 'models/timm-vit/io.safetensors';
  const { tensors } = await readSafetensors(goldenPath(path));
  const expected = readGolden(path).tensors;
  t.deepEqual(Object.keys(tensors).sort(), Object.keys(expected).sort());
  t.deepEqual(await tensors['logits'].data(), expected['logits'].data as Float32Array);
  t.is(tensors['labels'].dtype, 'int64');
});

const good = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };
const broken: [string, Buffer, RegExp][] = [
  ['an empty file', Buffer.alloc(0), /at least 8 bytes.*got 0/],
  [
    'a header longer than the file',
    bytesOf({ a: good }, 8).subarray(0, 20),
    /header of \d+ bytes.*got a file of 20 bytes/,
  ],
  ['an absurd header length', Buffer.alloc(16, 0xff), /header of at most 100000000 bytes/],
  [
    'a file of torch.save',
    Buffer.from('PK\x03\x04\x00\x00\x08\x08archive/data.pkl', 'latin1'),
    /expected safetensors in .*, got PyTorch's own format; write it with safetensors' save_file, or save_pretrained, in Python$/,
  ],
  [
    'a pickle',
    Buffer.from([0x80, 2, 0x7d, 0x71, 0, 0x2e, 0, 1, 2, 3]),
    /expected safetensors in .*, got PyTorch's own format; /,
  ],
  ['no JSON', bytesOf('hello', 0), /UTF-8 JSON/],
  ['no UTF-8', Buffer.concat([bytesOf('', 0).fill(2, 0, 1), Buffer.from([0xc3, 0x28])]), /UTF-8 JSON/],
  ['an array', bytesOf([1], 0), /JSON object/],
  ['a name twice', bytesOf(`{"a":${JSON.stringify(good)},"a":${JSON.stringify(good)}}`, 8), /'a' twice/],
  [
    'an unknown dtype',
    bytesOf({ a: { ...good, dtype: 'F8_E4M3' } }, 8),
    /'a' to have one of the dtypes.*"F8_E4M3"/,
  ],
  ['a dtype of the prototype', bytesOf({ a: { ...good, dtype: 'constructor' } }, 8), /one of the dtypes/],
  ['a negative size', bytesOf({ a: { ...good, shape: [-2] } }, 8), /shape of whole numbers.*\[-2\]/],
  ['a fraction', bytesOf({ a: { ...good, shape: [0.5] } }, 8), /shape of whole numbers/],
  ['sizes that overflow', bytesOf({ a: { ...good, shape: [2 ** 40, 2 ** 40] } }, 8), /to take .* bytes/],
  ['falling offsets', bytesOf({ a: { ...good, data_offsets: [8, 0] } }, 8), /two rising offsets/],
  ['a wrong size', bytesOf({ a: { ...good, shape: [3] } }, 8), /\[3\] to take 12 bytes.*0 to 8/],
  ['an overlap', bytesOf({ a: good, b: { ...good, data_offsets: [4, 12] } }, 12), /'b' to begin at byte 8/],
  ['a gap', bytesOf({ a: good, b: { ...good, data_offsets: [12, 20] } }, 20), /'b' to begin at byte 8/],
  ['truncated data', bytesOf({ a: good }, 7), /8 bytes of tensors.*got 7/],
  ['trailing bytes', bytesOf({ a: good }, 9), /8 bytes of tensors.*got 9/],
  [
    'metadata that are no strings',
    bytesOf({ __metadata__: { a: 1 }, a: good }, 8),
    /__metadata__ to hold strings/,
  ],
  ['an unknown field', bytesOf({ a: { ...good, extra: 1 } }, 8), /'extra'/],
];

for (const [title, bytes, message] of broken) {
  test(`${title} is an error that says so`, async (t) => {
    const dir = await folder();
    const path = join(dir, 'bad.safetensors');
    await writeFile(path, bytes);
    const error = await t.throwsAsync(readSafetensors(path), { instanceOf: TensorError, message });
    t.true(error?.message.includes(path));
    t.false(error?.message.includes('\n'));
    await rm(dir, { recursive: true });
  });
}

test('a missing file and a missing name are errors', async (t) => {
  await t.throwsAsync(readSafetensors('/nowhere/x.safetensors'), {
    message: /expected to read \/nowhere.*ENOENT/,
  });
  const dir = await folder();
  const path = join(dir, 'a.safetensors');
  await saveSafetensors(path, { a: zeros([1]) });
  await t.throwsAsync(readSafetensors(path, { names: ['b'] }), { message: /a tensor 'b'.*got none/ });
  await rm(dir, { recursive: true });
});

test('thousands of damaged headers are read or refused, never worse', async (t) => {
  const dir = await folder();
  const path = join(dir, 'fuzz.safetensors');
  const whole = bytesOf({ a: good, b: { dtype: 'I64', shape: [1, 2], data_offsets: [8, 24] } }, 24);
  let seed = 1;
  const next = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  let refused = 0;
  for (let i = 0; i < 1500; i++) {
    const mutated = Buffer.from(whole);
    for (let k = 0; k <= next(3); k++) mutated[next(whole.length - 24)] = next(256);
    await writeFile(path, mutated.subarray(0, next(10) === 0 ? next(whole.length) : whole.length));
    try {
      const { tensors } = await readSafetensors(path);
      for (const tensor of Object.values(tensors)) tensor.dispose();
    } catch (error) {
      if (!(error instanceof TensorError)) throw error;
      refused += 1;
    }
  }
  t.true(refused > 1000);
  await rm(dir, { recursive: true });
});

test('a failed write leaves the file of before and nothing else', async (t) => {
  const dir = await folder();
  const path = join(dir, 'a.txt');
  await writeFileAtomic(path, 'before');
  const failing = (function* (): Generator<Uint8Array> {
    yield Buffer.from('half');
    throw new Error('stopped');
  })();
  await t.throwsAsync(writeFileAtomic(path, failing), { message: 'stopped' });
  t.is(await readFile(path, 'utf8'), 'before');
  t.deepEqual(await readdir(dir), ['a.txt']);
  await t.throwsAsync(writeFileAtomic(join(dir, 'none', 'a.txt'), 'x'), {
    instanceOf: TensorError,
    message: /expected to write .*none.a\.txt, got no such folder/,
  });
  await writeFileAtomic(path, [Buffer.from('af'), Buffer.from('ter')]);
  t.is(await readFile(path, 'utf8'), 'after');
  await rm(dir, { recursive: true });
});

test('a file beyond the limit (as on a full disk) is a clear error, and the file of before stays', async (t) => {
  const dir = await folder();
  const path = join(dir, 'a.bin');
  await writeFileAtomic(path, 'before');
  const script = `
    import { writeFileAtomic } from ${JSON.stringify(new URL('../../src/io/index.js', import.meta.url).href)};
    try { await writeFileAtomic(${JSON.stringify(path)}, new Uint8Array(1 << 20)); console.log('written'); }
    catch (error) { console.log(error.name, error.message); }`;
  const { stdout } = await promisify(execFile)('bash', [
    '-c',
    'ulimit -f 64; exec "$0" --input-type=module -e "$1"',
    process.execPath,
    script,
  ]);
  t.regex(
    stdout,
    /^TensorError writeFileAtomic: expected to write .*a\.bin, got a file larger than the limit/,
  );
  t.is(await readFile(path, 'utf8'), 'before');
  t.deepEqual(await readdir(dir), ['a.bin']);
  await rm(dir, { recursive: true });
});
