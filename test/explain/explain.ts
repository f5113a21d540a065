/**
 * Maps of whole models: their slopes against differences, their sums against logits, and their traces.
 */
import test, { type ExecutionContext } from 'ava';

import {
  type FloatTensor,
  type Model,
  RegNet,
  SwinTransformer,
  type Tensor,
  type ViTConfig,
  VisionTransformer,
  attentionGradients,
  attentionMaps,
  attentionRelevance,
  createModel,
  explain,
  inferenceMode,
  keep,
  leakCheck,
  linear,
  matmul,
  normal,
  uniform,
} from '../../src/index.js';
import { relativeError } from '../helpers/golden.js';

const SMALL = { imgSize: 32, patchSize: 8, embedDim: 48, depth: 3, numHeads: 3, numClasses: 5 } as const;

const tinyViT = (options: Partial<ViTConfig> = {}): VisionTransformer =>
  new VisionTransformer({ ...SMALL, ...options }).eval();

const images = (batch: number, size: readonly [number, number] = [32, 32]): Tensor<'float32'> =>
  normal([batch, 3, ...size]);

const numbers = (x: Tensor): number[] => Array.from(x.dataSync() as ArrayLike<number>, Number);

test('attention maps are probabilities, and give the attention that the model computes', (t) => {
  const model = tinyViT();
  const x = images(2);
  const maps = attentionMaps(model, x);
  t.is(maps.length, 3);
  for (const map of maps) {
    t.deepEqual(map.shape, [2, 3, 17, 17]);
    t.true(relativeError(numbers(map.sum({ dim: 3 })), new Array<number>(2 * 3 * 17).fill(1)) < 1e-6);
  }
  // A (its values) is what the layer hands to its projection.
  const passed: FloatTensor[] = [];
  const { attn } = model.blocks.at(1)!;
  const unhooks = [
    attn.qkv.registerForwardHook((_, y) => void passed.push(keep(y.clone()))),
    attn.proj.registerForwardHook(([y]) => void passed.push(keep(y.clone()))),
  ];
  model.call(x);
  for (const unhook of unhooks) unhook();
  const [qkv, out] = passed;
  const values = qkv.reshape([2, 17, 3, 3, 16]).select(2, 2).transpose(1, 2);
  const mixed = matmul(maps[1], values as Tensor<'float32'>)
    .transpose(1, 2)
    .reshape([2, 17, 48]);
  t.true(relativeError(numbers(mixed), numbers(out)) < 1e-5);
});

test('slopes by attention are those of small differences', (t) => {
  const model = tinyViT();
  const x = images(2);
  const layers = attentionGradients(model, x, 3);
  t.is(layers.length, 3);
  for (const [layer, block] of [...model.blocks].entries()) {
    const change = uniform([2, 3, 17, 17], { low: -1, high: 1 });
    // (A + e change) v = A v + e (change v), and the projection is linear.
    const logit = (e: number): number =>
      inferenceMode(() => {
        let values: Tensor<'float32'> | undefined;
        const unhooks = [
          block.attn.qkv.registerForwardHook((_, y) => {
            values = keep(
              y.reshape([2, 17, 3, 3, 16]).select(2, 2).transpose(1, 2).clone() as Tensor<'float32'>,
            );
            return undefined;
          }),
          block.attn.proj.registerForwardHook((_, y) => {
            const more = matmul(change, values!).transpose(1, 2).reshape([2, 17, 48]).mul(e);
            return y.add(linear(more as FloatTensor, block.attn.proj.weight));
          }),
        ];
        const sum = model.call(x).select(1, 3).sum().dataSync()[0];
        for (const unhook of unhooks) unhook();
        return sum;
      });
    const e = 0.02;
    const expected = (logit(e) - logit(-e)) / (2 * e);
    const found = numbers(layers[layer].gradient.mul(change).sum())[0];
    t.true(Math.abs(found - expected) < 2e-2 * Math.abs(expected) + 1e-5, `${layer}: ${found} ${expected}`);
  }
});

