/**
 * Whatever is wrong with the input: one sentence on stderr, exit code 1, nothing left behind.
 */
import {
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { readSafetensors, saveSafetensors, train } from '../../src/index.js';
import { TINY, TINY_FLAGS, cli, cliHere, oneSentence, startCli, tinyPhotos } from '../helpers/training.js';

let folder: string;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tenon-test-'));
  await tinyPhotos(join(folder, 'photos'), 3);
  await train(join(folder, 'photos'), { ...TINY, epochs: 1, output: join(folder, 'runs') });
  const best = join(folder, 'runs/photos/checkpoints/best.safetensors');
  await copyFile(best, join(folder, 'cut.safetensors'));
  await truncate(join(folder, 'cut.safetensors'), 9000);
  await mkdir(join(folder, 'empty'));
  await mkdir(join(folder, 'two/a'), { recursive: true });
  await mkdir(join(folder, 'two/b'));
  for (const name of ['a', 'b']) {
    for (const i of [0, 1])
      await copyFile(join(folder, `photos/red/${i}.jpg`), join(folder, `two/${name}/${i}.jpg`));
  }
  for (const place of ['up/mac/a', 'up/mac/b', 'one/a', 'few/a', 'few/b', 'gaps/a']) {
    await mkdir(join(folder, place), { recursive: true });
    await copyFile(join(folder, 'photos/red/0.jpg'), join(folder, place, '0.jpg'));
  }
  await copyFile(join(folder, 'photos/red/1.jpg'), join(folder, 'one/a/1.jpg'));
  for (const place of ['gaps/b', 'gaps/c']) await mkdir(join(folder, place));
  await mkdir(join(folder, 'damaged/a'), { recursive: true });
  await mkdir(join(folder, 'damaged/b'));
  const jpeg = await readFile(join(folder, 'photos/red/0.jpg'));
  for (const name of ['a', 'b']) {
    for (const i of [0, 1, 2]) {
      await writeFile(
        join(folder, `damaged/${name}/${i}.jpg`),
        i === 1 ? jpeg.subarray(0, jpeg.length - 200) : jpeg,
      );
    }
  }
  await writeFile(join(folder, 'broken.yaml'), 'epochs: [1, 2\nlr: {');
  await writeFile(join(folder, 'strange.yaml'), 'epochs: 3\nlearningRate: 0.1\n');
  await writeFile(join(folder, 'wrong.json'), '{"lr": "fast"}');
  await writeFile(join(folder, 'list.json'), '[1, 2]');
  const { tensors } = await readSafetensors(best);
  await saveSafetensors(join(folder, 'unlabelled.safetensors'), tensors, { 'tenon.model': '{"name":"vit"}' });
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

const RUN = '--checkpoint runs/photos';

const CASES: readonly [what: string, command: string, error: string | RegExp][] = [
  [
    'an unknown command',
    'trian',
    /^tenon: unknown command 'trian' \(Did you mean train\?\); see tenon --help\n$/,
  ],
  [
    'an unknown flag',
    'train photos --learning-rate 1',
    "unknown option '--learning-rate'; see tenon train --help",
  ],
  [
    'a mistyped flag',
    'train photos --epoch 1',
    "unknown option '--epoch' (Did you mean --epochs?); see tenon train --help",
  ],
  [
    'a flag without its value',
    'train photos --lr',
    "option '--lr <rate>' argument missing; see tenon train --help",
  ],
  ['no data', 'train', "train: expected what to train on: a path, or 'shapes'"],
  ['text for a number', 'train photos --lr fast', "--lr: expected number, got 'fast'"],
  ['a number that is too small', 'train photos --epochs 0', "--epochs: expected number to be >0, got '0'"],
  ['half an epoch', 'train photos --epochs 1.5', "--epochs: expected int, got '1.5'"],
  ['an empty number', 'train photos --batch-size=', "--batch-size: expected number, got ''"],
  [
    'a layout of convert that is none',
    'convert runs/photos out --layout foo',
    "option '--layout <name>' argument 'foo' is invalid. Allowed choices are timm, hf, hf-current, original; see tenon convert --help",
  ],
  [
    'an unknown choice',
    'train photos --opt lion',
    '--opt: expected one of "adamw"|"adam"|"sgd", got \'lion\'',
  ],
  [
    'an unknown precision',
    'train photos --precision half',
    '--precision: expected one of "float32"|"bf16"|"fp16", got \'half\'',
  ],
  [
    'an unknown precision of a prediction',
    `predict photos ${RUN} --precision bf8`,
    '--precision: expected one of "float32"|"bf16"|"fp16", got \'bf8\'',
  ],
  [
    'an average that never moves',
    'train photos --model-ema-decay 1',
    "--model-ema-decay: expected number to be <1, got '1'",
  ],
  [
    'a layer decay that grows',
    'train photos --layer-decay 1.5',
    "--layer-decay: expected number to be <=1, got '1.5'",
  ],
  [
    'layers that are no number',
    'train photos --freeze-layers head',
    "--freeze-layers: expected a whole number of at least 0, or all, got 'head'",
  ],
  [
    'more layers than there are',
    'train photos --freeze-layers 14 --name frozen',
    "Trainer: expected freezeLayers up to 7 of the model's 8 layers, got 14",
  ],
  [
    'a threshold of no loss',
    'train photos --bce-target-thresh 0.2',
    'train: expected --bce-loss beside --bce-target-thresh, got none',
  ],
  [
    'a threshold that no target passes',
    'train photos --bce-loss --bce-target-thresh 1',
    "--bce-target-thresh: expected number to be <1, got '1'",
  ],
  ['half a patience', 'train photos --patience 1.5', "--patience: expected int, got '1.5'"],
  ['a deviation of nothing', 'train photos --std 0,0,0', "--std: expected number to be >0, got '0,0,0'"],
  [
    'a range upside down',
    'train photos --scale 1,0.5',
    "--scale: expected a first number that is not above the second, got '1,0.5'",
  ],
  [
    'a ratio upside down',
    'train photos --ratio 2,1',
    "--ratio: expected a first number that is not above the second, got '2,1'",
  ],
  ['too few numbers', 'train photos --mean 0.5', "--mean: expected three numbers, got '0.5'"],
  [
    'an image size in words',
    'train photos --img-size big',
    "--img-size: expected a whole number above 0, or two, got 'big'",
  ],
  ['a path for a name', 'train photos --name a/b', "--name: expected the name of a folder, got 'a/b'"],
  [
    'a setting without a value',
    'train photos --model-kwargs regTokens',
    "--model-kwargs: expected key=value, got 'regTokens'",
  ],
  [
    'an unknown setting of the model',
    'train photos --model-kwargs layers=3',
    /^tenon: VisionTransformer: expected settings among imgSize, patchSize, .*, got 'layers'\n$/,
  ],
  [
    'a setting of the model that makes no sense',
    'train photos --model-kwargs regTokens=x',
    'VisionTransformer: expected regTokens to be a whole number of at least 0, got x',
  ],
  [
    'a number of classes that the data decides',
    'train photos --model-kwargs numClasses=7',
    'train: expected the number of classes from the data, got numClasses=7 in --model-kwargs',
  ],
  [
    'an image size beside its flag',
    'train photos --img-size 16 --model-kwargs regTokens=1 imgSize=32',
    'train: expected --img-size for imgSize, got imgSize=32 in --model-kwargs',
  ],
  [
    'a patch size in two ways',
    'train photos --patch-size 8 --model-kwargs patchSize=4',
    'train: expected --patch-size alone, got patchSize=4 in --model-kwargs beside it',
  ],
  [
    'dropout beside its flag',
    'train photos --model-kwargs dropRate=0.1',
    'train: expected --drop for dropRate, got dropRate=0.1 in --model-kwargs',
  ],
  [
    'stochastic depth beside its flag',
    'train photos --model-kwargs dropPathRate=0.1',
    'train: expected --drop-path for dropPathRate, got dropPathRate=0.1 in --model-kwargs',
  ],
  [
    'an unknown model',
    'train photos --model vit_tiny',
    /^tenon: createModel: expected a registered model such as vit_tiny_\w+, \w+, \w+, got 'vit_tiny'\n$/,
  ],
  [
    'a patch that does not fit',
    'train photos --img-size 16 --patch-size 5',
    'VisionTransformer: expected an image size that patches of 5 divide, got 16 x 16',
  ],
  [
    'a warm-up beyond training',
    'train photos --epochs 2 --warmup-epochs 3',
    'train: expected --warmup-epochs within 2 epochs, got 3',
  ],
  [
    "a recipe's warm-up beyond training",
    'train photos --recipe vit-small-data --epochs 1',
    'train: expected --warmup-epochs within 1 epoch, got 10, which --recipe vit-small-data sets',
  ],
  [
    'a flag that the model has no setting for',
    'train photos --model resnet_nano_32 --depth 2',
    'train: expected settings that resnet_nano_32 has, got --depth',
  ],
  [
    'a cache without a teacher',
    'train photos --teacher-cache logits',
    'train: expected --teacher beside --teacher-cache, got none',
  ],
  [
    "a teacher's share without a teacher",
    'train photos --distillation-alpha 0.3',
    'train: expected --teacher beside --distillation-alpha, got none',
  ],
  [
    'a temperature without a teacher',
    'train photos --distillation-tau 2',
    'train: expected --teacher beside --distillation-tau, got none',
  ],
  ['an unknown device', 'train photos --device tpu', "--device: expected cpu, cuda or cuda:N, got 'tpu'"],
  [
    'a GPU where CUDA is off',
    'train photos --device cuda:99',
    /^tenon: device: expected one of cpu.*, got 'cuda:99'.*\n$/,
  ],
  [
    'an unknown key of a configuration',
    'train photos --config strange.yaml',
    'strange.yaml: unrecognized key: "learningRate"',
  ],
  [
    'a wrong value in a configuration',
    'train photos --config wrong.json',
    'wrong.json: lr: expected number, got "fast"',
  ],
  ['a configuration that is a list', 'train photos --config list.json', 'list.json: expected object'],
  [
    'a configuration that is no YAML',
    'train photos --config broken.yaml',
    /^tenon: --config: expected YAML or JSON in broken\.yaml, got .+\n$/,
  ],
  [
    'a configuration that is not there',
    'train photos --config none.yaml',
    /^tenon: --config: expected YAML or JSON in none\.yaml, got ENOENT.+\n$/,
  ],
  [
    'data that is not there',
    'train nowhere',
    "findData: expected 'shapes' or a folder, got nowhere, which does not exist",
  ],
  [
    'a file for data',
    'train photos/red/0.jpg',
    "findData: expected 'shapes' or a folder, got the file photos/red/0.jpg",
  ],
  ['an empty folder', 'train empty', 'openDataset: expected images in folders by class in empty, found none'],
  [
    'a folder above that of the classes',
    'train up',
    'train: expected at least two classes in up, got one (mac), which holds folders: did you mean up/mac?',
  ],
  ['one class', 'train one', 'train: expected at least two classes in one, got one (a)'],
  [
    'classes without images',
    'train gaps',
    'openDataset: expected images in each folder of gaps, found none in b, c',
  ],
  [
    'one image of each class',
    'train few',
    'splitFolder: expected two images of a class in few, one of them for validation, got one of each',
  ],
  [
    'a damaged image that must not be',
    `train damaged --on-corrupt error ${TINY_FLAGS.join(' ')}`,
    /^tenon: .*damaged\/[ab]\/1\.jpg.*\n$/,
  ],
  [
    'a run that is not there',
    'train --resume runs/none',
    'resume: expected the folder of a run, with a config.json, got runs/none',
  ],
  [
    'settings for a run that goes on',
    'train --resume runs/photos --lr 1',
    'train: expected no settings beside --resume: a run continues with its own, got lr',
  ],
  [
    'no checkpoint',
    'eval photos',
    "required option '--checkpoint <path>' not specified; see tenon eval --help",
  ],
  [
    'a checkpoint that is not there',
    'eval photos --checkpoint none',
    "--checkpoint: expected a run's folder, or a model's folder or file, got none, which does not exist",
  ],
  [
    'a folder that is no run',
    'eval photos --checkpoint empty',
    'loadPretrained: expected model.safetensors or model.safetensors.index.json in empty, got neither',
  ],
  [
    'a truncated checkpoint',
    'eval photos --checkpoint cut.safetensors',
    /^tenon: readSafetensors: expected \d+ bytes of tensors in cut\.safetensors, got \d+\n$/,
  ],
  [
    'an image for a checkpoint',
    'predict photos/red --checkpoint photos/red/0.jpg',
    /^tenon: readSafetensors: expected .* in photos\/red\/0\.jpg, got .*\n$/,
  ],
  [
    'a training state for a model',
    'eval photos --checkpoint runs/photos/checkpoints/last.safetensors',
    /^tenon: loadPretrained: expected a config\.json, or the name of the model, got .*last\.safetensors alone\n$/,
  ],
  [
    'vectors that go nowhere',
    `embed photos/red ${RUN}`,
    'expected --output or --json, got neither; see tenon embed --help',
  ],
  [
    'vectors for a folder that is not there',
    `embed photos/red ${RUN} -o none/vectors.safetensors`,
    '--output: expected a folder that exists, got none',
  ],
  [
    'a folder for vectors',
    `embed photos/red ${RUN} -o empty`,
    '--output: expected a file, got the folder empty',
  ],
  [
    'a model without classes',
    'eval photos --checkpoint unlabelled.safetensors',
    /^tenon: loadModel: expected a model's name, classes and input in unlabelled\.safetensors, got .*\n$/,
  ],
  [
    'data of other classes',
    `eval two ${RUN}`,
    "eval: expected data of the model's 3 classes (blue, green, red), got 2 classes (a, b)",
  ],
  [
    'a batch of nothing',
    `eval photos ${RUN} -b 0`,
    "--batch-size: expected a whole number of at least 1, got '0'",
  ],
  [
    'no images',
    'predict --checkpoint runs/photos',
    "missing required argument 'images'; see tenon predict --help",
  ],
  [
    'an image that is not there',
    `predict none.jpg ${RUN}`,
    'predict: expected an image or a folder, got none.jpg, which does not exist',
  ],
  ['a folder without images', `predict empty ${RUN}`, 'predict: expected images in empty, found none'],
  ['a text for an image', `predict strange.yaml ${RUN}`, /^tenon: .*strange\.yaml.*\n$/],
  [
    'a share of a class',
    `predict photos ${RUN} -k half`,
    "--topk: expected a whole number of at least 1, got 'half'",
  ],
  ['an unknown filter', 'models resnet9000', "models: expected part of a model's name, got 'resnet9000'"],
];

for (const [what, command, expected] of CASES) {
  test.serial(`one sentence for ${what}`, async (t) => {
    oneSentence(t, await cliHere(folder, command.split(' ')), expected);
  });
}

test.serial('a process that fails exits with 1 and without a stack', async (t) => {
  oneSentence(t, await cli(folder, ['train', 'empty']), /found none/);
  oneSentence(
    t,
    await cli(folder, ['eval', 'photos']),
    "required option '--checkpoint <path>' not specified; see tenon eval --help",
  );
});

test.serial('a malformed TENON_NUM_THREADS is a sentence', async (t) => {
  for (const value of ['abc', '0', '-1', '1e3', '100000']) {
    for (const args of [['info'], ['predict', 'photos/red/0.jpg', '--checkpoint', 'runs/photos']]) {
      oneSentence(
        t,
        await startCli(folder, args, `export TENON_NUM_THREADS=${value}`).done,
        `device: TENON_NUM_THREADS: expected a whole number from 1 to 1024, got '${value}'`,
      );
    }
  }
});

test.serial('commands that fail leave no folder of a run', async (t) => {
  const names = await readdir(join(folder, 'runs'));
  t.deepEqual(names.sort(), ['damaged', 'photos']); // the damaged image was found in training
});

test.serial('a damaged image is left out, and named at the end', async (t) => {
  const { code, stdout, stderr } = await cli(folder, [
    'train',
    'damaged',
    '--name',
    'skipping',
    ...TINY_FLAGS,
  ]);
  t.is(code, 0, stderr);
  t.regex(
    stdout,
    /\nSkipped 2 damaged images, such as damaged\/[ab]\/1\.jpg \(Input buffer has corrupt header\)\n/,
  );
  const { skippedImages } = JSON.parse(
    await readFile(join(folder, 'runs/skipping/summary.json'), 'utf8'),
  ) as {
    skippedImages: { path: string; reason: string }[];
  };
  t.deepEqual(skippedImages.map(({ path }) => path).sort(), ['damaged/a/1.jpg', 'damaged/b/1.jpg']);
  for (const { reason } of skippedImages) t.is(reason, 'Input buffer has corrupt header');
});

test.serial('one damaged image and one image are told as one', async (t) => {
  const jpeg = await readFile(join(folder, 'photos/red/0.jpg'));
  for (const [file, bytes] of [
    ['train/a/0.jpg', jpeg],
    ['train/a/1.jpg', jpeg.subarray(0, jpeg.length - 200)],
    ['train/b/0.jpg', jpeg],
    ['val/a/0.jpg', jpeg],
    ['val/a/1.jpg', jpeg.subarray(0, jpeg.length - 200)],
  ] as const) {
    await mkdir(join(folder, 'single', file, '..'), { recursive: true });
    await writeFile(join(folder, 'single', file), bytes);
  }
  const { code, stderr } = await cliHere(folder, ['train', 'single', ...TINY_FLAGS]);
  t.is(code, 0, stderr);
  const evaluated = await cliHere(folder, 'eval single --checkpoint runs/single -j 0'.split(' '));
  t.regex(
    evaluated.stdout,
    /^1 image: accuracy .*\nSkipped 1 damaged image, single\/val\/a\/1\.jpg \(Input buffer has corrupt header\)\n┌/,
  );
});

test.serial('a run whose data has changed does not continue', async (t) => {
  await copyFile(join(folder, 'photos/red/0.jpg'), join(folder, 'photos/red/99.jpg'));
  oneSentence(
    t,
    await cliHere(folder, ['train', '--resume', 'runs/photos']),
    'resume: expected the data of the run, 6 training and 3 validation images of 3 classes (blue, green, red), ' +
      'got 7 training and 3 validation images of 3 classes (blue, green, red)',
  );
  await rm(join(folder, 'photos/red/99.jpg'));

  // As many images of the same classes as before, but others.
  const image = join(folder, 'photos/red/0.jpg');
  const changed = `resume: expected the images of the run in ${join(folder, 'photos')}, got others: names or sizes of files differ`;
  await rename(image, join(folder, 'photos/red/00.jpg'));
  oneSentence(t, await cliHere(folder, ['train', '--resume', 'runs/photos']), changed);
  await rename(join(folder, 'photos/red/00.jpg'), image);
  const bytes = await readFile(image);
  await writeFile(image, Buffer.concat([bytes, Buffer.of(0)]));
  oneSentence(t, await cliHere(folder, ['train', '--resume', 'runs/photos']), changed);

  // A run of a version that kept no digest goes on.
  const config = join(folder, 'runs/photos/config.json');
  const text = await readFile(config, 'utf8');
  const { images, cwd, ...older } = JSON.parse(text) as Record<string, unknown>;
  t.regex(String(images), /^[0-9a-f]{64}$/);
  t.is(typeof cwd, 'string');
  await writeFile(config, JSON.stringify(older));
  t.is((await cliHere(folder, ['train', '--resume', 'runs/photos'])).code, 0);
  await writeFile(config, text);
  await writeFile(image, bytes);
  t.is((await cliHere(folder, ['train', '--resume', 'runs/photos'])).code, 0);
});

test.serial('a run whose files are damaged does not continue, and says which', async (t) => {
  const last = join(folder, 'runs/photos/checkpoints/last.safetensors');
  const whole = await readFile(last);
  await truncate(last, 5000);
  oneSentence(t, await cliHere(folder, ['train', '--resume', 'runs/photos']), /last\.safetensors/);
  await writeFile(last, whole);
  const config = join(folder, 'runs/photos/config.json');
  const text = await readFile(config, 'utf8');
  await writeFile(config, text.slice(0, 100));
  oneSentence(
    t,
    await cliHere(folder, ['train', '--resume', 'runs/photos']),
    /^tenon: resume: expected JSON in runs\/photos\/config\.json/,
  );
  await writeFile(config, text);
  const metrics = join(folder, 'runs/photos/metrics.jsonl');
  const lines = await readFile(metrics, 'utf8');
  for (const line of ['garbage', 'null']) {
    await writeFile(metrics, `${lines}${line}\n`);
    oneSentence(
      t,
      await cliHere(folder, ['train', '--resume', 'runs/photos']),
      `resume: expected the metrics of an epoch in line 2 of runs/photos/metrics.jsonl, got '${line}'`,
    );
  }
  await writeFile(metrics, lines);
  await writeFile(config, text.replace('"adamw"', '"adamwow"'));
  oneSentence(
    t,
    await cliHere(folder, ['train', '--resume', 'runs/photos']),
    /^tenon: runs\/photos\/config\.json: opt: expected one of/,
  );
  await writeFile(config, '{}');
  oneSentence(
    t,
    await cliHere(folder, ['train', '--resume', 'runs/photos']),
    "resume: expected a run's config and classes in runs/photos/config.json, got a file that lacks them",
  );
});

test.serial('a loss that is not finite ends training with a sentence', async (t) => {
  const flags = [
    '--opt',
    'sgd',
    '--lr',
    '1e38',
    '--warmup-epochs',
    '0',
    '--clip-grad',
    '0',
    '--name',
    'lost',
  ];
  const result = await cliHere(folder, ['train', 'photos', ...flags, ...TINY_FLAGS]);
  oneSentence(
    t,
    result,
    /^tenon: Trainer: expected (a finite loss|finite weights), got (NaN|Infinity) .*; try a lower/,
  );
});
