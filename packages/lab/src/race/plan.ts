/** @file What a race is: who runs, on what, for how long, and how each is tuned. */
import { ConfigError, EdgewiseError, Key } from 'edgewise';
import { findOptimizer } from 'edgewise/optim';
import { z } from 'zod';
import { type ConfigLayer, parseTrainConfig } from '../config/schema.ts';
import type { TrainConfig } from '../config/settings.ts';
import { drawTrials, tunedOf } from './draws.ts';
import { raceCatalog } from './problem.ts';

/** What a user wrote: a plan file's content, and settings of training given as flags, which override it. */
export interface PlanSource {
  readonly plan: unknown;
  readonly flags: Readonly<Record<string, string | boolean>>;
}

export interface Entrant {
  /** What it is called in tables and figures; no two have the same. */
  readonly label: string;
  /** Names of the hyper-parameters that are tuned; empty: run as it is. By default the learning rate, where it is not given. */
  readonly tune: readonly string[];
  /** Its settings, where tuning does not decide them, with the race's seed and its longest budget. */
  readonly config: TrainConfig;
}

/** A race in full. */
export interface RacePlan {
  readonly title: string;
  readonly entrants: readonly Entrant[];
  /** Epochs of the whole runs that are compared, rising; each has its own full schedule. */
  readonly budgets: readonly number[];
  /** Trials that each entrant is tuned with; 0 where nothing is tuned. */
  readonly trials: number;
  /** Epochs of a tuning trial; null: every budget is tuned for by itself, in its own length. */
  readonly tuningEpochs: number | null;
  /** Share of the training set that tuning trials are judged on, and do not see. */
  readonly validation: number;
  /** What decides between trials. */
  readonly select: 'accuracy' | 'loss';
  /** Of the final runs: initial weights and order of the data. */
  readonly seeds: readonly number[];
  readonly evaluationsPerEpoch: number;
  /** Whose epochs are compared with those of the others. */
  readonly reference: string;
}

const entrantSchema = z.looseObject({
  name: z.string().min(1),
  label: z.string().min(1).max(60).optional(),
  tune: z.array(z.string().min(1)).optional(),
});

const whole = (least: number, most: number) => z.int().min(least).max(most);

const planSchema = z.strictObject({
  title: z.string().min(1).max(120).optional(),
  train: z.record(z.string(), z.unknown()).default({}),
  optimizers: z.array(z.union([z.string().min(1), entrantSchema])).min(1),
  budgets: z.array(z.number().positive().finite()).min(1).default([1, 2, 4]),
  trials: whole(0, 1000).default(6),
  tuningEpochs: z.number().positive().finite().nullable().default(null),
  validation: z.number().gt(0).lt(1).default(0.1),
  select: z.enum(['accuracy', 'loss']).optional(),
  seeds: z.union([whole(1, 1000), z.array(whole(0, Number.MAX_SAFE_INTEGER)).min(1)]).default(3),
  evaluationsPerEpoch: z.number().positive().finite().default(1),
  reference: z.string().optional(),
});

/** Settings of a training run that a race decides by itself. */
const DECIDED: Readonly<Record<string, string>> = {
  optimizer: "the plan's `optimizers` say which",
  epochs: "the plan's `budgets` say how long",
  steps: "the plan's `budgets` say how long",
  evalEvery: "the plan's `evaluationsPerEpoch` says how often",
  threads: '--jobs says how many trials run at once, and one at a time has all cores',
  checkpointEvery: 'trials of a race are not saved half-way',
  keepCheckpoints: 'trials of a race are not saved half-way',
  earlyStopping: 'every run of a race has its full length',
  probes: 'nothing is measured during a race but losses and time',
  onNonFinite: 'a run that diverges has failed',
};

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/**
 * Checks and completes a plan.
 *
 * @param origin What to call the plan in messages, such as its file's path.
 * @throws ConfigError for the first thing that is wrong, saying where. Every draw of every optimizer is checked, so that none is refused later.
 */
