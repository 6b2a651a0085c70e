/** @file What Muon promises beyond the suite: whom it is for, what its step looks like. */
import { describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import { adamw, muon, type OptimizerSettings } from '../../src/optim/index.ts';
import { ENGINES, type Engine, rig } from './support.ts';

const draw = (seed: number, length: number): Float64Array => {
  const values = new Float64Array(length);
  normal(Key.fromSeed(seed), values);
  return values;
};

/** θ after one step from zero. */
async function firstStep(
  engine: Engine,
  values: OptimizerSettings['values'],
  params: Parameters<typeof rig>[3],
  gradient: (name: string, length: number) => ArrayLike<number>,
  lr?: number,
) {
  const made = rig(engine, muon, { values }, params);
  for (const { name, length } of made.layout.segments) made.grad.set(name, gradient(name, length));
  const report = await made.optimizer.stepWith(() => 0, { lr });
  return { ...made, report };
}

describe.each(ENGINES)('%s', (engine) => {
  test('embeddings, heads, gains and biases of any rank move as under AdamW, on the schedule', async () => {
    const params = [
      { name: 'embedding', shape: [6, 4], tags: ['embedding'] },
      { name: 'hidden', shape: [4, 4], tags: ['weight'] },
      { name: 'head', shape: [3, 4], tags: ['weight', 'head'] },
      { name: 'gain', shape: [2, 4], tags: ['norm'] },
      { name: 'bias', shape: [3], tags: ['bias'] },
    ];
    const gradient = (name: string, length: number) => draw(name.length, length);
    const { theta } = await firstStep(engine, { lr: 0.02, otherLr: 0.01 }, params, gradient, 0.005);
    const other = rig(
      engine,
      adamw,
      { values: { lr: 0.0025, betas: [0.9, 0.95], eps: 1e-10, weightDecay: 0 } },
      params,
    );
    for (const { name, length } of other.layout.segments) other.grad.set(name, gradient(name, length));
    other.optimizer.step();
    for (const { name } of params) {
      const differs = [...theta.view(name)].some((x, i) => Math.abs(x - other.theta.view(name)[i]) > 1e-8);
      expect(differs, name).toBe(name === 'hidden');
    }
  });

  test('the step does not depend on the size of the gradient, and its singular values are near 1', async () => {
    // Orthogonal rows, so that the singular values of the gradient are known: 1 and 0.05.
    const [a, b] = [
      [0.6, 0.8, 0],
      [-0.8, 0.6, 0],
    ];
    for (const size of [1e-3, 1, 1e6]) {
      const { theta } = await firstStep(engine, { lr: 1 }, [{ name: 'w', shape: [2, 3] }], () =>
        [...a, ...b.map((x) => x / 20)].map((x) => x * size),
      );
      const step = [...theta.view('w')];
      const [first, second] = [step.slice(0, 3), step.slice(3)].map((row) => Math.hypot(...row));
      for (const length of [first, second]) {
        expect(length).toBeGreaterThan(0.67);
        expect(length).toBeLessThan(1.14);
      }
      expect(Math.abs(step.slice(0, 3).reduce((sum, x, i) => sum + x * step[i + 3], 0))).toBeLessThan(1e-5);
      expect(step[0]).toBeLessThan(0);
    }
  });

  test('transposing the gradient transposes the step, up to the scale', async () => {
    const g = draw(1, 12);
    const wide = await firstStep(engine, { lr: 1 }, [{ name: 'w', shape: [3, 4] }], () => g);
    const tall = await firstStep(engine, { lr: 1 }, [{ name: 'w', shape: [4, 3] }], () =>
      Array.from(g, (_, i) => g[(i % 3) * 4 + Math.floor(i / 3)]),
    );
    const [x, y] = [wide.theta.view('w'), tall.theta.view('w')];
    for (let i = 0; i < 12; i++)
      expect(Math.abs(y[i] - Math.sqrt(4 / 3) * x[(i % 3) * 4 + Math.floor(i / 3)])).toBeLessThan(1e-5);
  });

  test('a zero gradient moves nothing; one that is not finite is refused', async () => {
    const params = [
      { name: 'w', shape: [2, 3] },
      { name: 'b', shape: [2] },
    ];
    const zero = await firstStep(engine, {}, params, (_, length) => new Float64Array(length));
    expect([...zero.theta.data].every((x) => x === 0)).toBe(true);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const { theta, optimizer, report } = await firstStep(engine, {}, params, (_, length) =>
        new Float64Array(length).fill(bad),
      );
      expect(report).toEqual({ applied: false, refusal: 'the gradient norm is not finite', restarted: false });
      for (const vector of [theta, ...Object.values(optimizer.slots)])
        expect([...vector.data].every((x) => x === 0)).toBe(true);
    }
  });
});
