/**
 * @file Learning rates as pure functions of the step: `rate(t)` is the rate in force at step t = 1, 2, ...
 *
 * Pure, so that a resumed run needs nothing but t. Where a schedule is PyTorch's, its counter k is t - 1.
 */
import { ConfigError, nearest } from '../../base/errors.ts';
import {
  cosineRestartsSchedule,
  expRangeSchedule,
  oneCycleSchedule,
  swaCyclicSchedule,
  swaPiecewiseSchedule,
  triangular2Schedule,
  triangularSchedule,
} from './cycles.ts';
import {
  constantSchedule,
  cosineLiZhuangOrabonaSchedule,
  cosineSchedule,
  exponentialLiZhuangOrabonaSchedule,
  exponentialSchedule,
  linearSchedule,
  multiStepSchedule,
  oneOverSqrtTSchedule,
  oneOverTSchedule,
  polynomialSchedule,
  stepSchedule,
} from './decay.ts';
import type { ScheduleDefinition } from './schedule.ts';
import { inverseSqrtSchedule, warmupCosineSchedule, warmupSchedule, wsdSchedule } from './warmup.ts';

export * from './cycles.ts';
export * from './decay.ts';
export type { Schedule, ScheduleDefinition } from './schedule.ts';
export * from './warmup.ts';

/** Every schedule of a learning rate, in the order of the docs. */
export const schedules: readonly ScheduleDefinition[] = [
  constantSchedule,
  warmupSchedule,
  linearSchedule,
  cosineSchedule,
  warmupCosineSchedule,
  cosineRestartsSchedule,
  wsdSchedule,
  oneCycleSchedule,
  stepSchedule,
  multiStepSchedule,
  exponentialSchedule,
  polynomialSchedule,
  inverseSqrtSchedule,
  oneOverTSchedule,
  oneOverSqrtTSchedule,
  cosineLiZhuangOrabonaSchedule,
  exponentialLiZhuangOrabonaSchedule,
  triangularSchedule,
  triangular2Schedule,
  expRangeSchedule,
  swaCyclicSchedule,
  swaPiecewiseSchedule,
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
