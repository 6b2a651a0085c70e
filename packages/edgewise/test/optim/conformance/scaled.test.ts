import { expect, test } from 'vitest';
import { lamb, lars, lion, sophia, sophiaH, stepTunedSgd } from '../../../src/optim/index.ts';
import {
  lambReference,
  larsReference,
  lionReference,
  sophiaHReference,
  sophiaReference,
  stepTunedReference,
} from '../references/scaled.ts';
import { runOptimizerSuite } from '../suite.ts';
import { ENGINES, rig } from '../support.ts';

const perTensor = {
  test: 'non-finite gradients',
  reason: 'a norm over each tensor enters its step, so one bad component spoils its tensor',
} as const;

runOptimizerSuite({
  definition: lars,
  reference: larsReference,
  base: { lr: 0.5, trustCoeff: 0.05, weightDecay: 0.1, eps: 1e-3 },
  changes: {
    lr: 0.3,
    momentum: 0.5,
    dampening: 0.3,
    nesterov: true,
    weightDecay: 0.5,
    trustCoeff: 0.1,
    eps: 0.1,
    ratio: 'joint',
    trustClip: { trustClip: true, trustCoeff: 2 },
    alwaysAdapt: { alwaysAdapt: true, weightDecay: 0 },
    excludeVectors: true,
    lrInside: { lrInside: true, nesterov: false, lr: 0.5 },
  },
  quadratic: { lr: 0.1, trustCoeff: 1, momentum: 0.5 },
  groupOption: 'trustCoeff',
  elsewhere: { lrInside: 'acts where the rate changes: below' },
  skip: [perTensor],
});

runOptimizerSuite({
  definition: lamb,
  reference: lambReference,
  base: { lr: 0.02, weightDecay: 0.1, eps: 1e-3 },
  changes: {
    lr: 0.03,
    betas: [0.8, 0.9],
    eps: 0.1,
    weightDecay: 0.5,
    maxGradNorm: 0.5,
    biasCorrection: false,
    gradAveraging: { gradAveraging: false, weightDecay: 0.5 },
    trustClip: true,
    normLimit: 0.5,
    alwaysAdapt: { alwaysAdapt: true, weightDecay: 0 },
  },
  quadratic: { lr: 0.05, weightDecay: 0 },
  groupOption: 'eps',
  refusesNonFinite: { maxGradNorm: 1 },
  skip: [perTensor],
});

runOptimizerSuite({
  definition: lion,
  reference: lionReference,
  base: { lr: 0.02, weightDecay: 0.1 },
  changes: { lr: 0.03, betas: [0.5, 0.8], weightDecay: 0.5 },
  quadratic: { lr: 0.01 },
  groupOption: 'weightDecay',
});

runOptimizerSuite({
  definition: stepTunedSgd,
  reference: stepTunedReference,
  base: { lr: 1, gammaMin: 0.01, gammaMax: 5 },
  changes: {
    lr: 0.1,
    nu: 1.2,
    beta: 0.3,
    gammaMin: { gammaMin: 1.5 },
    gammaMax: 0.2,
    delta: 0.2,
  },
  quadratic: { lr: 0.5 },
  elsewhere: { nu: 'acts where the curvature is negative: below' },
  skip: [{ test: 'non-finite gradients', reason: 'inner products over the model decide the step, which is refused' }],
});

const sophiaRow = {
  base: { lr: 0.02, rho: 0.5, batchTerms: 4, interval: 3 },
  changes: {
    lr: 0.03,
    betas: [0.5, 0.8],
    weightDecay: 0.5,
    interval: 2,
    form: 'paper',
    rho: 0.1,
    batchTerms: 40,
    gamma: { form: 'paper', gamma: 1 },
    eps: { form: 'paper', eps: 1 },
  },
  quadratic: { lr: 0.01, weightDecay: 0 },
  groupOption: 'weightDecay',
};
runOptimizerSuite({ ...sophiaRow, definition: sophia, reference: sophiaReference });
runOptimizerSuite({ ...sophiaRow, definition: sophiaH, reference: sophiaHReference });

test.each(ENGINES)('lars: with the rate inside, a change of it does not rescale past steps: %s', (engine) => {
  const moved = (lrInside: boolean) => {
    const values = { lrInside, momentum: 0.5, weightDecay: 0.1, trustCoeff: 1, eps: 0 };
    const { optimizer, theta, grad } = rig(engine, lars, { values }, [{ name: 'w', shape: [2] }]);
    theta.set('w', [1, 0]);
    grad.set('w', [1, 0]);
    optimizer.step({ lr: 0.1 });
    const before = theta.view('w')[0];
    // A rate of zero stops all motion outside the buffer, and none of what is inside.
    optimizer.step({ lr: 0 });
    return before - theta.view('w')[0];
  };
  expect(moved(false)).toBe(0);
  // The first direction had length ‖w‖ = 1 and entered times 0.1; half of it is left, and what the second adds is 0.
  expect(moved(true)).toBeCloseTo(0.05, engine === 'float32 kernel' ? 6 : 12);
});

test.each(ENGINES)(
  'stepTunedSgd: ν takes the place of the quotient where the curvature is not positive: %s',
  async (engine) => {
    const gamma = async (second: number) => {
      const values = { lr: 0.1, nu: 1.3, gammaMin: 0.01, gammaMax: 100, beta: 0 };
      const { optimizer, grad } = rig(engine, stepTunedSgd, { values }, [{ name: 'w', shape: [1] }]);
      grad.set('w', [1]);
      const evaluate = () => {
        grad.set('w', [second]);
        return 0;
      };
      await optimizer.stepWith(evaluate);
      return optimizer.report.gamma;
    };
    // Δθ = -a, Δg = second - 1: the gradient grows downhill where second > 1.
    expect(await gamma(2)).toBeCloseTo(1.3, 6);
    expect(await gamma(0.5)).toBeCloseTo((0.1 * 0.1) / (0.1 * 0.5), 6);
  },
);
