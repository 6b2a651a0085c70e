import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  average,
  batchRule,
  clipGlobalNorm,
  findOptimizer,
  type OptimizerDefinition,
  optimizers,
  type Schema,
  scaleForBatch,
  type Values,
} from '../../src/optim/index.ts';

const scaled = (name: string, values: Readonly<Record<string, unknown>>, from = 128, to = 2048) =>
  scaleForBatch(findOptimizer(name), values as Partial<Values<Schema>>, from, to).values;

/** Shrinking of a weight without gradient over an epoch of 4096 examples, to first order in λ. */
const epochDecay = ({ lr, weightDecay }: Values<Schema>, batch: number, direct = false) =>
  (direct ? 1 : Number(lr)) * Number(weightDecay) * (4096 / batch);

describe('sixteen times the batch', () => {
  it.each([
    ['sgd', 16],
    ['nme', 16],
    ['lars', 16],
    ['adam', 4],
    ['adamw', 4],
    ['adan', 4],
    ['rmsprop', 4],
    ['lamb', 4],
    ['lion', 4],
    ['prodigy', 1],
    ['sgdNormalized', 1],
  ])('the rate of %s grows by %d', (name, factor) => {
    expect(scaled(name, { lr: 0.003 }).lr).toBeCloseTo(0.003 * factor, 15);
  });

  it.each([
    ['adamw', {}, 4],
    ['adan', {}, 4],
    ['adan', { proximal: false }, 4],
    ['adam', {}, 1],
    ['sgd', {}, 1],
    ['lamb', {}, 1],
    ['radam', { decoupled: true }, 4],
    ['radam', { decoupled: false }, 1],
    ['adabelief', {}, 4],
    ['adabelief', { decoupled: false }, 1],
    ['adabelief', { fixedDecay: true }, 16],
    ['adaboundw', { plainDecay: true }, 16],
    ['prodigy', {}, 16],
    ['prodigy', { decouple: false }, 1],
    ['siSgd', {}, 1],
  ])('the weight decay of %s %j grows by %d', (name, flags, factor) => {
    expect(scaled(name, { weightDecay: 0.02, ...flags }).weightDecay).toBeCloseTo(0.02 * factor, 14);
  });

  it('weights decay as much in an epoch', () => {
    for (const [name, direct] of [
      ['adamw', false],
      ['adan', false],
      ['siSgd', false],
      ['adabelief', true],
    ] as const) {
      const before = { lr: 0.01, weightDecay: 0.1, ...(direct ? { fixedDecay: true } : {}) };
      const after = scaled(name, before);
      expect(epochDecay(after, 2048, direct)).toBeCloseTo(epochDecay(before, 128, direct), 14);
    }
  });

  it('an exponential average of iterates looks back over as many examples', () => {
    const wrapped = average.wrap(findOptimizer('adamw'));
    const values = { averageKind: 'ema', averageDecay: 0.999 };
    const after = scaleForBatch(wrapped, values, 128, 2048).values;
    // The weight left of an iterate after the same examples: 16 steps before, one now.
    expect(after.averageDecay).toBeCloseTo(0.999 ** 16, 15);
    expect(scaleForBatch(wrapped, { ...values, averageKind: 'mean' }, 128, 2048).values.averageDecay).toBe(0.999);
  });

  it('everything else stays, and is said to', () => {
    const { values, changes } = scaleForBatch(findOptimizer('adamw'), {}, 256, 1024);
    const defaults = Object.fromEntries(
      Object.entries(findOptimizer('adamw').hyperparameters).map(([name, { default: value }]) => [name, value]),
    );
    expect(values).toEqual({ ...defaults, lr: 0.002, weightDecay: 0.02 });
    expect(changes).toEqual([
      { name: 'lr', before: 0.001, after: 0.002, formula: "η' = √κ η" },
      { name: 'weightDecay', before: 0.01, after: 0.02, formula: "λ' = √κ λ" },
    ]);
  });

  it('wrappers keep the rules, and so do rates of parameters apart', () => {
    const clipped = clipGlobalNorm(findOptimizer('sgd')) as OptimizerDefinition;
    expect(scaleForBatch(clipped, { lr: 0.1, clipNorm: 2 }, 32, 64).values).toMatchObject({ lr: 0.2, clipNorm: 2 });
    const rule = batchRule({ batchScaling: 'square root', decay: 'decoupled' }, {}, 'otherLr');
    expect(rule?.scaled(3, 4)).toBe(6);
    expect(batchRule({ decay: 'decoupled' }, {}, 'otherWeightDecay')?.scaled(3, 4)).toBe(6);
    expect(batchRule({ decay: 'decoupled' }, {}, 'momentum')).toBeUndefined();
  });
});

it('going there in two steps, or there and back, is the same', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...optimizers),
      fc.integer({ min: 1, max: 4096 }),
      fc.integer({ min: 1, max: 4096 }),
      fc.integer({ min: 1, max: 4096 }),
      (definition, a, b, c) => {
        const wrapped = definition.evaluated ? definition : average.wrap(definition);
        const ema = definition.evaluated ? {} : { averageKind: 'ema', averageDecay: 0.9 };
        const start = scaleForBatch(wrapped, ema, a, a);
        expect(start.changes).toEqual([]);
        const once = scaleForBatch(wrapped, ema, a, c).values;
        const between = scaleForBatch(wrapped, ema, a, b).values;
        // A mean so short that nothing is left of it in floating point cannot come back.
        if (Number(between.averageDecay ?? 1) < 1e-200 || Number(between.averageDecay ?? 0) > 1 - 1e-4) return;
        const twice = scaleForBatch(wrapped, between, b, c).values;
        for (const [name, value] of Object.entries(once)) {
          if (typeof value !== 'number') expect(twice[name]).toEqual(value);
          else expect(Math.abs(Number(twice[name]) - value)).toBeLessThanOrEqual(1e-10 * Math.abs(value));
        }
      },
    ),
    { numRuns: 300 },
  );
});

it('sizes and values that do not fit are refused', () => {
  const adam = findOptimizer('adam');
  expect(() => scaleForBatch(adam, {}, 0, 8)).toThrow(/adam: the batch size that values were chosen for is 0/);
  expect(() => scaleForBatch(adam, {}, 8, 2.5)).toThrow(/they are wanted for is 2.5; give a whole number/);
  expect(() => scaleForBatch(adam, { lr: -1 }, 8, 8)).toThrow(/lr is -1/);
  const wrapped = average.wrap(adam);
  expect(() => scaleForBatch(wrapped, { averageKind: 'ema', averageDecay: 1 - 1e-16 }, 2 ** 40, 1)).toThrow(
    /rescaled from batch 1099511627776 to 1: averageDecay is 1/,
  );
});
