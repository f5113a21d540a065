import { gzipSync } from 'node:zlib';

import test from 'ava';
import sharp from 'sharp';

import { type Image, TensorError, applySteps, decodeImage, readImage, resize } from '../../src/index.js';
import { SampleRandom } from '../../src/data/sample-random.js';
import { temporaryFolder } from '../helpers/files.js';
import { goldenPath, readGolden, sharedTest } from '../helpers/golden.js';
import { difference, flat, pattern, pixelAt, toSharp } from '../helpers/images.js';

const still = new SampleRandom(0, 0, 0);

/** What a golden's name says to do with an image. */
function prepare(image: Image, what: string): Image | undefined {
  if (what === 'decoded') return image;
  if (what === 'short248-bicubic-center224') {
    return applySteps(
      image,
      [
        { kind: 'resize', size: 248, mode: 'bicubic' },
        { kind: 'centerCrop', size: 224 },
      ],
      still,
    );
  }
  if (what === 'crop-10-5-100-90-bicubic-64x48') {
    // The filter reaches beyond the box into the image.
    return resize(image, [48, 64], { mode: 'bicubic', box: [10, 5, 110, 95] });
  }
  const size = /^(bicubic|bilinear)-(\d+)x(\d+)$/.exec(what);
  if (size === null) return undefined;
  return resize(image, [Number(size[3]), Number(size[2])], { mode: size[1] as 'bicubic' | 'bilinear' });
}

sharedTest('decoding, resizing and cropping are those of Pillow', goldenPath('preprocess'), async (t) => {
  const { tensors } = readGolden('preprocess/expected.safetensors');
  const cases = Object.entries(tensors);
  t.true(cases.length > 80);
  let exact = 0;
  for (const [key, expected] of cases) {
    const [file, what] = key.split('/');
    const result = prepare(await readImage(goldenPath(`preprocess/${file}`), { orient: false }), what);
    if (result === undefined) {
      t.fail(`unknown case ${key}`);
      continue;
    }
    t.deepEqual([result.height, result.width, 3], [...expected.shape], key);
    const { worst, mean } = difference(result.data, expected.data);
    t.true(worst <= 1 && mean < 0.1, `${key}: ${worst} levels, ${mean} on average`);
    if (worst === 0) exact += 1;
  }
  // A weight of an enlargement may round the other way in Pillow's build.
  t.log(`${exact} of ${cases.length} cases are exact`);
  t.true(exact >= cases.length - 2);
});

/** Red, green, blue and grey quarters: which way up an image is, is plain to see. */
function quarters(height: number, width: number): Image {
  const colours = [
    [255, 0, 0],
    [0, 255, 0],
    [0, 0, 255],
    [128, 128, 128],
  ];
  const data = Uint8Array.from({ length: height * width * 3 }, (_, i) => {
    const [y, x] = [Math.floor(i / 3 / width), Math.floor(i / 3) % width];
    return colours[2 * Number(y >= height / 2) + Number(x >= width / 2)][i % 3];
  });
  return { data, height, width };
}

test('every EXIF orientation is turned upright, unless told otherwise', async (t) => {
  const stored = quarters(32, 64);
  // For each orientation: the quarters of the upright image, from left to right and top to bottom.
  const upright = ['RGBX', 'GRXB', 'XBGR', 'BXRG', 'RBGX', 'BRXG', 'XGBR', 'GXRB'];
  const letters: Record<string, readonly number[]> = {
    R: [255, 0, 0],
    G: [0, 255, 0],
    B: [0, 0, 255],
    X: [128, 128, 128],
  };
  for (const [i, order] of upright.entries()) {
    const jpeg = await toSharp(stored)
      .withMetadata({ orientation: i + 1 })
      .jpeg({ quality: 95, chromaSubsampling: '4:4:4' })
      .toBuffer();
    const image = await decodeImage(jpeg);
    t.deepEqual([image.height, image.width], i < 4 ? [32, 64] : [64, 32], `orientation ${i + 1}`);
    const seen = [0.25, 0.75].flatMap((y) =>
      [0.25, 0.75].map((x) => pixelAt(image, y * image.height, x * image.width)),
    );
    for (const [quarter, pixel] of seen.entries()) {
      const { worst } = difference(pixel, letters[order[quarter]]);
      t.true(worst < 12, `orientation ${i + 1}, quarter ${quarter}: ${pixel.join()}`);
    }
    const raw = await decodeImage(jpeg, { orient: false });
    t.deepEqual([raw.height, raw.width], [32, 64]);
    t.true(difference(pixelAt(raw, 8, 16), letters.R).worst < 12);
  }
});

