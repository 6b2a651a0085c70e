import { adabelief, adabound, adaboundw, amsbound, padam, radam } from '../../../src/optim/index.ts';
import {
  adabeliefReference,
  adaboundReference,
  adaboundwReference,
  padamReference,
  radamReference,
} from '../references/adaptive.ts';
import { runOptimizerSuite } from '../suite.ts';

// Five updates are momentum steps, or skipped; four with the threshold 4.
const radamBase = { lr: 0.02, betas: [0.9, 0.95], weightDecay: 0.1, eps: 1e-2 };
runOptimizerSuite({
  definition: radam,
  groupOption: 'threshold',
  reference: radamReference,
  base: { ...radamBase, betas: [0.9, 0.99] },
  changes: {
    lr: 0.03,
    betas: [0.8, 0.95],
    eps: 0.3,
    weightDecay: 0.5,
    threshold: 4,
    below: 'skip',
    decoupled: true,
  },
  quadratic: { lr: 0.05 },
});
runOptimizerSuite({
  definition: radam,
  groupOption: 'weightDecay',
  reference: radamReference,
  base: { ...radamBase, decoupled: true, below: 'skip' },
  changes: {
    lr: 0.03,
    betas: [0.8, 0.99],
    eps: 0.3,
    weightDecay: 0.5,
    threshold: 4,
    below: 'momentum',
    decoupled: false,
  },
  quadratic: { lr: 0.05, below: 'skip' },
});

runOptimizerSuite({
  definition: padam,
  groupOption: 'partial',
  reference: padamReference,
  base: { lr: 0.05, betas: [0.9, 0.9], weightDecay: 0.1, eps: 1e-2 },
  changes: {
    lr: 0.1,
    betas: [0.8, 0.5],
    eps: 0.3,
    weightDecay: 0.5,
    partial: 0.2,
    amsgrad: false,
    decoupled: true,
  },
  quadratic: { lr: 0.05 },
});
runOptimizerSuite({
  definition: padam,
  groupOption: 'eps',
  reference: padamReference,
  base: { lr: 0.05, betas: [0.9, 0.9], weightDecay: 0.1, eps: 1e-2, partial: 0.125, amsgrad: false, decoupled: true },
  changes: {
    lr: 0.1,
    betas: [0.8, 0.5],
    eps: 0.3,
    weightDecay: 0.5,
    partial: 0.5,
    amsgrad: true,
    decoupled: false,
  },
  quadratic: { lr: 0.05, partial: 0.125, amsgrad: false },
});

// Some rates are clamped from either side in the first steps, and some are not.
const boundBase = { lr: 0.02, betas: [0.9, 0.9], weightDecay: 0.1, eps: 1e-3, finalLr: 0.03, gamma: 1 };
const boundChanges = {
  lr: 0.03,
  betas: [0.8, 0.5],
  eps: 0.3,
  weightDecay: 0.5,
  finalLr: 0.06,
  gamma: 0.3,
  amsbound: { amsbound: true, betas: [0.9, 0.5] },
};
runOptimizerSuite({
  definition: adabound,
  groupOption: 'finalLr',
  reference: adaboundReference,
  base: boundBase,
  changes: boundChanges,
  quadratic: { lr: 0.02, finalLr: 0.3 },
});
runOptimizerSuite({
  definition: amsbound,
  groupOption: 'finalLr',
  reference: adaboundReference,
  base: { ...boundBase, betas: [0.9, 0.5] },
  changes: { ...boundChanges, betas: [0.8, 0.9], amsbound: false },
  quadratic: { lr: 0.02, finalLr: 0.3 },
});
runOptimizerSuite({
  definition: adaboundw,
  groupOption: 'gamma',
  reference: adaboundwReference,
  base: boundBase,
  changes: { ...boundChanges, plainDecay: true },
  quadratic: { lr: 0.02, finalLr: 0.3 },
});

const beliefChanges = {
  lr: 0.03,
  betas: [0.8, 0.95],
  eps: 0.1,
  weightDecay: 0.5,
  amsgrad: { rectify: false, amsgrad: true, betas: [0.9, 0.5] },
  below: { rectify: true, below: 'skip' },
  fixedDecay: true,
};
runOptimizerSuite({
  definition: adabelief,
  groupOption: 'eps',
  reference: adabeliefReference,
  base: { lr: 0.02, betas: [0.9, 0.99], weightDecay: 0.1, eps: 1e-3 },
  changes: { ...beliefChanges, rectify: false, decoupled: false },
  quadratic: { lr: 0.05, eps: 1e-8 },
});
runOptimizerSuite({
  definition: adabelief,
  groupOption: 'weightDecay',
  reference: adabeliefReference,
  base: { lr: 0.02, betas: [0.9, 0.99], weightDecay: 0.1, eps: 1e-3, rectify: false, decoupled: false },
  changes: { ...beliefChanges, rectify: true, decoupled: true, fixedDecay: { decoupled: true, fixedDecay: true } },
  quadratic: { lr: 0.05, eps: 1e-8, rectify: false },
});
