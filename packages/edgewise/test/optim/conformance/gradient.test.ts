import { agd, nme, sgdClip, sgdNormalized, siSgd, sqrtLossGd } from '../../../src/optim/index.ts';
import {
  agdReference,
  nmeReference,
  sgdClipReference,
  sgdNormalizedReference,
  siSgdReference,
  sqrtLossReference,
} from '../references/gradient.ts';
import { runOptimizerSuite } from '../suite.ts';

runOptimizerSuite({
  definition: nme,
  groupOption: 'momentum',
  reference: nmeReference,
  base: { lr: 0.05, weightDecay: 0.1 },
  changes: { lr: 0.1, momentum: 0.5, weightDecay: 0.5 },
  quadratic: { lr: 0.05 },
});

runOptimizerSuite({
  definition: agd,
  groupOption: 'momentum',
  reference: agdReference,
  base: { lr: 0.05, weightDecay: 0.1 },
  changes: {
    lr: 0.1,
    momentum: 0.5,
    momentumSchedule: 'fista',
    conditionNumber: { momentumSchedule: 'strongly convex', conditionNumber: 20 },
    weightDecay: 0.5,
  },
  quadratic: { lr: 0.05 },
});
runOptimizerSuite({
  definition: agd,
  groupOption: 'weightDecay',
  reference: agdReference,
  base: { lr: 0.05, weightDecay: 0.1, momentumSchedule: 'convex' },
  changes: {
    lr: 0.1,
    momentum: { momentumSchedule: 'constant', momentum: 0.5 },
    momentumSchedule: 'strongly convex',
    conditionNumber: { momentumSchedule: 'strongly convex', conditionNumber: 20 },
    weightDecay: 0.5,
  },
  quadratic: { lr: 0.3, momentumSchedule: 'convex' },
});

const directionChanges = {
  dampening: 0.3,
  momentum: 0.5,
  nesterov: true,
  weightDecay: 0.5,
};
runOptimizerSuite({
  definition: sgdClip,
  reference: sgdClipReference,
  base: { lr: 0.1, momentum: 0.9, weightDecay: 0.1, clippingParam: 0.5 },
  changes: {
    ...directionChanges,
    lr: { lr: 0.02, clippingParam: 2 },
    clippingParam: 0.2,
    form: { form: 'theory', clippingParam: 4 },
  },
  quadratic: { lr: 0.05, momentum: 0.9 },
  refusesNonFinite: 'always',
});
runOptimizerSuite({
  definition: sgdNormalized,
  reference: sgdNormalizedReference,
  base: { lr: 0.1, momentum: 0.9, weightDecay: 0.1 },
  changes: { ...directionChanges, lr: 0.2, eps: 1 },
  quadratic: { lr: 0.05 },
  refusesNonFinite: 'always',
});

runOptimizerSuite({
  definition: sqrtLossGd,
  reference: sqrtLossReference,
  base: { lr: 0.05 },
  changes: { lr: 0.1, minLoss: 1.5 },
  quadratic: { lr: 0.05 },
});

runOptimizerSuite({
  definition: siSgd,
  reference: siSgdReference,
  base: { lr: 0.05, weightDecay: 0.1, clipFactor: 0.1 },
  changes: { lr: 0.1, weightDecay: 0.02, clipFactor: 0.2, per: 'tensor' },
  quadratic: { lr: 0.3, weightDecay: 0 },
  refusesNonFinite: 'always',
});
runOptimizerSuite({
  definition: siSgd,
  groupOption: 'weightDecay',
  reference: siSgdReference,
  base: { lr: 0.05, weightDecay: 0.1, clipFactor: 0.1, per: 'tensor' },
  changes: { lr: 0.1, weightDecay: 0.02, clipFactor: 0, per: 'model' },
  quadratic: { lr: 0.3, weightDecay: 0, per: 'tensor' },
  refusesNonFinite: 'always',
});
