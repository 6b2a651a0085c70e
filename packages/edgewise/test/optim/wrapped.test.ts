/** @file Wrappers on losses, around rules of several parts, at their neutral settings. */
import { describe, expect, test } from 'vitest';
import {
  adam,
  adamw,
  adan,
  centralize,
  clipGlobalNorm,
  clipValue,
  combine,
  findOptimizer,
  lookahead,
  type OptimizerDefinition,
  sam,
  sgd,
} from '../../src/optim/index.ts';
import { descend, expectClose, gradientAt, make, matrices, noise, PARAMS, referenceOf, views } from './losses.ts';
import { muon } from './pages.ts';
import type { Given, Reference } from './references/reference.ts';
import {
  centralizeReference,
  innerAdam,
  innerAdan,
  innerSgd,
  lookaheadReference,
  samReference,
} from './references/wrappers.ts';
import { ENGINES, type Rig } from './support.ts';

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
        results.push(JSON.stringify(views(made).map((list) => list.map((x) => x.toFixed(4)))));
      }
      // Every option shows.
      expect(new Set(results).size).toBe(results.length);
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

  test('SAM around a rule that is wrapped already', async () => {
    const values = { lr: 0.02, momentum: 0.9, weightDecay: 0.3, samRho: 0.3 };
    const reference: Reference = (theta, all) => innerSgd(theta, all);
    // The L2 term of the mean is that of the weights, not of the point uphill.
    const official = { ...values, centralizeDecay: true };
    const centred = make(engine, sam(centralize(sgd)), official);
    await descend(centred, 8);
    const expected = referenceOf(samReference(centralizeReference(reference)), sam(centralize(sgd)), official, 8);
    expectClose(engine, views(centred), expected.theta, 'centralize');

    const slow = { ...values, lookaheadSteps: 3, lookaheadAlpha: 0.4 };
    for (const definition of [sam(lookahead(sgd)), lookahead(sam(sgd))] as readonly OptimizerDefinition[]) {
      const made = make(engine, definition, slow);
      await descend(made, 8);
      const { theta } = referenceOf(samReference(lookaheadReference(innerSgd)), definition, slow, 8);
      expectClose(engine, views(made), theta, definition.name);
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
