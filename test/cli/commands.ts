/**
 * The commands as users run them, on one run of training that all of these tests look at.
 */
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { type TrainConfig, cpuInfo, readSafetensors } from '../../src/index.js';
import { goldenPath, sharedTest } from '../helpers/golden.js';
import { type CliResult, TINY_FLAGS, cli, cliHere, startCli, tinyPhotos } from '../helpers/training.js';

let folder: string;
let trained: CliResult;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  await tinyPhotos(join(folder, 'photos'));
  trained = await cli(folder, ['train', 'photos', '--lr', '1e-2', '--seed', '3', ...TINY_FLAGS]);
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

const json = async <T>(path: string): Promise<T> =>
  JSON.parse(await readFile(join(folder, path), 'utf8')) as T;

test.serial('train says what it does, in plain lines where there is no terminal', (t) => {
  t.is(trained.code, 0, trained.stderr);
  t.is(trained.stderr, '');
  const epoch =
    /^epoch [12]\/2 {2}loss \d\.\d{3} {2}accuracy \d+\.\d % {2}\| {2}validation loss \d\.\d{3} {2}accuracy \d+\.\d % {2}\| {2}\d+ images\/s {2}0:0\d( {2}best)?$/;
  const lines = trained.stdout.trimEnd().split('\n');
  const expected = [
    /^vit_\w+, 16 x 16 pixels, 6\.5 k parameters$/,
    /^3 classes, 18 training and 6 validation images, 0 decoding threads$/,
    /^Writing to runs\/photos$/,
    epoch,
    epoch,
    /^Done: validation accuracy \d+\.\d %, \d+ images\/s, 0:0\d, \d+ MiB of memory$/,
    /^Report: runs\/photos\/report\.html$/,
    /^Try it: npx tenon predict runs\/photos\/samples --checkpoint runs\/photos$/,
    /^See why: npx tenon explain runs\/photos\/samples --checkpoint runs\/photos$/,
  ];
  t.is(lines.length, expected.length, trained.stdout);
  expected.forEach((pattern, i) => t.regex(lines[i], pattern));
});

test.serial("a run's folder holds its configuration, metrics, summary, report and checkpoints", async (t) => {
  const files = await readdir(join(folder, 'runs/photos'), { recursive: true });
  t.deepEqual(files.sort(), [
    'checkpoints',
    'checkpoints/best.safetensors',
    'checkpoints/last.safetensors',
    'config.json',
    'metrics.jsonl',
    'report.html',
    'samples',
    ...[1, 2, 3, 4, 5, 6].map((i) => files.find((file) => file.startsWith(`samples/0${i}-`))),
    'summary.json',
  ]);
  const stored = await json<{ config: TrainConfig; classes: string[]; trainImages: number }>(
    'runs/photos/config.json',
  );
  t.like(stored, { classes: ['blue', 'green', 'red'], trainImages: 18, valImages: 6 });
  t.like(stored.config, {
    data: 'photos',
    lr: 0.01,
    seed: 3,
    batchSize: 4,
    epochs: 2,
    opt: 'adamw',
    warmupEpochs: 1,
  });

  const metrics = (await readFile(join(folder, 'runs/photos/metrics.jsonl'), 'utf8')).trimEnd().split('\n');
  const epochs = metrics.map((line) => JSON.parse(line) as Record<string, number>);
  t.deepEqual(
    epochs.map(({ epoch, step }) => [epoch, step]),
    [
      [0, 4],
      [1, 8],
    ],
  );
  const names =
    'epoch step trainLoss trainAccuracy valLoss valAccuracy valBalancedAccuracy valTop5 lr imagesPerSecond dataWaitShare seconds';
  t.deepEqual(Object.keys(epochs[0]), names.split(' '));
  // The last update of each epoch: 1e-6 + 3/4 (lr - 1e-6) in warm-up, lr / 2 (1 + cos(3/4 pi)) after it.
  t.true(Math.abs(epochs[0]['lr'] - 0.00750025) < 1e-9);
  t.true(Math.abs(epochs[1]['lr'] - 0.005 * (1 - Math.SQRT1_2)) < 1e-9);

  const summary = await json<Record<string, number>>('runs/photos/summary.json');
  t.like(summary, {
    name: 'runs/photos',
    parameters: 6547,
    classes: 3,
    trainImages: 18,
    valImages: 6,
    epochs: 2,
  });
  t.is(summary['valAccuracy'], Math.max(...epochs.map(({ valAccuracy }) => valAccuracy)));
  t.is(epochs[summary['bestEpoch'] - 1]['valAccuracy'], summary['valAccuracy']);
  t.true(summary['imagesPerSecond'] > 1);
  t.true(summary['seconds'] > 0 && summary['seconds'] < 60);
  t.true(summary['peakMemoryBytes'] > 2 ** 25 && summary['peakMemoryBytes'] < 2 ** 31);
  t.deepEqual(summary['skippedImages'], [] as unknown as number);
  const report = await readFile(join(folder, 'runs/photos/report.html'), 'utf8');
  t.regex(report, /Confusion/);
  t.regex(report, /data:image\/png;base64/);
});