test('a ViT has a map of patches by each method', (t) => {
  const model = tinyViT();
  const x = images(2);
  for (const method of ['relevance', 'rollout', 'gradientRollout', 'attention'] as const) {
    const { map, targets, logits } = explain(model, x, { method });
    t.deepEqual(map.shape, [2, 4, 4], method);
    t.deepEqual(targets.shape, [2]);
    t.deepEqual(numbers(targets), numbers(logits.argmax({ dim: 1 })));
    t.true(relativeError(numbers(logits), numbers(model.call(x))) < 1e-6);
    t.true(numbers(map).every((value) => value >= 0 && Number.isFinite(value)));
  }
  const maps = attentionMaps(model, x);
  const classToken = maps[2].mean({ dim: 1 }).select(1, 0).narrow(1, 1, 16);
  t.deepEqual(numbers(explain(model, x, { method: 'attention' }).map), numbers(classToken));
});

test('relevance is that of the layers, and follows the class', (t) => {
  const model = tinyViT();
  const x = images(1);
  const relevance = attentionRelevance(attentionGradients(model, x, 2));
  const expected = relevance.select(1, 0).narrow(1, 1, 16);
  const found = explain(model, x, { target: 2 });
  t.true(relativeError(numbers(found.map), numbers(expected)) < 1e-6);
  t.deepEqual(numbers(found.targets), [2]);
  t.notDeepEqual(numbers(explain(model, x, { target: 1 }).map), numbers(found.map));
});

test('rows are those that the head reads: of two tokens, of registers, of all patches', (t) => {
  const x = images(2, [32, 48]);
  const size = { imgSize: [32, 48] } as const;
  const distilled = createModel('deit_tiny_distilled_patch16_224', {
    ...SMALL,
    imgSize: [32, 48],
    numClasses: 5,
  }).eval();
  t.deepEqual(explain(distilled, x).map.shape, [2, 4, 6]);
  const layer = attentionMaps(distilled, x)[2].mean({ dim: 1 });
  const both = layer.narrow(1, 0, 2).mean({ dim: 1 }).narrow(1, 2, 24);
  const found = explain(distilled, x, { method: 'attention' });
  t.true(relativeError(numbers(found.map), numbers(both)) < 1e-6);
  t.deepEqual(explain(tinyViT({ ...size, regTokens: 2, qkNorm: true }), x).map.shape, [2, 4, 6]);
  const average = tinyViT({ ...size, globalPool: 'avg', classToken: false });
  t.deepEqual(explain(average, x).map.shape, [2, 4, 6]);
});

/** A map's sum and the head's bias are the logit. */
function addsUp(
  t: ExecutionContext,
  model: Model,
  bias: FloatTensor,
  x: FloatTensor,
  grid: number[],
  stage?: number,
): void {
  const { map, targets, logits } = explain(model, x, { method: 'activation', target: 1, stage });
  t.deepEqual(map.shape, [2, ...grid]);
  t.deepEqual(numbers(targets), [1, 1]);
  const sums = numbers(map.sum({ dim: [1, 2] })).map((sum) => sum + numbers(bias)[1]);
  t.true(relativeError(sums, numbers(logits.select(1, 1))) < 1e-5);
  t.true(relativeError(numbers(logits), numbers(model.call(x))) < 1e-5);
}

const tinySwin = (): SwinTransformer =>
  new SwinTransformer({
    imgSize: 32,
    patchSize: 2,
    windowSize: 4,
    embedDim: 16,
    depths: [1, 1],
    numHeads: [1, 2],
    numClasses: 5,
  }).eval();

test('an activation map of the last stage sums to the logit', (t) => {
  const swin = tinySwin();
  addsUp(t, swin, swin.head.fc!.bias!, images(2), [8, 8], 2);
  const resnet = createModel('resnet_nano_32', { numClasses: 5 });
  addsUp(t, resnet.eval(), resnet.fc!.bias!, images(2), [8, 8]);
  const regnet = new RegNet({ imgSize: 64, numClasses: 5, depths: [1, 1], widths: [16, 32] }).eval();
  addsUp(t, regnet, regnet.head.fc!.bias!, images(2, [64, 64]), [8, 8], 2);
  const vit = tinyViT({ globalPool: 'avg', fcNorm: false });
  addsUp(t, vit, vit.head!.bias!, images(2), [4, 4]);
});

