/**
 * Parts of a training set that have each class in its share.
 */
import { SampleRandom } from '../../../src/index.js';

/** Indices of samples of which the random numbers that choose images are none. */
const CHOICE = -1;

/**
 * The images of a share of a data set: of each class the same share, rounded, and one at least. They follow from the seed
 * alone; a larger share of the same seed has those of a smaller one.
 *
 * @param labels the class of each image
 * @param share above 0, at most 1
 * @returns indices, in order
 * @throws RangeError for another share
 */
export function stratifiedSubset(labels: readonly number[], share: number, seed: number): number[] {
  if (!(share > 0 && share <= 1))
    throw new RangeError(`experiment: expected a share above 0 and at most 1, got ${share}`);
  const members = new Map<number, number[]>();
  for (const [index, label] of labels.entries()) {
    const own = members.get(label);
    if (own === undefined) members.set(label, [index]);
    else own.push(index);
  }
  return [...members]
    .flatMap(([label, indices]) => {
      const count = Math.max(1, Math.round(share * indices.length));
      return new SampleRandom(seed, label, CHOICE).shuffle(indices).slice(0, count);
    })
    .sort((a, b) => a - b);
}
