import { muon, shampoo, soap } from '../../../src/optim/index.ts';
import { muonReference, shampooReference, soapReference } from '../references/matrix.ts';
import { runOptimizerSuite, type SuiteRow } from '../suite.ts';

/** A matrix method mixes all components of a tensor, so it refuses what is not finite: see the test of each one folder up. */
const skip: NonNullable<SuiteRow['skip']> = [
  {
    test: 'non-finite gradients',
    reason: 'a non-finite component would spoil its whole tensor, so that every such step is refused',
  },
];

runOptimizerSuite({
  definition: muon,
  groupOption: 'otherEps',
  reference: muonReference,
  base: { lr: 0.05, weightDecay: 0.1, otherLr: 0.02, otherEps: 1e-3, otherWeightDecay: 0.1 },
  changes: {
    lr: 0.08,
    momentum: 0.5,
    nesterov: false,
    weightDecay: 0.5,
    steps: 3,
    scale: 'matchRmsAdamw',
    otherLr: 0.05,
    otherBetas: [0.8, 0.9],
    otherEps: 0.1,
    otherWeightDecay: 0.5,
  },
  quadratic: { lr: 0.05, otherLr: 0.05 },
  skip,
});

runOptimizerSuite({
  definition: soap,
  groupOption: 'eps',
  reference: soapReference,
  base: { lr: 0.02, weightDecay: 0.1, eps: 1e-3, preconditionFrequency: 2 },
  changes: {
    lr: 0.03,
    betas: [0.8, 0.9],
    shampooBeta: 0.5,
    eps: 0.1,
    weightDecay: 0.5,
    preconditionFrequency: 3,
    maxDimension: 4,
    normalizeGrads: true,
    correctBias: false,
  },
  quadratic: { lr: 0.05, weightDecay: 0 },
  skip: [
    ...skip,
    {
      test: 'equals the scalar reference',
      reason:
        'one gradient of [3, 5] has a null space of two dimensions, in which any basis is an eigenbasis: soap.test.ts compares where there is but one',
    },
  ],
});

runOptimizerSuite({
  definition: shampoo,
  groupOption: 'eps',
  reference: shampooReference,
  base: { lr: 0.05, momentum: 0.5, weightDecay: 0.1, eps: 1e-2, rootEvery: 2 },
  changes: {
    lr: 0.08,
    momentum: 0.9,
    statistics: 'average',
    beta2: { statistics: 'average', beta2: 0.8 },
    eps: 0.1,
    exponent: 0.5,
    rootEvery: 3,
    maxDimension: 4,
    grafting: 'sgd',
    graftBeta: { grafting: 'adam', graftBeta: 0.9 },
    graftEps: { grafting: 'adam', graftEps: 0.1 },
    weightDecay: 0.5,
  },
  quadratic: { lr: 0.5 },
  skip,
});
