import { readFileSync } from 'node:fs';

/** Milliseconds that the main thread has run, and that it has waited for a CPU which others had. */
function threadTimes(): { ran: number; waited: number } {
  try {
    const [ran, waited] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ');
    return { ran: Number(ran) / 1e6, waited: Number(waited) / 1e6 };
  } catch {
    return { ran: performance.now(), waited: 0 }; // not Linux: other processes count too
  }
}

/** How long the event loop was held up between two rounds, in milliseconds. */
export interface LoopDelays {
  /** The longest that the thread itself ran. */
  readonly worst: number;
  /** The longest but for one round in a thousand, waiting for locks and other threads of the process included. */
  readonly usual: number;
}

/**
 * Watches the event loop; returns a function that stops. What other processes took of the CPU does not count: a busy
 * machine holds up any program, and by a garbage collector's helper thread that it keeps waiting even the main thread.
 */
export function watchEventLoop(): () => LoopDelays {
  let worst = 0;
  const held: number[] = [];
  let last = { now: performance.now(), ...threadTimes() };
  const timer = setInterval(() => {
    const next = { now: performance.now(), ...threadTimes() };
    worst = Math.max(worst, next.ran - last.ran);
    held.push(next.now - last.now - (next.waited - last.waited));
    last = next;
  }, 1);
  return () => {
    clearInterval(timer);
    held.sort((a, b) => a - b);
    return { worst, usual: held[Math.floor(held.length * 0.999)] };
  };
}
