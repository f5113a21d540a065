/**
 * Runs that are stopped, killed, or run out of disk: they go on as if nothing had been, bit for bit.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import {
  cp,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  utimes,
  watch,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';

import { resume, train } from '../../src/index.js';
import { TINY, cli, fileDigests, oneSentence, startCli, tinyPhotos } from '../helpers/training.js';

// Everything that has a state: averages, dropout, momentum, accumulation; a checkpoint after every update.
const SETTINGS = {
  ...TINY,
  epochs: 6,
  lr: 1e-2,
  dropPath: 0.1,
  modelKwargs: { projDropRate: 0.1 },
  modelEmaDecay: 0.9,
  gradAccumSteps: 2,
  recoveryInterval: 1,
  seed: 7,
} as const;
const FLAGS = [
  '--img-size 16 --patch-size 8 --embed-dim 16 --depth 1 --num-heads 2 -b 4 --epochs 6 -j 0 --lr 1e-2 --drop-path 0.1',
  '--model-kwargs projDropRate=0.1 --model-ema-decay 0.9 --grad-accum-steps 2 --recovery-interval 1 --seed 7',
].flatMap((line) => line.split(' '));

let folder: string;
/** Of the weights, averages and momentum of a run that nothing stopped, and its best model. */
let expected: Record<string, string>;
let expectedBest: Buffer;
let expectedAccuracies: unknown[];

const checkpoint = (run: string, name = 'last'): string =>
  join(folder, 'runs', run, 'checkpoints', `${name}.safetensors`);

async function accuracies(run: string): Promise<unknown[]> {
  const lines = (await readFile(join(folder, 'runs', run, 'metrics.jsonl'), 'utf8')).trimEnd().split('\n');
  return lines.map((line) => {
    const { epoch, step, trainLoss, valLoss, valAccuracy } = JSON.parse(line) as Record<string, number>;
    return { epoch, step, trainLoss, valLoss, valAccuracy };
  });
}

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  await tinyPhotos(join(folder, 'photos'));
  const before = process.cwd();
  process.chdir(folder);
  await train('photos', { ...SETTINGS, name: 'whole' });
  process.chdir(before);
  expected = await fileDigests(checkpoint('whole'));
  expectedBest = await readFile(checkpoint('whole', 'best'));
  expectedAccuracies = await accuracies('whole');
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

/** Goes on until the end, and compares all that a run leaves. */
async function endsTheSame(t: ExecutionContext, run: string): Promise<void> {
  const { code, stderr } = await cli(folder, ['train', '--resume', `runs/${run}`]);
  t.is(code, 0, stderr);
  t.deepEqual(await fileDigests(checkpoint(run)), expected);
  t.true((await readFile(checkpoint(run, 'best'))).equals(expectedBest));
  t.deepEqual(await accuracies(run), expectedAccuracies);
  const left = await readdir(join(folder, 'runs', run), { recursive: true });
  t.deepEqual(
    left.filter((name) => name.endsWith('.tmp')),
    [],
  );
}

test.serial('another process gives the same bits', async (t) => {
  const { code, stderr } = await cli(folder, ['train', 'photos', '--name', 'again', ...FLAGS]);
  t.is(code, 0, stderr);
  t.deepEqual(await fileDigests(checkpoint('again')), expected);
  t.true((await readFile(checkpoint('again', 'best'))).equals(expectedBest));
});

