/** @file Every rule against the recorded trajectories of its authors' or PyTorch's code. */
import { describe, expect, test } from 'vitest';
import { adam, adamw, adan, clipGlobalNorm, clipValue, type OptimizerDefinition, sgd } from '../../src/optim/index.ts';
import { ENGINES, type Engine, goldenFile, worstError } from './support.ts';

const definitions: Readonly<Record<string, OptimizerDefinition>> = {
  adan,
  sgd,
  adam,
  adamw,
  sgd_clip_global_norm: clipGlobalNorm(sgd),
  sgd_clip_value: clipValue(sgd),
};

/** Of float32 the first ten steps are compared: later ones add rounding of the trajectory, not of the rule. */
const limits: Readonly<Record<Engine, { readonly steps: number; readonly tolerance: number }>> = {
  interpreter: { steps: 30, tolerance: 1e-10 },
  'float64 kernel': { steps: 30, tolerance: 1e-10 },
  'float32 kernel': { steps: 10, tolerance: 1e-4 },
};

const covered = ['adan', 'sgd', 'adam', 'adamw', 'sgd_clip'].flatMap((name) => {
  const file = goldenFile(name);
  return file.cases.flatMap((entry) => {
    const rule = entry.optimizer ?? file.optimizer;
    return rule in definitions ? [{ file, entry, rule }] : [];
  });
});

test('all recorded cases are covered', () => {
  const count = (rule: string) => covered.filter((item) => item.rule === rule).length;
  expect({
    adan: count('adan'),
    sgd: count('sgd'),
    adam: count('adam'),
    adamw: count('adamw'),
    clip: count('sgd_clip_global_norm') + count('sgd_clip_value'),
  }).toEqual({ adan: 10, sgd: 8, adam: 6, adamw: 6, clip: 2 });
});

describe.each(ENGINES)('%s', (engine) => {
  const { steps, tolerance } = limits[engine];
  test.each(covered.map(({ file, entry, rule }) => ({ id: entry.id, rule, file, entry })))(
    `$rule $id within ${tolerance}`,
    ({ file, entry, rule }) => {
      expect(worstError(engine, definitions[rule], file, entry, Math.min(steps, entry.steps))).toBeLessThan(tolerance);
    },
  );
});
