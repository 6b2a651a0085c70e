import { adamax, generalizedSignSgd, nadam, nadamw } from '../../../src/optim/index.ts';
import { adamaxReference, generalizedSignReference, nadamReference, nadamwReference } from '../references/adaptive.ts';
import { runOptimizerSuite } from '../suite.ts';

const base = { lr: 0.02, weightDecay: 0.1, eps: 1e-3 };
const changes = { lr: 0.03, betas: [0.8, 0.7], eps: 0.1, weightDecay: 0.5 };

runOptimizerSuite({
  definition: adamax,
  groupOption: 'eps',
  reference: adamaxReference,
  base,
  changes,
  quadratic: { lr: 0.05 },
});

runOptimizerSuite({
  definition: nadam,
  groupOption: 'momentumDecay',
  reference: nadamReference,
  base,
  changes: { ...changes, momentumDecay: 0.5 },
  quadratic: { lr: 0.05 },
});

runOptimizerSuite({
  definition: nadamw,
  groupOption: 'weightDecay',
  reference: nadamwReference,
  base,
  changes,
  quadratic: { lr: 0.05, weightDecay: 0 },
});

runOptimizerSuite({
  definition: generalizedSignSgd,
  groupOption: 'eps',
  reference: generalizedSignReference,
  base,
  changes: { ...changes, biasCorrection: true },
  quadratic: { lr: 0.02, betas: [0.9, 0.99] },
});
