/** @file Schedules that rise linearly before they do anything else. */
import { ConfigError } from '../../base/errors.ts';
import { choice, number } from '../hyperparameters.ts';
import { checkFloor, cosine, defineSchedule, lr, min, total, warmup } from './schedule.ts';

/** `η min(1, t/w)`. */
export const warmupSchedule = defineSchedule(
  'warmup',
  'η min(1, t/w): rises linearly over w steps, then stays.',
  { lr, warmup },
  ({ lr, warmup }) =>
    (t) =>
      t >= warmup ? lr : (lr * t) / warmup,
);

export const warmupCosineSchedule = defineSchedule(
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

/** A. Vaswani et al., arXiv 1706.03762: `d^(-1/2) min(t^(-1/2), t w^(-3/2))` with η = (d w)^(-1/2). */
export const inverseSqrtSchedule = defineSchedule(
  'inverseSqrt',
  'η min(t/w, √(w/t)): rises linearly over w steps, then falls as 1/√t without an end. A warm-up of 0 is one of 1.',
  { lr, warmup },
  ({ lr, warmup }) => {
    const w = Math.max(1, warmup);
    return (t) => (t < w ? (lr * t) / w : lr * Math.sqrt(w / t));
  },
);

/** S. Hu et al., "MiniCPM", arXiv 2404.06395. */
export const wsdSchedule = defineSchedule(
  'wsd',
  'Warm-up, stable, decay: η t/w up to step w, η until step T - D, then over the last D = share · T steps, with x from 0 to 1: min + (η - min)(1 - x), or 1 - √x in place of 1 - x, or η (min/η)^x. Stays at min.',
  {
    lr,
    min,
    warmup,
    total,
    decayShare: number({ default: 0.1, min: 0, max: 1, doc: 'Steps of the decay as a share of all, rounded.' }),
    decayShape: choice({
      choices: ['linear', 'oneMinusSqrt', 'exponential'],
      default: 'linear',
      doc: 'Course of the decay: 1 - x, 1 - √x, or by the same factor at every step, which needs min above 0.',
    }),
  },
  ({ lr, min, warmup, total, decayShare, decayShape }) => {
    checkFloor('wsd', lr, min);
    const decay = Math.round(decayShare * total);
    if (warmup + decay > total)
      throw new ConfigError(
        `schedule wsd: a warm-up of ${warmup} and a decay of ${decay} steps are longer than the ${total} in total; shorten one.`,
      );
    if (decayShape === 'exponential' && min === 0)
      throw new ConfigError('schedule wsd: min is 0, which no exponential decay reaches; give a min above 0.');
    return (t) => {
      if (t < warmup) return (lr * t) / warmup;
      if (t <= total - decay || decay === 0) return lr;
      if (t >= total) return min;
      const x = (t - (total - decay)) / decay;
      switch (decayShape) {
        case 'linear':
          return min + (lr - min) * (1 - x);
        case 'oneMinusSqrt':
          return min + (lr - min) * (1 - Math.sqrt(x));
        case 'exponential':
          return lr * (min / lr) ** x;
      }
    };
  },
);