test.serial("a run's samples are images to predict, named by their class", async (t) => {
  const { code, stdout, stderr } = await cli(folder, [
    'predict',
    'runs/photos/samples',
    '--checkpoint',
    'runs/photos',
    '--json',
  ]);
  t.is(code, 0, stderr);
  const classes = (JSON.parse(stdout) as { path: string }[]).map(
    ({ path }) => /^runs\/photos\/samples\/0[1-6]-(blue|green|red)\.png$/.exec(path)?.[1],
  );
  t.deepEqual(classes.sort(), ['blue', 'blue', 'green', 'green', 'red', 'red']);
});

test.serial('eval gives the accuracy that training found, on the same images', async (t) => {
  const { code, stdout, stderr } = await cli(folder, [
    'eval',
    'photos',
    '--checkpoint',
    'runs/photos',
    '--json',
    '-j',
    '0',
  ]);
  t.is(code, 0, stderr);
  const found = JSON.parse(stdout) as Record<string, number>;
  const summary = await json<Record<string, number>>('runs/photos/summary.json');
  t.is(found['accuracy'], summary['valAccuracy']);
  t.is(found['images'], 6);
  t.is(found['balancedAccuracy'], found['accuracy']); // two images of each class
  t.is(summary['valBalancedAccuracy'], summary['valAccuracy']);
  t.like(JSON.parse(stdout), {
    perClass: [
      { name: 'blue', images: 2 },
      { name: 'green', images: 2 },
      { name: 'red', images: 2 },
    ],
  });
  const epochs = (await readFile(join(folder, 'runs/photos/metrics.jsonl'), 'utf8')).split('\n');
  const best = JSON.parse(epochs[summary['bestEpoch'] - 1]) as Record<string, number>;
  t.true(Math.abs(found['loss'] - best['valLoss']) < 1e-6); // in other batches

  const line = await cli(folder, ['eval', 'photos', '--checkpoint', 'runs/photos', '-b', '5']);
  t.regex(line.stdout, /^6 images: accuracy \d+\.\d %, top-5 100\.0 %, loss \d\.\d{4}, \d+ images\/s\n/);
  const share = String.raw`(\d+\.\d %|–)`;
  for (const name of ['blue', 'green', 'red'])
    t.regex(line.stdout, new RegExp(`│ ${name} +│ +2 │ +${share} │ +${share} │ +${share} │`));
});

test.serial('a run in bf16 says so, and eval and predict take a precision of their own', async (t) => {
  const run = ['train', 'photos', '--precision', 'bf16', '--name', 'bf16', ...TINY_FLAGS, '--epochs', '1'];
  const { code, stderr } = await cliHere(folder, run);
  t.is(code, 0, stderr);
  t.is((await json<{ precision: string }>('runs/photos/summary.json')).precision, 'float32');
  const summary = await json<Record<string, number | string>>('runs/bf16/summary.json');
  t.is(summary['precision'], 'bf16');
  t.is((await json<{ config: TrainConfig }>('runs/bf16/config.json')).config.precision, 'bf16');
  const [epoch] = (await readFile(join(folder, 'runs/bf16/metrics.jsonl'), 'utf8')).split('\n');
  const { valLoss } = JSON.parse(epoch) as { valLoss: number };
  const loss = async (precision: string): Promise<number> => {
    const args = [
      'eval',
      'photos',
      '--checkpoint',
      'runs/bf16',
      '--json',
      '-j',
      '0',
      '--precision',
      precision,
    ];
    return (JSON.parse((await cliHere(folder, args)).stdout) as { loss: number }).loss;
  };
  t.true(Math.abs((await loss('bf16')) - valLoss) < 1e-6, 'training evaluates in its own precision');
  const difference = Math.abs((await loss('float32')) - valLoss);
  t.true(difference > 1e-6 && difference < 2e-2, `${difference}`);
  const probability = async (precision: string): Promise<number> => {
    const args = [
      'predict',
      'photos/red/0.jpg',
      '--checkpoint',
      'runs/bf16',
      '--json',
      '--precision',
      precision,
    ];
    return (JSON.parse((await cliHere(folder, args)).stdout) as Named[])[0].top[0].probability;
  };
  const moved = Math.abs((await probability('fp16')) - (await probability('float32')));
  t.true(moved > 0 && moved < 2e-3, `${moved}`);
});

