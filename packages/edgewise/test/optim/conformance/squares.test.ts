import { adadelta, adagrad, adagradNorm, delayedAdagrad, rmsprop } from '../../../src/optim/index.ts';
import {
  adadeltaReference,
  adagradNormReference,
  adagradReference,
  delayedAdagradReference,
  rmspropReference,
} from '../references/squares.ts';
import { runOptimizerSuite } from '../suite.ts';

runOptimizerSuite({
  definition: adagrad,
  groupOption: 'initialAccumulatorValue',
  reference: adagradReference,
  base: { lr: 0.1, weightDecay: 0.1, eps: 1e-3 },
  changes: {
    lr: 0.2,
    lrDecay: 0.3,
    initialAccumulatorValue: 0.5,
    eps: 0.1,
    epsPlacement: { epsPlacement: 'inside', eps: 0.1 },
    weightDecay: 0.5,
  },
  quadratic: { lr: 0.5 },
});

runOptimizerSuite({
  definition: adagradNorm,
  reference: adagradNormReference,
  base: { lr: 0.5, weightDecay: 0.1 },
  changes: { lr: 1, b0: 2, per: 'tensor', weightDecay: 0.5 },
  quadratic: { lr: 2 },
  refusesNonFinite: 'always',
});
runOptimizerSuite({
  definition: adagradNorm,
  groupOption: 'b0',
  reference: adagradNormReference,
  base: { lr: 0.5, weightDecay: 0.1, per: 'tensor' },
  changes: { lr: 1, b0: 2, per: 'model', weightDecay: 0.5 },
  quadratic: { lr: 2, per: 'tensor' },
  refusesNonFinite: 'always',
});

runOptimizerSuite({
  definition: delayedAdagrad,
  groupOption: 'beta',
  reference: delayedAdagradReference,
  base: { lr: 0.1, momentum: 0.5 },
  changes: { lr: 0.2, beta: 0.5, epsilon: 0.25, momentum: 0.9, per: 'model' },
  quadratic: { lr: 0.3 },
  refusesNonFinite: { lr: 0.1, per: 'model' },
});

runOptimizerSuite({
  definition: rmsprop,
  groupOption: 'alpha',
  reference: rmspropReference,
  base: { lr: 0.01, weightDecay: 0.1, eps: 1e-3 },
  changes: {
    lr: 0.02,
    alpha: 0.8,
    eps: 0.1,
    momentum: 0.9,
    centered: true,
    weightDecay: 0.5,
    tfStyle: { tfStyle: true, momentum: 0.9 },
  },
  quadratic: { lr: 0.02 },
});

runOptimizerSuite({
  definition: adadelta,
  groupOption: 'eps',
  reference: adadeltaReference,
  base: { weightDecay: 0.1, eps: 1e-3 },
  changes: { lr: 2, rho: 0.7, eps: 1e-2, weightDecay: 0.5 },
  quadratic: { eps: 1e-4 },
});
