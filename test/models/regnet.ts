import test from 'ava';

import {
  RegNet,
  TensorError,
  createModel,
  describeModel,
  foldBatchNorm,
  loadPretrained,
  manualSeed,
  modelEntry,
  noGrad,
  normal,
  regnetStages,
  saveSafetensors,
  type RegNetConfig,
} from '../../src/index.js';
import { REGNET_LAYOUTS } from '../../src/models/layouts/regnet.js';
import { toStoredNames } from '../../src/models/layouts/layout.js';
import { goldenPath, goldenTest, relativeError, sharedTest } from '../helpers/golden.js';
import { matchesTimm, timmConfig, haveTimmShapes } from '../helpers/timm.js';
import { temporaryFolder } from '../helpers/training.js';
import { matchesTransformers } from '../helpers/transformers.js';

const TINY = { imgSize: 32, depths: [1, 2], widths: [8, 16], groupWidth: 4, numClasses: 5 } as const;

goldenTest(
  "a RegNetY's features, logits, loss and gradients are timm's",
  'models/timm-regnety',
  (t, device) => {
    const { w0, wa, wm, depth, groupSize, seRatio, numClasses } = timmConfig('timm-regnety') as Record<
      string,
      number
    >;
    return matchesTimm(
      t,
      'timm-regnety',
      new RegNet({ ...regnetStages({ w0, wa, wm, depth, groupSize }), seRatio, numClasses }),
      device,
    );
  },
);

goldenTest(
  "a RegNetY's logits, hidden states, loss and gradients are those of transformers",
  'models/hf-regnet',
  (t, device) => matchesTransformers(t, 'hf-regnet', (model) => (model as RegNet).stages, device),
);

sharedTest('RegNetYs have the names and shapes of timm', goldenPath('state_dicts'), (t) => {
  haveTimmShapes(t, 'regnety_*', 6, 'depths', (s, i) => `s${s + 1}.b${i + 1}.`);
});

test('parameters and multiply-accumulates are those of the table in the specification', (t) => {
  const expected = {
    regnety_002: [3_162_996, 0.2],
    regnety_004: [4_344_144, 0.41],
    regnety_006: [6_055_160, 0.61],
    regnety_008: [6_263_168, 0.81],
    regnety_016: [11_202_430, 1.63],
    regnety_032: [19_436_338, 3.2],
    regnety_040: [20_646_656, 4.0],
    regnety_064: [30_583_252, 6.39],
    regnety_080: [39_180_068, 8.0],
    regnety_120: [51_822_544, 12.14],
    regnety_160: [83_590_140, 15.96],
    regnety_320: [145_046_770, 32.34],
  };
  for (const [name, [count, gmacs]] of Object.entries(expected)) {
    const { parameters, gflops } = describeModel(modelEntry(name));
    t.is(parameters, count, name);
    // timm counts pooling and the channels' scaling too, and rounds.
    t.true(Math.abs(gflops / 2 - gmacs) < 0.02 * gmacs + 0.005, `${name}: ${gflops / 2}`);
  }
});

const FORMS: Record<string, Partial<RegNetConfig>> = {
  'as it is': {},
  'groups wider than the first stage': { groupWidth: 16 },
  'one channel': { inChans: 1 },
  'no head': { numClasses: 0 },
  'drop path and dropout': { dropPathRate: 0.2, dropRate: 0.1, zeroInitLast: false },
};

for (const [title, options] of Object.entries(FORMS)) {
  test(`${title}: shapes, counts, and a gradient for every parameter`, async (t) => {
    manualSeed(1);
    const config = { ...TINY, ...options };
    using model = new RegNet(config);
    t.is(describeModel({ name: 'test', family: 'regnet', config }).parameters, model.parameterCount);
    const y = model.call(normal([3, config.inChans ?? 3, 32, 32]));
    t.deepEqual([...y.shape], [3, config.numClasses === 0 ? 16 : 5]);
    t.true((await y.data()).every(Number.isFinite));
    y.mul(normal(y.shape)).sum().backward();
    for (const [name, parameter] of model.namedParameters()) t.not(parameter.grad, undefined, name);
  });
}

test('folded batch norms give the same logits', async (t) => {
  manualSeed(3);
  using model = new RegNet({ ...TINY, zeroInitLast: false });
  const images = normal([4, 3, 32, 32]);
  noGrad(() => model.call(images)); // running statistics of its own
  const wanted = await noGrad(() => model.eval().call(images)).data();
  const got = await noGrad(() => foldBatchNorm(model).call(images)).data();
  t.true(relativeError(got, wanted) < 1e-5);
});

test("torchvision's names load", async (t) => {
  const file = `${await temporaryFolder(t)}/regnety_002.safetensors`;
  using model = createModel('regnety_002', { depths: [1, 1, 1, 1] });
  const [, torchvision] = REGNET_LAYOUTS;
  const stored = toStoredNames(torchvision, model.stateDict());
  t.true('trunk_output.block2.block2-0.f.se.fc1.bias' in stored);
  t.true('trunk_output.block1.block1-0.proj.1.running_mean' in stored);
  await saveSafetensors(file, stored);
  const back = await loadPretrained(file, { settings: { depths: [1, 1, 1, 1] } });
  t.deepEqual(back.report, { layout: 'torchvision', resized: [], replaced: [], ignored: [] });
  t.deepEqual(
    await back.model.stateDict()['s2.b1.conv2.conv.weight'].data(),
    await model.stateDict()['s2.b1.conv2.conv.weight'].data(),
  );
  back.model.dispose();
});

test('settings that make no sense are errors that name them', (t) => {
  const bad: [object, RegExp][] = [
    [{ widths: [8] }, /RegNet: expected widths for 2 stages, got 1/],
    [{ widths: [8, 18] }, /RegNet: expected widths that groups of 4 divide, got 18/],
    [{ depths: [1, 0] }, /expected depths\[1\] to be a whole number of at least 1, got 0/],
  ];
  for (const [options, message] of bad) {
    t.throws(() => new RegNet({ ...TINY, ...options }), { instanceOf: TensorError, message });
  }
});