interface Named {
  readonly path: string;
  readonly top: readonly { readonly label: string; readonly probability: number }[];
}

test.serial('predict names images, the most probable classes first; hidden files are not seen', async (t) => {
  await writeFile(join(folder, 'photos/red/._0.jpg'), 'attributes of a Mac');
  const args = ['predict', 'photos/red', 'photos/blue/3.jpg', '--checkpoint', 'runs/photos'];
  const { code, stdout, stderr } = await cli(folder, [...args, '--json', '-b', '5']);
  t.is(code, 0, stderr);
  const results = JSON.parse(stdout) as Named[];
  t.deepEqual(
    results.map(({ path }) => path),
    [...Array.from({ length: 8 }, (_, i) => `photos/red/${i}.jpg`), 'photos/blue/3.jpg'],
  );
  for (const { top } of results) {
    t.deepEqual(top.map(({ label }) => label).sort(), ['blue', 'green', 'red']);
    const values = top.map(({ probability }) => probability);
    t.deepEqual(
      values,
      [...values].sort((a, b) => b - a),
    );
    t.true(Math.abs(values.reduce((sum, x) => sum + x, 0) - 1) < 1e-5);
  }

  const table = await cli(folder, [...args, '-k', '1']);
  const rows = table.stdout.split('\n').filter((line) => line.includes('.jpg'));
  t.deepEqual(
    rows.map((row) =>
      row
        .split('│')
        .map((cell) => cell.trim())
        .slice(1, 4),
    ),
    results.map(({ path, top }) => [path, top[0].label, `${(100 * top[0].probability).toFixed(1)} %`]),
  );
});

test.serial('predict names the images that it can read, and says which it cannot', async (t) => {
  const file = join(folder, 'photos/red/0.jpg');
  const whole = await readFile(file);
  await writeFile(join(folder, 'broken.jpg'), whole.subarray(0, 100));
  const args = ['predict', 'broken.jpg', 'photos/red/0.jpg', '--checkpoint', 'runs/photos'];
  const { code, stdout, stderr } = await cli(folder, args);
  t.is(code, 1);
  t.regex(stderr, /^tenon: [^\n]*broken\.jpg[^\n]*\n$/);
  t.true(stdout.includes('photos/red/0.jpg') && !stdout.includes('broken.jpg'));
  const listed = JSON.parse((await cli(folder, [...args, '--json'])).stdout) as {
    path: string;
    error?: string;
  }[];
  t.deepEqual(
    listed.map(({ path, error }) => [path, error !== undefined]),
    [
      ['broken.jpg', true],
      ['photos/red/0.jpg', false],
    ],
  );
});

