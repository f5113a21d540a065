/**
 * A map over the picture that it explains.
 */
import { interpolate, tensor } from '../ops/index.js';
import { loadSharp } from '../sharp.js';
import { type OptionNames, expectOptions } from '../tensor/arguments.js';
import { fail } from '../tensor/error.js';
import { inferenceMode } from '../tensor/index.js';

/** How a heatmap is drawn. */
export interface HeatmapOptions {
  /** Rows and columns of the map. */
  readonly grid: readonly [rows: number, columns: number];
  /** Longer side of the picture in pixels: smaller ones are enlarged by a whole factor. Default 224. */
  readonly minSize?: number | undefined;
  /** How much of the colours covers the picture where the map is largest, in [0, 1]. Default 0.7. */
  readonly opacity?: number | undefined;
}

const OPTIONS = { grid: true, minSize: true, opacity: true } satisfies OptionNames<HeatmapOptions>;

/** From little to much: dark blue, blue, green, yellow, red. */
const COLOURS = [
  [13, 20, 84],
  [33, 99, 194],
  [57, 178, 124],
  [244, 208, 63],
  [214, 40, 40],
] as const;

/**
 * Draws a map over its picture, as a PNG: the map is enlarged bilinearly and goes from its least value to its largest. Where there
 * are values on both sides of 0, those below, which speak against, are drawn as 0.
 *
 * @param picture RGB, 8 bits each: `[height, width, 3]`, what the model saw
 * @param map `[rows, columns]`, row by row
 * @throws TensorError SHAPE when the picture or the map is not of its size; VALUE for a map that is not finite
 * @example
 * const png = await heatmap(image, await map.data(), { grid: [14, 14] });
 * await writeFile('seen.png', png);
 */
export async function heatmap(
  picture: { readonly data: Uint8Array; readonly height: number; readonly width: number },
  map: ArrayLike<number>,
  options: HeatmapOptions,
): Promise<Uint8Array> {
  expectOptions('heatmap', options, OPTIONS);
  const { grid, minSize = 224, opacity = 0.7 } = options;
  const { data, height, width } = picture;
  const [rows, columns] = grid;
  if (!(height > 0 && width > 0) || data.length !== height * width * 3) {
    fail('heatmap', 'SHAPE', `expected a picture of ${height} x ${width} x 3 bytes, got ${data.length}`);
  }
  if (map.length !== rows * columns) {
    fail('heatmap', 'SHAPE', `expected a map of ${rows} x ${columns} values, got ${map.length}`);
  }
  const values = Float32Array.from(map);
  if (!values.every(Number.isFinite)) fail('heatmap', 'VALUE', 'expected a map of finite values, got others');
  if (!(opacity >= 0 && opacity <= 1))
    fail('heatmap', 'VALUE', `expected an opacity in [0, 1], got ${opacity}`);
  const factor = Math.max(1, Math.ceil(minSize / Math.max(height, width)));
  const size = [height * factor, width * factor] as const;
  const large = await enlarged(values, grid, size);
  const sharp = await loadSharp();
  const base = await sharp(data, { raw: { height, width, channels: 3 } })
    .resize(size[1], size[0], { fit: 'fill', kernel: 'nearest' })
    .raw()
    .toBuffer();
  const out = new Uint8Array(base.length);
  for (let i = 0; i < large.length; i++) {
    const share = opacity * (0.25 + 0.75 * large[i]); // where little is, the picture shows
    const colour = colourOf(large[i]);
    for (let c = 0; c < 3; c++)
      out[3 * i + c] = Math.round(base[3 * i + c] * (1 - share) + colour[c] * share);
  }
  return sharp(out, { raw: { height: size[0], width: size[1], channels: 3 } })
    .png()
    .toBuffer();
}

/** The map from 0 to 1, in another size. A map of one value is 0. */
async function enlarged(
  map: Float32Array,
  grid: readonly [number, number],
  [height, width]: readonly [number, number],
): Promise<Float32Array> {
  const most = map.reduce((a, b) => Math.max(a, b), -Infinity);
  const lowest = map.reduce((a, b) => Math.min(a, b), Infinity);
  const least = lowest < 0 && most > 0 ? 0 : lowest;
  const scaled = map.map((value) => (most > least ? Math.max(0, (value - least) / (most - least)) : 0));
  const large = inferenceMode(() =>
    interpolate(tensor(scaled, { shape: [1, 1, ...grid] }), [height, width], { mode: 'bilinear' }),
  );
  try {
    return await large.data();
  } finally {
    large.dispose();
  }
}

function colourOf(value: number): readonly number[] {
  const place = Math.min(1, Math.max(0, value)) * (COLOURS.length - 1);
  const low = Math.min(COLOURS.length - 2, Math.floor(place));
  return COLOURS[low].map((from, c) => from + (COLOURS[low + 1][c] - from) * (place - low));
}
