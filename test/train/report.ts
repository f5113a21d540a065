import { mkdtemp, readFile, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';
import sharp from 'sharp';

import { TensorError } from '../../src/index.js';
import { type ReportData, type ReportEpoch, thumbnail, writeReport } from '../../src/train/report.js';

/** A flat image. */
function flat(
  height: number,
  width: number,
  color: readonly number[],
): Parameters<typeof thumbnail>[0] & { data: Uint8Array } {
  return { data: Uint8Array.from({ length: height * width * 3 }, (_, i) => color[i % 3]), height, width };
}

const epoch = (n: number): Required<ReportEpoch> => ({
  epoch: n,
  trainLoss: 2.5 / n,
  trainAccuracy: 1 - 0.6 / n,
  valLoss: 2.75 / n,
  valAccuracy: 1 - 0.5 / n,
  valBalancedAccuracy: 1 - 0.5 / n,
  valTop5: 1 - 0.1 / n,
  lr: 1e-3 / n,
  imagesPerSecond: 1200 + n,
  dataWaitShare: 0.025,
});

const bare: ReportData = {
  name: 'runs/bare',
  config: {},
  classes: ['cat', 'dog'],
  epochs: [],
  summary: { parameters: 999, imagesPerSecond: 0, seconds: 4.25, peakMemoryBytes: 1000 },
  versions: {},
};

const CLASSES = ['cat', 'dog', 'eel', 'fox', 'gnu', 'hen'];

async function full(): Promise<ReportData> {
  const png = await thumbnail(flat(32, 32, [200, 30, 60]));
  return {
    name: 'runs/full',
    config: {
      lr: 1e-3,
      optBetas: [0.9, 0.999],
      noAug: false,
      ratio: 4 / 3,
      workers: undefined,
      modelKwargs: {},
    },
    classes: CLASSES,
    epochs: [1, 2, 3, 4].map(epoch),
    steps: Array.from({ length: 1000 }, (_, i) => ({ step: i + 1, loss: 3 - i / 500, lr: 1e-3 })),
    confusion: CLASSES.map((_, i) => CLASSES.map((_, j) => (i === j ? 90 + i : i === 0 && j === 1 ? 17 : 0))),
    samples: [
      {
        png,
        explained: png,
        truth: 'cat',
        top: [
          { label: 'cat', probability: 0.875 },
          { label: 'dog', probability: 0.125 },
        ],
      },
      {
        png,
        truth: 'cat',
        top: [
          { label: 'dog', probability: 0.625 },
          { label: 'cat', probability: 0.375 },
        ],
      },
      { png, truth: undefined, top: [{ label: 'eel', probability: 1 }] },
    ],
    summary: {
      model: 'vit_tiny_patch16_224',
      parameters: 5_717_416,
      trainImages: 50_000,
      valImages: 10_000,
      valAccuracy: 0.875,
      valTop5: 0.975,
      bestEpoch: 4,
      imagesPerSecond: 1234.4,
      dataWaitShare: 0.025,
      seconds: 3723,
      peakMemoryBytes: 1.5 * 2 ** 30,
      peakTensorBytes: 700 * 2 ** 20,
      skippedImages: [{ path: 'dog/broken.jpg', reason: 'a cut file' }],
    },
    versions: { tenon: '0.1.0', node: '20.17.0' },
  };
}

/** The page's source, written and read back. */
async function page(data: ReportData): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'tenon-report-'));
  await writeReport(join(dir, 'report.html'), data);
  return readFile(join(dir, 'report.html'), 'utf8');
}

/** What a reader sees: no tags, plain spaces. */
const words = (source: string): string =>
  source
    .replace(/<style>[\s\S]*?<\/style>/, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/[\s\u00a0]+/g, ' ');

const all = (source: string, pattern: RegExp): string[] =>
  [...source.matchAll(new RegExp(pattern, 'g'))].map((match) => match[1].trim());

/** The numbers in the columns of a chart: what is shown under the pointer. */
function readout(source: string, title: string): string[] {
  const chart = source.slice(source.indexOf(`aria-label="${title}"`));
  return all(chart.slice(0, chart.indexOf('</figure>')), /<g class="at"\s*>([\s\S]*?)<\/g\s*>/).map((g) =>
    words(g).trim(),
  );
}

