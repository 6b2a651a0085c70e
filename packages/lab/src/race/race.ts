/** @file A race from its plan to its results: tuning, final runs, and everything kept as it goes. */
import { ConfigError, FormatError } from 'edgewise';
import { describeEnvironment, type Environment } from 'edgewise/node';
import type { RunStore } from 'edgewise/train';
import { z } from 'zod';
import { type PlanSource, parsePlan, type RacePlan } from './plan.ts';
import { finalSpecs, type Summary, summarize, type TrialRecord, tuningSpecs } from './results.ts';
import type { Progress, Runner } from './runner.ts';
import { TrialInterrupted, type TrialSpec } from './trial.ts';

/** A race and all that is known of it; `race.json` of its folder. */
export interface Race {
  readonly format: 1;
  /** What the user asked for. */
  readonly source: PlanSource;
  /** The same, checked and complete. */
  readonly plan: RacePlan;
  /** Where trials were run; more than one where the race was resumed somewhere else. */
  readonly environments: Environment[];
  /** Finished trials by name. */
  readonly trials: Record<string, TrialRecord>;
  /** Made of the trials so far. */
  summary: Summary;
}

export const RACE_FILE = 'race.json';

/** What is told while a race goes on. */
export interface RaceEvents {
  /** How many trials there are in all; those of entrants whose tuning fails are among them at first. */
  total?(trials: number, done: number): void;
  step?(spec: TrialSpec, progress: Progress): void;
  finished?(spec: TrialSpec, record: TrialRecord, done: number, total: number): void;
}

const pointSchema = z.strictObject({
  step: z.int().positive(),
  epoch: z.number(),
  seconds: z.number(),
  trainLoss: z.number(),
  loss: z.number(),
  accuracy: z.number().nullable(),
});

const trialSchema = z
  .strictObject({
    status: z.enum(['finished', 'diverged']),
    curve: z.array(pointSchema),
    diverged: z.strictObject({ step: z.int(), reason: z.string() }).optional(),
    parameters: z.int(),
    stepsPerEpoch: z.int(),
    examples: z.strictObject({ train: z.int(), judged: z.int() }),
    shared: z.boolean(),
    environment: z.int().min(0),
  })
  .refine(({ status, curve }) => status === 'diverged' || curve.length > 0, 'a finished trial has a curve');

const raceSchema = z.object({
  format: z.literal(1),
  source: z.object({ plan: z.unknown(), flags: z.record(z.string(), z.union([z.string(), z.boolean()])) }),
  plan: z.unknown(),
  environments: z.array(z.custom<Environment>((value) => typeof value === 'object' && value !== null)),
  trials: z.record(z.string(), trialSchema),
});

/**
 * Reads the race in a folder.
 *
 * @throws StoreError where there is none; FormatError where its file is damaged, or was made by a version with other settings.
 */
export async function readRace(store: RunStore): Promise<Race> {
  const text = new TextDecoder().decode(await store.read(RACE_FILE));
  const place = `${RACE_FILE} in ${store.location}`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${place} is not JSON; it was changed since the race wrote it.`, { cause });
  }
  const result = raceSchema.safeParse(value);
  if (!result.success) {
    const [{ path, message }] = result.error.issues;
    throw new FormatError(
      `${place}: ${path.join('.') || 'the whole'} is wrong (${message}); it was changed since the race wrote it.`,
    );
  }
  const { source, environments, trials, plan: written } = result.data;
  const plan = parsePlan(source, place);
  if (JSON.stringify(plan) !== JSON.stringify(written)) {
    throw new FormatError(
      `${place} was made with other defaults than this version of edgewise has, so its trials cannot be added to; run the race anew in another folder.`,
    );
  }
  return { format: 1, source, plan, environments, trials, summary: summarize(plan, trials) };
}

/** A race that nothing was done for yet. */
export function newRace(source: PlanSource, origin?: string): Race {
  const plan = parsePlan(source, origin);
  return { format: 1, source, plan, environments: [], trials: {}, summary: summarize(plan, {}) };
}

/** Writes what is known, whole or not at all. */
export async function saveRace(store: RunStore, race: Race): Promise<void> {
  await store.writeAtomic(RACE_FILE, new TextEncoder().encode(`${JSON.stringify(race, null, 1)}\n`));
}

/**
 * Runs what is missing of a race, and keeps every trial as soon as it is finished.
 *
 * @returns Whether the race is complete; false where `stop` fired.
 * @throws what a trial throws, when the others under way have ended.
 */
export async function runRace(
  race: Race,
  { store, runner, stop, events = {} }: { store: RunStore; runner: Runner; stop: AbortSignal; events?: RaceEvents },
): Promise<boolean> {
  const { plan, trials } = race;
  const environment = await environmentOf(race);
  await saveRace(store, race);
  const tuning = tuningSpecs(plan);
  const total = tuning.length + plan.entrants.length * plan.budgets.length * plan.seeds.length;
  const done = () => Object.keys(trials).length;
  events.total?.(total, done());
  const record = async (spec: TrialSpec, result: Awaited<ReturnType<Runner['run']>>): Promise<void> => {
    const kept: TrialRecord = { ...result, shared: runner.jobs > 1, environment };
    trials[spec.id] = kept;
    race.summary = summarize(plan, trials);
    await saveRace(store, race);
    events.finished?.(spec, kept, done(), total);
  };
  for (const specsOf of [() => tuning, () => finalSpecs(plan, trials)]) {
    const left = specsOf().filter(({ id }) => !Object.hasOwn(trials, id));
    if (!(await runAll(left, runner, stop, record, events))) return false;
  }
  return true;
}

/** Runs specs in order, as many at a time as the runner takes. Returns false where it was stopped. */
async function runAll(
  specs: readonly TrialSpec[],
  runner: Runner,
  stop: AbortSignal,
  record: (spec: TrialSpec, result: Awaited<ReturnType<Runner['run']>>) => Promise<void>,
  events: RaceEvents,
): Promise<boolean> {
  const queue = [...specs];
  // An error in one ends the others too.
  const failed = new AbortController();
  const either = AbortSignal.any([stop, failed.signal]);
  const work = async (): Promise<void> => {
    while (!either.aborted) {
      const spec = queue.shift();
      if (!spec) return;
      try {
        await record(spec, await runner.run(spec, either, (progress) => events.step?.(spec, progress)));
      } catch (error) {
        if (error instanceof TrialInterrupted && either.aborted) return;
        failed.abort();
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(runner.jobs, specs.length) }, work));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return !stop.aborted;
}

/** Number of the present environment in the race's list, added where it is new. */
async function environmentOf({ environments }: Race): Promise<number> {
  const now = await describeEnvironment();
  const text = JSON.stringify(now);
  const at = environments.findIndex((known) => JSON.stringify(known) === text);
  if (at >= 0) return at;
  environments.push(now);
  return environments.length - 1;
}

/** Throws a ConfigError where a folder holds a race already. */
export async function refuseRaceIn(store: RunStore): Promise<void> {
  const files = await store.list();
  if (files.includes(RACE_FILE)) {
    throw new ConfigError(
      `There is a race in ${store.location} already; go on with it by --resume ${store.location}, or choose another folder with --out.`,
    );
  }
}