export function parsePlan(source: PlanSource, origin = 'the plan'): RacePlan {
  const result = planSchema.safeParse(source.plan);
  if (!result.success) {
    const [{ path, message }] = result.error.issues;
    const where = path.length === 0 ? 'the whole' : path.join('.');
    throw new ConfigError(`${origin}: ${where} is wrong (${message}).`);
  }
  const plan = result.data;
  for (const [name, why] of Object.entries(DECIDED)) {
    if (Object.hasOwn(plan.train, name)) throw new ConfigError(`${origin}: train.${name} is not for a race: ${why}.`);
    const own = name === 'probes' ? 'sharpness' : kebab(name);
    const flag = Object.keys(source.flags).find((given) => given === own || given.startsWith(`${own}-`));
    if (flag !== undefined) throw new ConfigError(`--${flag} is not for a race: ${why}.`);
  }
  const budgets = [...new Set(plan.budgets)].sort((a, b) => a - b);
  const entrants = plan.optimizers.map((entry, i): Entrant => {
    const { label, tune, name, ...settings } = typeof entry === 'string' ? { name: entry } : entry;
    const layers: ConfigLayer[] = [
      { source: `${origin}: train`, value: plan.train },
      { source: `${origin}: optimizers.${i}`, value: { optimizer: { name, ...settings } } },
      { flags: source.flags },
      { source: origin, value: { epochs: budgets[budgets.length - 1], probes: { sharpness: { every: 0 } } } },
    ];
    const config = parseTrainConfig(layers, raceCatalog);
    const called = label ?? config.optimizer.name;
    const { lr } = findOptimizer(config.optimizer.name).hyperparameters;
    const fixed = (key: string) => Object.hasOwn(settings, key) || Object.hasOwn(source.flags, kebab(key));
    const standard = lr && 'search' in lr && lr.search !== undefined && !fixed('lr') ? ['lr'] : [];
    const both = tune?.find((key) => fixed(key));
    if (both !== undefined) {
      throw new ConfigError(`${origin}: '${both}' of ${called} is both given and to be tuned; leave out one.`);
    }
    return { label: called, tune: plan.trials === 0 ? [] : (tune ?? standard), config };
  });
  const labels = entrants.map(({ label }) => label);
  const twice = labels.find((label, i) => labels.indexOf(label) !== i);
  if (twice !== undefined) {
    throw new ConfigError(`${origin}: two optimizers are called '${twice}'; give one of them a label of its own.`);
  }
  const { reference = labels.find((label) => label.toLowerCase().startsWith('adan')) ?? labels[0] } = plan;
  if (!labels.includes(reference)) {
    throw new ConfigError(`${origin}: reference is '${reference}', which is none of ${labels.join(', ')}.`);
  }
  const { config } = entrants[0];
  const seeds =
    typeof plan.seeds === 'number' ? Array.from({ length: plan.seeds }, (_, i) => config.seed + i) : plan.seeds;
  if (new Set(seeds).size < seeds.length) throw new ConfigError(`${origin}: seeds has one twice; give each once.`);
  const complete: RacePlan = {
    title: plan.title ?? `${config.model.name} on ${config.data.name}, batch ${config.batchSize}`,
    entrants,
    budgets,
    trials: plan.trials,
    tuningEpochs: plan.tuningEpochs,
    validation: plan.validation,
    select: plan.select ?? (config.data.name === 'moby-dick' ? 'loss' : 'accuracy'),
    seeds,
    evaluationsPerEpoch: plan.evaluationsPerEpoch,
    reference,
  };
  for (const entrant of entrants) drawsOf(complete, entrant);
  return complete;
}

/** Checking a configuration takes milliseconds, and draws are asked for often. */
const known = new WeakMap<Entrant, readonly TrainConfig[]>();

/** The settings that an entrant of a plan is tuned over, in the order in which they are tried. */
export function drawsOf(plan: RacePlan, entrant: Entrant): readonly TrainConfig[] {
  const draws = known.get(entrant) ?? makeDraws(plan, entrant);
  known.set(entrant, draws);
  return draws;
}

function makeDraws({ trials, entrants }: RacePlan, { label, tune, config }: Entrant): TrainConfig[] {
  if (tune.length === 0) return [];
  const { name } = config.optimizer;
  const { hyperparameters } = findOptimizer(name);
  const key = Key.fromSeed(entrants[0].config.seed).split('race', 'draws');
  return drawTrials(hyperparameters, tunedOf(name, hyperparameters, tune), trials, key).map((drawn) => {
    try {
      return parseTrainConfig(
        [
          { source: 'settings', value: config },
          { source: 'draw', value: { optimizer: { name, ...drawn } } },
        ],
        raceCatalog,
      );
    } catch (error) {
      if (!(error instanceof EdgewiseError)) throw error;
      throw new ConfigError(`Tuning ${label} would try settings that are refused: ${error.message}`, { cause: error });
    }
  });
}
