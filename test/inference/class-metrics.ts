import test from 'ava';

import { balancedAccuracy, classMetrics, saysMore } from '../../src/inference/class-metrics.js';

test('precision, recall and F1 of each class are those of counting by hand', (t) => {
  // 90 of a common class, 10 of a rare one: 85 + 4 of 100 are right.
  const metrics = classMetrics([
    [85, 5],
    [6, 4],
  ]);
  t.deepEqual(metrics, [
    { images: 90, precision: 85 / 91, recall: 85 / 90, f1: (2 * 85) / (90 + 91) },
    { images: 10, precision: 4 / 9, recall: 0.4, f1: 8 / 19 },
  ]);
  t.is(balancedAccuracy(metrics), (85 / 90 + 0.4) / 2);
  for (const { precision, recall, f1 } of metrics) {
    t.true(Math.abs((2 * precision! * recall!) / (precision! + recall!) - f1!) < 1e-15);
  }
});

test('what there is nothing to take a share of is null, and does not count in the mean', (t) => {
  // Class 1 is never predicted, class 2 has no images but is predicted, class 3 is neither.
  const metrics = classMetrics([
    [3, 0, 1, 0],
    [2, 0, 0, 0],
    [0, 0, 0, 0],
    [0, 0, 0, 0],
  ]);
  t.deepEqual(metrics, [
    { images: 4, precision: 3 / 5, recall: 3 / 4, f1: 6 / 9 },
    { images: 2, precision: null, recall: 0, f1: 0 },
    { images: 0, precision: 0, recall: null, f1: 0 },
    { images: 0, precision: null, recall: null, f1: null },
  ]);
  t.is(balancedAccuracy(metrics), 3 / 8);
  t.is(balancedAccuracy(classMetrics([[0]])), NaN);
});

test('a model that knows the common class alone has half a balanced accuracy', (t) => {
  const metrics = classMetrics([
    [95, 0],
    [5, 0],
  ]);
  t.is(balancedAccuracy(metrics), 0.5);
});

test('a balanced accuracy says more where half a point or more is between it and the accuracy', (t) => {
  t.deepEqual(
    [0.9, 0.904, 0.8951, 0.906, 0.894, 0.5].map((balanced) => saysMore(0.9, balanced)),
    [false, false, false, true, true, true],
  );
});
