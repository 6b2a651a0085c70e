/** @file What jax-js expects of an optimizer: purity, references, trees; and the example of the README. */
import { readFileSync } from 'node:fs';
import * as adapter from '@edgewise/jax';
import { applyUpdates, createOptimizer, type Params } from '@edgewise/jax';
import * as jax from '@jax-js/jax';
import { init, numpy as np, tree } from '@jax-js/jax';
import * as optim from 'edgewise/optim';
import { adan, clipGlobalNorm, type OptimizerDefinition, optimizers, sgd, sophia, wrappers } from 'edgewise/optim';
import { beforeAll, expect, test } from 'vitest';

beforeAll(async () => {
  await init('wasm');
});

const tree_ = (shift = 0): { w: np.Array; rest: np.Array[] } => ({
  w: np.array([0.3 + shift, -0.2, 5]),
  rest: [np.array([1, 2]).reshape([1, 2]), np.array(0.5)],
});
const leaves = (params: Params): np.Array[] => tree.leaves<np.Array>(params);
const numbers = (params: Params): number[] => leaves(params).flatMap((x) => Array.from(x.ref.dataSync(), Number));

const definitions = optimizers
  .filter(({ phases }) => phases.every(({ evaluate }) => evaluate === undefined || evaluate === 'loss'))
  .map((definition) => ({ name: definition.name, definition }));

test.each(definitions)('$name consumes what it is given, once, and nothing else', ({ definition }) => {
  const optimizer = createOptimizer(definition);
  const [params, grads] = [tree_(), tree_(1)];
  let state = optimizer.init(tree.ref(params));
  let updates: Params | undefined;
  for (let k = 0; k < 3; k++) {
    tree.dispose(updates);
    const evaluate = (at: Params) => {
      tree.dispose(at);
      return { grads: tree.ref(grads), loss: 2 };
    };
    [updates, state] = optimizer.update(tree.ref(grads), state, tree.ref(params), { loss: 2, evaluate });
  }
  expect(tree.structure(updates as Params).equals(tree.structure(params as Params))).toBe(true);
  expect(leaves(updates as Params).map((x) => x.shape)).toEqual([[3], [1, 2], []]);
  tree.dispose(updates);
  optimizer.dispose(state);
  // Nothing holds on to what was given.
  for (const x of [...leaves(params), ...leaves(grads)]) expect(x.refCount).toBe(1);
});

test('update is pure: the same state twice gives the same updates', () => {
  const optimizer = createOptimizer(adan);
  const [params, grads] = [tree_(), tree_(1)];
  const [first, state] = optimizer.update(tree.ref(grads), optimizer.init(tree.ref(params)), tree.ref(params));
  tree.dispose(first);
  const twice = [0, 1].map(() => {
    const held = { ...state, slots: tree.ref(state.slots as never) };
    const [updates, next] = optimizer.update(tree.ref(grads), held, tree.ref(params));
    optimizer.dispose(next);
    return numbers(updates);
  });
  expect(twice[0]).toEqual(twice[1]);
});

test('groups choose by path', () => {
  const optimizer = createOptimizer(sgd, { values: { lr: 1 }, groups: [{ match: { name: 'rest.*' }, lrScale: 0 }] });
  const [params, grads] = [tree_(), tree_(1)];
  const [updates] = optimizer.update(grads, optimizer.init(tree.ref(params)), params);
  const values = numbers(updates);
  expect(values.slice(3)).toEqual([0, 0, 0]);
  expect(values.slice(0, 3).every((x) => x !== 0)).toBe(true);
});

test('what a rule lacks is said', () => {
  const sam = wrappers.find(({ name }) => name === 'sam')!.wrap(sgd as unknown as OptimizerDefinition);
  const optimizer = createOptimizer(sam);
  expect(() => optimizer.update(tree_(), optimizer.init(tree_()), tree_())).toThrow(/give update an 'evaluate'/);
  expect(() => createOptimizer(sophia)).toThrow(/sampled labels/);
});

test('a refused step has zero updates and a reason', () => {
  const optimizer = createOptimizer(clipGlobalNorm(sgd), { values: { clipNorm: 1 } });
  const params = tree_();
  const [updates, state] = optimizer.update(tree_(Number.NaN), optimizer.init(tree.ref(params)), params);
  expect(optimizer.refusal(state)).toBe('the gradient norm is not finite');
  expect(numbers(updates).every((x) => x === 0)).toBe(true);
});

test('the example of the README lowers its loss', async () => {
  const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, example] = /```js\n([\s\S]*?)```/.exec(text) ?? [];
  const names = { ...jax, np: jax.numpy, ...adapter, adan: optim.adan };
  const said: string[] = [];
  const body = example.replace(/^import .*$/gm, '');
  const parameters = ['init', 'np', 'tree', 'valueAndGrad', 'applyUpdates', 'createOptimizer', 'adan'] as const;
  const run = new Function(...parameters, 'console', `return (async () => {${body}})();`);
  await run(...parameters.map((name) => names[name]), { log: (line: string) => said.push(line) });
  expect(Number(said.at(-1))).toBeLessThan(0.1 * Number(said[0]));
});

test('updates applied twice are applied twice', () => {
  expect(numbers(applyUpdates(np.array([1, 2]), np.array([0.5, -1])))).toEqual([1.5, 1]);
});
