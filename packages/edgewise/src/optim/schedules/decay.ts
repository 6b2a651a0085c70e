/** @file Schedules that stay or fall: from η at the first step. */
import { ConfigError } from '../../base/errors.ts';
import { integer, number, numbers } from '../hyperparameters.ts';
import { checkFloor, cosine, defineSchedule, lr, min, total } from './schedule.ts';

export const constantSchedule = defineSchedule(
  'constant',
  'η at every step.',
  { lr },
  ({ lr }) =>
    () =>
      lr,
);

/** PyTorch's `LinearLR`, laid out for all steps: 1 to 0 where it has 1/3 to 1 over the first five. */
export const linearSchedule = defineSchedule(
  'linear',
  'η (a + (b - a)(t - 1)/T): from a η in a straight line; one more step than T would reach b η, where it stays.',
  {
    lr,
    total,
    startFactor: number({ default: 1, min: 0, doc: 'Factor a on η at the first step.' }),
    endFactor: number({ default: 0, min: 0, doc: 'Factor b on η after all steps.' }),
  },
  ({ lr, total, startFactor, endFactor }) =>
    (t) => {
      const x = Math.min(1, (t - 1) / total);
      return lr * ((1 - x) * startFactor + x * endFactor);
    },
);

/** I. Loshchilov, F. Hutter, arXiv 1608.03983; PyTorch's `CosineAnnealingLR` in closed form. */
export const cosineSchedule = defineSchedule(
  'cosine',
  'min + (η - min)(1 + cos(π (t - 1)/T))/2: starts at η; one more step than T would reach min, where it stays.',
  { lr, min, total },
  ({ lr, min, total }) => {
    checkFloor('cosine', lr, min);
    return (t) => cosine(lr, min, Math.min(1, (t - 1) / total));
  },
);

/** X. Li, Z. Zhuang, F. Orabona, ICML 2021, arXiv 2002.05273, counting as the authors' code does. */
export const cosineLiZhuangOrabonaSchedule = defineSchedule(
  'cosineLiZhuangOrabona',
  'η (1 + cos(π t/T))/2: the cosine as analysed by Li, Zhuang and Orabona; step T has rate 0, as have later ones.',
  { lr, total },
  ({ lr, total }) =>
    (t) =>
      cosine(lr, 0, Math.min(1, t / total)),
);

/** X. Li, Z. Zhuang, F. Orabona, ICML 2021, arXiv 2002.05273. */
export const exponentialLiZhuangOrabonaSchedule = defineSchedule(
  'exponentialLiZhuangOrabona',
  'η α^t with α = (β/T)^(1/T): step T has rate η β/T, as have later ones. Adapts to the noise of gradients by itself.',
  {
    lr,
    total,
    beta: number({ default: 1, min: 1, doc: 'Factor β on the last rate; at most T.' }),
  },
  ({ lr, total, beta }) => {
    if (beta > total)
      throw new ConfigError(
        `schedule exponentialLiZhuangOrabona: beta is ${beta}, more than the ${total} steps in total, so that the rate would rise; choose a smaller one.`,
      );
    return (t) => lr * (beta / total) ** Math.min(1, t / total);
  },
);

const slowdown = (value: number, unit: string) =>
  number({ default: value, min: 0, unit, doc: 'How fast the rate falls, α; 0: not at all.' });

export const oneOverTSchedule = defineSchedule(
  'oneOverT',
  'η/(1 + α t): falls as 1/t once t is beyond 1/α, without an end.',
  { lr, alpha: slowdown(1e-3, '1/step') },
  ({ lr, alpha }) =>
    (t) =>
      lr / (1 + alpha * t),
);

export const oneOverSqrtTSchedule = defineSchedule(
  'oneOverSqrtT',
  'η/(1 + α √t): falls as 1/√t once t is beyond 1/α², without an end.',
  { lr, alpha: slowdown(0.03, '1/√step') },
  ({ lr, alpha }) =>
    (t) =>
      lr / (1 + alpha * Math.sqrt(t)),
);

const gamma = (value: number, doc = 'Factor γ on the rate at each drop.') =>
  number({ default: value, above: 0, max: 1, doc });

/** PyTorch's `StepLR`. */
export const stepSchedule = defineSchedule(
  'step',
  'η γ^⌊(t - 1)/s⌋: drops by γ every s steps.',
  { lr, gamma: gamma(0.1), every: integer({ default: 1000, min: 1, unit: 'steps', doc: 'Steps s between drops.' }) },
  ({ lr, gamma, every }) =>
    (t) =>
      lr * gamma ** Math.floor((t - 1) / every),
);

/** PyTorch's `MultiStepLR`. */
export const multiStepSchedule = defineSchedule(
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

/** PyTorch's `ExponentialLR`. */
export const exponentialSchedule = defineSchedule(
  'exponential',
  'η γ^(t - 1): falls by the same factor at every step, without an end.',
  { lr, gamma: gamma(0.999, 'Factor γ on the rate at every step.') },
  ({ lr, gamma }) =>
    (t) =>
      lr * gamma ** (t - 1),
);

/** PyTorch's `PolynomialLR` where min is 0; power 2 goes with LARS, power 1 with BERT. */
export const polynomialSchedule = defineSchedule(
  'polynomial',
  'min + (η - min)(1 - (t - 1)/T)^p: starts at η; one more step than T would reach min, where it stays.',
  { lr, min, total, power: number({ default: 1, above: 0, doc: 'Power p: 1 for a straight line.' }) },
  ({ lr, min, total, power }) => {
    checkFloor('polynomial', lr, min);
    return (t) => min + (lr - min) * (1 - Math.min(1, (t - 1) / total)) ** power;
  },
);
