import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type LinearOperator, lanczos } from '../../src/probes/lanczos.ts';
import { tridiagonalEigen } from '../../src/probes/tridiagonal.ts';
import { dot } from '../../src/probes/vectors.ts';

const dense = (rows: readonly (readonly number[])[]): LinearOperator => ({
  size: rows.length,
  apply: async (v, out) => {
    rows.forEach((row, i) => {
      out[i] = row.reduce((sum, a, j) => sum + a * v[j], 0);
    });
  },
});

/** A symmetric matrix with the given eigenvalues: Householder reflections of a diagonal. */
function withSpectrum(values: readonly number[], seed: number): number[][] {
  const n = values.length;
  const u = Float64Array.from({ length: n }, (_, i) => Math.sin(seed + 1.7 * i) + 0.1);
  const s = dot(u, u);
  const h = (i: number, j: number) => (i === j ? 1 : 0) - (2 * u[i] * u[j]) / s;
  return values.map((_, i) =>
    values.map((_, j) => values.reduce((sum, value, k) => sum + h(i, k) * value * h(j, k), 0)),
  );
}

describe('tridiagonalEigen', () => {
  test('the second-difference matrix has the known eigenvalues 2 - 2 cos(kπ/(n+1))', () => {
    const n = 9;
    const { values } = tridiagonalEigen(new Array(n).fill(2), new Array(n - 1).fill(-1));
    values.forEach((value, i) => expect(value).toBeCloseTo(2 - 2 * Math.cos(((n - i) * Math.PI) / (n + 1)), 13));
  });

  test('eigenpairs of random matrices satisfy T v = λ v and are orthonormal', () => {
    const entries = (n: number) =>
      fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: n, maxLength: n });
    const matrix = fc.integer({ min: 1, max: 12 }).chain((n) => fc.tuple(entries(n), entries(Math.max(0, n - 1))));
    fc.assert(
      fc.property(matrix, ([d, e]) => {
        const { values, vectors } = tridiagonalEigen(d, e);
        vectors.forEach((v, i) => {
          const tv = v.map(
            (x, k) => d[k] * x + (k > 0 ? e[k - 1] * v[k - 1] : 0) + (k < d.length - 1 ? e[k] * v[k + 1] : 0),
          );
          tv.forEach((x, k) => expect(Math.abs(x - values[i] * v[k])).toBeLessThan(1e-12));
          vectors.forEach((w, j) => expect(Math.abs(dot(v, w) - (i === j ? 1 : 0))).toBeLessThan(1e-12));
        });
      }),
      { seed: 7, numRuns: 200 },
    );
  });
});

describe('lanczos', () => {
  const values = [10, 4, 3, 1, 0.5, 0, -1, -12];
  const matrix = withSpectrum(values, 1);
  const start = Float64Array.from({ length: 8 }, (_, i) => 1 + Math.cos(i));

  test('finds the largest eigenvalue, not the largest in size, with its vector', async () => {
    const { eigenvalue, residual, vector, ritzValues } = await lanczos(dense(matrix), { start, steps: 8 });
    expect(eigenvalue).toBeCloseTo(10, 10);
    expect(residual).toBeLessThan(1e-6);
    ritzValues.forEach((value, i) => expect(value).toBeCloseTo(values[i], 8));
    const av = vector.slice();
    await dense(matrix).apply(vector, av);
    av.forEach((x, i) => expect(x).toBeCloseTo(10 * vector[i], 6));
  });

  test('the residual is ‖Av - λv‖ and bounds the error after any number of steps', async () => {
    for (let steps = 1; steps <= 7; steps++) {
      const { eigenvalue, residual, vector, products } = await lanczos(dense(matrix), { start, steps });
      const av = Float64Array.from(vector);
      await dense(matrix).apply(vector, av);
      const actual = Math.sqrt(av.reduce((sum, x, i) => sum + (x - eigenvalue * vector[i]) ** 2, 0));
      expect(residual).toBeCloseTo(actual, 8);
      expect(Math.min(...values.map((value) => Math.abs(value - eigenvalue)))).toBeLessThanOrEqual(residual + 1e-9);
      expect(products).toBe(steps);
    }
  });

  test('a tolerance stops early, and a warm start needs fewer products', async () => {
    const cold = await lanczos(dense(matrix), { start, steps: 8, tolerance: 1e-2 });
    const warm = await lanczos(dense(matrix), { start: cold.vector, steps: 8, tolerance: 1e-2 });
    expect(cold.products).toBeLessThan(8);
    expect(warm.products).toBeLessThan(cold.products);
  });

  test('stops where the Krylov space ends', async () => {
    const identity = dense([
      [2, 0, 0],
      [0, 2, 0],
      [0, 0, 2],
    ]);
    const { eigenvalue, products } = await lanczos(identity, { start: Float64Array.of(1, 2, 3), steps: 3 });
    expect([eigenvalue, products]).toEqual([2, 1]);
  });

  test('bad input is refused in words', async () => {
    await expect(lanczos(dense(matrix), { start: new Float64Array(3), steps: 2 })).rejects.toThrow(
      '3 entries, but the operator acts on 8',
    );
    await expect(lanczos(dense(matrix), { start: new Float64Array(8), steps: 2 })).rejects.toThrow(
      'zero or not finite',
    );
    await expect(lanczos(dense(matrix), { start, steps: 0 })).rejects.toThrow('at least 1');
    await expect(lanczos(dense([[Number.NaN]]), { start: Float64Array.of(1), steps: 1 })).rejects.toThrow('not finite');
  });
});
