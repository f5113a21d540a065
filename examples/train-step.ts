/**
 * The smallest training loop: a ViT learns one random batch by heart.
 *
 *   node dist/examples/train-step.js [--smoke]
 */
import { AdamW, createModel, crossEntropy, inferenceMode, normal, randint, scope } from '../src/index.js';

const steps = process.argv.includes('--smoke') ? 8 : 20;

const model = createModel('vit_tiny_patch16_224', { imgSize: 32, patchSize: 4, numClasses: 10, depth: 4 });
const optimizer = new AdamW(model.parameters(), { lr: 1e-3, weightDecay: 0.05 });

const images = normal([64, 3, 32, 32]); // [batch, channels, height, width]
const labels = randint([64], 0, 10);

const losses: number[] = [];
for (let step = 0; step < steps; step++) {
  const loss = scope(() => {
    const loss = crossEntropy(model.call(images), labels, { labelSmoothing: 0.1 });
    loss.backward();
    optimizer.step({ maxNorm: 1 });
    optimizer.zeroGrad();
    return loss;
  });
  losses.push(await loss.item()); // reading waits, without blocking the event loop
  console.log(`step ${step}: loss ${losses[step].toFixed(4)}`);
  loss.dispose();
}
if (!(losses[steps - 1] < losses[0])) throw new Error('expected the loss to fall, it did not');

const classes = inferenceMode(() => model.eval().call(images).argmax({ dim: 1 }));
console.log('predicted', await classes.toArray());
