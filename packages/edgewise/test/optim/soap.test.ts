/** @file SOAP against its second transcription where the eigenbases are unique, and what else it promises. */
import { describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import { completeValues, soap } from '../../src/optim/index.ts';
import { soapReference } from './references/matrix.ts';
import type { Given } from './references/reference.ts';
import { ENGINES, type Engine, rig } from './support.ts';

/** One gradient of each has full rank along every axis. */
const PARAMS = [
  { name: 'w', shape: [4, 4] },
  { name: 'k', shape: [3, 2, 4] },
  { name: 'b', shape: [3] },
  { name: 's', shape: [] },
];
const draw = (step: number, name: string, length: number): number[] => {
  const values = new Float32Array(length);
  normal(Key.fromSeed(11).split(name, step + 1), values);
  return [...values];
};
const TOLERANCE: Readonly<Record<Engine, number>> = {
  interpreter: 1e-10,
  'float64 kernel': 1e-10,
  'float32 kernel': 2e-4,
};

describe.each(ENGINES)('%s', (engine) => {
  test.each<Given>([
    {},
    { preconditionFrequency: 1, shampooBeta: 0.8 },
    { preconditionFrequency: 3, correctBias: false, betas: [0.8, 0.9] },
    { preconditionFrequency: 2, normalizeGrads: true, weightDecay: 0 },
    { preconditionFrequency: 2, maxDimension: 3, eps: 0.1 },
    { maxDimension: 1 },
  ])('equals the scalar reference: %o', async (some) => {
    const given: Given = { lr: 0.02, weightDecay: 0.1, ...some };
    const { optimizer, theta, grad, layout } = rig(engine, soap, { values: given }, PARAMS);
    const expected = layout.segments.map(({ name, length }) => draw(-1, name, length));
    for (const [p, { name }] of layout.segments.entries()) theta.set(name, expected[p]);
    const values = completeValues('soap', soap.hyperparameters, given);
    const reference = soapReference(
      expected,
      values,
      PARAMS.map(({ shape }) => shape),
    );
    for (let step = 0; step < 12; step++) {
      // Of a tensor without a gradient the next gradient is the first, or the one it would have been.
      const absent = step === 0 ? ['k'] : step === 5 ? ['w', 's'] : [];
      const gradients = layout.segments.map(({ name, length }) => draw(step, name, length));
      for (const [p, { name }] of layout.segments.entries()) grad.set(name, gradients[p]);
      await optimizer.stepWith(() => 0, { absent });
      reference.step(
        gradients.map((g, p) => (absent.includes(PARAMS[p].name) ? undefined : g)),
        0.02,
        () => [],
        0,
      );
      for (const [p, { name }] of layout.segments.entries())
        for (const [i, x] of expected[p].entries())
          expect(Math.abs(theta.view(name)[i] - x), `step ${step}, ${name}[${i}]`).toBeLessThan(TOLERANCE[engine]);
    }
  });

  test('the first gradient moves nothing, nor does a restart', async () => {
    const { optimizer, theta, grad, layout } = rig(engine, soap, { values: { lr: 0.1 } }, PARAMS);
    for (let step = 0; step < 4; step++) {
      if (step === 2) optimizer.restart();
      const before = theta.data.slice();
      for (const { name, length } of layout.segments) grad.set(name, draw(step, name, length));
      await optimizer.stepWith(() => 0);
      const still = theta.data.every((x, i) => Object.is(x, before[i]));
      expect(still).toBe(step === 0 || step === 2);
    }
  });

  test('a gradient that is not finite is refused, and nothing changes', async () => {
    const { optimizer, theta, grad, layout } = rig(engine, soap, {}, PARAMS);
    const take = (step: number) => {
      for (const { name, length } of layout.segments) grad.set(name, draw(step, name, length));
    };
    for (let step = 0; step < 2; step++) {
      take(step);
      await optimizer.stepWith(() => 0);
    }
    const all = () => [theta, ...Object.values(optimizer.slots)].map(({ data }) => [...data]);
    const before = all();
    take(2);
    grad.view('k')[3] = Number.POSITIVE_INFINITY;
    expect(await optimizer.stepWith(() => 0)).toEqual({
      applied: false,
      refusal: 'the gradient norm is not finite',
      restarted: false,
    });
    expect(all()).toEqual(before);
  });

  test('rotating the rows and columns of all gradients rotates the steps', async () => {
    const params = [{ name: 'w', shape: [2, 2] }];
    const [c, s] = [Math.cos(1), Math.sin(1)];
    /** Qᵀ g P with rotations Q by 1 and P by a right angle. */
    const turned = ([a, b, d, e]: readonly number[]) => {
      const [x, y] = [
        [c * a + s * d, c * b + s * e],
        [-s * a + c * d, -s * b + c * e],
      ];
      return [x[1], -x[0], y[1], -y[0]];
    };
    const [plain, rotated] = [0, 1].map(() =>
      rig(engine, soap, { values: { lr: 0.1, weightDecay: 0, preconditionFrequency: 3 } }, params),
    );
    for (let step = 0; step < 8; step++) {
      const g = draw(step, 'w', 4);
      plain.grad.set('w', g);
      rotated.grad.set('w', turned(g));
      for (const { optimizer } of [plain, rotated]) await optimizer.stepWith(() => 0);
    }
    const expected = turned([...plain.theta.view('w')]);
    for (const [i, x] of [...rotated.theta.view('w')].entries()) expect(Math.abs(x - expected[i])).toBeLessThan(1e-4);
  });
});
