/**
 * Sample predictions: small images with the true class and what the model takes them for.
 */
import { loadSharp } from '../../sharp.js';
import { fail } from '../../tensor/error.js';
import { type ReportSample } from './data.js';
import { shortPercent } from './format.js';
import { type Markup, html, raw } from './markup.js';

/** Longer sides, in pixels: smaller images are enlarged to at least the one, larger ones shrunk to the other. */
const SMALL = 128;
const LARGE = 256;
/** Guesses shown of a sample. */
const GUESSES = 3;

/**
 * A small picture of an image as PNG. Images below 128 pixels are enlarged by a whole factor, each pixel becoming a
 * square; those above 256 are shrunk.
 *
 * @param image RGB, 8 bits each: `[height, width, 3]`
 * @throws TensorError SHAPE when the data is not that many bytes
 * @example
 * const png = await thumbnail(await dataset.read(0));
 */
export async function thumbnail(image: {
  readonly data: Uint8Array;
  readonly height: number;
  readonly width: number;
}): Promise<Uint8Array> {
  const { data, height, width } = image;
  if (!(height > 0 && width > 0) || data.length !== height * width * 3) {
    fail('thumbnail', 'SHAPE', `expected ${height} x ${width} x 3 bytes, got ${data.length}`);
  }
  const longer = Math.max(height, width);
  const factor = longer < SMALL ? Math.ceil(SMALL / longer) : Math.min(1, LARGE / longer);
  const size = (side: number): number => Math.max(1, Math.round(side * factor));
  const sharp = await loadSharp();
  return sharp(data, { raw: { height, width, channels: 3 } })
    .resize(size(width), size(height), { fit: 'fill', kernel: factor > 1 ? 'nearest' : 'lanczos3' })
    .png({ compressionLevel: 9 })
    .toBuffer();
}

/** Cards, in the order given. */
export function sampleSection(samples: readonly ReportSample[]): Markup {
  const wrong = samples.filter((sample) => verdict(sample) === 'wrong').length;
  const isExplained = samples.some(({ explained }) => explained !== undefined);
  return html`<section class="card">
    <h2>Sample predictions</h2>
    <p class="note">
      Bold is the true class, below it what the model takes the image for. Of this selection of
      ${samples.length}, ${wrong} are wrong.
      ${isExplained ? 'Point at an image for what speaks for the first guess: dark is little, red is most.' : undefined}
    </p>
    ${isExplained ? html`<label class="switch"><input type="checkbox" /> Show it for all</label>` : undefined}
    <div class="samples">${samples.map(card)}</div>
  </section>`;
}

function card(sample: ReportSample): Markup {
  const { png, explained, truth, top } = sample;
  const state = verdict(sample);
  const guesses = top.slice(0, GUESSES).map(
    ({ label, probability }) =>
      html`<li${label === truth ? html` class="true"` : undefined}>
        <span class="name" title="${label}">${label}</span> <span class="number">${shortPercent(probability)}</span>
        <span class="bar"><i style="width:${(100 * probability).toFixed(1)}%"></i></span>
      </li>`,
  );
  return html`<figure class="sample ${state}">
    <span class="picture" ${explained === undefined ? undefined : raw('tabindex="0"')}>
      <img src="${dataUrl(png)}" alt="" loading="lazy" />
      ${explained === undefined ? undefined : html`<img src="${dataUrl(explained)}" alt="" class="map" loading="lazy" />`}
    </span>
    ${state === 'unknown' ? undefined : html`<span class="verdict">${VERDICTS[state]}</span>`}
    <figcaption>
      <span class="truth" title="${truth}">${truth ?? 'unlabelled'}</span>
      <ol>
        ${guesses}
      </ol>
    </figcaption>
  </figure>`;
}

const dataUrl = (png: Uint8Array): string =>
  `data:image/png;base64,${Buffer.from(png.buffer, png.byteOffset, png.length).toString('base64')}`;

const VERDICTS = { right: '✓', wrong: '✗ wrong', unknown: '' } as const;

function verdict({ truth, top }: ReportSample): keyof typeof VERDICTS {
  if (truth === undefined || top.length === 0) return 'unknown';
  return top[0].label === truth ? 'right' : 'wrong';
}
