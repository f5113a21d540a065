import test from 'ava';

import { CASES, selectCases } from '../../bench/suites.js';

test('a filter selects the cases whose suite/name contains it', (t) => {
  t.is(selectCases().length, CASES.cpu.length);
  t.deepEqual([...new Set(selectCases('models/').map(({ suite }) => suite))], ['models']);
  t.deepEqual(
    selectCases('reshape').map(({ suite, name }) => `${suite}/${name}`),
    ['dispatch/reshape'],
  );
});

test('a filter that selects nothing is an error that quotes it', (t) => {
  t.throws(() => selectCases('resnext'), {
    instanceOf: RangeError,
    message: "bench: expected a part of a case's name, got 'resnext'; --list shows the names",
  });
});

test('every case has a name of its own', (t) => {
  for (const cases of Object.values(CASES)) {
    t.is(new Set(cases.map(({ suite, name }) => `${suite}/${name}`)).size, cases.length);
  }
});

test('peak memory is measured for the models and for attention over 4096 tokens', (t) => {
  const names = CASES.cpu.filter(({ memory }) => memory).map(({ suite, name }) => `${suite}/${name}`);
  t.deepEqual(names, [
    'kernels/attention 1x3x4096x64',
    'kernels/attention 1x3x4096x64, with backward',
    'models/ViT-Ti/16 224, batch 16, training step',
    'models/ViT-Ti/16 224, batch 16, inference',
    'models/ViT-Ti/16 224, batch 16, bf16, training step',
    'models/ViT-Ti/16 224, batch 16, bf16, inference',
    'models/ViT-Ti/16 224, batch 1, inference',
    'models/ViT CIFAR, batch 128, training step',
    'models/ViT CIFAR, batch 128, inference',
    'models/Swin-T 224, batch 8, training step',
    'models/Swin-T 224, batch 8, stochastic depth 0.2, training step',
    'models/Swin-T 224, batch 8, inference',
    'models/ResNet-18 224, batch 8, training step',
    'models/ResNet-18 224, batch 8, inference',
    'models/RegNetY-002 224, batch 8, training step',
    'models/RegNetY-002 224, batch 8, inference',
  ]);
});
