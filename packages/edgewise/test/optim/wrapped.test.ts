/** @file Wrappers on losses, around rules of several parts, at their neutral settings, and what they refuse. */
import { describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import {
  adagrad,
  adam,
  adamax,
  adamw,
  adan,
  centralize,
  clipGlobalNorm,
  clipValue,
  combine,
  completeValues,
  findOptimizer,
  lamb,
  lookahead,
  nadam,
  type OptimizerDefinition,
  type OptimizerSettings,
  prodigy,
  rmsprop,
  sam,
  scheduleFreeSgd,
  sgd,
  sophia,
  stepTunedSgd,
  wrappers,
} from '../../src/optim/index.ts';
import { muon } from './pages.ts';
import type { Given, Gradients, Reference } from './references/reference.ts';
import { innerAdam, innerAdan, innerSgd, lookaheadReference, samReference } from './references/wrappers.ts';
import { ENGINES, type Engine, type Rig, rig } from './support.ts';

const PARAMS = [
  { name: 'w', shape: [3, 5], tags: ['weight'] },
  { name: 'b', shape: [3], tags: ['bias'] },
  { name: 'k', shape: [2, 2, 2, 3], tags: ['weight'] },
  { name: 's', shape: [], tags: ['norm'] },
];
const TOLERANCE: Readonly<Record<Engine, number>> = {
  interpreter: 1e-12,
  'float64 kernel': 1e-11,
  'float32 kernel': 2e-4,
};
const matrices = ({ shape }: { readonly shape: readonly number[] }) => shape.length > 1;

function noise(step: number, name: string, length: number): number[] {
  const values = new Float32Array(length);
  normal(Key.fromSeed(5).split(name, step + 1), values);
  return [...values];
}

function make(engine: Engine, definition: OptimizerDefinition, values: Given = {}): Rig {
  const made = rig(engine, definition, { values: values as OptimizerSettings['values'] }, PARAMS);
  for (const { name, length } of made.layout.segments) made.theta.set(name, noise(-1, name, length));
  return made;
}

/** Gradient of a loss that no coordinate, part i/n of the batch or step has alone: Σ (1 + i mod 3) (θ - a)² / 2 + θ³ / 6. */
const slope = (x: number, i: number, name: string, target: number): number =>
  (1 + ((i + name.length) % 3)) * (x - target) + (x * x) / 2;

function gradientAt(theta: readonly number[], name: string, step: number, what = 'loss'): number[] {
  const targets = noise(step, `${name}/${what}`, theta.length);
  return theta.map((x, i) => slope(x, i, name, 0.3 * targets[i]));
}

const views = ({ layout, theta }: Rig): number[][] => layout.segments.map(({ name }) => [...theta.view(name)]);

/** Steps along the loss; returns what was asked for, with where it was. */
async function descend(made: Rig, steps: number): Promise<{ what: string; at: number[][] }[]> {
  const { optimizer, theta, grad, layout } = made;
  const asked: { what: string; at: number[][] }[] = [];
  for (let k = 0; k < steps; k++) {
    const write = (what: string): number => {
      for (const { name } of layout.segments) grad.set(name, gradientAt([...theta.view(name)], name, k, what));
      return 1;
    };
    write('loss');
    if (!optimizer.needsStepWith) optimizer.step();
    else
      await optimizer.stepWith((what) => {
        asked.push({ what, at: views(made) });
        return write(what);
      });
  }
  return asked;
}

function expectClose(
  engine: Engine,
  actual: readonly number[][],
  expected: readonly (readonly number[])[],
  where = '',
) {
  for (const [p, list] of expected.entries())
    for (const [i, x] of list.entries())
      expect(Math.abs(actual[p][i] - x) / Math.max(1, Math.abs(x)), `${where} ${PARAMS[p].name}[${i}]`).toBeLessThan(
        TOLERANCE[engine],
      );
}

/** θ after `steps` of a reference on the loss. */
function referenceOf(reference: Reference, definition: OptimizerDefinition, values: Given, steps: number) {
  const complete = completeValues('reference', definition.hyperparameters, values) as Given;
  const theta = PARAMS.map(({ name, shape }) =>
    noise(
      -1,
      name,
      shape.reduce((n, extent) => n * extent, 1),
    ),
  );
  const run = reference(
    theta,
    complete,
    PARAMS.map(({ shape }) => shape),
  );
  for (let k = 0; k < steps; k++) {
    const at = (what: string): Gradients => PARAMS.map(({ name }, p) => gradientAt(theta[p], name, k, what));
    run.step(at('loss'), Number(complete.lr), at, 1);
  }
  return { theta, evaluated: run.evaluated?.() };
}

describe.each(ENGINES)('%s', (engine) => {
  const bases: readonly [OptimizerDefinition, typeof innerSgd, Given][] = [
    [sgd, innerSgd, { lr: 0.02, momentum: 0.9, weightDecay: 0.1 }],
    // With an ε of this size, steps feel how long a gradient is.
    [adam, innerAdam, { lr: 0.05, eps: 0.5 }],
    [adan, innerAdan, { lr: 0.05, eps: 0.5, weightDecay: 0.1 }],
  ];

  test('SAM on a loss equals the scalar reference', async () => {
    const variants: readonly Given[] = [
      { samRho: 0.3 },
      { samRho: 0.3, samEps: 2 },
      { samRho: 0.5, samKind: 'adaptive' },
      { samRho: 0.5, samKind: 'asam' },
      { samRho: 0.5, samKind: 'asam', samEta: 0.4, samVectors: true },
      { samRho: 0.03, samKind: 'unnormalised' },
      { samRho: 0.1, samSteps: 3 },
    ];
    for (const [base, inner, values] of bases) {
      const results = [];
      for (const variant of [{ samRho: 0 }, ...variants]) {
        const given = { ...values, ...variant };
        const made = make(engine, sam(base), given);
        await descend(made, 8);
        const reference: Reference = (theta, all) => inner(theta, all);
        const wrapped = 'samKind' in variant || variant.samRho !== 0 ? samReference(reference) : reference;
        expectClose(engine, views(made), referenceOf(wrapped, sam(base), given, 8).theta, JSON.stringify(given));
        results.push(views(made)[0][0]);
      }
      // Every option shows.
      expect(new Set(results.map((x) => x.toFixed(5))).size).toBe(results.length);
    }
  });

  test('Lookahead on a loss equals the scalar reference, its momentum too', async () => {
    for (const [base, inner, values] of bases)
      for (const lookaheadMomentum of ['none', 'reset', 'pullback']) {
        const given = { ...values, lookaheadSteps: 3, lookaheadAlpha: 0.4, lookaheadMomentum };
        const made = make(engine, lookahead(base), given);
        await descend(made, 11);
        const expected = referenceOf(lookaheadReference(inner), lookahead(base), given, 11);
        expectClose(engine, views(made), expected.theta, JSON.stringify(given));
        await made.optimizer.atEvaluated(() => expectClose(engine, views(made), expected.evaluated ?? []));
      }
  });

  test('a restart of the rule inside leaves the steps of the slow weights in time', async () => {
    const values = { lr: 0.02, restartEvery: 2, lookaheadSteps: 3, lookaheadAlpha: 0.4 };
    const made = make(engine, lookahead(adan), values);
    await descend(made, 11);
    const expected = referenceOf(lookaheadReference(innerAdan), lookahead(adan), values, 11);
    expectClose(engine, views(made), expected.theta);
  });

  test('the base to the bit where nothing is asked for', async () => {
    const neutral: readonly [(base: OptimizerDefinition) => OptimizerDefinition, Given][] = [
      [(base) => sam(base), { samRho: 0 }],
      [(base) => sam(base, { shards: 3 }), { samRho: 0 }],
      [(base) => lookahead(base), { lookaheadAlpha: 1 }],
      [(base) => centralize(base), { centralize: 'off' }],
      [(base) => centralize(clipGlobalNorm(clipValue(base))), { centralize: 'off' }],
    ];
    const both = combine([{ definition: sgd, takes: matrices }, { definition: adan }]);
    for (const base of [sgd, adam, adamw, adan, both, muon])
      for (const [wrap, values] of neutral) {
        const [wrapped, plain] = [make(engine, wrap(base), values), make(engine, base)];
        const asked = await descend(wrapped, 6);
        await descend(plain, 6);
        expect(asked, base.name).toEqual([]);
        expect(views(wrapped), `${base.name} ${JSON.stringify(values)}`).toEqual(views(plain));
      }
  });

  test('shards: an ascent each, from the weights, and a step along the mean', async () => {
    const made = make(engine, sam(sgd, { shards: 3 }), { lr: 0.1, momentum: 0.9, weightDecay: 0.1, samRho: 0.2 });
    const start = views(made);
    const asked = await descend(made, 1);
    expect(asked.map(({ what }) => what)).toEqual([1, 2, 3].flatMap((i) => [`loss:${i}/3`, `loss:${i}/3`]));
    const mean = start.map((list) => list.map(() => 0));
    for (const i of [1, 2, 3]) {
      const word = `loss:${i}/3`;
      const at = (theta: number[][]) => theta.map((list, p) => gradientAt(list, PARAMS[p].name, 0, word));
      expect(asked[2 * (i - 1)].at).toEqual(start);
      const uphill = at(start);
      const length = Math.hypot(...uphill.flat());
      const there = start.map((list, p) => list.map((x, j) => x + (0.2 * uphill[p][j]) / length));
      expectClose(engine, asked[2 * i - 1].at, there);
      at(there).forEach((list, p) => {
        list.forEach((x, j) => {
          mean[p][j] += x / 3;
        });
      });
    }
    expectClose(
      engine,
      views(made),
      start.map((list, p) => list.map((x, j) => x - 0.1 * (mean[p][j] + 0.1 * x))),
    );
  });

  test('shards of the same samples are SAM', async () => {
    const values = { lr: 0.02, momentum: 0.9, samRho: 0.2 };
    const [one, four] = [make(engine, sam(sgd), values), make(engine, sam(sgd, { shards: 4 }), values)];
    for (const { optimizer, theta, grad, layout } of [one, four])
      for (let k = 0; k < 5; k++) {
        const write = () => {
          for (const { name } of layout.segments) grad.set(name, gradientAt([...theta.view(name)], name, k));
          return 1;
        };
        write();
        await optimizer.stepWith(write);
      }
    expectClose(engine, views(four), views(one));
  });

  test('a rule of several parts: one ascent and one norm over all tensors', async () => {
    const both = combine([{ definition: sgd, takes: matrices }, { definition: adan }]);
    const inner = { lr: 0.05, momentum: 0.9, adanLr: 0.01 };
    for (const [base, values] of [
      [both, inner],
      [muon, { lr: 0.02 }],
    ] as const) {
      // The rule itself, on gradients changed outside of it.
      const by = async (change: (g: number[][], theta: number[][], k: number) => number[][]) => {
        const made = make(engine, base, values);
        const { optimizer, grad, layout } = made;
        for (let k = 0; k < 6; k++) {
          const theta = views(made);
          const g = theta.map((list, p) => gradientAt(list, PARAMS[p].name, k));
          for (const [p, list] of change(g, theta, k).entries()) grad.set(layout.segments[p].name, list);
          if (optimizer.needsStepWith) await optimizer.stepWith(() => 1);
          else optimizer.step();
        }
        return views(made);
      };
      const run = async (definition: OptimizerDefinition, more: Given) => {
        const made = make(engine, definition, { ...values, ...more });
        await descend(made, 6);
        return made;
      };
      const clip = (g: number[][]) => {
        const factor = Math.min(1, 0.7 / (Math.hypot(...g.flat()) + 1e-6));
        return g.map((list) => list.map((x) => x * factor));
      };
      const uphill = (g: number[][], theta: number[][], k: number) => {
        const factor = 0.3 / Math.hypot(...g.flat());
        return theta.map((list, p) => {
          const there = list.map((x, i) => x + factor * g[p][i]);
          return gradientAt(there, PARAMS[p].name, k);
        });
      };
      const clipped = await run(clipGlobalNorm(base), { clipNorm: 0.7 });
      expectClose(engine, views(clipped), await by(clip), 'clipped');
      expect(clipped.optimizer.report.gradNorm).toBeGreaterThan(0.7);
      const cut = await run(clipValue(base), { clipValue: 0.2 });
      expectClose(
        engine,
        views(cut),
        await by((g) => g.map((list) => list.map((x) => Math.max(-0.2, Math.min(0.2, x))))),
        'cut',
      );
      const ascended = await run(sam(base), { samRho: 0.3 });
      expectClose(engine, views(ascended), await by(uphill), 'sam');
      const clippedUphill = await by((g, theta, k) => clip(uphill(g, theta, k)));
      for (const definition of [clipGlobalNorm(sam(base)), sam(clipGlobalNorm(base))]) {
        const made = await run(definition, { samRho: 0.3, clipNorm: 0.7 });
        expectClose(engine, views(made), clippedUphill, definition.name);
      }
      const rows = await run(centralize(base), {});
      const centre = (list: number[], shape: readonly number[]) => {
        const columns = list.length / (shape[0] ?? 1);
        return shape.length < 2
          ? list
          : list.map((x, i) => {
              const from = i - (i % columns);
              return x - list.slice(from, from + columns).reduce((a, b) => a + b, 0) / columns;
            });
      };
      const centred = await by((g) => g.map((list, p) => centre(list, PARAMS[p].shape)));
      expectClose(engine, views(rows), centred, 'centralize');

      const guarded = make(engine, clipGlobalNorm(base), { ...values, clipNorm: 0.7 });
      await descend(guarded, 2);
      const before = views(guarded);
      guarded.grad.view('s')[0] = Number.NaN;
      expect(await guarded.optimizer.stepWith(() => 1)).toMatchObject({
        applied: false,
        refusal: 'the gradient norm is not finite',
      });
      expect(views(guarded)).toEqual(before);
    }
  });

  test('a step that the rule refuses uphill leaves the weights where they were', async () => {
    for (const shards of [1, 2]) {
      const made = make(engine, sam(clipGlobalNorm(sgd), { shards }), { clipNorm: 1, samRho: 0.2 });
      await descend(made, 2);
      const before = views(made);
      let calls = 0;
      const report = await made.optimizer.stepWith(() => {
        // The last one is where the ascent led.
        if (++calls === (shards === 1 ? 1 : 4)) made.grad.view('w')[2] = Number.NaN;
        return 1;
      });
      expect(report.applied).toBe(false);
      expect(views(made)).toEqual(before);
    }
  });

  test('the mean with the L2 term in it: the rule without decay on (g + λθ) less its mean', async () => {
    const names = [
      'sgd',
      'adam',
      'adamax',
      'nadam',
      'adagrad',
      'rmsprop',
      'adadelta',
      'generalizedSignSgd',
      'adabound',
    ];
    for (const name of names) {
      const base = findOptimizer(name);
      const official = make(engine, centralize(base), { weightDecay: 0.3, centralizeDecay: true });
      await descend(official, 6);
      const plain = make(engine, base, { weightDecay: 0 });
      for (let k = 0; k < 6; k++) {
        for (const [p, list] of views(plain).entries()) {
          const { name: param, shape } = PARAMS[p];
          const g = gradientAt(list, param, k).map((x, i) => x + 0.3 * list[i]);
          const columns = g.length / (shape[0] ?? 1);
          const row = (i: number) => g.slice(i - (i % columns), i - (i % columns) + columns);
          plain.grad.set(
            param,
            shape.length < 2 ? g : g.map((x, i) => x - row(i).reduce((a, b) => a + b, 0) / columns),
          );
        }
        plain.optimizer.step();
      }
      expectClose(engine, views(official), views(plain), name);
    }
  });

  test('convolutions only, and steps without mean', async () => {
    const sums = (made: Rig, name: string, rows: number) => {
      const list = [...made.theta.view(name)];
      const start = noise(-1, name, list.length);
      const columns = list.length / rows;
      return Array.from({ length: rows }, (_, r) =>
        Math.abs(list.slice(r * columns, (r + 1) * columns).reduce((a, x, i) => a + x - start[r * columns + i], 0)),
      );
    };
    for (const of of ['gradient', 'update']) {
      const base: OptimizerDefinition = of === 'update' ? adamw : sgd;
      const made = make(engine, centralize(base), {
        centralize: 'convolutions',
        centralizeOf: of,
        lr: 0.02,
      });
      await descend(made, 6);
      for (const moved of sums(made, 'k', 2)) expect(moved).toBeLessThan(engine === 'float32 kernel' ? 1e-5 : 1e-13);
      for (const moved of sums(made, 'w', 3)) expect(moved).toBeGreaterThan(1e-3);
    }
  });
});

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
