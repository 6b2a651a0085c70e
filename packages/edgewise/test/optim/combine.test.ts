/** @file Several optimizers at once against each of them alone on its own parameters. */
import { describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import {
  adam,
  adamw,
  adan,
  clipGlobalNorm,
  combine,
  type OptimizerDefinition,
  type OptimizerSettings,
  sgd,
} from '../../src/optim/index.ts';
import { ENGINES, type Engine, type Rig, rig } from './support.ts';

const PARAMS = [
  { name: 'w', shape: [3, 5], tags: ['weight'] },
  { name: 'b', shape: [3], tags: ['bias'] },
  { name: 'k', shape: [2, 2, 4], tags: ['weight'] },
  { name: 'g', shape: [4], tags: ['norm'] },
];
const matrices = ({ shape }: { readonly shape: readonly number[] }) => shape.length > 1;

function gradient(step: number, name: string, length: number): Float32Array {
  const values = new Float32Array(length);
  normal(Key.fromSeed(3).split(name, step + 1), values);
  return values;
}

function make(engine: Engine, definition: OptimizerDefinition, settings: OptimizerSettings): Rig {
  const made = rig(engine, definition, settings, PARAMS);
  for (const { name, length } of made.layout.segments) made.theta.set(name, gradient(-1, name, length));
  return made;
}

function run({ optimizer, grad, layout }: Rig, steps: number, rate: (t: number) => number): void {
  for (let k = 0; k < steps; k++) {
    for (const { name, length } of layout.segments) grad.set(name, gradient(k, name, length));
    optimizer.step({ lr: rate(k), absent: k === 3 ? ['k'] : [] });
  }
}

describe.each(ENGINES)('%s', (engine) => {
  test('each parameter moves as under its own optimizer, schedules and factors included', () => {
    const both = combine([{ definition: sgd, takes: matrices }, { definition: adan }]);
    const half = { match: { name: 'g' }, lrScale: 0.5 };
    const together = make(engine, both, {
      values: { lr: 0.1, momentum: 0.9, weightDecay: 0.01, adanLr: 0.02, adanEps: 1e-3, adanWeightDecay: 0.1 },
      groups: [half],
    });
    const alone = [
      make(engine, sgd, {
        values: { lr: 0.1, momentum: 0.9, weightDecay: 0.01 },
        frozen: { where: (segment) => !matrices(segment) },
      }),
      make(engine, adan, {
        values: { lr: 0.02, eps: 1e-3, weightDecay: 0.1 },
        groups: [half],
        frozen: { where: matrices },
      }),
    ];
    const decay = (k: number) => 1 / (1 + k);
    run(together, 8, (k) => 0.1 * decay(k));
    run(alone[0], 8, (k) => 0.1 * decay(k));
    run(alone[1], 8, (k) => 0.02 * decay(k));
    for (const { name, shape } of PARAMS) {
      const expected = alone[shape.length > 1 ? 0 : 1].theta.view(name);
      for (const [i, x] of together.theta.view(name).entries())
        expect(Math.abs(x - expected[i]), `${name}[${i}]`).toBeLessThan(engine === 'float32 kernel' ? 1e-6 : 1e-14);
    }
  });

  test('resumes to the bit', () => {
    const both = combine([{ definition: adamw, takes: matrices }, { definition: adan }]);
    const values = { lr: 0.01, adanLr: 0.02 };
    const [whole, half] = [make(engine, both, { values }), make(engine, both, { values })];
    run(whole, 4, () => 0.01);
    half.theta.data.set(whole.theta.data);
    for (const [name, slot] of Object.entries(whole.optimizer.slots)) half.optimizer.slots[name].data.set(slot.data);
    half.optimizer.restoreScalars(whole.optimizer.scalarState());
    for (const each of [whole, half]) run(each, 4, () => 0.01);
    expect([...half.theta.data]).toEqual([...whole.theta.data]);
    expect(half.optimizer.scalarState()).toEqual(whole.optimizer.scalarState());
  });

  test('a part that refuses stops the whole step', () => {
    const both = combine([
      { definition: sgd, takes: matrices },
      { definition: clipGlobalNorm(adam) as OptimizerDefinition },
    ]);
    const made = make(engine, both, { values: { adamClipNormClipNorm: 1 } });
    run(made, 2, () => 0.01);
    const before = [...made.theta.data];
    for (const { name, length } of made.layout.segments) made.grad.set(name, gradient(9, name, length));
    made.grad.view('b')[0] = Number.NaN;
    expect(made.optimizer.step()).toMatchObject({ applied: false, refusal: 'the gradient norm is not finite' });
    expect([...made.theta.data]).toEqual(before);
  });
});

test('state that starts from zero is shared', () => {
  const both = combine([{ definition: sgd, takes: matrices }, { definition: adan }]);
  expect(Object.keys(both.slots).length).toBe(Object.keys(adan.slots).length);
});

test('what cannot be combined is said', () => {
  const part = (definition: OptimizerDefinition, takes?: typeof matrices) => ({ definition, ...(takes && { takes }) });
  expect(() => combine([part(sgd)])).toThrow(/1 part is given/);
  expect(() => combine([part(sgd, matrices), part(sgd)])).toThrow(/sgd is given twice/);
  expect(() => combine([part(sgd), part(adam)])).toThrow(/sgd has no condition/);
  expect(() => combine([part(sgd, matrices), part(adam, matrices)])).toThrow(
    /adam is the last part and has a condition/,
  );
});
