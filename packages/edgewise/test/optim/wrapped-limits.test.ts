/** @file What wrappers refuse, which thresholds of stability still hold under them, and which gradients they reach. */
import { expect, test } from 'vitest';
import {
  adagrad,
  adam,
  adamax,
  adamw,
  centralize,
  clipGlobalNorm,
  lamb,
  lookahead,
  nadam,
  type OptimizerDefinition,
  prodigy,
  rmsprop,
  sam,
  scheduleFreeSgd,
  sgd,
  sophia,
  stepTunedSgd,
  wrappers,
} from '../../src/optim/index.ts';
import { make, PARAMS } from './losses.ts';
import type { Given } from './references/reference.ts';

test('what cannot be wrapped is said', () => {
  for (const { wrap, name } of wrappers) expect(() => wrap(wrap(adamw)), name).toThrow(/already|evaluates/);
  expect(() => sam(stepTunedSgd)).toThrow(/stepTunedSgd takes several gradients a step/);
  expect(() => sam(sophia)).toThrow(/sophia takes several gradients a step/);
  expect(() => sam(sam(sgd))).toThrow(/has a hyper-parameter 'samRho' already/);
  expect(() => sam(sgd, { shards: 1.5 })).toThrow(/shards is 1.5; give a whole number/);
  expect(() => lookahead(scheduleFreeSgd)).toThrow(/evaluates a point of its own/);
  expect(() => lookahead(prodigy)).toThrow(/keeps the point it started from/);
  expect(() => clipGlobalNorm(sam(sgd, { shards: 2 }))).toThrow(/put clipNorm around the optimizer inside/);
  const bad = (definition: OptimizerDefinition, values: Given) => () => make('interpreter', definition, values);
  expect(bad(lookahead(adagrad), { lookaheadMomentum: 'reset' })).toThrow(/keeps no momentum/);
  expect(bad(centralize(adamw), { centralizeDecay: true })).toThrow(
    /adamw: centralizeDecay needs an optimizer that adds λθ/,
  );
  expect(bad(centralize(lamb), { centralizeDecay: true })).toThrow(/lamb: centralizeDecay needs/);
  expect(bad(centralize(sam(sgd)), { centralizeDecay: true })).toThrow(/as its innermost wrapper/);
  expect(bad(centralize(sgd), { centralizeDecay: true, centralizeOf: 'update' })).toThrow(/choose one/);
  expect(bad(centralize(stepTunedSgd), { centralizeOf: 'update' })).toThrow(/moves the weights more than once/);
  // The limits of the rule inside still hold.
  expect(bad(centralize(lookahead(sgd)), { nesterov: true })).toThrow(/Nesterov's momentum needs momentum/);
});

test('a stability threshold is told where it still holds', () => {
  const of = (definition: OptimizerDefinition, values: Given) =>
    make('interpreter', definition, { lr: 0.1, ...values }).optimizer.stability();
  const base = of(sgd, {});
  expect(base?.threshold).toBeCloseTo(20, 12);
  expect(of(lookahead(sgd), {})).toBeUndefined();
  expect(of(lookahead(sgd), { lookaheadAlpha: 1 })).toEqual(base);
  expect(of(centralize(sgd), {})).toBeUndefined();
  expect(of(centralize(sgd), { centralize: 'off' })).toEqual(base);
  expect(of(sam(sgd), {})).toBeUndefined();
  expect(of(sam(sgd), { samRho: 0 })).toEqual(base);
  expect(of(sam(adam), { samKind: 'unnormalised' })).toBeUndefined();
  expect(of(sam(sgd, { shards: 2 }), { samKind: 'unnormalised' })).toBeUndefined();
});

test.each([[{ samSteps: 1 }], [{ samSteps: 3 }], [{ samSteps: 2, momentum: 0.9 }]])(
  'unnormalised SAM diverges above its threshold and not below: %j',
  async (values) => {
    for (const [factor, grows] of [
      [0.99, false],
      [1.01, true],
    ] as const) {
      const made = make('float64 kernel', sam(sgd), { lr: 0.1, samKind: 'unnormalised', samRho: 0.07, ...values });
      const { optimizer, theta, grad } = made;
      const curvature = factor * (optimizer.stability()?.threshold ?? Number.NaN);
      theta.fill(1);
      const write = () => {
        for (const { name } of PARAMS)
          grad.set(
            name,
            [...theta.view(name)].map((x) => curvature * x),
          );
        return 1;
      };
      for (let k = 0; k < 1500; k++) {
        write();
        await optimizer.stepWith(write);
      }
      expect(Math.abs(theta.view('s')[0]) > 1).toBe(grows);
    }
  },
);

test('clipping reaches the gradients a rule steps along, and nothing else', async () => {
  // The curvature of Sophia is of another gradient, which no clipping touches.
  const made = make('interpreter', clipGlobalNorm(sophia), { clipNorm: 1e-3, lr: 0.01 });
  const { optimizer, grad } = made;
  grad.fill(2);
  await optimizer.stepWith(() => {
    grad.fill(3);
    return 1;
  });
  expect(optimizer.slots.h.view('w')[0]).toBeCloseTo(0.01 * 9, 2);
  expect(Math.abs(optimizer.slots.m.view('w')[0])).toBeLessThan(1e-3);
  const others: readonly OptimizerDefinition[] = [nadam, adamax, rmsprop];
  for (const each of others) expect(clipGlobalNorm(lookahead(each)).phases.length).toBe(lookahead(each).phases.length);
});
