/**
 * The named RegNetYs: timm's names, and the settings that they stand for.
 *
 * Source: Radosavovic et al. 2020, table 6; depths and widths follow from the line of widths of each (`regnetStages`).
 */
import { entriesOf, family } from './family.js';
import { IMAGENET_INPUT } from './input.js';
import { REGNET_LAYOUTS } from './layouts/regnet.js';
import { DEFAULTS, type RegNetConfig, RegNet, countRegNet, regnetStages } from './regnet.js';

const LINES = {
  regnety_002: [24, 36.44, 2.49, 8, 13],
  regnety_004: [48, 27.89, 2.09, 8, 16],
  regnety_006: [48, 32.54, 2.32, 16, 15],
  regnety_008: [56, 38.84, 2.4, 16, 14],
  regnety_016: [48, 20.71, 2.65, 24, 27],
  regnety_032: [80, 42.63, 2.66, 24, 21],
  regnety_040: [96, 31.41, 2.24, 64, 22],
  regnety_064: [112, 33.22, 2.27, 72, 25],
  regnety_080: [192, 76.82, 2.19, 56, 17],
  regnety_120: [168, 73.36, 2.37, 112, 19],
  regnety_160: [200, 106.23, 2.48, 112, 18],
  regnety_320: [232, 115.89, 2.53, 232, 20],
} as const satisfies Record<
  string,
  readonly [w0: number, wa: number, wm: number, groupSize: number, depth: number]
>;
type Name = keyof typeof LINES;

/** The family of RegNetYs. */
export const REGNET = family({
  create: (options: Partial<RegNetConfig>) => new RegNet(options),
  count: countRegNet,
  defaults: DEFAULTS,
  classifiers: ['head.fc'],
  layouts: REGNET_LAYOUTS,
  input: { ...IMAGENET_INPUT, cropPct: 0.95 },
  entries: entriesOf(
    Object.entries(LINES).map(([name, [w0, wa, wm, groupSize, depth]]): [Name, Partial<RegNetConfig>] => [
      name as Name,
      regnetStages({ w0, wa, wm, groupSize, depth }),
    ]),
  ),
});