test.serial('embed gives images as vectors, in a file or as JSON', async (t) => {
  const file = join(folder, 'photos/red/0.jpg');
  await writeFile(join(folder, 'broken.jpg'), (await readFile(file)).subarray(0, 100));
  const args = ['embed', 'photos/red', 'broken.jpg', 'photos/blue/3.jpg', '--checkpoint', 'runs/photos'];
  const { code, stdout, stderr } = await cli(folder, [...args, '-o', 'vectors.safetensors', '-b', '4']);
  t.is(code, 1);
  t.regex(stderr, /^tenon: [^\n]*broken\.jpg[^\n]*\n$/);
  t.is(stdout, 'vectors.safetensors: 9 vectors of 16 numbers\n');
  const { tensors, metadata } = await readSafetensors(join(folder, 'vectors.safetensors'));
  const red = Array.from({ length: 8 }, (_, i) => `photos/red/${i}.jpg`);
  t.deepEqual(JSON.parse(metadata['paths']), [...red, 'photos/blue/3.jpg']);
  t.like(metadata, { model: 'vit_micro_patch4_32', normalized: 'true' });
  t.deepEqual(tensors['embeddings'].shape, [9, 16]);

  const listed = JSON.parse((await cli(folder, [...args, '--json', '--no-normalize'])).stdout) as {
    path: string;
    embedding?: number[];
    error?: string;
  }[];
  t.deepEqual(
    listed.map(({ path }) => path),
    [...red, 'broken.jpg', 'photos/blue/3.jpg'],
  );
  const found = (await tensors['embeddings'].toArray()) as number[][];
  const features = listed.flatMap(({ embedding }) => (embedding === undefined ? [] : [embedding]));
  for (const [i, values] of features.entries()) {
    const length = Math.hypot(...values);
    t.true(values.every((x, k) => Math.abs(x / length - found[i][k]) < 1e-5));
  }
  t.is(features.length, 9);
});

test.serial('a second run of the same name has a folder of its own', async (t) => {
  const { code, stdout } = await cli(folder, ['train', 'photos', ...TINY_FLAGS, '--epochs', '1']);
  t.is(code, 0);
  t.true(stdout.includes('Writing to runs/photos-2\n'));
});

test.serial('a run that is complete has nothing to continue', async (t) => {
  const before = await readFile(join(folder, 'runs/photos/checkpoints/last.safetensors'));
  const { code, stdout } = await cliHere(folder, ['train', '--resume', 'runs/photos']);
  t.is(code, 0);
  t.true(stdout.includes('runs/photos is complete; writing its report again\n'), stdout);
  t.true((await readFile(join(folder, 'runs/photos/checkpoints/last.safetensors'))).equals(before));
});

test.serial('the report that is written again keeps the time and the memory of training', async (t) => {
  const path = join(folder, 'runs/photos/summary.json');
  const text = await readFile(path, 'utf8');
  const skippedImages = [{ path: 'photos/red/9.jpg', reason: 'a cut file' }];
  const summary = {
    ...(JSON.parse(text) as object),
    seconds: 1234.5,
    peakMemoryBytes: 2 ** 42,
    skippedImages,
  };
  await writeFile(path, JSON.stringify({ ...summary, peakTensorBytes: 1 }));
  const { code, stdout } = await cliHere(folder, ['train', '--resume', 'runs/photos']);
  t.is(code, 0);
  t.regex(stdout, /\nDone: .*, 20:35, 4\.0 TiB of memory\n/);
  const again = await json<typeof summary & { peakTensorBytes: number }>('runs/photos/summary.json');
  t.like(again, summary);
  t.true(again.peakTensorBytes > 1);

  // Without a summary of the last epoch, training's own time: that of the process does not count.
  await writeFile(path, JSON.stringify({ ...summary, epochs: 1 }));
  t.is((await cliHere(folder, ['train', '--resume', 'runs/photos'])).code, 0);
  const lines = (await readFile(join(folder, 'runs/photos/metrics.jsonl'), 'utf8')).trimEnd().split('\n');
  const seconds = lines.reduce((sum, line) => sum + (JSON.parse(line) as { seconds: number }).seconds, 0);
  t.like(await json('runs/photos/summary.json'), { seconds, skippedImages: [], peakMemoryBytes: 2 ** 42 });
  await writeFile(path, '{');
  t.is((await cliHere(folder, ['train', '--resume', 'runs/photos'])).code, 0);
  t.like(await json('runs/photos/summary.json'), { seconds });
  await writeFile(path, text);
});

