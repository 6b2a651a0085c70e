/** @file What Shampoo's preconditioners are, in closed form. */
import { describe, expect, test } from 'vitest';
import { shampoo } from '../../src/optim/index.ts';
import { ENGINES, rig } from './support.ts';

/** A turn by `angle`. */
const turn = (angle: number) => [
  [Math.cos(angle), -Math.sin(angle)],
  [Math.sin(angle), Math.cos(angle)],
];
const times = (a: number[][], b: number[][]) =>
  a.map((row) => b[0].map((_, j) => row.reduce((sum, x, k) => sum + x * b[k][j], 0)));
const flipped = (a: number[][]) => a[0].map((_, j) => a.map((row) => row[j]));
const [U, V] = [turn(0.4), turn(1.1)];
/** U diag(values) Vᵀ. */
const matrix = (...values: [number, number]) =>
  times(
    U.map((row) => row.map((x, j) => x * values[j])),
    flipped(V),
  ).flat();

describe.each(ENGINES)('%s', (engine) => {
  const tolerance = engine === 'float32 kernel' ? 1e-5 : 1e-12;
  const near = (actual: ArrayLike<number>, expected: readonly number[]) => {
    for (const [i, x] of expected.entries()) expect(Math.abs(actual[i] - x)).toBeLessThan(tolerance);
  };

  test('a matrix is multiplied by L^(-1/4) and R^(-1/4), with ε in both', async () => {
    const eps = 0.3;
    const { optimizer, theta, grad } = rig(engine, shampoo, { values: { lr: 1, eps, rootEvery: 1 } }, [
      { name: 'w', shape: [2, 2] },
    ]);
    // Gradients with the same singular vectors: sums of their squares decide each singular value by itself.
    const sizes: readonly [number, number][] = [
      [3, 0.5],
      [1, 2],
    ];
    const [sums, expected]: [[number, number], [number, number]] = [
      [eps, eps],
      [0, 0],
    ];
    for (const size of sizes) {
      grad.set('w', matrix(...size));
      await optimizer.stepWith(() => 0);
      for (const i of [0, 1]) {
        sums[i] += size[i] ** 2;
        expected[i] -= size[i] / Math.sqrt(sums[i]);
      }
      near(theta.view('w'), matrix(...expected));
    }
  });

  test('a vector is preconditioned by the full matrix of AdaGrad, a number by its own sum', async () => {
    const { optimizer, theta, grad } = rig(engine, shampoo, { values: { lr: 1, eps: 0.01, rootEvery: 1 } }, [
      { name: 'b', shape: [3] },
      { name: 's', shape: [] },
    ]);
    grad.set('b', [2, -1, 2]);
    grad.set('s', [-4]);
    await optimizer.stepWith(() => 0);
    near(
      theta.view('b'),
      [2, -1, 2].map((x) => -x / Math.sqrt(9.01)),
    );
    near(theta.view('s'), [4 / Math.sqrt(16.01)]);
  });

  test('grafting gives the step of each tensor another length, and no step where there is none', async () => {
    const params = [
      { name: 'w', shape: [2, 2] },
      { name: 'z', shape: [2, 2] },
    ];
    const g = matrix(3, 0.5);
    for (const grafting of ['sgd', 'adam'] as const) {
      const { optimizer, theta, grad } = rig(engine, shampoo, { values: { lr: 1, grafting } }, params);
      grad.set('w', g);
      await optimizer.stepWith(() => 0);
      const expected = grafting === 'sgd' ? Math.hypot(...g) : 2;
      expect(Math.abs(Math.hypot(...theta.view('w')) - expected)).toBeLessThan(10 * tolerance + 1e-7);
      expect([...theta.view('z')].every((x) => x === 0)).toBe(true);
    }
  });

  test('a gradient that is not finite is refused, and nothing changes', async () => {
    const { optimizer, theta, grad } = rig(engine, shampoo, {}, [{ name: 'w', shape: [2, 2] }]);
    grad.set('w', [1, Number.NaN, 0, 1]);
    expect(await optimizer.stepWith(() => 0)).toEqual({
      applied: false,
      refusal: 'the gradient norm is not finite',
      restarted: false,
    });
    for (const { data } of [theta, ...Object.values(optimizer.slots)])
      expect([...data].every((x) => x === 0)).toBe(true);
  });
});