test('the tiles are the summary', async (t) => {
  const source = await page(await full());
  const tiles = source.match(/<dl class="tiles">[\s\S]*?<\/dl>/)![0];
  t.deepEqual(
    all(tiles, /<strong>([^<]*)<\/strong>/).map((text) => text.replace('\u00a0', ' ')),
    ['87.50 %', '4', '1,234', '1:02:03', '1.5 GiB', '5.72 M'],
  );
  for (const detail of ['epoch 4 · top-5 97.50 %', 'data wait 2.5 %', 'tensors 700 MiB', '5,717,416']) {
    t.true(words(tiles).includes(detail), detail);
  }
  t.true(
    words(source).includes(
      'vit_tiny_patch16_224 · 6 classes · 50,000 training images · 10,000 validation images',
    ),
  );
  t.regex(words(source), /1 damaged image was left out .*dog\/broken\.jpg/);
});

test('the curves go through the numbers of the epochs', async (t) => {
  const source = await page({ ...(await full()), steps: undefined });
  t.deepEqual(readout(source, 'Loss'), [
    'epoch 1 training 2.500 validation 2.750',
    'epoch 2 training 1.250 validation 1.375',
    'epoch 3 training 0.833 validation 0.917',
    'epoch 4 training 0.625 validation 0.688',
  ]);
  t.is(readout(source, 'Accuracy')[1], 'epoch 2 validation 75.00 % top-5 95.00 % training 70.00 %');
  t.is(readout(source, 'Learning rate')[3], 'epoch 4 rate 2.5e-4');
  t.is(readout(source, 'Images per second')[0], 'epoch 1 training 1,201');
  // A share of 1 is at the top of the plot (y 28), 0 at its bottom (y 210).
  const accuracy = source.slice(source.indexOf('aria-label="Accuracy"'));
  t.is(Number(/<circle\s+cx="[^"]*"\s+cy="([^"]*)"/.exec(accuracy)![1]), 28 + (210 - 28) * 0.5);
});

test('the dots of a lone epoch are in the middle, and no other epoch is on the axis', async (t) => {
  const source = await page({ ...(await full()), epochs: [epoch(1)], steps: undefined });
  const middle = (54 + (460 - 14)) / 2; // of the plot's sides
  for (const title of ['Loss', 'Accuracy', 'Learning rate', 'Images per second']) {
    const from = source.indexOf(`aria-label="${title}"`);
    const chart = source.slice(from, source.indexOf('</figure>', from));
    t.deepEqual(new Set(all(chart, /<circle\s+cx="([^"]*)"/).map(Number)), new Set([middle]), title);
    const labels = all(chart, /<text[^>]*text-anchor="middle"[^>]*>([^<]*)</); // those of the x axis
    t.deepEqual(labels, ['epoch', '1'], title);
  }
});

test('steps are drawn as at most 300 means, which end with the last epoch', async (t) => {
  const rates = readout(await page(await full()), 'Learning rate');
  t.true(rates.length > 100 && rates.length <= 300);
  t.is(rates.at(-1), 'epoch 3.99 rate 1e-3'); // the mean of the last four of 1000 steps over four epochs
});

test('the confusion matrix has every count, with the classes at both sides', async (t) => {
  const source = await page(await full());
  const matrix = source.match(/<table class="matrix">[\s\S]*?<\/table>/)![0];
  t.deepEqual(all(matrix, /<th scope="col"[^>]*><span>([^<]*)</), CLASSES);
  t.deepEqual(all(matrix, /<th scope="row"[^>]*><span>([^<]*)</), CLASSES);
  const counts = all(matrix, /<td class="[^"]+"[^>]*>([^<]*)</).map(Number);
  t.deepEqual(counts, (await full()).confusion!.flat());
  t.true(matrix.includes('title="cat taken for dog: 17 of 107 (15.9\u00a0%)"'));
  t.regex(
    words(source),
    /Accuracy of each class The mean of these is the balanced accuracy, 97\.35 %\. cat 84\.1 % 90 \/ 107 dog 100\.0 % 91 \/ 91/,
  );
});

test('precision and F1 of each class are in a table, and what is a share of nothing is a dash', async (t) => {
  const confusion = [[85, 5, 0], [6, 4, 0], [0, 0, 0]]; // prettier-ignore
  const source = await page({ ...bare, classes: ['cat', 'dog', 'eel'], confusion });
  const table = source.match(/<table class="list">[\s\S]*?<\/table>/)![0];
  t.is(
    words(table).trim(),
    'Class Images Precision Recall F1 cat 90 93.4 % 94.4 % 93.9 % dog 10 44.4 % 40.0 % 42.1 % eel 0 – – –',
  );
  t.regex(words(source), /balanced accuracy, 67\.22 %/); // of the two that have images
});

test('the balanced accuracy is shown where it is another number', async (t) => {
  const summary = { ...bare.summary, valAccuracy: 0.9, bestEpoch: 2 };
  const epochs = [1, 2].map(epoch);
  const plain = words(await page({ ...bare, epochs, summary: { ...summary, valBalancedAccuracy: 0.9 } }));
  t.regex(plain, /Best validation accuracy 90\.00 % epoch 2 Epochs/);
  const unequal = epochs.map((metrics) => ({ ...metrics, valBalancedAccuracy: 0.25 * metrics.epoch }));
  const source = await page({
    ...bare,
    epochs: unequal,
    summary: { ...summary, valBalancedAccuracy: 0.5 },
  });
  t.regex(words(source), /Best validation accuracy 90\.00 % epoch 2 · balanced 50\.00 % Epochs/);
  t.deepEqual(readout(source, 'Accuracy'), [
    'epoch 1 validation 50.00 % balanced 25.00 % training 40.00 %',
    'epoch 2 validation 75.00 % balanced 50.00 % training 70.00 %',
  ]);
});

test('above 20 classes: the most confused pairs, and the weakest classes first', async (t) => {
  const classes = Array.from({ length: 50 }, (_, i) => `class-${i}`);
  const confusion = classes.map((_, i) => classes.map((_, j) => (i === j ? 100 : j === i + 1 ? i : 0)));
  confusion[7].fill(0);
  const source = await page({ ...bare, classes, confusion });
  t.false(source.includes('<table class="matrix">'));
  const table = source.match(/<table class="list">[\s\S]*?<\/table>/)![0];
  const cells = all(table, /<td[^>]*>([^<]*)</).map((text) => text.replace('\u00a0', ' '));
  t.is(cells.length, 20 * 4);
  t.deepEqual(cells.slice(0, 8), [
    'class-48',
    'class-49',
    '48',
    '32.4 %',
    'class-47',
    'class-48',
    '47',
    '32.0 %',
  ]);
  const names = all(source, /<span class="name" title="[^"]*">([^<]*)</);
  t.is(names.length, 50);
  t.deepEqual(names.slice(0, 3), ['class-48', 'class-47', 'class-46']);
  t.is(names.at(-1), 'class-7'); // no images, no accuracy
  t.regex(words(source), /The other 30 classes/);
});

test('samples show both classes, probabilities and which are wrong', async (t) => {
  const source = await page(await full());
  const cards = all(source, /(<figure class="sample [\s\S]*?<\/figure>)/);
  t.deepEqual(
    cards.map((card) => /class="sample (\w+)"/.exec(card)![1]),
    ['right', 'wrong', 'unknown'],
  );
  t.is(words(cards[0]).trim(), '✓ cat cat 87.5 % dog 12.5 %');
  t.is(words(cards[1]).trim(), '✗ wrong cat dog 62.5 % cat 37.5 %');
  t.is(words(cards[2]).trim(), 'unlabelled eel 100.0 %');
  const [, base64] = /src="data:image\/png;base64,([^"]+)"/.exec(cards[0])!;
  const { width, height } = await sharp(Buffer.from(base64, 'base64')).metadata();
  t.deepEqual([width, height], [128, 128]);
});

test('what speaks for a guess lies over the image, where it is there', async (t) => {
  const data = await full();
  const source = await page(data);
  const maps = all(source, /(<span class="picture"[\s\S]*?<\/span>)/).map((card) =>
    card.includes('class="map"'),
  );
  t.deepEqual(maps, [true, false, false]);
  t.regex(source, /<input type="checkbox"[^>]*>\s*Show it for all/);
  const without = await page({ ...data, samples: data.samples!.slice(1) });
  t.notRegex(without, /Show it for all|Point at an image|class="map"/);
});

test('settings and versions are listed, open ones left out', async (t) => {
  const source = await page(await full());
  const rows = Object.fromEntries(
    [...source.matchAll(/<dt>([^<]*)<\/dt>\s*<dd>([^<]*)<\/dd>/g)].map(([, key, value]) => [key, value]),
  );
  t.deepEqual(rows, {
    lr: '0.001',
    optBetas: '0.9, 0.999',
    noAug: 'no',
    ratio: '1.33333',
    modelKwargs: 'none',
    tenon: '0.1.0',
    node: '20.17.0',
  });
});

test('no text becomes markup', async (t) => {
  const data = await full();
  const named = (text: string, classes: number): ReportData => ({
    ...data,
    name: text,
    classes: Array.from({ length: classes }, (_, i) => `${text}${i}`),
    confusion: Array.from({ length: classes }, (_, i) => Array.from({ length: classes }, (_, j) => i + j)),
    config: { [text]: text, list: [text], nested: { a: text } },
    versions: { [text]: text },
    summary: { ...data.summary, model: text, skippedImages: [{ path: text, reason: text }] },
    samples: [{ ...data.samples![0], truth: text, top: [{ label: text, probability: 1 }] }],
  });
  const evil = `<script>alert(1)</script>"onerror='x' &amp;</style>`;
  const tags = (source: string): string[] => all(source, /(<[^\s>]+)/);
  for (const classes of [6, 30]) {
    const source = await page(named(evil, classes));
    t.false(/<script|"onerror|\sonerror=/i.test(source));
    t.true(
      source.includes(
        '&lt;script&gt;alert(1)&lt;/script&gt;&quot;onerror=&#39;x&#39; &amp;amp;&lt;/style&gt;',
      ),
    );
    t.deepEqual(tags(source), tags(await page(named('plain', classes))));
  }
});

test('the file needs nothing from outside and runs nothing', async (t) => {
  const source = await page(await full());
  t.true(source.startsWith('<!doctype html>') && source.trimEnd().endsWith('</html>'));
  t.false(/https?:|url\(|@import|<script|<link|<iframe|javascript:/i.test(source));
  t.true(all(source, /(?:src|href)="([^"]{0,22})/).every((start) => start === 'data:image/png;base64,'));
  t.regex(
    source,
    /<meta\s+http-equiv="Content-Security-Policy"\s+content="default-src 'none'; img-src data:/,
  );
  t.false(/NaN|undefined|Infinity|\[object/.test(source));
  t.true(source.includes('@media (prefers-color-scheme: dark)'));
  t.is(source, await page(await full())); // the same run, the same bytes
});

test('parts without data are left out', async (t) => {
  const source = await page(bare);
  t.false(/NaN|undefined|<table|<section|<figure/.test(source));
  t.regex(words(source), /Training loss – .*Epochs 0 .*Time 4\.3 s .*Peak memory 1000 B .*Parameters 999/);

  const { trainLoss, lr, imagesPerSecond, dataWaitShare } = epoch(1);
  const one = await page({
    ...bare,
    epochs: [{ epoch: 1, trainLoss, lr, imagesPerSecond, dataWaitShare }],
    summary: { ...bare.summary, valAccuracy: null, valTop5: null, bestEpoch: null },
  });
  t.false(/NaN|undefined|aria-label="Accuracy"/.test(one));
  t.deepEqual(readout(one, 'Loss'), ['epoch 1 training 2.500']);
  t.regex(words(one), /Training loss 2\.500 last epoch; no validation/);
});

test('planned epochs and trained parameters are shown where they are other numbers', async (t) => {
  const tiles = async (more: Partial<ReportData['summary']>): Promise<string> =>
    words(await page({ ...bare, epochs: [1, 2].map(epoch), summary: { ...bare.summary, ...more } }));
  t.regex(
    await tiles({ parameters: 468_812, trainedParameters: 11_641, plannedEpochs: 10 }),
    /Epochs 2 of 10 last loss .* Parameters 468\.8 k 468,812 · 11\.6 k of them trained /,
  );
  t.regex(
    await tiles({ trainedParameters: 999, plannedEpochs: 2 }),
    /Epochs 2 last loss .* Parameters 999 999 /,
  );
});

test('a training loss that does not compare with that of the validation is said to be so', async (t) => {
  const note = async (config: ReportData['config']): Promise<string | undefined> =>
    /The large dot is the best epoch\.( The training .*? compare\.)?/.exec(
      words(await page({ ...bare, config, epochs: [1, 2].map(epoch) })),
    )?.[0];
  const dot = 'The large dot is the best epoch.';
  t.is(await note({ smoothing: 0, mixup: 0, distillation: 'none', bceLoss: false }), dot);
  t.regex((await note({ smoothing: 0, cutmixMinmax: [0.2, 0.8] })) ?? '', /is with mixed images, that/);
  t.is(
    await note({ smoothing: 0.1, cutmix: 1, distillation: 'hard', bceLoss: true }),
    `${dot} The training loss is with binary cross-entropy, smoothed labels, mixed images, a teacher, that of the validation the cross-entropy with the true classes: they do not compare.`,
  );
});

test('numbers that are not finite leave gaps', async (t) => {
  const epochs = [epoch(1), { ...epoch(2), trainLoss: NaN, valLoss: Infinity }, epoch(3)];
  const source = await page({ ...bare, epochs });
  t.false(/NaN|Infinity/.test(source));
  t.deepEqual(readout(source, 'Loss'), [
    'epoch 1 training 2.500 validation 2.750',
    'epoch 2',
    'epoch 3 training 0.833 validation 0.917',
  ]);
});

test('with five classes or fewer top-5 is no curve', async (t) => {
  const source = await page({ ...bare, epochs: [epoch(1), epoch(2)] });
  t.is(readout(source, 'Accuracy')[0], 'epoch 1 validation 50.00 % training 40.00 %');
});

test('a confusion matrix of another size, or a folder that is not there, is an error and leaves no file', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'tenon-report-'));
  const error = await t.throwsAsync(
    writeReport(join(dir, 'report.html'), { ...bare, confusion: [[1, 2, 3], [4, 5, 6]] }), // prettier-ignore
    { instanceOf: TensorError },
  );
  t.is(error?.code, 'SHAPE');
  t.is(error?.message, 'writeReport: expected a confusion matrix [2, 2], one row for each class, got [2, 3]');
  t.deepEqual(await readdir(dir), []);
  const missing = await t.throwsAsync(writeReport(join(dir, 'no', 'report.html'), bare), {
    instanceOf: TensorError,
  });
  t.is(missing?.code, 'IO');
});

