import { expect, test } from 'vitest';
import {
  adamw,
  asgd,
  average,
  dadaptAdam,
  dadaptSgd,
  ftrlMomentum,
  momentEstimation,
  type OptimizerDefinition,
  prodigy,
  scheduleFreeAdamw,
  scheduleFreeSgd,
  sgd,
} from '../../../src/optim/index.ts';
import {
  asgdReference,
  averagedReference,
  dadaptAdamReference,
  dadaptSgdReference,
  ftrlReference,
  momentEstimationReference,
  prodigyReference,
  scheduleFreeAdamwReference,
  scheduleFreeSgdReference,
} from '../references/averaging.ts';
import { adamwReference, sgdReference } from '../references/first.ts';
import { runOptimizerSuite } from '../suite.ts';
import { ENGINES, rig } from '../support.ts';

const wholeModel = {
  test: 'non-finite gradients',
  reason: 'a sum over the model decides the step, so one bad component spoils all',
} as const;
const groups = {
  test: 'groups act as separate optimizers',
  reason: 'one estimate or average weight is shared by all parameters',
} as const;

runOptimizerSuite({
  definition: asgd,
  reference: asgdReference,
  base: { lr: 0.1, t0: 2, lambd: 0.1, weightDecay: 0.1 },
  changes: { lr: 0.2, lambd: 0.5, alpha: 0.3, t0: 0, weightDecay: 0.5 },
  quadratic: { lr: 0.3, t0: 1900 },
  groupOption: 'weightDecay',
});

runOptimizerSuite({
  definition: ftrlMomentum,
  reference: ftrlReference,
  base: { lr: 0.2 },
  changes: {
    lr: 0.3,
    rate: 'constant',
    weights: 'increasing',
    delayed: { rate: 'adaptive', delayed: true, eps: 0.1 },
    eps: { rate: 'adaptive', eps: 0.5 },
  },
  quadratic: {},
  skip: [
    {
      test: 'finds the minimum of a quadratic',
      reason: 'the rate multiplies the sum of all gradients, so a schedule that goes to zero leads back to the start',
    },
  ],
});

runOptimizerSuite({
  definition: momentEstimation,
  reference: momentEstimationReference,
  base: { lr: 0.3, beta: 0.5 },
  changes: { lr: 0.5, floor: 0.2, beta: 0.9, averaged: false },
  quadratic: { lr: 1, averaged: false },
  skip: [wholeModel, groups],
});

const free = { warmupSteps: 4, weightPower: 0, stepPower: 2, decayAt: 'z' };
runOptimizerSuite({
  definition: scheduleFreeSgd,
  reference: scheduleFreeSgdReference,
  base: { lr: 0.2, weightDecay: 0.1, warmupSteps: 3 },
  changes: { lr: 0.3, momentum: 0.5, weightDecay: 0.5, ...free },
  quadratic: { lr: 0.3 },
  groupOption: 'weightDecay',
});
runOptimizerSuite({
  definition: scheduleFreeAdamw,
  reference: scheduleFreeAdamwReference,
  base: { lr: 0.05, weightDecay: 0.1, warmupSteps: 3, eps: 1e-3 },
  changes: { lr: 0.1, betas: [0.5, 0.9], eps: 0.1, weightDecay: 0.5, ...free },
  quadratic: { lr: 0.1 },
  groupOption: 'weightDecay',
});

const parameterFree = { base: { d0: 0.05, eps: 1e-3 }, quadratic: { d0: 0.1, lr: 1 }, skip: [wholeModel, groups] };
runOptimizerSuite({
  ...parameterFree,
  definition: dadaptAdam,
  reference: dadaptAdamReference,
  changes: {
    lr: 0.5,
    betas: [0.5, 0.9],
    eps: 0.1,
    weightDecay: 0.5,
    d0: 0.1,
    growthRate: 1.01,
    decouple: { decouple: true, weightDecay: 0.5 },
    biasCorrection: true,
  },
});
runOptimizerSuite({
  ...parameterFree,
  definition: dadaptSgd,
  reference: dadaptSgdReference,
  base: { d0: 0.05 },
  elsewhere: { growthRate: 'acts where the estimate grows: below' },
  changes: { lr: 0.5, momentum: 0.5, weightDecay: 0.5, d0: 0.3, growthRate: 1.001 },
});
runOptimizerSuite({
  ...parameterFree,
  definition: prodigy,
  reference: prodigyReference,
  changes: {
    lr: 0.5,
    betas: [0.5, 0.9],
    eps: 0.1,
    weightDecay: 0.5,
    d0: 0.1,
    dCoef: 3,
    growthRate: 1.01,
    decouple: { decouple: false, weightDecay: 0.5 },
    biasCorrection: true,
    safeguardWarmup: { safeguardWarmup: true, lr: 0.5 },
  },
});

