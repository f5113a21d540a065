/**
 * The named ResNets: timm's and torchvision's names, and the settings that they stand for.
 *
 * Source: He et al. 2016, table 1 and section 4.2.
 */
import { family } from './family.js';
import { IMAGENET_INPUT } from './input.js';
import { RESNET_LAYOUTS } from './layouts/resnet.js';
import { DEFAULTS, type ResNetConfig, ResNet, countResNet } from './resnet.js';

/** For images of 32 x 32 pixels: the map is 32, 16 and 8 pixels wide. Not in timm. */
const SMALL = { imgSize: 32, stem: '3x3', block: 'basic' } as const;

/** The family of ResNets. */
export const RESNET = family({
  create: (options: Partial<ResNetConfig>) => new ResNet(options),
  count: countResNet,
  defaults: DEFAULTS,
  classifiers: ['fc'],
  layouts: RESNET_LAYOUTS,
  input: { ...IMAGENET_INPUT, cropPct: 0.95 },
  entries: {
    resnet18: { block: 'basic', layers: [2, 2, 2, 2] },
    resnet34: { block: 'basic', layers: [3, 4, 6, 3] },
    resnet50: { block: 'bottleneck', layers: [3, 4, 6, 3] },
    resnet101: { block: 'bottleneck', layers: [3, 4, 23, 3] },
    resnet_nano_32: { ...SMALL, layers: [3, 3, 3], channels: [16, 32, 64], stemWidth: 16 }, // the paper's ResNet-20
    resnet_micro_32: { ...SMALL, layers: [2, 2, 2], channels: [32, 64, 128], stemWidth: 32 },
    resnet18_32: { ...SMALL, layers: [2, 2, 2, 2] },
  },
});
