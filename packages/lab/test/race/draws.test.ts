import { Key } from 'edgewise';
import { adan, findOptimizer, type SearchRange, sgd } from 'edgewise/optim';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { atFraction, drawTrials, tunedOf } from '../../src/race/draws.ts';

const lrOf = (name: string) => {
  const { hyperparameters } = findOptimizer(name);
  return { schema: hyperparameters, tuned: tunedOf(name, hyperparameters, ['lr']) };
};

/** Largest distance between the empirical distribution of `sample` and the uniform one on [0, 1] (Kolmogorov and Smirnov). */
function distanceFromUniform(sample: readonly number[]): number {
  const sorted = [...sample].sort((a, b) => a - b);
  return Math.max(...sorted.map((u, i) => Math.max((i + 1) / sorted.length - u, u - i / sorted.length)));
}

describe('draws', () => {
  it('are the same for the same key, and others for another', () => {
    const { schema, tuned } = lrOf('adan');
    const draw = (seed: number) => drawTrials(schema, tuned, 7, Key.fromSeed(seed));
    expect(draw(3)).toEqual(draw(3));
    expect(draw(3)).not.toEqual(draw(4));
  });

  it('are log-uniform over the declared range', () => {
    const { schema, tuned } = lrOf('sgd');
    const { low, high } = tuned[0].range;
    // One trial a key, so that stratification does not help.
    const sample = Array.from({ length: 2000 }, (_, seed) => {
      const [{ lr }] = drawTrials(schema, tuned, 1, Key.fromSeed(seed));
      return Math.log(Number(lr) / low) / Math.log(high / low);
    });
    // 1.63 / √n is the one-percent bound of the statistic.
    expect(distanceFromUniform(sample)).toBeLessThan(1.63 / Math.sqrt(2000));
  });

  it('cover the range: of n trials, one lies in each n-th of it', () => {
    const { schema, tuned } = lrOf('adan');
    const { low, high } = tuned[0].range;
    for (const n of [1, 2, 5, 16]) {
      const strata = drawTrials(schema, tuned, n, Key.fromSeed(n)).map(({ lr }) =>
        Math.floor((n * Math.log(Number(lr) / low)) / Math.log(high / low)),
      );
      expect([...strata].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
    }
  });

  it('try optimizers at the same places of their ranges', () => {
    const places = ['adan', 'sgd'].map((name) => {
      const { schema, tuned } = lrOf(name);
      const { low, high } = tuned[0].range;
      return drawTrials(schema, tuned, 6, Key.fromSeed(1)).map(
        ({ lr }) => Math.log(Number(lr) / low) / Math.log(high / low),
      );
    });
    places[0].forEach((place, i) => {
      expect(places[1][i] / place).toBeCloseTo(1, 2);
    });
  });

  it('draw each number of a list over its own range, and leave the others alone', () => {
    const { hyperparameters } = adan;
    const all = drawTrials(hyperparameters, tunedOf('adan', hyperparameters, ['betas']), 9, Key.fromSeed(0));
    for (const { betas } of all) {
      (betas as readonly number[]).forEach((beta, i) => {
        const range = hyperparameters.betas.search?.[i];
        expect(beta).toBeGreaterThanOrEqual(range?.low ?? 1);
        expect(beta).toBeLessThanOrEqual(range?.high ?? 0);
      });
    }
    const third = drawTrials(hyperparameters, tunedOf('adan', hyperparameters, ['betas.2']), 4, Key.fromSeed(0));
    for (const { betas } of third) expect((betas as readonly number[]).slice(0, 2)).toEqual([0.98, 0.92]);
    expect(new Set(third.map(({ betas }) => (betas as readonly number[])[2])).size).toBe(4);
  });

  it('stay within the range, in rising order of the fraction', () => {
    const ranges: SearchRange[] = [
      { low: 1e-5, high: 0.3, scale: 'log' },
      { low: -2, high: 5, scale: 'linear' },
      { low: 0.5, high: 0.999, scale: 'log of 1 - x' },
    ];
    fc.assert(
      fc.property(fc.constantFrom(...ranges), fc.double({ min: 0, max: 1, noNaN: true }), (range, fraction) => {
        const value = atFraction(range, fraction);
        expect(value).toBeGreaterThanOrEqual(range.low);
        expect(value).toBeLessThanOrEqual(range.high);
        expect(atFraction(range, Math.min(1, fraction + 0.01))).toBeGreaterThanOrEqual(value);
      }),
    );
  });

  it('are uniform in the logarithm of one minus a decay rate', () => {
    // Half-way between distances 0.1 and 0.001 is 0.01.
    expect(atFraction({ low: 0.9, high: 0.999, scale: 'log of 1 - x' }, 0.5)).toBe(0.99);
    expect(atFraction({ low: 1e-4, high: 1, scale: 'log' }, 0.5)).toBe(0.01);
    expect(atFraction({ low: 2, high: 4, scale: 'linear' }, 0.5)).toBe(3);
  });

  it('refuse what cannot be searched, naming what can', () => {
    expect(() => tunedOf('adan', adan.hyperparameters, ['learning'])).toThrow(/tune 'learning' of adan/);
    expect(() => tunedOf('adan', adan.hyperparameters, ['lrr'])).toThrow(/did you mean 'lr'/);
    expect(() => tunedOf('adan', adan.hyperparameters, ['eps'])).toThrow(/no range to search.*lr, betas/);
    expect(() => tunedOf('adan', adan.hyperparameters, ['betas.3'])).toThrow(/no range/);
    expect(() => tunedOf('sgd', sgd.hyperparameters, ['nesterov'])).toThrow(/no range/);
  });
});
