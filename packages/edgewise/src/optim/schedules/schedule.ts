/** @file What a schedule is, and what schedules have in common. */
import { ConfigError } from '../../base/errors.ts';
import { completeValues, integer, number, type Schema, type Values } from '../hyperparameters.ts';

/** Learning rate in force at step t = 1, 2, ...; or the value of another hyper-parameter that follows the step. */
export type Schedule = (t: number) => number;

export interface ScheduleDefinition<H extends Schema = Schema> {
  readonly name: string;
  /** The formula, for docs and help. */
  readonly doc: string;
  readonly parameters: H;
  /** The schedule for the values given, completed by defaults. @throws ConfigError for values that do not fit. */
  make(values: Partial<Values<H>>): Schedule;
}

/** A definition whose schedules refuse steps that are none. `rule` throws a ConfigError for combinations that do not fit. */
export function defineSchedule<const H extends Schema>(
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

export const lr = number({
  default: 1e-3,
  above: 0,
  doc: 'Learning rate η that the schedule starts from or rises to.',
});

export const min = number({ default: 0, min: 0, doc: 'Learning rate that the schedule falls to.' });

export const warmup = integer({
  default: 0,
  min: 0,
  unit: 'steps',
  doc: 'Steps w over which the rate rises linearly; it reaches η at step w.',
});

export const total = integer({
  default: 1000,
  min: 1,
  unit: 'steps',
  doc: 'Steps T the schedule is laid out for; later ones stay at its last value.',
});

/** From `high` at x = 0 to `low` at x = 1 along half a cosine. */
export const cosine = (high: number, low: number, x: number): number =>
  low + ((high - low) * (1 + Math.cos(Math.PI * x))) / 2;

export function checkFloor(name: string, high: number, low: number): void {
  if (low > high)
    throw new ConfigError(`schedule ${name}: min ${low} is above lr ${high}; the rate lies between min and lr.`);
}
