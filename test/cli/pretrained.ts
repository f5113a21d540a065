/**
 * Models of other libraries and teachers on the command line: fine-tuned, converted, used.
 */
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import {
  type InputSpec,
  createModel,
  manualSeed,
  memoryStats,
  readSafetensors,
  savePretrained,
  train,
} from '../../src/index.js';
import { relativeError } from '../helpers/golden.js';
import { TINY, cliHere, oneSentence, tinyPhotos } from '../helpers/training.js';

let folder: string;

const INPUT: InputSpec = {
  size: [16, 16],
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
  interpolation: 'bilinear',
  cropPct: 1,
  cropMode: 'squash',
};
const VIT = { imgSize: 16, patchSize: 8, embedDim: 16, depth: 1, numHeads: 2 } as const;
const SWIN = {
  imgSize: 16,
  patchSize: 2,
  windowSize: 4,
  embedDim: 8,
  depths: [1, 1],
  numHeads: [1, 2],
} as const;

/** Models as a user may have them: folders of transformers with two classes. */
const MODELS = {
  vit: ['vit_tiny_patch16_224', VIT, 'head'],
  deit: ['deit_tiny_distilled_patch16_224', VIT, 'head and head_dist'],
  swin: ['swin_tiny_patch4_window7_224', SWIN, 'head.fc'],
} as const;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  await tinyPhotos(join(folder, 'photos'), 4);
  manualSeed(4);
  for (const [kind, [name, settings]] of Object.entries(MODELS)) {
    const options = { ...settings, numClasses: 2 };
    using model = createModel(name as string, options);
    const info = { name, options, classes: ['cat', 'dog'], input: INPUT };
    await savePretrained(join(folder, kind), model, info, 'hf');
  }
  await train(join(folder, 'photos'), { ...TINY, epochs: 1, output: join(folder, 'runs'), name: 'teacher' });
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

