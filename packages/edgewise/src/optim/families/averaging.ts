/** @file Averaging, dual averaging, and methods without a learning rate. */
import type { OptimizerDefinition } from '../definition.ts';
import { asgd } from '../rules/asgd.ts';
import { ftrlMomentum, momentEstimation } from '../rules/ftrl.ts';
import { gadam, gadamx } from '../rules/gadam.ts';
import { dadaptAdam, dadaptSgd, prodigy } from '../rules/parameter-free.ts';
import { scheduleFreeAdamw, scheduleFreeSgd } from '../rules/schedule-free.ts';

export {
  asgd,
  dadaptAdam,
  dadaptSgd,
  ftrlMomentum,
  gadam,
  gadamx,
  momentEstimation,
  prodigy,
  scheduleFreeAdamw,
  scheduleFreeSgd,
};

export const averagingFamily: readonly OptimizerDefinition[] = [
  asgd,
  gadam,
  gadamx,
  ftrlMomentum,
  momentEstimation,
  scheduleFreeSgd,
  scheduleFreeAdamw,
  dadaptAdam,
  dadaptSgd,
  prodigy,
];
