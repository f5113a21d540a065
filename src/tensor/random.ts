/**
 * The state of the random numbers: a seed and a counter. Every random op takes a stretch of the counter, so the same
 * seed gives the same numbers on every device, and saving two integers resumes a run exactly.
 */
import { currentRecording } from './capturing.js';
import { fail, shown } from './error.js';

/** Where the stream of random numbers stands. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. */
export interface RandomState {
  readonly seed: number;
  /** Words of Philox used so far. */
  readonly offset: number;
}

let state: RandomState = { seed: 0, offset: 0 };

function checkInteger(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    fail('random', 'VALUE', `expected ${name} to be a whole number from 0 to 2^53 - 1, got ${shown(value)}`);
  }
}

/** A captured step draws its numbers from where each replay begins: it may go back to there, but to no other place. */
function checkRecording(op: string, next: RandomState): void {
  const recording = currentRecording();
  if (recording === undefined) return;
  const { seed, offset } = recording.start;
  if (next.seed !== seed || next.offset < offset) {
    recording.refuse(op, 'expected random numbers that go on in a captured step, got another state');
  }
}

/** Starts the sequence of `seed` (0 at the start of a program). @throws TensorError VALUE */
export function manualSeed(seed: number): void {
  checkInteger('the seed', seed);
  checkRecording('manualSeed', { seed, offset: 0 });
  state = { seed, offset: 0 };
}

/** What a checkpoint stores to continue the sequence. */
export function getRandomState(): RandomState {
  return state;
}

/** Continues from a stored state. @throws TensorError VALUE */
export function setRandomState(next: RandomState): void {
  checkInteger('the seed', next.seed);
  checkInteger('the offset', next.offset);
  checkRecording('setRandomState', next);
  state = { seed: next.seed, offset: next.offset };
}

/** @internal Takes `words` words of the sequence. Stretches start on a block of four words. */
export function takeRandom(words: number): RandomState {
  const taken = state;
  state = { seed: state.seed, offset: state.offset + 4 * Math.ceil(words / 4) };
  return taken;
}
