/**
 * Photographs for the `data` suite: drawn, so that nothing is downloaded, with a spectrum that gives files of a photograph's size.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import sharp from 'sharp';

import { SampleRandom } from '../src/index.js';

const WIDTH = 500;
const HEIGHT = 375;
const CLASSES = 4;

type Plane = Float32Array;

/** Adds random numbers that are `cell` pixels apart, and what lies between them. */
function addNoise(plane: Plane, cell: number, strength: number, random: SampleRandom): void {
  const columns = Math.ceil(WIDTH / cell) + 1;
  const rows = Math.ceil(HEIGHT / cell) + 1;
  const grid = Float32Array.from({ length: columns * rows }, () => random.range(-strength, strength));
  for (let y = 0; y < HEIGHT; y++) {
    const top = Math.floor(y / cell) * columns;
    const v = (y % cell) / cell;
    for (let x = 0; x < WIDTH; x++) {
      const at = top + Math.floor(x / cell);
      const u = (x % cell) / cell;
      const above = grid[at] + u * (grid[at + 1] - grid[at]);
      const below = grid[at + columns] + u * (grid[at + columns + 1] - grid[at + columns]);
      plane[y * WIDTH + x] += above + v * (below - above);
    }
  }
}

/** Brightness or colour: a slope, and noise of every size from half the image down to `finest` pixels. */
function noisePlane(finest: number, strength: number, random: SampleRandom): Plane {
  const [dx, dy] = [random.range(-60, 60), random.range(-60, 60)];
  const plane = Float32Array.from(
    { length: WIDTH * HEIGHT },
    (_, i) => dx * ((i % WIDTH) / WIDTH - 0.5) + dy * (i / WIDTH / HEIGHT - 0.5),
  );
  // A photograph's spectrum falls as 1 / f: each octave has the energy of the one before, less what a lens blurs.
  for (let cell = 256; cell >= finest; cell /= 2) addNoise(plane, cell, strength * (1 - 0.5 / cell), random);
  return plane;
}

/** The file of a photograph: the same bytes for the same number. */
export function makePhotograph(index: number): Promise<Buffer> {
  const random = new SampleRandom(0, 0, index);
  const brightness = noisePlane(1, random.range(12, 24), random);
  const [red, blue] = [noisePlane(8, 6, random), noisePlane(8, 6, random)];
  const pixels = new Uint8ClampedArray(3 * WIDTH * HEIGHT);
  for (let i = 0; i < brightness.length; i++) {
    pixels[3 * i] = 128 + brightness[i] + red[i];
    pixels[3 * i + 1] = 128 + brightness[i] - 0.5 * (red[i] + blue[i]);
    pixels[3 * i + 2] = 128 + brightness[i] + blue[i];
  }
  return sharp(pixels, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
    .jpeg({ quality: 90, chromaSubsampling: '4:2:0' })
    .toBuffer();
}

/** Writes photographs as `folder/CLASS/NUMBER.jpg`. */
export async function writePhotographs(folder: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const path = join(folder, `class-${i % CLASSES}`);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, `${i}.jpg`), await makePhotograph(i));
  }
}