sharedTest('EXIF orientation of a photograph is applied', goldenPath('preprocess'), async (t) => {
  const path = goldenPath('preprocess/exif-rotated.jpg');
  const raw = await readImage(path, { orient: false });
  const upright = await readImage(path);
  t.deepEqual([upright.height, upright.width], [raw.width, raw.height]);
});

test('lossless files give their pixels back, bit for bit', async (t) => {
  const image = pattern(21, 34);
  for (const [name, encoded] of [
    ['png', await toSharp(image).png().toBuffer()],
    ['webp', await toSharp(image).webp({ lossless: true }).toBuffer()],
    ['tiff', await toSharp(image).tiff({ compression: 'lzw' }).toBuffer()],
  ] as const) {
    t.deepEqual(await decodeImage(encoded), image, name);
  }
  const few = quarters(16, 16); // a GIF's palette holds these colours
  t.deepEqual(await decodeImage(await toSharp(few).gif().toBuffer()), few);
});

test('a JPEG is near its pixels', async (t) => {
  const image = flat(40, 24, [200, 90, 30]);
  const { data, height, width } = await decodeImage(await toSharp(image).jpeg({ quality: 95 }).toBuffer());
  t.deepEqual([height, width], [40, 24]);
  t.true(difference(data, image.data).mean < 1.5);
});

test('grey is repeated and alpha is dropped', async (t) => {
  const grey = Buffer.from([0, 50, 100, 150, 200, 255]);
  const raw = { height: 2, width: 3, channels: 1 } as const;
  const repeated = Uint8Array.from({ length: 18 }, (_, i) => grey[Math.floor(i / 3)]);
  const png = await sharp(grey, { raw }).toColourspace('b-w').png().toBuffer();
  t.deepEqual((await decodeImage(png)).data, repeated);
  const clear = Buffer.from([10, 20, 30, 0, 40, 50, 60, 128]); // one pixel fully transparent
  const rgba = await sharp(clear, { raw: { height: 1, width: 2, channels: 4 } })
    .png()
    .toBuffer();
  t.deepEqual([...(await decodeImage(rgba)).data], [10, 20, 30, 40, 50, 60]);
});

test('16 bits are scaled to 8', async (t) => {
  const levels = [0, 1, 64, 127, 128, 200, 255];
  const deep = Uint16Array.from(levels, (level) => level * 257);
  const png = await sharp(deep, { raw: { height: 1, width: levels.length, channels: 1 } })
    .toColourspace('grey16')
    .png()
    .toBuffer();
  t.is((await sharp(png).metadata()).depth, 'ushort');
  t.deepEqual(
    [...(await decodeImage(png)).data],
    levels.flatMap((level) => [level, level, level]),
  );
});

test('the first frame of an animation is the image', async (t) => {
  const frames = Buffer.concat([flat(4, 4, [255, 0, 0]).data, flat(4, 4, [0, 0, 255]).data]);
  const gif = await sharp(frames, { raw: { height: 8, width: 4, channels: 3, pageHeight: 4 } })
    .gif()
    .toBuffer();
  t.is((await sharp(gif, { animated: true }).metadata()).pages, 2);
  const image = await decodeImage(gif);
  t.deepEqual([image.height, image.width], [4, 4]);
  t.deepEqual(pixelAt(image, 2, 2), [255, 0, 0]);
});