/** Kills a process when a file whose name matches has come up `count` times in the checkpoints of a run. */
async function killAt(run: string, args: readonly string[], name: RegExp, count: number): Promise<boolean> {
  const { child, done } = startCli(folder, args);
  const stop = new AbortController();
  void done.then(() => stop.abort());
  let killed = false;
  const seen = (async () => {
    const path = join(folder, 'runs', run, 'checkpoints');
    while (!stop.signal.aborted && (await stat(path).catch(() => undefined)) === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    let left = count;
    for await (const { filename } of watch(path, { signal: stop.signal })) {
      if (name.test(filename ?? '') && --left <= 0) {
        killed = child.kill('SIGKILL');
        return;
      }
    }
  })().catch(() => undefined); // it ended first
  const { code } = await done;
  await seen;
  return killed && code === 'SIGKILL';
}

test.serial(
  'killed while it writes a checkpoint, again and again, a run ends with the same bits',
  async (t) => {
    // Events of the temporary file: it comes up, is written, becomes the checkpoint.
    t.true(await killAt('torn', ['train', 'photos', '--name', 'torn', ...FLAGS], /^\.last.*\.tmp$/, 2));
    let kills = 1;
    for (const count of [3, 8, 14]) {
      if (await killAt('torn', ['train', '--resume', 'runs/torn'], /^\.(last|best).*\.tmp$/, count))
        kills += 1;
    }
    t.true(kills >= 2, `${kills}`);
    await endsTheSame(t, 'torn');
  },
);

test.serial('killed at random moments, a run ends with the same bits', async (t) => {
  const moments = Array.from({ length: 4 }, () => Math.round(Math.random() ** 2 * 800));
  t.log(`killed after ${moments.join(', ')} ms`);
  for (const [attempt, moment] of moments.entries()) {
    const args = attempt === 0 ? ['photos', '--name', 'random', ...FLAGS] : ['--resume', 'runs/random'];
    const { child, done } = startCli(folder, ['train', ...args]);
    child.stdout!.once('data', () => setTimeout(() => child.kill('SIGKILL'), moment)); // it trains now
    await done;
  }
  await endsTheSame(t, 'random');
});

test.serial('killed before its first checkpoint, a run begins again', async (t) => {
  const { child, done } = startCli(folder, ['train', 'photos', '--name', 'early', ...FLAGS]);
  child.stdout!.on('data', (chunk) => {
    if (String(chunk).includes('Writing to')) child.kill('SIGKILL');
  });
  await done;
  await rm(checkpoint('early'), { force: true });
  await endsTheSame(t, 'early');
});

for (const [signal, exitCode] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test.serial(
    `${signal} stops after the step, saves and exits with ${exitCode}; the run ends with the same bits`,
    async (t) => {
      const run = signal.toLowerCase();
      // No checkpoint within an epoch but the one that the signal makes.
      const flags = FLAGS.join(' ').replace('--recovery-interval 1', '').split(' ').filter(Boolean);
      const { child, done } = startCli(folder, ['train', 'photos', '--name', run, ...flags]);
      child.stdout!.on('data', (chunk) => {
        if (String(chunk).includes('epoch 2/6')) child.kill(signal);
      });
      const { code, stdout, stderr } = await done;
      t.is(code, exitCode, stderr);
      t.is(stderr, 'Stopping after this step; press Ctrl-C again to stop at once.\n');
      t.true(stdout.endsWith(`Stopped. Continue with: tenon train --resume runs/${run}\n`), stdout);
      t.false(stdout.includes('epoch 6/6'));
      await endsTheSame(t, run);
    },
  );
}

test.serial('a run that is being trained is not resumed by another process, nor twice by one', async (t) => {
  const { child, done } = startCli(folder, [
    'train',
    'photos',
    '--name',
    'busy',
    ...FLAGS,
    '--epochs',
    '300',
  ]);
  await once(child.stdout!, 'data'); // it has its folder, and trains
  const refused = (pid: number): string =>
    `resume: expected a run that nothing else trains, got runs/busy, which process ${pid} trains ` +
    `(if that is another program, remove runs/busy/.${pid}.lock)`;
  oneSentence(t, await cli(folder, ['train', '--resume', 'runs/busy']), refused(child.pid!));
  t.true(existsSync(join(folder, `runs/busy/.${child.pid}.lock`)));
  child.kill('SIGINT');
  t.is((await done).code, 130);
  t.false(existsSync(join(folder, `runs/busy/.${child.pid}.lock`)));
  const epochs = (await accuracies('busy')) as { epoch: number }[];
  t.deepEqual(
    epochs.map(({ epoch }) => epoch),
    epochs.map((_, i) => i),
  );

  const before = process.cwd();
  process.chdir(folder);
  const stop = new AbortController();
  const first = resume('runs/busy', { signal: stop.signal });
  while (!existsSync(`runs/busy/.${process.pid}.lock`)) await delay(2); // of two at one moment either may be refused
  const error = await t.throwsAsync(resume('runs/busy'));
  t.is(error.message, refused(process.pid));
  stop.abort();
  t.false((await first).finished);
  process.chdir(before);
});

test.serial('a run goes on from any folder, and with data that has moved', async (t) => {
  await stopped('moved');
  const elsewhere = join(folder, 'else/where');
  await mkdir(elsewhere, { recursive: true });
  const resumed = ['train', '--resume', '../../runs/moved'];

  await rename(join(folder, 'photos'), join(elsewhere, 'pictures'));
  oneSentence(
    t,
    await cli(elsewhere, resumed),
    "findData: expected 'shapes' or a folder, got photos, which does not exist",
  );
  await tinyPhotos(join(elsewhere, 'other'), 9);
  oneSentence(
    t,
    await cli(elsewhere, [...resumed, 'other']),
    /^tenon: resume: expected the data of the run, 18 training and 6 validation images of .*, got 21 training/,
  );
  const { child, done } = startCli(elsewhere, [...resumed, 'pictures']);
  child.stdout!.on('data', (chunk) => {
    if (String(chunk).includes('epoch 3/6')) child.kill('SIGKILL');
  });
  await done;
  await rename(join(elsewhere, 'pictures'), join(folder, 'photos'));
  const { code, stderr } = await cli(elsewhere, resumed); // the data is where it was, seen from there
  t.is(code, 0, stderr);
  await endsTheSame(t, 'moved');
});

test.serial('a run that goes on keeps the larger peak of memory', async (t) => {
  await stopped('larger');
  const path = join(folder, 'runs/larger/summary.json');
  const summary = JSON.parse(await readFile(path, 'utf8')) as object;
  await writeFile(path, JSON.stringify({ ...summary, peakMemoryBytes: 2 ** 42, peakTensorBytes: 1 }));
  await endsTheSame(t, 'larger');
  const { epochs, peakMemoryBytes, peakTensorBytes } = JSON.parse(await readFile(path, 'utf8')) as Record<
    string,
    number
  >;
  t.deepEqual([epochs, peakMemoryBytes], [6, 2 ** 42]);
  t.true(peakTensorBytes > 1);
});

test.serial('--resume with --print-config writes the settings of the run, and trains nothing', async (t) => {
  const before = await stopped('printed');
  const { code, stdout, stderr } = await cli(folder, ['train', '--resume', 'runs/printed', '--print-config']);
  t.is(code, 0, stderr);
  t.regex(stdout, /^# tenon train photos --config <this file>\n/);
  for (const line of ['epochs: 6', 'seed: 7', 'modelEmaDecay: 0.9', 'modelKwargs: {"projDropRate":0.1}'])
    t.true(stdout.includes(`\n${line}\n`), stdout);
  t.true((await readFile(checkpoint('printed'))).equals(before));
  t.is((await accuracies('printed')).length, 2);
});

test.serial('locks of dead processes, and of ids that others have now, do not count', async (t) => {
  await stopped('stale');
  const { child, done } = startCli(folder, ['--version']);
  await done;
  const lock = (pid: number): string => join(folder, `runs/stale/.${pid}.lock`);
  await writeFile(lock(child.pid!), ''); // died
  for (const pid of [1, process.pid]) {
    await writeFile(lock(pid), ''); // lives, but began after the lock was made
    await utimes(lock(pid), 1000, 1000);
  }
  await endsTheSame(t, 'stale');
  t.deepEqual(
    (await readdir(join(folder, 'runs/stale'))).filter((name) => name.endsWith('.lock')),
    [],
  );
});

test.serial('a second Ctrl-C ends a run at once, in the middle of a step', async (t) => {
  // One step is some minutes long: all batches of an epoch make one update.
  const flags = 'train shapes --name long -b 64 --grad-accum-steps 312 -j 0';
  const { child, done } = startCli(folder, flags.split(' '));
  await once(child.stdout!, 'data');
  child.kill('SIGINT');
  await once(child.stderr!, 'data');
  const started = performance.now();
  child.kill('SIGINT');
  t.is((await done).code, 'SIGINT'); // a shell makes 130 of it
  t.true(performance.now() - started < 2000);
});

/** A run that was stopped after its second epoch, and its checkpoint. */
async function stopped(run: string): Promise<Buffer> {
  const stop = new AbortController();
  const before = process.cwd();
  process.chdir(folder);
  await train(
    'photos',
    { ...SETTINGS, name: run },
    { signal: stop.signal, onEpoch: ({ epoch }) => (epoch === 1 ? stop.abort() : undefined) },
  );
  process.chdir(before);
  return readFile(checkpoint(run));
}

test.serial(
  'a checkpoint that becomes too large is one sentence, and the one before stays whole',
  async (t) => {
    const whole = await stopped('limited');
    // A file may have as many KiB as half a checkpoint.
    const limit = `trap '' XFSZ; ulimit -f ${Math.floor(whole.length / 2048)}`;
    const { code, stderr } = await startCli(folder, ['train', '--resume', 'runs/limited'], limit).done;
    t.is(code, 1);
    t.is(
      stderr,
      'tenon: writeFileAtomic: expected to write runs/limited/checkpoints/last.safetensors, got a file larger than the limit\n',
    );
    t.true((await readFile(checkpoint('limited'))).equals(whole));
    await endsTheSame(t, 'limited');
  },
);

const mounts =
  spawnSync('unshare', ['-rm', 'bash', '-c', 'mount -t tmpfs -o size=64k none /mnt']).status === 0;
const fullDisk = mounts ? test.serial : test.serial.skip;

fullDisk(
  `a full disk is one sentence, and the checkpoint before stays whole${mounts ? '' : ' (skipped: no right to mount)'}`,
  async (t) => {
    const whole = await stopped('full');
    await cp(join(folder, 'runs/full'), join(folder, 'saved'), { recursive: true });
    // A file system of the run's size and half a checkpoint more, in a mount namespace that goes with the process.
    const { size } = await stat(checkpoint('full', 'best'));
    const bytes = 1.5 * whole.length + size + 64 * 1024;
    const script = [
      `mount -t tmpfs -o size=${Math.ceil(bytes / 4096) * 4096} none runs/full && cp -r saved/. runs/full/ || exit 99`,
      '"$@"; code=$?',
      'rm -rf after && cp -r runs/full after; exit $code',
    ].join('\n');
    const { code, stderr } = await startCli(
      folder,
      ['train', '--resume', 'runs/full'],
      `exec unshare -rm bash -c '${script}' bash "$@"`,
    ).done;
    t.is(code, 1, stderr);
    t.regex(
      stderr,
      /^tenon: writeFileAtomic: expected to write runs\/full\/\S+, got no space left on the disk\n$/,
    );
    t.true((await readFile(join(folder, 'after/checkpoints/last.safetensors'))).equals(whole));
    t.deepEqual(
      (await readdir(join(folder, 'after/checkpoints'))).sort(),
      ['best.safetensors', 'last.safetensors'],
      'nothing half-written is left',
    );
    await endsTheSame(t, 'full');
  },
);
