/**
 * Measures cases on systems. The rounds of a case go around the systems, so that a machine that slows down for a while
 * slows all of them.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Round } from './measure.js';
import { writePhotographs } from './photographs.js';
import { type SystemCommand, SystemProcess } from './process.js';
import { type Outcome, type Result, resultsOf } from './results.js';
import type { ProfileRow, Replies } from './system.js';
import { type BenchDevice, type Case, type Task, flops, limitOf } from './tasks.js';

/** Seconds of one run beyond which the first timing is all there is. */
const TOO_SLOW = 5;

function roundFor(seconds: number): Round {
  return seconds > 0.1
    ? { minTime: 0.05, maxTime: 2 * seconds, minSamples: 2 }
    : { minTime: 0.02, maxTime: 0.25, minSamples: 3 };
}

const PHOTOGRAPHS = 64;

/** A system that has loaded. */
export interface Loaded {
  readonly command: SystemCommand;
  readonly about: Replies['load'];
}

export class Harness {
  readonly systems: Loaded[] = [];
  /** Why a system is not there. */
  readonly absent: Record<string, string> = {};
  private readonly processes = new Map<string, SystemProcess>();
  private readonly limits = new Map<string, Outcome[]>();
  private readonly noted = new Set<string>();
  private photographs: string | undefined;

  constructor(
    private readonly threads: number,
    private readonly rounds: number,
    private readonly device: BenchDevice,
    private readonly log: (line: string) => void,
  ) {}

  /** Starts systems, and notes those that do not load. */
  async load(commands: readonly SystemCommand[]): Promise<void> {
    for (const command of commands) {
      try {
        const [process, about] = await this.start(command);
        this.processes.set(command.name, process);
        this.systems.push({ command, about });
      } catch (error) {
        this.absent[command.name] = messageOf(error);
      }
    }
  }

  private async start(command: SystemCommand): Promise<[SystemProcess, Replies['load']]> {
    const process = new SystemProcess(command, this.threads);
    try {
      return [process, await process.ask({ do: 'load', threads: this.threads, device: this.device })];
    } catch (error) {
      await process.end();
      throw error;
    }
  }

  /** Ends all processes, and removes what was written for them. */
  async end(): Promise<void> {
    for (const process of this.processes.values()) await process.end();
    this.processes.clear();
    if (this.photographs !== undefined) await rm(this.photographs, { recursive: true, force: true });
    this.photographs = undefined;
  }

  /** The results of one case, after those of its limit where that had not been measured yet. */
  async run(item: Case): Promise<Result[]> {
    const limit = limitOf(item.task, this.device);
    if (limit === undefined) return resultsOf(item, await this.measure(item), undefined);

    const precision = limit.kind === 'gemm' && limit.precision !== undefined ? ', bf16' : '';
    const name =
      limit.kind === 'gemm' ? `gemm ${limit.size}${precision}` : `copy of ${limit.elements} floats`;
    const limitCase: Case = { suite: 'limits', name, task: limit, memory: false };
    const known = this.limits.get(name);
    const limits = known ?? (await this.measure(limitCase));
    this.limits.set(name, limits);
    const fastest = Math.min(...limits.flatMap(({ seconds }) => seconds));
    const seconds = limit.kind === 'gemm' ? (fastest * flops(item.task)) / flops(limit) : fastest;
    return [
      ...(known === undefined ? resultsOf(limitCase, limits, undefined) : []),
      ...resultsOf(item, await this.measure(item), seconds),
    ];
  }

  private async measure(item: Case): Promise<Outcome[]> {
    const task = await this.withPhotographs(item.task);
    const entrants: Entrant[] = [];
    for (const system of this.systems) {
      const entrant = await this.enter(system, { ...item, task });
      if (entrant !== undefined) entrants.push(entrant);
    }
    for (let round = 0; round < this.rounds; round++) {
      for (const entrant of entrants) await this.attempt(entrant, item, () => measureRound(entrant, round));
    }
    for (const entrant of entrants) await this.attempt(entrant, item, () => leave(entrant, item));
    return entrants.filter(({ seconds }) => seconds.length > 0);
  }

