import { muon } from '../../../src/optim/index.ts';
import { muonReference } from '../references/matrix.ts';
import { runOptimizerSuite, type SuiteRow } from '../suite.ts';

/** A matrix method mixes all components of a tensor, so it refuses what is not finite: see matrix.test.ts one folder up. */
const skip: SuiteRow['skip'] = [
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
