/**
 * Ownership of native tensors. A Handle is shared by every JavaScript object that keeps one native tensor alive: the
 * tensor a user holds, aliases, and the tape. The last one to let go frees it at once; the garbage collector is only
 * the last resort, for handles that nobody released.
 */
import { native, type TensorId } from '../native.js';

export class Handle {
  readonly id: TensorId;
  private owners = 1;

  constructor(id: TensorId) {
    this.id = id;
    registry.register(this, id, this);
    if (origins !== undefined) origins.set(this, new Error('made here'));
  }

  /** One more owner. */
  retain(): this {
    this.owners += 1;
    return this;
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

/** Called by every new tensor. */
export function enterScope(member: ScopeMember): void {
  members?.push(member);
}

/** Begins a scope with an empty list, or resumes an outer one; returns the list that was current. */
export function swapScope(next: ScopeMember[] | undefined): ScopeMember[] | undefined {
  const previous = members;
  members = next;
  return previous;
}

/** While leaks are tracked: where each live handle was made. */
let origins: Map<Handle, Error> | undefined;

/** Starts to remember where handles are made; returns a function that stops and lists the ones still alive. */
export function trackHandles(): () => Error[] {
  const outer = origins;
  const mine = new Map<Handle, Error>();
  origins = mine;
  return () => {
    origins = outer;
    return [...mine.values()];
  };
}
