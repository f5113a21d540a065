/**
 * Small models, small data and runs of the command line for the tests of training.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { ExecutionContext } from 'ava';
import sharp from 'sharp';

import {
  type BatchSource,
  type ModelInfo,
  type Tensor,
  type TrainSettings,
  Trainer,
  type TrainerOptions,
  type ViTConfig,
  type VisionTransformer,
  createModel,
  manualSeed,
  readSafetensors,
} from '../../src/index.js';
import { runCli } from '../../src/cli/program.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** A folder that is removed when the test ends. */
export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** What `tinyModel` is, and what its images are. */
export const TINY_INFO = {
  name: 'vit_micro_patch4_32',
  options: { imgSize: 8, patchSize: 4, embedDim: 16, depth: 1, numHeads: 2, numClasses: 3 },
  classes: ['blue', 'green', 'red'],
  input: {
    size: [8, 8],
    mean: [0.4, 0.5, 0.6],
    std: [0.2, 0.3, 0.25],
    interpolation: 'bicubic',
    cropPct: 0.9,
  },
} as const satisfies ModelInfo;

/** A ViT of some thousand parameters for images `[3, 8, 8]` and three classes. */
export function tinyModel(options: Partial<ViTConfig> = {}, seed = 1): VisionTransformer {
  manualSeed(seed);
  return createModel(TINY_INFO.name, { ...TINY_INFO.options, ...options });
}

/** Images `[3, 8, 8]`, each with its class's colour on another, repeatable pattern. */
export function tinyImages(count: number): { images: Float32Array; labels: Int32Array } {
  const labels = Int32Array.from({ length: count }, (_, i) => i % 3);
  const images = Float32Array.from({ length: count * 192 }, (_, at) => {
    const [image, channel] = [Math.floor(at / 192), Math.floor((at % 192) / 64)];
    return (channel === labels[image] ? 1 : -1) + Math.sin(at * at * 0.37 + image);
  });
  return { images, labels };
}

/** Batches of such images, in order, the last one as small as it comes. */
export function tinyBatches(
  count: number,
  batchSize: number,
  images = tinyImages(count).images,
): BatchSource {
  const { labels } = tinyImages(count);
  const batches = Math.ceil(count / batchSize);
  return {
    batches,
    stats: { waitSeconds: 0 },
    // eslint-disable-next-line @typescript-eslint/require-await -- a source is asynchronous, this one has all at hand
    async *epoch(_, firstBatch = 0) {
      for (let number = firstBatch; number < batches; number++) {
        const [start, end] = [number * batchSize, Math.min((number + 1) * batchSize, count)];
        yield {
          images: images.slice(start * 192, end * 192),
          labels: labels.slice(start, end),
          indices: Int32Array.from({ length: end - start }, (__, i) => start + i),
          size: end - start,
          number,
          shape: [3, 8, 8],
          release: () => undefined,
        };
      }
    },
  };
}

