/** @file Recorded names of averages, dual averaging, and methods without a learning rate. */
import { average, findOptimizer } from 'edgewise/optim';
import { plain, type Recorded, renamed, type Translation } from '../subjects.ts';

const AVERAGE = {
  start: 'averageStart',
  every: 'averageEvery',
  decay: 'averageDecay',
  average: 'averageKind',
};

/** With what else the case follows of our state. */
const watching =
  (translation: Translation, watch: NonNullable<ReturnType<Translation>['watch']>): Translation =>
  (hyperparameters) => ({ ...translation(hyperparameters), watch });

export const translations: Readonly<Record<string, Translation>> = {
  averaging: ({ base, base_hyperparameters, ...hyperparameters }) => ({
    definition: average.wrap(findOptimizer(String(base))),
    settings: {
      values: { ...renamed((base_hyperparameters ?? {}) as Recorded), ...renamed(hyperparameters, AVERAGE) },
    },
    watch: { n_averaged: 'collected' },
  }),
  gadam: watching(plain('gadam', AVERAGE), { n_averaged: 'collected' }),
  gadamx: watching(plain('gadamx', AVERAGE), { n_averaged: 'collected' }),
  ftrl_momentum: ({ c, eta, weights }) => ({
    definition: findOptimizer('ftrlMomentum'),
    settings: {
      values: {
        lr: Number(c),
        rate: eta === 'c' ? 'constant' : 'decreasing',
        weights: weights === 'alpha_t = 1' ? 'equal' : 'increasing',
      },
    },
  }),
  schedule_free_sgd: watching(plain('scheduleFreeSgd'), { base: 'z' }),
  schedule_free_adamw: watching(plain('scheduleFreeAdamw'), { base: 'z' }),
  dadapt_adam: watching(plain('dadaptAdam'), { d: 'd' }),
  dadapt_sgd: watching(plain('dadaptSgd'), { d: 'd' }),
  prodigy: watching(plain('prodigy'), { d: 'd' }),
};
