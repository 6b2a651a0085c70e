/**
 * Interleaved measurement of one group: all workloads of one model, at one thread count, by every implementation. Round after round
 * each participant takes one turn of a fixed number of iterations, every second round in reverse order, so that a drift of the
 * machine (heat, other tenants) falls on all alike. Only one worker computes at a time.
 */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Implementation } from './implementations.ts';
import type { Reply, Request } from './protocol.ts';
import { machineBusySeconds, TimedOut, WorkerProcess } from './worker_process.ts';
import type { Workload } from './workloads.ts';

/** How long and how often to measure. */
export interface Plan {
  /** Turns each participant takes. */
  rounds: number;
  /** Length of a turn in milliseconds; at least one iteration is run whatever it takes. */
  turnMs: number;
}

/** Limits and pauses in milliseconds, written once so that the README can quote them. */
export const limits = {
  /** Set-up with compilation and the check values; longer counts as too slow. */
  setup: 60_000,
  /** One iteration after set-up; longer counts as too slow. */
  iteration: 20_000,
  /** A participant slower than this an iteration takes three turns only. */
  patience: 3_000,
  /** Pause before a turn: the thread pool of the last participant may still be spinning. */
  settle: 100,
} as const;

/** One turn: the median of its iterations, its fastest, and how many other cores' worth of work ran meanwhile. */
interface Turn {
  round: number;
  median: number;
  fastest: number;
  foreign: number;
}

/** What came of one participant. */
export interface Measurement {
  workload: Workload;
  implementation: string;
  threads: number;
  check: Record<string, number>;
  /** Median over turns of the turn medians, milliseconds; undefined where it could not be measured. */
  ms?: number;
  /** Quartiles of the turn medians. */
  quartiles?: [number, number];
  /** Fastest single iteration. */
  fastest?: number;
  /** Median of the other load during its turns, in cores. */
  foreign?: number;
  /** Turn medians by round, undisturbed turns only where there are enough of them. */
  byRound: Map<number, number>;
  /** Whether too few turns were free of other load, so that disturbed ones had to be used. */
  disturbed: boolean;
  /** Why there is no time, or why it must not be compared. */
  note?: string;
}

interface Participant {
  measurement: Measurement;
  process: WorkerProcess;
  iterations: number;
  turns: Turn[];
  maxTurns: number;
}

/** The value below which a fraction `q` of the sorted numbers lie, interpolated. */
export function quantile(numbers: number[], q: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const position = (sorted.length - 1) * q;
  const low = Math.floor(position);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (position - low);
}

export const median = (numbers: number[]): number => quantile(numbers, 0.5);

function demand(reply: Reply): Extract<Reply, { ok: true }> {
  if (reply.ok) return reply;
  throw new Error(reply.kind === 'unsupported' ? reply.message : `fails: ${reply.message}`);
}

async function timed(process: WorkerProcess, iterations: number, limit: number): Promise<number[]> {
  const request: Request = { op: 'run', iterations };
  const { times_ms } = demand(await process.ask(request, limit));
  if (times_ms === undefined || times_ms.length !== iterations) throw new Error('The worker returned no times.');
  return times_ms;
}

