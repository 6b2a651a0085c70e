/** @file What later optimizers need of the language, on the recorded trajectories of their authors' code. */
import { describe, expect, test } from 'vitest';
import { adam, adamw, type OptimizerDefinition, type OptimizerSettings, sgd } from '../../src/optim/index.ts';
import { centralized, lamb, lookahead, muon, nadam, prodigy, sam, sgdClip, sgdNormalized, stepTuned } from './pages.ts';
import { ENGINES, type Engine, type GoldenCase, type GoldenFile, goldenFile, goldenParams, rig } from './support.ts';

interface Subject {
  readonly definition: OptimizerDefinition;
  readonly settings: OptimizerSettings;
}

const bases: Readonly<Record<string, OptimizerDefinition>> = { sgd, adamw };
const names: Readonly<Record<string, string>> = {
  weight_decay: 'weightDecay',
  max_grad_norm: 'maxGradNorm',
  bias_correction: 'biasCorrection',
  always_adapt: 'alwaysAdapt',
  momentum_decay: 'momentumDecay',
  d_coef: 'dCoef',
  clipping_param: 'c',
  alpha: 'lr',
  mu: 'nu',
  m: 'low',
  M: 'high',
  delta: 'exponent',
  la_steps: 'k',
  la_alpha: 'alpha',
};

const renamed = (
  values: object,
  drop: readonly string[] = [],
): Record<string, number | boolean | string | readonly number[]> =>
  Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => (drop.includes(name) ? [] : [[names[name] ?? name, value ?? 0]])),
  );

/** The rule and settings of a recorded case; undefined where it is of a variant not written here. */
function subjectOf(
  file: GoldenFile,
  { optimizer = file.optimizer, hyperparameters: h }: GoldenCase,
): Subject | undefined {
  const simple: Readonly<Record<string, OptimizerDefinition>> = {
    lamb,
    prodigy,
    nadam,
    sgd_clip: sgdClip,
    sgd_normalized: sgdNormalized,
  };
  if (optimizer in simple) return { definition: simple[optimizer], settings: { values: renamed(h) } };
  const base = bases[String(h.base ?? h.inner)];
  const inner = renamed(Object(h.base_hyperparameters ?? h.inner_hyperparameters));
  switch (optimizer) {
    case 'step_tuned_sgd':
      return { definition: stepTuned, settings: { values: renamed(h) } };
    case 'sam':
      return { definition: sam(base, h.adaptive === true), settings: { values: { ...inner, rho: Number(h.rho) } } };
    case 'lookahead':
      return {
        definition: lookahead(base, h.pullback_momentum === 'reset' ? ['b'] : []),
        settings: { values: { ...inner, k: Number(h.la_steps), alpha: Number(h.la_alpha) } },
      };
    case 'sgd_gc':
    case 'adam_gc':
      // With decay the official code centres the decayed gradient.
      return h.weight_decay === undefined
        ? { definition: centralized(optimizer === 'sgd_gc' ? sgd : adam), settings: { values: renamed(h) } }
        : undefined;
    case 'muon': {
      const [matrices, rest] = [renamed(Object(h.muon)), renamed(Object(h.aux_adam))];
      const { lr, ...values } = rest;
      return {
        definition: muon,
        settings: {
          values: matrices,
          groups: [
            {
              match: { maxRank: 1 },
              lrScale: Number(lr) / Number(matrices.lr ?? 0.02),
              values: { weightDecay: 0, ...values },
            },
          ],
        },
      };
    }
  }
  return undefined;
}

/** Largest relative error over a trajectory; values below 1e-6 of the largest are compared to that. */
async function errorOf(
  engine: Engine,
  file: GoldenFile,
  entry: GoldenCase,
  { definition, settings }: Subject,
  steps: number,
): Promise<number> {
  const { optimizer, theta, grad, layout } = rig(engine, definition, settings, goldenParams(file));
  for (const [i, values] of entry.initial.entries()) theta.set(`p${i}`, values);
  let used = 0;
  const evaluate = () => {
    for (const [i, values] of entry.gradients[used++].entries()) grad.set(`p${i}`, values ?? []);
    return 0;
  };
  let worst = 0;
  for (let k = 0; k < steps; k++) {
    evaluate();
    await optimizer.stepWith(evaluate);
    for (const [i, { name }] of layout.segments.entries()) {
      const actual = theta.view(name);
      for (const [j, expected] of entry.params[k][i].entries()) {
        const error = Math.abs(actual[j] - expected) / Math.max(Math.abs(expected), 1e-6);
        worst = Number.isNaN(error) ? Number.NaN : Math.max(worst, error);
      }
    }
  }
  return worst;
}

const subjects = [
  'lamb',
  'parameter_free',
  'nadam',
  'sgd_clip',
  'step_tuned_sgd',
  'sam',
  'lookahead',
  'gradient_centralization',
  'muon',
].flatMap((name) => {
  const file = goldenFile(name);
  return file.cases.flatMap((entry) => {
    const subject = subjectOf(file, entry);
    return subject ? [{ id: entry.id, file, entry, subject, rule: subject.definition.name }] : [];
  });
});

test('every kind of rule is among the cases', () => {
  expect(new Set(subjects.map(({ rule }) => rule)).size).toBeGreaterThanOrEqual(12);
});

describe.each(ENGINES)('%s', (engine) => {
  const [steps, tolerance] = engine === 'float32 kernel' ? [8, 1e-4] : [30, 1e-10];
  test.each(subjects)(`$rule $id within ${tolerance}`, async ({ file, entry, subject }) => {
    expect(await errorOf(engine, file, entry, subject, steps)).toBeLessThan(tolerance);
  });
});