/** The tensors of a file as arrays. */
async function valuesOf(path: string): Promise<Record<string, ArrayLike<number>>> {
  const { tensors } = await readSafetensors(path);
  const entries = Object.entries(tensors).map(async ([name, tensor]) => {
    const values = (await tensor.data()) as Float32Array;
    tensor.dispose();
    return [name, values] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

async function run(t: ExecutionContext, command: string): Promise<string> {
  const { code, stdout, stderr } = await cliHere(folder, command.split(' '));
  t.is(code, 0, stderr);
  return stdout;
}

for (const [kind, [, , heads]] of Object.entries(MODELS)) {
  test.serial(`a ${kind} of transformers is fine-tuned on a folder of photographs`, async (t) => {
    const stdout = await run(
      t,
      `train photos --pretrained ${kind} --name tuned-${kind} --epochs 2 -b 4 -j 0`,
    );
    t.true(stdout.includes(`Weights of ${kind}: names of hf, new weights for ${heads}\n`), stdout);
    const best = await valuesOf(join(folder, `runs/tuned-${kind}/checkpoints/best.safetensors`));
    const begun = await valuesOf(join(folder, kind, 'model.safetensors'));
    const name = Object.keys(begun).find((one) => one.endsWith('projection.weight'))!;
    const moved = relativeError(best['patch_embed.proj.weight'], begun[name]);
    t.true(moved > 1e-6 && moved < 0.1, `the weights moved by ${moved}`);
    const config = JSON.parse(await readFile(join(folder, `runs/tuned-${kind}/config.json`), 'utf8')) as {
      config: object;
    };
    t.like(config.config, { mean: INPUT.mean, std: INPUT.std, cropMode: 'squash', lr: 1e-4, imgSize: 16 });
    const named = await run(t, `predict photos/red/0.jpg --checkpoint runs/tuned-${kind} -k 3`);
    t.regex(named, /photos\/red\/0\.jpg.*(red|green|blue)/);
    t.regex(await run(t, `eval photos --checkpoint runs/tuned-${kind} -j 0`), /^3 images: accuracy /);
  });
}

test.serial("predict names the classes of a transformers folder's config.json", async (t) => {
  const named = await run(t, 'predict photos/red/0.jpg --checkpoint deit --json');
  const [{ top }] = JSON.parse(named) as [{ top: { label: string }[] }];
  t.deepEqual(top.map(({ label }) => label).sort(), ['cat', 'dog']);
});

test.serial('another image size is trained with positions resized', async (t) => {
  const command = 'train photos --pretrained vit --img-size 24 --name larger --epochs 1 -b 4 -j 0';
  t.regex(await run(t, command), /names of hf, resized pos_embed, new weights for head\n/);
});

test.serial('convert writes what predicts the same', async (t) => {
  const predicted = async (path: string): Promise<unknown> =>
    JSON.parse(await run(t, `predict photos --checkpoint ${path} --json`));
  const stdout = await run(t, 'convert runs/teacher converted --layout hf');
  t.is(stdout, 'vit_micro_patch4_32: names of timm\nWritten to converted with the names of hf\n');
  t.deepEqual((await readdir(join(folder, 'converted'))).sort(), [
    'config.json',
    'model.safetensors',
    'preprocessor_config.json',
  ]);
  t.deepEqual(await predicted('converted'), await predicted('runs/teacher'));
  t.regex(await run(t, 'convert converted back --layout timm'), /^vit: names of hf\n/);
  t.deepEqual(await predicted('back'), await predicted('runs/teacher'));
  oneSentence(
    t,
    await cliHere(folder, ['convert', 'vit', 'out']),
    "required option '--layout <name>' not specified; see tenon convert --help",
  );
});

test.serial('convert writes a new folder, and leaves one that holds something as it is', async (t) => {
  const files = async (): Promise<[string, Buffer][]> => {
    const names = (await readdir(join(folder, 'runs/teacher'), { recursive: true })).sort();
    const paths = names
      .filter((name) => /\.\w+$/.test(name))
      .map((name) => join(folder, 'runs/teacher', name));
    return Promise.all(paths.map(async (path): Promise<[string, Buffer]> => [path, await readFile(path)]));
  };
  const before = await files();
  for (const [out, held] of [
    ['runs/teacher', 'checkpoints, config.json, metrics.jsonl, …'],
    ['vit', 'config.json, model.safetensors, preprocessor_config.json'],
    ['photos', 'blue, green, red'],
  ] as const) {
    oneSentence(
      t,
      await cliHere(folder, ['convert', 'runs/teacher', out, '--layout', 'timm']),
      `savePretrained: expected a new or empty folder to write, got ${out}, which holds ${held}`,
    );
  }
  t.deepEqual(await files(), before);
  await mkdir(join(folder, 'empty'));
  t.regex(await run(t, 'convert runs/teacher empty --layout timm'), /Written to empty /);
});

test.serial('convert says what transformers lacks of a model', async (t) => {
  await run(
    t,
    'train photos --model vit_nano_patch8_32 --img-size 16 --embed-dim 16 --depth 1 --num-heads 2 --epochs 1 -b 4 -j 0 --name pooled',
  );
  oneSentence(
    t,
    await cliHere(folder, ['convert', 'runs/pooled', 'pooled', '--layout', 'hf']),
    "savePretrained: expected a model that the layout 'hf' has names for, got vit_nano_patch8_32 " +
      'with globalPool "avg", where transformers has "token" alone',
  );
});

test.serial('settings that are refused when a teacher is loaded leave nothing in memory', async (t) => {
  const { current } = memoryStats();
  for (const [flag, error] of [
    ['layers=3', /^tenon: VisionTransformer: expected settings among .*, got 'layers'\n$/],
    ['regTokens=x', 'VisionTransformer: expected regTokens to be a whole number of at least 0, got x'],
  ] as const) {
    const flags = `train photos --teacher runs/teacher --img-size 16 --model-kwargs ${flag}`;
    oneSentence(t, await cliHere(folder, flags.split(' ')), error);
    t.is(memoryStats().current, current);
  }
});

const DISTILLING =
  'train photos --model deit_tiny_distilled_patch16_224 --img-size 16 --patch-size 8 --embed-dim 16 --depth 1 ' +
  '--num-heads 2 -b 4 --epochs 2 -j 0 --teacher runs/teacher --teacher-cache logits';

test.serial(
  'a student learns from a run; the same settings find the kept logits, and give the same bits',
  async (t) => {
    const stdout = await run(t, `${DISTILLING} --name first`);
    t.true(stdout.includes('Learning from runs/teacher: hard distillation, 50.0 % of the loss\n'), stdout);
    t.deepEqual((await readdir(join(folder, 'logits'))).sort(), ['epoch-0001.logits', 'epoch-0002.logits']);
    await run(t, `${DISTILLING} --name second`);
    const [first, second] = await Promise.all(
      ['first', 'second'].map((name) => valuesOf(join(folder, `runs/${name}/checkpoints/last.safetensors`))),
    );
    t.deepEqual(second, first);
    await run(
      t,
      `${DISTILLING} --name soft --distillation soft --distillation-alpha 0.1 --distillation-tau 3`,
    );
    const soft = await valuesOf(join(folder, 'runs/soft/checkpoints/last.safetensors'));
    t.notDeepEqual(soft['model.head_dist.weight'], first['model.head_dist.weight']);

    // A cache is for one precision and one seed; a run is for one teacher.
    oneSentence(
      t,
      await cliHere(folder, `${DISTILLING} --name other --precision bf16`.split(' ')),
      'teacher cache: expected the logits of this teacher in its precision in logits/epoch-0001.logits, got others; ' +
        'remove it, or name another folder',
    );
    oneSentence(
      t,
      await cliHere(folder, `${DISTILLING} --name other --seed 1`.split(' ')),
      'teacher cache: expected logits for these images in logits/epoch-0001.logits, got others; ' +
        'remove it, or name another folder',
    );
    const teacher = join(folder, 'runs/teacher/checkpoints/best.safetensors');
    await copyFile(join(folder, 'runs/tuned-vit/checkpoints/best.safetensors'), teacher);
    const { current } = memoryStats();
    oneSentence(
      t,
      await cliHere(folder, ['train', '--resume', 'runs/first']),
      'resume: expected the teacher of the run in runs/teacher, got other weights',
    );
    t.is(memoryStats().current, current, 'neither the teacher nor the student stays in memory');
  },
);

const ERRORS: readonly [what: string, command: string, error: string | RegExp][] = [
  [
    'distillation without a teacher',
    'train photos --distillation soft',
    'train: expected a teacher for soft distillation, got none',
  ],
  [
    'a teacher that is not there',
    'train photos --teacher none',
    "--teacher: expected a run's folder, or a model's folder or file, got none, which does not exist",
  ],
  [
    'a teacher of other classes',
    'train photos --teacher vit',
    'train: expected a teacher of 3 classes (blue, green, red), got one of 2 classes (cat, dog) in vit',
  ],
  [
    'blocks that the pretrained weights do not have',
    'train photos --pretrained vit --depth 2',
    'loadPretrained: expected the tensors of vit, got missing blocks.1.norm1.weight, blocks.1.norm1.bias, ' +
      'blocks.1.attn.qkv.weight, blocks.1.attn.qkv.bias and 8 more',
  ],
  [
    'a model beside a pretrained one',
    'train photos --pretrained vit --model deit_tiny_patch16_224',
    'train: expected no model beside --pretrained, whose model is vit, got deit_tiny_patch16_224',
  ],
  [
    'a folder without weights',
    'train photos --pretrained photos',
    'loadPretrained: expected model.safetensors or model.safetensors.index.json in photos, got neither',
  ],
];

for (const [what, command, error] of ERRORS) {
  test.serial(`one sentence for ${what}`, async (t) => {
    oneSentence(t, await cliHere(folder, command.split(' ')), error);
  });
}