/** Starts a worker, sets it up and warms it up; undefined (with the reason in the measurement) where that fails. */
async function prepare(
  measurement: Measurement,
  implementation: Implementation,
  plan: Plan,
): Promise<Participant | undefined> {
  const { workload, threads } = measurement;
  const process = new WorkerProcess(implementation.command(threads));
  try {
    const ready = await process.ask({ op: 'setup', workload, threads }, limits.setup);
    measurement.check = demand(ready).check ?? {};
    // Two rounds of warm-up: the first brings just-in-time compilers and allocators into their stride, the second counts.
    const first = await timed(process, 1, limits.iteration);
    const warm = await timed(
      process,
      Math.max(1, Math.ceil(plan.turnMs / 2 / first[0])),
      limits.iteration + plan.turnMs * 10,
    );
    const each = median(warm);
    return {
      measurement,
      process,
      turns: [],
      iterations: Math.max(1, Math.min(5000, Math.round(plan.turnMs / each))),
      maxTurns: each > limits.patience ? Math.min(3, plan.rounds) : plan.rounds,
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    measurement.note = error instanceof TimedOut ? `too slow. ${reason}` : reason;
    await process.close();
    return undefined;
  }
}

async function takeTurn({ process, iterations, turns }: Participant, round: number): Promise<void> {
  await sleep(limits.settle);
  const harness = globalThis.process;
  const own = () => process.processorSeconds() + (harness.cpuUsage().user + harness.cpuUsage().system) / 1e6;
  const [busy, used, start] = [machineBusySeconds(), own(), performance.now()];
  const times = await timed(process, iterations, 60_000 + iterations * limits.iteration);
  const seconds = (performance.now() - start) / 1000;
  const total = busy === undefined ? undefined : machineBusySeconds()! - busy;
  const foreign = total === undefined ? 0 : Math.max(0, (total - (own() - used)) / seconds);
  turns.push({ round, median: median(times), fastest: Math.min(...times), foreign });
}

/** Turns that are not disturbed: their threads and the other load together do not want more cores than there are. */
function quietTurns({ measurement, turns }: Participant): Turn[] {
  const spare = availableParallelism() - measurement.threads;
  return turns.filter((turn) => turn.foreign <= spare + 0.15);
}

/** Whether a participant still lacks the quiet turns that a trustworthy median needs. */
const lacksQuiet = (p: Participant): boolean => quietTurns(p).length < Math.min(3, p.maxTurns);

/** Fills the statistics in. */
function summarize(participant: Participant): void {
  const { measurement, turns } = participant;
  const quiet = quietTurns(participant);
  measurement.disturbed = lacksQuiet(participant);
  const used = measurement.disturbed ? turns : quiet;
  const medians = used.map((turn) => turn.median);
  measurement.byRound = new Map(used.map((turn) => [turn.round, turn.median]));
  measurement.ms = median(medians);
  measurement.quartiles = [quantile(medians, 0.25), quantile(medians, 0.75)];
  measurement.fastest = Math.min(...turns.map((turn) => turn.fastest));
  measurement.foreign = median(turns.map((turn) => turn.foreign));
}

/** Whose check values the others are held against: the first of these that has some. */
const references = ['pytorch', 'pytorch-reference-blas', 'jax-js'];

/** Marks measurements whose check values differ from the reference's by more than 0.1 % (`alignment`, a cosine: by 0.001). */
function compareChecks(measurements: Measurement[]): void {
  for (const measurement of measurements) {
    const { workload, check } = measurement;
    const candidates = measurements.filter((m) => m.workload === workload && Object.keys(m.check).length > 0);
    const name = references.find((r) => candidates.some((c) => c.implementation === r));
    const reference = candidates.find((c) => c.implementation === name);
    for (const [key, value] of Object.entries(check)) {
      const expected = reference?.check[key];
      if (expected === undefined) continue;
      if (Math.abs(value - expected) <= 1e-3 * (key === 'alignment' ? 1 : Math.abs(expected))) continue;
      measurement.note = `different result: ${key} is ${value.toPrecision(6)}, ${name} has ${expected.toPrecision(6)}`;
    }
  }
}

/** Measures `workloads` (of one model) by all implementations that cover them, taking turns. */
export async function measureGroup(
  workloads: Workload[],
  threads: number,
  implementations: Implementation[],
  plan: Plan,
  log: (line: string) => void,
): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  const participants: Participant[] = [];
  try {
    for (const workload of workloads) {
      for (const implementation of implementations) {
        if (!implementation.covers(workload, threads)) continue;
        const measurement: Measurement = {
          workload,
          threads,
          implementation: implementation.name,
          check: {},
          byRound: new Map(),
          disturbed: false,
        };
        measurements.push(measurement);
        const participant = await prepare(measurement, implementation, plan);
        if (participant) participants.push(participant);
        const name = `${workload.name}, ${threads} thread${threads === 1 ? '' : 's'}, ${implementation.name}`;
        log(
          participant ? `${name}: ready, ${participant.iterations} iterations a turn` : `${name}: ${measurement.note}`,
        );
      }
    }
    // On a machine that others use too, as many rounds again are spent in search of quiet turns.
    for (let round = 0; round < plan.rounds || (round < 2 * plan.rounds && participants.some(lacksQuiet)); round++) {
      const order = round % 2 === 0 ? participants : [...participants].reverse();
      for (const participant of order) {
        const most = participant.maxTurns * (round < plan.rounds ? 1 : 2);
        if (participant.turns.length < most) await takeTurn(participant, round);
      }
    }
    for (const participant of participants) summarize(participant);
  } finally {
    for (const { process } of participants) await process.close();
  }
  compareChecks(measurements);
  return measurements;
}