const averages = {
  averageKind: 'ema',
  averageStart: 2,
  averageEvery: 2,
  averageDecay: { averageKind: 'ema', averageDecay: 0.5 },
  averageWarmup: { averageKind: 'ema', averageWarmup: 'timm' },
  averageDebias: { averageKind: 'ema', averageDebias: true },
};
runOptimizerSuite({
  definition: average.wrap(sgd as unknown as OptimizerDefinition),
  reference: averagedReference(sgdReference),
  base: { lr: 0.05, momentum: 0.9, weightDecay: 0.1 },
  changes: {
    lr: 0.1,
    momentum: 0.5,
    dampening: 0.3,
    nesterov: true,
    weightDecay: 0.5,
    maximize: true,
    ...averages,
  },
  quadratic: { lr: 0.05, momentum: 0.9, averageStart: 1500 },
  groupOption: 'momentum',
});
runOptimizerSuite({
  definition: average.wrap(adamw as unknown as OptimizerDefinition),
  reference: averagedReference(adamwReference),
  base: { lr: 0.02, weightDecay: 0.1, eps: 1e-3 },
  changes: {
    lr: 0.03,
    betas: [0.8, 0.9],
    eps: 0.1,
    weightDecay: 0.5,
    amsgrad: { amsgrad: true, betas: [0.9, 0.5] },
    maximize: true,
    ...averages,
  },
  quadratic: { lr: 0.05, weightDecay: 0, averageStart: 1500 },
  groupOption: 'eps',
});

test('an average is not put around what is evaluated elsewhere already', () => {
  expect(() => average.wrap(scheduleFreeSgd as unknown as OptimizerDefinition)).toThrow(/scheduleFreeSgd is evaluated/);
  expect(() => average.wrap(average.wrap(sgd as unknown as OptimizerDefinition))).toThrow(
    /is evaluated at another point/,
  );
});

test.each(ENGINES)(
  'ftrlMomentum at a constant rate is heavy ball with momentum (t-1)/(t+1) and step η/(t+1): %s',
  (engine) => {
    const values = { lr: 0.3, rate: 'constant' };
    const { optimizer, theta, grad } = rig(engine, ftrlMomentum, { values }, [{ name: 'w', shape: [1] }]);
    theta.set('w', [2]);
    let [w, before] = [2, 2];
    for (let t = 1; t <= 20; t++) {
      const g = Math.sin(3 * t) + 0.5;
      grad.set('w', [g]);
      optimizer.step();
      [w, before] = [w + ((t - 1) / (t + 1)) * (w - before) - (0.3 / (t + 1)) * g, w];
      expect(Math.abs(theta.view('w')[0] - w)).toBeLessThan(engine === 'float32 kernel' ? 1e-6 : 1e-13);
    }
  },
);

test.each([dadaptAdam, dadaptSgd] as unknown as OptimizerDefinition[])(
  'the estimate of $name never falls',
  (definition) => {
    const { optimizer, grad } = rig('float64 kernel', definition, { values: { d0: 0.01 } }, [
      { name: 'w', shape: [3] },
    ]);
    let last = 0.01;
    for (let t = 0; t < 60; t++) {
      grad.set('w', [Math.sin(t), Math.cos(2 * t), t % 7 === 0 ? -3 : 1]);
      optimizer.step();
      const { d } = optimizer.report;
      expect(d).toBeGreaterThanOrEqual(last);
      last = d;
    }
  },
);

test.each([dadaptAdam, dadaptSgd, prodigy] as unknown as OptimizerDefinition[])(
  '$name waits where all gradients so far are zero',
  (definition) => {
    const { optimizer, theta, grad } = rig('float64 kernel', definition, {}, [{ name: 'w', shape: [2] }]);
    theta.set('w', [1, 2]);
    expect(optimizer.step()).toMatchObject({ applied: false });
    expect([...theta.view('w')]).toEqual([1, 2]);
    grad.set('w', [1, 1]);
    expect(optimizer.step()).toMatchObject({ applied: true });
  },
);

test('dadaptSgd grows by no more than its growth rate', () => {
  const estimates = (growthRate: number): number[] => {
    const settings = { values: { d0: 0.01, growthRate } };
    const { optimizer, grad } = rig('float64 kernel', dadaptSgd as unknown as OptimizerDefinition, settings, [
      { name: 'w', shape: [2] },
    ]);
    return Array.from({ length: 30 }, () => {
      grad.set('w', [1, -0.5]);
      optimizer.step();
      return optimizer.report.d;
    });
  };
  const [free, held] = [estimates(1e30), estimates(1.1)];
  expect(Math.max(...free.map((d, i) => d / (free[i - 1] ?? 0.01)))).toBeGreaterThan(1.5);
  for (const [i, d] of held.entries()) expect(d / (held[i - 1] ?? 0.01)).toBeLessThanOrEqual(1.1 + 1e-12);
  expect(held[29]).toBeGreaterThan(0.05);
});
