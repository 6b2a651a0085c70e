import { adam, adamw, adan, amsgrad, clipGlobalNorm, clipValue, sgd } from '../../../src/optim/index.ts';
import {
  adamReference,
  adamwReference,
  adanReference,
  clippedNormReference,
  clippedValueReference,
  sgdReference,
} from '../references/first.ts';
import { runOptimizerSuite } from '../suite.ts';

runOptimizerSuite({
  definition: adan,
  groupOption: 'eps',
  reference: adanReference,
  base: { lr: 0.02, weightDecay: 0.1, eps: 1e-3 },
  changes: {
    lr: 0.03,
    betas: [0.9, 0.8, 0.95],
    eps: 0.1,
    weightDecay: 0.5,
    maxGradNorm: 1,
    proximal: { proximal: false, weightDecay: 2 },
    restartEvery: 3,
    movementBudget: 0.05,
  },
  quadratic: { lr: 0.05 },
  refusesNonFinite: { lr: 0.02, maxGradNorm: 1 },
});

const sgdRow = {
  definition: sgd,
  groupOption: 'momentum',
  reference: sgdReference,
  base: { lr: 0.05, momentum: 0.9, weightDecay: 0.1 },
  changes: {
    lr: 0.1,
    momentum: 0.5,
    dampening: 0.3,
    nesterov: true,
    weightDecay: 0.5,
    maximize: true,
  },
  quadratic: { lr: 0.05, momentum: 0.9 },
};
runOptimizerSuite(sgdRow);

const adamChanges = {
  lr: 0.03,
  betas: [0.8, 0.9],
  eps: 0.1,
  weightDecay: 0.5,
  amsgrad: { amsgrad: true, betas: [0.9, 0.5] },
  maximize: true,
};
const adamBase = { lr: 0.02, weightDecay: 0.1, eps: 1e-3 };
runOptimizerSuite({
  definition: adam,
  groupOption: 'eps',
  reference: adamReference,
  base: adamBase,
  changes: adamChanges,
  quadratic: { lr: 0.05 },
});
runOptimizerSuite({
  definition: amsgrad,
  groupOption: 'eps',
  reference: adamReference,
  base: { ...adamBase, betas: [0.9, 0.5] },
  changes: { ...adamChanges, amsgrad: false },
  quadratic: { lr: 0.05, betas: [0.9, 0.99] },
});
runOptimizerSuite({
  definition: adamw,
  groupOption: 'eps',
  reference: adamwReference,
  base: adamBase,
  changes: adamChanges,
  quadratic: { lr: 0.05, weightDecay: 0 },
});

runOptimizerSuite({
  ...sgdRow,
  definition: clipGlobalNorm(sgd),
  reference: clippedNormReference(sgdReference),
  changes: { ...sgdRow.changes, clipNorm: 0.5 },
  refusesNonFinite: { lr: 0.05, clipNorm: 1 },
});
runOptimizerSuite({
  ...sgdRow,
  definition: clipValue(sgd),
  groupOption: 'clipValue',
  reference: clippedValueReference(sgdReference),
  changes: { ...sgdRow.changes, clipValue: 0.2 },
});