test('thumbnails keep pixels square, enlarge small images and shrink large ones', async (t) => {
  const size = async (height: number, width: number): Promise<number[]> => {
    const meta = await sharp(await thumbnail(flat(height, width, [1, 2, 3]))).metadata();
    t.is(meta.format, 'png');
    return [meta.height, meta.width];
  };
  t.deepEqual(await size(28, 28), [140, 140]);
  t.deepEqual(await size(1, 2), [64, 128]);
  t.deepEqual(await size(160, 200), [160, 200]);
  t.deepEqual(await size(512, 1024), [128, 256]);
  t.deepEqual(await size(1, 1000), [1, 256]);

  // Red, then blue: 64 columns of each, nothing between.
  const image = { data: Uint8Array.of(255, 0, 0, 0, 0, 255), height: 1, width: 2 };
  const { data } = await sharp(await thumbnail(image))
    .raw()
    .toBuffer({ resolveWithObject: true });
  for (let x = 0; x < 128; x++) {
    t.deepEqual([...data.subarray(x * 3, x * 3 + 3)], x < 64 ? [255, 0, 0] : [0, 0, 255]);
  }

  const error = await t.throwsAsync(thumbnail({ ...image, width: 3 }), { instanceOf: TensorError });
  t.is(error?.message, 'thumbnail: expected 1 x 3 x 3 bytes, got 6');
});