/** A digest of the bytes of each tensor, by name: equal where the bytes are. */
export async function digestsOf(tensors: Readonly<Record<string, Tensor>>): Promise<Record<string, string>> {
  const entries = Object.entries(tensors).map(async ([name, tensor]) => {
    const { buffer, byteOffset, byteLength } = (await tensor.data()) as Float32Array;
    return [
      name,
      createHash('sha256')
        .update(new Uint8Array(buffer, byteOffset, byteLength))
        .digest('hex'),
    ] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** The same of the tensors in a file. */
export async function fileDigests(path: string): Promise<Record<string, string>> {
  const { tensors } = await readSafetensors(path);
  const digests = await digestsOf(tensors);
  for (const tensor of Object.values(tensors)) tensor.dispose();
  return digests;
}

const COLOURS = { red: [220, 40, 30], green: [30, 200, 60], blue: [20, 60, 220] } as const;

/** A folder of JPEG images of 16 x 16 pixels in three classes: blue, green and red. */
export async function tinyPhotos(path: string, perClass = 8): Promise<string> {
  return photosOf(path, { red: perClass, green: perClass, blue: perClass });
}

/** The same with `train` and `val` folders: 2 blue, 8 green and 16 red images to train on, 2 of each to evaluate on. */
export async function unequalPhotos(path: string): Promise<string> {
  await photosOf(join(path, 'train'), { red: 16, green: 8, blue: 2 });
  await photosOf(join(path, 'val'), { red: 2, green: 2, blue: 2 });
  return path;
}

async function photosOf(path: string, images: Record<keyof typeof COLOURS, number>): Promise<string> {
  for (const name of Object.keys(COLOURS) as (keyof typeof COLOURS)[]) {
    const [r, g, b] = COLOURS[name];
    await mkdir(join(path, name), { recursive: true });
    for (let i = 0; i < images[name]; i++) {
      const background = { r: r + 4 * i, g: g + 4 * i, b: b + 4 * i };
      await sharp({ create: { width: 16, height: 16, channels: 3, background } })
        .jpeg()
        .toFile(join(path, name, `${i}.jpg`));
    }
  }
  return path;
}

/** Settings for such a folder that train in an instant. */
export const TINY = {
  imgSize: 16,
  patchSize: 8,
  embedDim: 16,
  depth: 1,
  numHeads: 2,
  batchSize: 4,
  epochs: 2,
  workers: 0,
} as const satisfies TrainSettings;

/** The same as flags. */
export const TINY_FLAGS =
  '--img-size 16 --patch-size 8 --embed-dim 16 --depth 1 --num-heads 2 -b 4 --epochs 2 -j 0'.split(' ');

export interface CliResult {
  /** The exit code, or the signal that ended it. */
  readonly code: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `tenon` in a folder. `shell` is run before it, in the same process: limits, say. */
export function startCli(
  cwd: string,
  args: readonly string[],
  shell?: string,
): { child: ChildProcess; done: Promise<CliResult> } {
  const command = [process.execPath, CLI, ...args];
  const [file, ...rest] =
    shell === undefined ? command : ['bash', '-c', `${shell}\nexec "$@"`, 'bash', ...command];
  const child = spawn(file, rest, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => (stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (stderr += String(chunk)));
  const done = new Promise<CliResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code: signal ?? code, stdout, stderr }));
  });
  return { child, done };
}

/** Runs `tenon` in a folder to its end. */
export function cli(cwd: string, args: readonly string[]): Promise<CliResult> {
  return startCli(cwd, args).done;
}

/** The same within this process, which is quicker: for one command at a time. */
export async function cliHere(cwd: string, args: readonly string[]): Promise<CliResult> {
  const { log, error } = console;
  const before = process.cwd();
  let [stdout, stderr] = ['', ''];
  console.log = (text: string): void => void (stdout += `${text}\n`);
  console.error = (text: string): void => void (stderr += `${text}\n`);
  process.chdir(cwd);
  try {
    await runCli(args);
    return { code: Number(process.exitCode ?? 0), stdout, stderr };
  } finally {
    process.exitCode = 0;
    process.chdir(before);
    Object.assign(console, { log, error });
  }
}

/** A failure as users should see it: an exit code of 1 and one sentence on stderr. */
export function oneSentence(
  t: ExecutionContext,
  { code, stderr }: CliResult,
  expected: string | RegExp,
): void {
  t.is(code, 1, stderr);
  if (typeof expected === 'string') t.is(stderr, `tenon: ${expected}\n`);
  else {
    t.regex(stderr, expected);
    t.regex(stderr, /^tenon: [^\n]+\n$/);
  }
}

/** The loss of the first step of a `tinyModel`, before anything has been learnt. Default source: `tinyImages(6)` in one batch. */
export async function firstLoss(
  options: Partial<TrainerOptions>,
  source: BatchSource = tinyBatches(6, 6),
): Promise<number> {
  const trainer = new Trainer(tinyModel(), { epochs: 1, lr: 1e-3, ...options });
  let first = NaN;
  await trainer.run(source, { classes: 3, onStep: ({ loss }) => void (first = loss) });
  trainer.dispose();
  return first;
}

/** Targets of the labels: `on` at each, `off` elsewhere. */
export const tinyTargets = (off: number, on: number): number[][] =>
  [...tinyImages(6).labels].map((label) => [0, 1, 2].map((c) => (c === label ? on : off)));
