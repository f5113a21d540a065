/**
 * The named Swins: timm's names, and the settings that they stand for.
 *
 * Source: Liu et al. 2021, section 3.3.
 */
import { entriesOf, family } from './family.js';
import { SWIN_LAYOUTS } from './layouts/swin.js';
import { DEFAULTS, type SwinConfig, SwinTransformer, countSwin, resizeSwin } from './swin.js';

const DEEP = [2, 2, 18, 2] as const;

const SIZES = {
  tiny: { embedDim: 96, depths: [2, 2, 6, 2], numHeads: [3, 6, 12, 24] },
  small: { embedDim: 96, depths: DEEP, numHeads: [3, 6, 12, 24] },
  base: { embedDim: 128, depths: DEEP, numHeads: [4, 8, 16, 32] },
  large: { embedDim: 192, depths: DEEP, numHeads: [6, 12, 24, 48] },
} as const;

const PUBLISHED = [
  ['tiny', 7, 224],
  ['small', 7, 224],
  ['base', 7, 224],
  ['base', 12, 384],
  ['large', 7, 224],
  ['large', 12, 384],
] as const satisfies readonly (readonly [size: keyof typeof SIZES, windowSize: number, imgSize: number])[];

type Line = (typeof PUBLISHED)[number];
/** Names as `swin_tiny_patch4_window7_224`, one for each line. */
type NameOf<L extends Line> = L extends unknown ? `swin_${L[0]}_patch4_window${L[1]}_${L[2]}` : never;

/** The family of Swin Transformers. */
export const SWIN = family({
  create: (options: Partial<SwinConfig>) => new SwinTransformer(options),
  count: countSwin,
  defaults: DEFAULTS,
  classifiers: ['head.fc'],
  resize: resizeSwin,
  layouts: SWIN_LAYOUTS,
  entries: {
    ...entriesOf(
      PUBLISHED.map(([size, windowSize, imgSize]): [NameOf<Line>, Partial<SwinConfig>] => [
        `swin_${size}_patch4_window${windowSize}_${imgSize}` as NameOf<Line>,
        { ...SIZES[size], windowSize, imgSize },
      ]),
    ),
    // For small images, of the size of vit_micro_patch4_32. Not in timm.
    swin_micro_patch2_window4_32: {
      imgSize: 32,
      patchSize: 2,
      windowSize: 4,
      embedDim: 32,
      depths: [2, 2, 2],
      numHeads: [1, 2, 4],
    },
  },
});
