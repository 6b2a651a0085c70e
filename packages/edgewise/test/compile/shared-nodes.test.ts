import { expect, test } from 'vitest';
import { grad } from '../../src/autodiff/index.ts';
import { lowerToOnnx } from '../../src/compile/lower.ts';
import { maxPool } from '../../src/tensor/ops/pool.ts';
import { sum } from '../../src/tensor/ops/reduce.ts';
import { input } from '../../src/tensor/tensor.ts';

test('a pool and its gradient share one node: the values of one, the indices for the other', () => {
  const x = input('x', [1, 1, 4, 4]);
  const y = maxPool(x, { window: 2 });
  const { graph } = lowerToOnnx([x], [y, ...grad(sum(y), [x])]);
  const pools = graph.nodes.filter((node) => node.opType === 'MaxPool');
  expect(pools.map((node) => node.outputs.length)).toEqual([2]);
});
