/**
 * @file Learning rates as pure functions of the step: `rate(t)` is the rate in force at step t = 1, 2, ...
 *
 * Pure, so that a resumed run needs nothing but t. Where a schedule is PyTorch's, its counter k is t - 1.
 */
import { ConfigError, nearest } from '../base/errors.ts';
import { completeValues, integer, number, numbers, type Schema, type Values } from './hyperparameters.ts';

/** Learning rate in force at step t, from 1. */
export type Schedule = (t: number) => number;

export interface ScheduleDefinition<H extends Schema = Schema> {
  readonly name: string;
  /** The formula, for docs and help. */
  readonly doc: string;
  readonly parameters: H;
  /** The schedule for the values given, completed by defaults. @throws ConfigError for values that do not fit. */
  make(values: Partial<Values<H>>): Schedule;
}

function schedule<const H extends Schema>(
  name: string,
  doc: string,
  parameters: H,
  rule: (values: Values<H>) => Schedule,
): ScheduleDefinition<H> {
  return {
    name,
    doc,
    parameters,
    make(values) {
      const rate = rule(completeValues(`schedule ${name}`, parameters, values));
      return (t) => {
        if (!(Number.isInteger(t) && t >= 1))
          throw new ConfigError(`schedule ${name}: step ${t} was asked for; steps are whole numbers from 1.`);
        return rate(t);
      };
    },
  };
}

const lr = number({ default: 1e-3, above: 0, doc: 'Learning rate η that the schedule starts from or rises to.' });
const min = number({ default: 0, min: 0, doc: 'Learning rate that the schedule falls to.' });
const warmup = integer({
  default: 0,
  min: 0,
  unit: 'steps',
  doc: 'Steps w over which the rate rises linearly; it reaches η at step w.',
});
const total = integer({
  default: 1000,
  min: 1,
  unit: 'steps',
  doc: 'Steps T the schedule is laid out for; later ones stay at its last value.',
});

/** `η min(1, t/w)`. */
export const warmupSchedule = schedule(
  'warmup',
  'η min(1, t/w): rises linearly over w steps, then stays.',
  { lr, warmup },
  ({ lr, warmup }) =>
    (t) =>
      t >= warmup ? lr : (lr * t) / warmup,
);

export const constantSchedule = schedule(
  'constant',
  'η at every step.',
  { lr },
  ({ lr }) =>
    () =>
      lr,
);

/** I. Loshchilov, F. Hutter, arXiv 1608.03983; PyTorch's `CosineAnnealingLR` in closed form. */
export const cosineSchedule = schedule(
  'cosine',
  'min + (η - min)(1 + cos(π (t - 1)/T))/2: starts at η; one more step than T would reach min, where it stays.',
  { lr, min, total },
  ({ lr, min, total }) => {
    checkFloor('cosine', lr, min);
    return (t) => cosine(lr, min, Math.min(1, (t - 1) / total));
  },
);

export const warmupCosineSchedule = schedule(
  'warmupCosine',
  'η t/w up to step w, then min + (η - min)(1 + cos(π (t - w)/(T - w)))/2, which reaches min at step T and stays there.',
  { lr, min, warmup, total },
  ({ lr, min, warmup, total }) => {
    checkFloor('warmupCosine', lr, min);
    if (warmup >= total)
      throw new ConfigError(
        `schedule warmupCosine: warmup is ${warmup} of ${total} steps in total; leave steps for the cosine.`,
      );
    return (t) => (t < warmup ? (lr * t) / warmup : cosine(lr, min, Math.min(1, (t - warmup) / (total - warmup))));
  },
);

const gamma = (value: number) =>
  number({ default: value, above: 0, max: 1, doc: 'Factor γ on the rate at each drop.' });

/** PyTorch's `StepLR`. */
export const stepSchedule = schedule(
  'step',
  'η γ^⌊(t - 1)/s⌋: drops by γ every s steps.',
  { lr, gamma: gamma(0.1), every: integer({ default: 1000, min: 1, unit: 'steps', doc: 'Steps s between drops.' }) },
  ({ lr, gamma, every }) =>
    (t) =>
      lr * gamma ** Math.floor((t - 1) / every),
);

/** PyTorch's `MultiStepLR`. */
export const multiStepSchedule = schedule(
  'multiStep',
  'η γ^(number of milestones passed): drops by γ after each step named.',
  {
    lr,
    gamma: gamma(0.1),
    milestones: numbers({
      default: [],
      min: 1,
      unit: 'steps',
      doc: 'Steps after which the rate drops, in rising order.',
      anyLength: true,
    }),
  },
  ({ lr, gamma, milestones }) => {
    if (milestones.some((step, i) => !Number.isInteger(step) || (i > 0 && step <= milestones[i - 1]))) {
      throw new ConfigError(
        `schedule multiStep: milestones are ${milestones.join(', ')}; give whole numbers in rising order.`,
      );
    }
    return (t) => lr * gamma ** milestones.filter((step) => t > step).length;
  },
);

/** Every schedule, in the order of the docs. */
export const schedules: readonly ScheduleDefinition[] = [
  constantSchedule,
  warmupSchedule,
  cosineSchedule,
  warmupCosineSchedule,
  stepSchedule,
  multiStepSchedule,
];

/** The schedule called `name`. @throws ConfigError naming the nearest one. */
export function findSchedule(name: string): ScheduleDefinition {
  const found = schedules.find((entry) => entry.name === name);
  if (found) return found;
  const near = nearest(
    name,
    schedules.map((entry) => entry.name),
  );
  throw new ConfigError(
    `There is no schedule '${name}'; ${near ? `did you mean '${near}'?` : `there are ${schedules.map((entry) => entry.name).join(', ')}.`}`,
  );
}

/** From `high` at x = 0 to `low` at x = 1. */
const cosine = (high: number, low: number, x: number): number => low + ((high - low) * (1 + Math.cos(Math.PI * x))) / 2;

function checkFloor(name: string, high: number, low: number): void {
  if (low > high)
    throw new ConfigError(`schedule ${name}: min ${low} is above lr ${high}; a cosine falls from lr to min.`);
}