test.serial('a run out of patience says so, and is complete', async (t) => {
  // A rate too small to change a loss: nothing is better than the first epoch.
  const flags = '--epochs 6 --patience 2 --lr 1e-15 --warmup-epochs 0 --freeze-layers all --name still';
  const args = ['train', 'photos', ...TINY_FLAGS, ...flags.split(' ')];
  const { code, stdout } = await cliHere(folder, args);
  t.is(code, 0);
  t.regex(
    stdout,
    /epoch 3\/6 [^\n]*\nEnded after epoch 3 of 6: none was better than epoch 1\nDone: validation/,
  );
  const { config } = JSON.parse(await readFile(join(folder, 'runs/still/config.json'), 'utf8')) as {
    config: { patience: number };
  };
  t.is(config.patience, 2);
  const summary = JSON.parse(await readFile(join(folder, 'runs/still/summary.json'), 'utf8')) as unknown;
  t.like(summary, { epochs: 3, plannedEpochs: 6, bestEpoch: 1, parameters: 6547, trainedParameters: 51 });
  const report = await readFile(join(folder, 'runs/still/report.html'), 'utf8');
  t.regex(report, /<dt>Epochs<\/dt>\s*<dd>\s*<strong>3 of 6<\/strong>/);
  t.regex(report, /<small>6,547 · 51 of them trained<\/small>/);
  const again = await cliHere(folder, ['train', '--resume', 'runs/still']);
  t.regex(again.stdout, /\nruns\/still is complete; writing its report again\nEnded after epoch 3 of 6/);
});

test.serial('settings come from YAML or JSON, and flags override them', async (t) => {
  await writeFile(
    join(folder, 'config.yaml'),
    'epochs: 1\nlr: 0.002\noptBetas: [0.8, 0.9]\nmodelKwargs:\n  regTokens: 2\n',
  );
  const yaml = await cli(folder, [
    'train',
    'photos',
    '--config',
    'config.yaml',
    '--name',
    'y',
    ...TINY_FLAGS,
    '--epochs',
    '3',
    '--no-aug',
  ]);
  t.is(yaml.code, 0, yaml.stderr);
  const { config } = await json<{ config: TrainConfig }>('runs/y/config.json');
  t.like(config, { epochs: 3, lr: 0.002, optBetas: [0.8, 0.9], modelKwargs: { regTokens: 2 }, noAug: true });
  t.is((await json<{ parameters: number }>('runs/y/summary.json')).parameters, 6547 + 2 * 16 + 2 * 16);

  await writeFile(
    join(folder, 'config.json'),
    JSON.stringify({ epochs: 1, imgSize: [16, 8], workers: 0, depth: 1 }),
  );
  const flags =
    '--name j --embed-dim 8 --num-heads 2 --patch-size 8 --opt-betas 0.7,0.8 --mean 0.1,0.2,0.3'.split(' ');
  const file = await cli(folder, ['train', 'photos', '--config', 'config.json', ...flags]);
  t.is(file.code, 0, file.stderr);
  const second = await json<{ config: TrainConfig }>('runs/j/config.json');
  t.like(second.config, {
    epochs: 1,
    imgSize: [16, 8],
    optBetas: [0.7, 0.8],
    mean: [0.1, 0.2, 0.3],
    embedDim: 8,
  });
});

test.serial("train's help names the flags as timm does, with their defaults", async (t) => {
  const { code, stdout } = await cliHere(folder, ['train', '--help']);
  t.is(code, 0);
  const help = stdout.replace(/\s+/g, ' ');
  t.regex(help, /-b, --batch-size <n> images per batch \(default: 128\)/);
  t.regex(help, /--opt-betas <b1,b2> betas of adam \(default: 0\.9,0\.999\)/);
  const timm =
    'model img-size gp drop drop-path epochs batch-size opt lr min-lr warmup-lr warmup-epochs weight-decay';
  const more =
    'patience layer-decay freeze-layers momentum opt-betas clip-grad smoothing bce-loss bce-target-thresh model-ema-decay seed scale ratio hflip vflip no-aug workers';
  for (const flag of `${timm} ${more} interpolation crop-pct mean std recovery-interval output device`.split(
    ' ',
  )) {
    t.true(help.includes(` --${flag} `), flag);
  }
});

test.serial('models lists the registry with parameters and GFLOPs', async (t) => {
  const { code, stdout } = await cli(folder, ['models', 'vit_tiny']);
  t.is(code, 0);
  const rows = stdout.split('\n').filter((line) => line.includes('vit_'));
  t.deepEqual(
    rows.map((row) =>
      row
        .split('│')
        .map((cell) => cell.trim())
        .slice(1, 5),
    ),
    [
      ['vit_tiny_patch16_224', '224 x 224', '5.72 M', '2.51'],
      ['vit_tiny_patch16_384', '384 x 384', '5.79 M', '9.36'],
    ],
  );
});

interface Listed {
  readonly name: string;
  readonly parameters: number;
  readonly gflops: number;
  readonly imgSize: readonly number[];
}

