/**
 * What compute-sanitizer watches: two training steps of a small ViT and a small Swin on the GPU, in float32 and in mixed
 * precision, twice from one seed. Exits with 1 where the two differ in a bit. With `--graph` there are four steps, and the
 * second time they run as a CUDA graph; `--check` only says whether there is a GPU.
 */
import {
  AdamW,
  type FloatTensor,
  type Model,
  SwinTransformer,
  type Tensor,
  VisionTransformer,
  autocast,
  capture,
  crossEntropy,
  cudaInfo,
  manualSeed,
  normal,
  scope,
  tensor,
} from '../src/index.js';

const COMMON = { imgSize: 32, numClasses: 5, dropRate: 0.1, dropPathRate: 0.1 };
const MODELS: Readonly<Record<string, () => Model>> = {
  vit: () => new VisionTransformer({ ...COMMON, patchSize: 4, embedDim: 64, depth: 2, numHeads: 2 }),
  swin: () =>
    new SwinTransformer({
      ...COMMON,
      patchSize: 2,
      embedDim: 32,
      depths: [2, 2],
      numHeads: [1, 2],
      windowSize: 7,
    }),
};

async function train(
  make: () => Model,
  precision: 'float32' | 'bfloat16',
  steps: number,
  asGraph: boolean,
): Promise<number[]> {
  manualSeed(1);
  using model = make().to('cuda');
  const optimizer = new AdamW(model.parameters(), { lr: 1e-3 });
  using images: FloatTensor = normal([3, 3, 32, 32], { device: 'cuda' });
  using labels = tensor([0, 2, 4], { dtype: 'int64', device: 'cuda' });
  const step = (x: FloatTensor, y: Tensor<'int64'>): FloatTensor => {
    const loss = autocast(precision, () => crossEntropy(model.call(x), y));
    loss.backward();
    optimizer.step({ maxNorm: 1 });
    optimizer.zeroGrad();
    return loss;
  };
  using graph = capture(step);
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    optimizer.setLearningRate(1e-3 / (1 + i));
    using loss = asGraph ? graph(images, labels) : scope(() => step(images, labels));
    losses.push(Number(await loss.item()));
  }
  const weights = await Promise.all(model.parameters().map((weight) => weight.data()));
  optimizer.dispose();
  return [...losses, ...weights.flatMap((data) => Array.from(data, Number))];
}

const { devices, reason } = cudaInfo();
if (devices.length === 0) {
  console.error(`CUDA is off: ${reason}`);
  process.exit(1);
}
const asGraph = process.argv.includes('--graph');
if (!process.argv.includes('--check')) {
  for (const [name, make] of Object.entries(MODELS)) {
    for (const precision of ['float32', 'bfloat16'] as const) {
      const steps = asGraph ? 4 : 2;
      const first = await train(make, precision, steps, false);
      const second = await train(make, precision, steps, asGraph);
      const same = first.every((value, i) => Object.is(value, second[i]));
      console.log(
        `${name}, ${precision}: losses ${first.slice(0, steps).join(', ')}, ${same ? 'the same' : 'other'} bits ` +
          (asGraph ? 'as a graph' : 'twice'),
      );
      if (!same || !Number.isFinite(first[1])) process.exitCode = 1;
    }
  }
}
