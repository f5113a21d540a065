import test from 'ava';

import { mean, median, speedup, standardDeviation } from '../../bench/statistics.js';

test('the median is the middle value, or the mean of the two middle ones', (t) => {
  t.is(median([3, 1, 2]), 2);
  t.is(median([10, 1, 2, 3]), 2.5);
  t.throws(() => median([]), { message: 'median: expected at least one value, got none' });
});

test('the standard deviation is of the population that the values are drawn from', (t) => {
  t.is(mean([2, 4, 4, 4, 5, 5, 7, 9]), 5);
  t.is(standardDeviation([2, 4, 4, 4, 5, 5, 7, 9]), Math.sqrt(32 / 7));
  t.deepEqual([standardDeviation([3, 3]), standardDeviation([3]), mean([])], [0, undefined, NaN]);
});

test('speedup compares round by round, so a slow spell on both sides cancels', (t) => {
  t.deepEqual(speedup([1, 10, 1], [2, 20, 3]), { median: 2, low: 2, high: 3 });
});

test('a system that ran one round is compared with every round of the other', (t) => {
  t.deepEqual(speedup([1, 2, 4], [8]), { median: 4, low: 2, high: 8 });
  t.throws(() => speedup([], [1]), {
    message: 'speedup: expected at least one round each, got 0 and 1',
  });
});