test('damaged, cut and foreign files are errors that name them', async (t) => {
  const jpeg = await toSharp(pattern(64, 64)).jpeg().toBuffer();
  t.is((await decodeImage(jpeg)).data.length, 64 * 64 * 3);
  for (const [bytes, reason] of [
    [jpeg.subarray(0, jpeg.length / 2), 'damaged or cut data'],
    [jpeg.subarray(0, 40), 'Input buffer has corrupt header'],
    [Buffer.from('not an image'), 'Input buffer contains unsupported image format'],
    [Buffer.alloc(0), 'Input Buffer is empty'],
  ] as const) {
    await t.throwsAsync(decodeImage(bytes, { where: 'holiday.jpg' }), {
      instanceOf: TensorError,
      message: `decodeImage: expected a whole image in holiday.jpg, got ${reason}`,
    });
  }
  const png = await toSharp(pattern(64, 64)).png().toBuffer();
  const path = `${await temporaryFolder(t, { 'cut.png': png.subarray(0, png.length / 2) })}/cut.png`;
  await t.throwsAsync(readImage(path), {
    instanceOf: TensorError,
    message: `decodeImage: expected a whole image in ${path}, got damaged or cut data`,
  });
  await t.throwsAsync(readImage('/nowhere/cat.jpg'), {
    message: /^readImage: expected to read \/nowhere\/cat\.jpg, got ENOENT/,
  });
});

test('what is wrong with an image does not depend on those decoded beside it', async (t) => {
  const jpeg = await toSharp(pattern(64, 64)).jpeg().toBuffer();
  const png = await toSharp(pattern(64, 64)).png().toBuffer();
  const reasons = new Set<string>();
  for (let round = 0; round < 50; round++) {
    const files = [jpeg.subarray(0, jpeg.length / 2), jpeg, png.subarray(0, png.length / 2), png];
    const decoded = await Promise.allSettled([...files, ...files].map((bytes) => decodeImage(bytes)));
    t.is(decoded.filter(({ status }) => status === 'fulfilled').length, 4);
    for (const result of decoded)
      if (result.status === 'rejected') reasons.add((result.reason as TensorError).message);
  }
  t.deepEqual(
    [...reasons],
    ['decodeImage: expected a whole image in the bytes given, got damaged or cut data'],
  );
});

test('an image of more pixels than allowed, a drawing and what is no bytes are refused', async (t) => {
  const png = await toSharp(flat(100, 100, [0, 0, 0]))
    .png()
    .toBuffer(); // a few hundred bytes that become 30 000
  t.true(png.length < 1000);
  t.is((await decodeImage(png, { maxPixels: 10_000 })).data.length, 30_000);
  const message = async (bytes: Uint8Array, maxPixels?: number): Promise<string> =>
    (
      await t.throwsAsync(decodeImage(bytes, maxPixels === undefined ? {} : { maxPixels }), {
        instanceOf: TensorError,
      })
    ).message;
  t.is(
    await message(png, 9999),
    'decodeImage: expected a whole image in the bytes given, got Input image exceeds pixel limit',
  );
  const jpeg = await toSharp(flat(100, 100, [0, 0, 0]))
    .jpeg()
    .toBuffer();
  t.is((await decodeImage(jpeg, { maxPixels: 10_000 })).data.length, 30_000);
  t.is(await message(jpeg, 9999), await message(png, 9999));
  for (const wrong of [0, 1.5, Infinity, NaN])
    t.is(
      await message(jpeg, wrong),
      `decodeImage: expected maxPixels to be a whole number above 0, got ${wrong}`,
    );
  const svg =
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>';
  for (const drawing of [svg, `\ufeff \n${svg}`, `<?xml version="1.0"?>${svg}`].map((text) =>
    Buffer.from(text),
  ))
    t.is(
      await message(drawing),
      'decodeImage: expected pixels in the bytes given, got text or a drawing (SVG)',
    );
  t.regex(await message(gzipSync(svg)), /got text or a drawing/);
  // sharp would open a file of that name.
  const error = await t.throwsAsync(decodeImage('cat.jpg' as unknown as Uint8Array), {
    instanceOf: TensorError,
  });
  t.is(error.code, 'VALUE');
  t.is(error.message, "decodeImage: expected the bytes of an image, a Uint8Array, got 'cat.jpg'");
});