  /** A task with the photographs that it is about, which are the same for all systems. */
  private async withPhotographs(task: Task): Promise<Task> {
    if (task.kind !== 'load' || task.transform === 'cifar') return task;
    if (this.photographs === undefined) {
      this.photographs = await mkdtemp(join(tmpdir(), 'tenon-bench-'));
      await writePhotographs(this.photographs, PHOTOGRAPHS);
    }
    return { ...task, photographs: this.photographs };
  }

  /** Makes a system ready for a case; undefined where it does not take it. */
  private async enter({ command }: Loaded, item: Case): Promise<Entrant | undefined> {
    const process = await this.processFor(command, item.memory);
    const entrant: Entrant = { system: command.name, process, seconds: [], failed: false };
    await this.attempt(entrant, item, async () => {
      const reply = await process.ask({ do: 'prepare', task: item.task });
      if (!('unsupported' in reply)) {
        entrant.ready = reply;
        return;
      }
      this.noteUnsupported(entrant.system, item, reply.unsupported);
      if (item.memory) await process.end();
    });
    return entrant.ready === undefined ? undefined : entrant;
  }

  /** Says why a system does not take a case, once for all cases that it leaves out for that. */
  private noteUnsupported(system: string, { suite, name }: Case, reason: string): void {
    const key = `${system}: ${reason}`;
    if (!this.noted.has(key)) this.log(`${suite}/${name}: left out by ${key}`);
    this.noted.add(key);
  }

  /** The process that a system keeps for its cases, or a new one. */
  private async processFor(command: SystemCommand, fresh: boolean): Promise<SystemProcess> {
    const kept = this.processes.get(command.name);
    if (kept !== undefined && !fresh) return kept;
    const [process] = await this.start(command);
    if (!fresh) this.processes.set(command.name, process);
    return process;
  }

  /** Takes a step with a system. One that fails is reported, ended, and out of this case. */
  private async attempt(entrant: Entrant, item: Case, step: () => Promise<void>): Promise<void> {
    if (entrant.failed) return;
    try {
      await step();
    } catch (error) {
      entrant.failed = true;
      this.log(`${item.suite}/${item.name}: ${entrant.system}: ${messageOf(error)}`);
      if (this.processes.get(entrant.system) === entrant.process) this.processes.delete(entrant.system);
      await entrant.process.end();
    }
  }

  /** The ops of one run of a case, slowest first, by each system that has a profiler. */
  async profile({ suite, name, task }: Case): Promise<Map<string, readonly ProfileRow[]>> {
    const profiles = new Map<string, readonly ProfileRow[]>();
    if (task.kind === 'load') {
      this.log(`${suite}/${name}: workers make the batches, out of a profiler's sight`);
      return profiles;
    }
    for (const { command } of this.systems) {
      if (!PROFILED.has(command.name)) continue;
      const process = await this.processFor(command, false);
      const { rows } = await process.ask({ do: 'profile', task });
      profiles.set(command.name, rows);
    }
    return profiles;
  }
}

/** A system in a case. */
interface Entrant extends Outcome {
  readonly process: SystemProcess;
  readonly seconds: number[];
  peakBytes?: number;
  ready?: { readonly seconds: number; readonly portion: number };
  failed: boolean;
}

async function measureRound({ process, ready, seconds }: Entrant, round: number): Promise<void> {
  if (ready === undefined) return;
  const once = ready.seconds * ready.portion;
  if (once <= TOO_SLOW) seconds.push((await process.ask({ do: 'measure', round: roundFor(once) })).seconds);
  else if (round === 0) seconds.push(ready.seconds);
}

/** Ends a system's part in a case. */
async function leave(entrant: Entrant, item: Case): Promise<void> {
  if (item.memory) {
    const { peakBytes } = await entrant.process.ask({ do: 'memory' });
    if ((entrant.ready?.portion ?? 1) >= 1) entrant.peakBytes = peakBytes; // a part of a batch takes less
    await entrant.process.end();
  } else {
    await entrant.process.ask({ do: 'release' });
  }
}

/** The systems that can say where their time goes. */
const PROFILED: ReadonlySet<string> = new Set(['tenon', 'pytorch']);

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
