/**
 * Heatmaps, read back from their PNGs.
 */
import test from 'ava';

import { decodeImage, heatmap } from '../../src/index.js';

const grey = (height: number, width: number): { data: Uint8Array; height: number; width: number } => ({
  data: new Uint8Array(height * width * 3).fill(100),
  height,
  width,
});

test('the least value is blue, the largest red, and what lies between has its place', async (t) => {
  const png = await heatmap(grey(32, 64), [0, 5, 10, 10], { grid: [2, 2], minSize: 0, opacity: 1 });
  const { data, height, width } = await decodeImage(png);
  t.deepEqual([height, width], [32, 64]);
  const pixel = (y: number, x: number): number[] => [
    ...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3),
  ];
  t.deepEqual(pixel(0, 0), [78, 80, 96]); // a quarter of dark blue over grey
  t.deepEqual(pixel(31, 63), [214, 40, 40]); // red alone
  t.deepEqual(pixel(31, 0), [214, 40, 40]);
  t.deepEqual(pixel(0, 63), [73, 149, 115]); // green, 5 of 10: 0.25 + 0.75 * 0.5
});

test('what speaks against is drawn as nothing, where something speaks for', async (t) => {
  const colours = async (map: number[]): Promise<number[]> => {
    const png = await heatmap(grey(2, 60), map, { grid: [1, 3], minSize: 0, opacity: 1 });
    const { data } = await decodeImage(png);
    return [data[0], data[3 * 30], data[3 * 59]]; // red, of the left, the middle and the right
  };
  t.deepEqual(await colours([-50, 0, 10]), await colours([0, 0, 10]));
  t.deepEqual(await colours([-50, -40, -30]), await colours([0, 10, 20]));
});

test('small pictures are enlarged by a whole factor, and an even map covers evenly', async (t) => {
  const png = await heatmap(grey(30, 50), [3, 3], { grid: [1, 2], minSize: 120 });
  const { data, height, width } = await decodeImage(png);
  t.deepEqual([height, width], [90, 150]);
  t.is(new Set(data.filter((_, i) => i % 3 === 0)).size, 1);
});

test('what does not fit is an error in one sentence', async (t) => {
  const errors: [() => Promise<unknown>, string][] = [
    [
      () => heatmap({ ...grey(2, 2), width: 3 }, [1], { grid: [1, 1] }),
      'heatmap: expected a picture of 2 x 3 x 3 bytes, got 12',
    ],
    [() => heatmap(grey(2, 2), [1, 2], { grid: [1, 1] }), 'heatmap: expected a map of 1 x 1 values, got 2'],
    [
      () => heatmap(grey(2, 2), [NaN], { grid: [1, 1] }),
      'heatmap: expected a map of finite values, got others',
    ],
    [
      () => heatmap(grey(2, 2), [1], { grid: [1, 1], opacity: 2 }),
      'heatmap: expected an opacity in [0, 1], got 2',
    ],
  ];
  for (const [run, message] of errors) await t.throwsAsync(run, { message });
});