test("an activation map of another stage is what a change of the place's values makes of the logit", (t) => {
  const swin = tinySwin();
  const resnet = createModel('resnet_nano_32', { numClasses: 5 }).eval();
  t.deepEqual(explain(swin, images(1)).map.shape, [1, 16, 16]); // of the first stage, by itself
  for (const [model, stage, shape, options] of [
    [swin, swin.layers.at(0)!, [1, 16, 16, 1], {}],
    [resnet, resnet.stages[0], [1, 1, 32, 32], { stage: 1 }],
  ] as const) {
    const x = images(1);
    const { map } = explain(model, x, { target: 2, ...options });
    const some = uniform([...shape]); // a share of each place
    const logit = (e: number): number =>
      inferenceMode(() => {
        const unhook = stage.registerForwardHook((_, y) => y.mul(some.mul(e).add(1)));
        const value = model.call(x).select(1, 2).dataSync()[0];
        unhook();
        return value;
      });
    const e = 0.01;
    const expected = (logit(e) - logit(-e)) / (2 * e);
    const found = numbers(map.mul(some.reshape(map.shape)).sum())[0];
    t.true(Math.abs(found - expected) < 2e-2 * Math.abs(expected) + 1e-3, `${found} ${expected}`);
  }
});

test.serial(
  'the model is as it was: its mode, its hooks, its gradients, and no tensor is left',
  async (t) => {
    const model = tinyViT().train();
    model.head!.eval(); // one part in a mode of its own
    const x = images(1);
    await leakCheck(() => {
      for (const method of ['relevance', 'rollout', 'attention'] as const) {
        for (const tensor of Object.values(explain(model, x, { method }))) (tensor as Tensor).dispose();
      }
      for (const map of attentionMaps(model, x)) map.dispose();
      for (const layer of attentionGradients(model, x))
        for (const tensor of Object.values<Tensor>({ ...layer })) tensor.dispose();
    });
    t.true(model.training && model.blocks.at(0)!.training);
    t.false(model.head!.training);
    t.false(model.isHooked);
    t.true(model.parameters().every(({ grad }) => grad === undefined));
    const expected = numbers(explain(model, x, { target: 0 }).map);
    model.freeze();
    t.deepEqual(numbers(explain(model, x, { target: 0 }).map), expected);
    inferenceMode(() => t.deepEqual(numbers(explain(model, x, { target: 0 }).map), expected));
  },
);

test('what cannot be explained is an error in one sentence, and leaves the model as it was', (t) => {
  const model = tinyViT();
  const x = images(2);
  const resnet = createModel('resnet_nano_32', { numClasses: 5 });
  const errors: [() => unknown, string][] = [
    [() => explain(model, x, { target: 5 }), 'explain: expected a class from 0 to 4, got 5'],
    [
      () => explain(model, x, { target: explain(model, images(1)).targets }),
      'explain: expected a class for each of 2 images, got [1]',
    ],
    [
      () => explain(model, x, { method: 'lime' as 'rollout' }),
      "explain: expected a method of relevance, rollout, gradientRollout, attention, activation, got 'lime'",
    ],
    [
      () => explain(model, x, { method: 'activation' }),
      "explain: expected a model whose head is the mean of a map, for the method 'activation'",
    ],
    [
      () => explain(model, x, { stage: 1 }),
      "explain: expected a stage with the method 'activation' alone, got 1 with 'relevance'",
    ],
    [() => explain(resnet, x, { stage: 4 }), 'explain: expected a stage from 1 to 3, got 4'],
    [
      () => explain(resnet, x, { method: 'rollout' }),
      "explain: expected the method 'activation' for a model without global attention, got 'rollout'",
    ],
    [
      () => explain(tinyViT({ numClasses: 0 }), x),
      'explain: expected a model with classes, got one without a head',
    ],
    [
      () => explain(model, images(1, [32, 40])),
      'VisionTransformer: expected images of 32 x 32 pixels, got [1, 3, 32, 40]; dynamicImgSize allows other sizes',
    ],
  ];
  for (const [run, message] of errors) t.throws(run, { message });
  t.false(model.isHooked);
});
