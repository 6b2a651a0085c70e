/** @file Every rule in jax-js against every recorded trajectory of its authors' or the frameworks' code. */
import { readdirSync, readFileSync } from 'node:fs';
import { applyUpdates, createOptimizer, type Params } from '@edgewise/jax';
import { init, numpy as np, tree } from '@jax-js/jax';
import { expect, test } from 'vitest';
import {
  type GoldenCase,
  type GoldenFile,
  parseGolden,
  recordedSubject,
  type Subject,
} from '../../lab/src/golden/index.ts';

const FOLDER = new URL('../../lab/test/fixtures/optimizers/', import.meta.url);
const STEPS = 8;
const FLOOR = 1e-6;

await init('wasm');

const cases = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json') && name !== 'schedules.json')
  .flatMap((name) => {
    const file = parseGolden(readFileSync(new URL(name, FOLDER), 'utf8'), name);
    return file.cases.map((entry) => ({ file, entry, id: entry.id, rule: entry.optimizer ?? file.optimizer }));
  });

const foreign = ({ definition }: Subject): string | undefined =>
  definition.phases.find(({ evaluate }) => evaluate !== undefined && evaluate !== 'loss')?.evaluate;

const hasAbsent = (entry: GoldenCase): boolean => entry.gradients.some((list) => list.includes(null));
const arrayOf = (values: readonly number[], shape: readonly number[]): np.Array =>
  np.array(Float32Array.from(values), { shape: [...shape] });

/** Largest error over the first steps, relative to the value or the floor of its tensor. */
function replay(file: GoldenFile, entry: GoldenCase, { definition, settings }: Subject): number {
  const optimizer = createOptimizer(definition, settings);
  const arrays = (lists: readonly (readonly number[] | null)[]): np.Array[] =>
    lists.map((values, i) => arrayOf(values ?? [], file.param_shapes[i]));
  let params: Params = arrays(entry.initial);
  let state = optimizer.init(tree.ref(params));
  let worst = 0;
  /** @param from A point the expected one was reached from by one addition: what is left of large terms is as exact as they are. */
  const compare = (at: Params, expected: readonly (readonly number[])[], from = expected) =>
    tree.leaves<np.Array>(at).forEach((array, i) => {
      const actual = array.ref.dataSync();
      const list = expected[i];
      const floor = Math.max(FLOOR * Math.max(...list.map(Math.abs)), 1e-12);
      list.forEach((value, j) => {
        const error = Math.abs(Number(actual[j]) - value) / Math.max(Math.abs(value), Math.abs(from[i][j]), floor);
        worst = Math.max(worst, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
      });
    });
  let used = 0;
  for (let k = 0; k < Math.min(STEPS, entry.steps); k++) {
    const before = k === 0 ? entry.initial : entry.params[k - 1];
    const evaluate = (at: Params) => {
      const ahead = entry.perturbed ?? entry.half_step;
      if (ahead) compare(at, ahead[k], before);
      tree.dispose(at);
      return { grads: arrays(entry.gradients[used++]) };
    };
    const grads = arrays(entry.gradients[used++]);
    const [updates, next] = optimizer.update(grads, state, tree.ref(params), { lr: entry.lr_per_step?.[k], evaluate });
    state = next;
    params = applyUpdates(params, updates);
    for (const { after_step, call } of entry.events ?? [])
      if (after_step === k + 1 && call === 'restart') state = optimizer.restart(state, tree.ref(params));
    compare(params, entry.params[k], before);
  }
  tree.dispose(params);
  optimizer.dispose(state);
  return worst;
}

test.each(cases.filter(({ entry }) => !hasAbsent(entry)))('$rule $id within 1e-4', ({ file, entry }) => {
  const subject = recordedSubject(file, entry);
  const what = foreign(subject);
  if (what !== undefined) expect(() => createOptimizer(subject.definition, subject.settings)).toThrow(what);
  else expect(replay(file, entry, subject)).toBeLessThan(1e-4);
});

test('only cases with tensors that have no gradient are left out: a tree has one for every parameter', () => {
  expect(cases.filter(({ entry }) => hasAbsent(entry)).length).toBeLessThan(5);
});
