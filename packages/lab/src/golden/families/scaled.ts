/** @file Recorded names of layer-wise and sign methods, Step-Tuned SGD and Sophia. */
import { findOptimizer } from 'edgewise/optim';
import { plain, renamed, type Translation } from '../subjects.ts';

export const translations: Readonly<Record<string, Translation>> = {
  // timm’s default momentum is 0.
  lars: (hyperparameters) => plain('lars')({ momentum: 0, ...hyperparameters }),
  lars_mae: plain(
    'lars',
    { trust_coefficient: 'trustCoeff' },
    { ratio: 'joint', eps: 0, excludeVectors: true, alwaysAdapt: true },
  ),
  // timm clips the global norm at 1 unless told otherwise.
  lamb: (hyperparameters) => plain('lamb')({ max_grad_norm: 1, ...hyperparameters }),
  lamb_cybertron: (hyperparameters) =>
    plain(
      'lamb',
      {},
      { biasCorrection: false, alwaysAdapt: true, normLimit: 10 },
    )({ weight_decay: 0, ...hyperparameters }),
  step_tuned_sgd: ({ delta, ...hyperparameters }) => ({
    definition: findOptimizer('stepTunedSgd'),
    settings: {
      values: {
        ...renamed(hyperparameters, { alpha: 'lr', mu: 'nu', m: 'gammaMin', M: 'gammaMax' }),
        // There it is the whole exponent.
        ...(typeof delta === 'number' && { delta: delta - 0.5 }),
      },
    },
    watch: { gamma_next: 'gamma' },
  }),
  sophia: plain('sophia', { bs: 'batchTerms' }),
};
