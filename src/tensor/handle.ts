/**
 * Ownership of native tensors. A Handle is shared by every JavaScript object that keeps one native tensor alive: the
 * tensor a user holds, aliases, and the tape. The last one to let go frees it at once; the garbage collector is only
 * the last resort, for handles that nobody released.
 */
import { native, type TensorId } from '../native.js';

/**
 * What no structured clone takes: `structuredClone()` and `postMessage()` would make an object of a tensor, and no tensor.
 * The description is what their error says.
 */
const UNCLONEABLE = Symbol('a Tensor: expected values, such as those of await x.data()');

export class Handle {
  readonly id: TensorId;
  readonly uncloneable = UNCLONEABLE;
  private owners = 1;

  constructor(id: TensorId) {
    this.id = id;
    registry.register(this, id, this);
    origins?.set(this, stackHere());
  }

  /** One more owner. */
  retain(): this {
    this.owners += 1;
    return this;
  }

  /** Whether it has other owners than the one that asks. */
  get isShared(): boolean {
    return this.owners > 1;
  }

  /** One owner fewer; the last frees the native tensor. */
  release(): void {
    this.owners -= 1;
    if (this.owners > 0) return;
    registry.unregister(this);
    origins?.delete(this);
    native.release(this.id);
  }
}

const registry = new FinalizationRegistry<TensorId>((id) => {
  native.release(id);
});

/** What a scope ends: tensors, seen from below. */
export interface ScopeMember {
  kept: boolean;
  dispose(): void;
}

/** The members made since the innermost scope began. */
let members: ScopeMember[] | undefined;

/**
 * Called by every new tensor. What a scope will free is nothing to the garbage collector, which would run many times in a
 * training step if it heard of it, on the cores that compute; it hears of tensors made outside scopes.
 */
export function enterScope(member: ScopeMember): void {
  if (members === undefined) native.reportMemory();
  else members.push(member);
}

/** Begins a scope with an empty list, or resumes an outer one; returns the list that was current. */
export function swapScope(next: ScopeMember[] | undefined): ScopeMember[] | undefined {
  const previous = members;
  members = next;
  return previous;
}

/** While leaks are tracked: where each handle made since then, and still alive, was made. */
let origins: Map<Handle, Error> | undefined;

/** Starts to remember where handles are made; returns a function that stops and gives the ones still alive. */
export function trackHandles(): () => Map<Handle, Error> {
  const isOutermost = origins === undefined;
  const tracked = (origins ??= new Map<Handle, Error>());
  const earlier = new Set(tracked.keys());
  return () => {
    if (isOutermost) origins = undefined;
    return new Map([...tracked].filter(([handle]) => !earlier.has(handle)));
  };
}

/**
 * The calls that led here, more of them than the usual ten: a method of a recorded op is already nine deep. Of an Error
 * they become text where somebody reads it, and hardly any is read.
 */
function stackHere(): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 64;
  const here = new Error('made here');
  Error.stackTraceLimit = limit;
  return here;
}