test.serial('models takes part of a name, with * for anything', async (t) => {
  const { stdout } = await cli(folder, ['models', 'vit_*_224', '--json']);
  const names = (JSON.parse(stdout) as Listed[]).map(({ name }) => name);
  t.true(names.includes('vit_base_patch16_224') && names.includes('vit_base_patch32_clip_224'));
  t.true(names.every((name) => /^vit_.*_224$/.test(name)));
});

sharedTest("models has timm's parameter counts", goldenPath('state_dicts/timm-summary.json'), async (t) => {
  const { stdout } = await cli('.', ['models', '--json']);
  const summary = JSON.parse(await readFile(goldenPath('state_dicts/timm-summary.json'), 'utf8')) as Record<
    string,
    { params: number; input_size: number[] }
  >;
  const listed = (JSON.parse(stdout) as Listed[]).filter(({ name }) => Object.hasOwn(summary, name));
  t.true(listed.length >= 8, `${listed.length}`);
  for (const { name, parameters, imgSize } of listed) {
    t.is(parameters, summary[name].params, name);
    t.deepEqual(imgSize, summary[name].input_size.slice(1), name);
  }
});

test.serial('info names devices, threads, instruction set, versions, memory and backends', async (t) => {
  const { code, stdout } = await cli(folder, ['info', '--json']);
  t.is(code, 0);
  const info = JSON.parse(stdout) as {
    versions: Record<string, string>;
    cpu: { threads: number; instructionSet: string; bfloat16: string };
    memory: { systemBytes: number; tensors: { current: number } };
    devices: string[];
    backends: Record<string, string>;
  };
  t.is(info.versions['node'], process.versions.node);
  t.regex(info.versions['oneDNN'], /^\d+\.\d+/);
  t.is(info.cpu.threads, Number(process.env['TENON_NUM_THREADS'] ?? info.cpu.threads));
  t.regex(info.cpu.instructionSet, /^(AVX-512|AVX2|NEON|none)$/);
  t.regex(info.cpu.bfloat16, /^(tiles|pairs|float32)$/);
  t.true(info.memory.systemBytes > 2 ** 28);
  t.is(info.memory.tensors.current, 0);
  t.deepEqual(info.devices, ['cpu']);
  t.is(info.backends['cpu'], 'loaded');
  t.regex(info.backends['cuda'], /^not loaded: /);
  const lines = (await cli(folder, ['info'])).stdout.trimEnd().split('\n');
  t.is(lines[0], `tenon         ${info.versions['tenon']}`);
  t.true(lines.includes('cpu backend   loaded'));
});

test.serial('a thread for each core of the process, however OpenMP binds its threads', async (t) => {
  const cpu = async (shell: string): Promise<{ cores: number; threads: number }> => {
    const { stdout } = await startCli(folder, ['info', '--json'], `unset TENON_NUM_THREADS\n${shell}`).done;
    const info = (JSON.parse(stdout) as { cpu: { cores: number; threads: number } }).cpu;
    return { cores: info.cores, threads: info.threads };
  };
  const { cores } = cpuInfo();
  t.true(cores >= 1 && cores <= availableParallelism()); // Node does not know what a container grants
  t.deepEqual(await cpu(''), { cores, threads: cores });
  t.deepEqual(await cpu('export OMP_PROC_BIND=true'), { cores, threads: cores });
  t.deepEqual(await cpu('export TENON_NUM_THREADS=3'), { cores, threads: 3 });
  if (process.platform !== 'linux') return;
  t.deepEqual(await cpu('taskset --cpu-list --pid 0 $$ >/dev/null'), { cores: 1, threads: 1 });
});

test.serial('a run goes on when nobody reads its output any more', async (t) => {
  const { child, done } = startCli(folder, ['train', 'photos', '--name', 'unread', ...TINY_FLAGS]);
  child.stdout!.destroy();
  const { code, stderr } = await done;
  t.is(code, 0, stderr);
  t.is(stderr, '');
  t.is((await json<{ epochs: number }>('runs/unread/summary.json')).epochs, 2);
});

test.serial('a reader that has had enough ends a command without a word', async (t) => {
  const { child, done } = startCli(folder, ['models', '--json']);
  child.stdout!.destroy();
  const { stderr } = await done;
  t.is(stderr, '');
});
