import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { grad } from '../../src/autodiff/index.ts';
import * as t from '../../src/tensor/index.ts';
import { activationCases } from './cases/activations.ts';
import type { OpCase } from './cases/case.ts';
import { elementwiseCases } from './cases/elementwise.ts';
import { indexingCases } from './cases/indexing.ts';
import { layoutCases } from './cases/layout.ts';
import { lossCases } from './cases/losses.ts';
import { matmulCases } from './cases/matmul.ts';
import { normalizationCases } from './cases/normalization.ts';
import { reductionCases } from './cases/reductions.ts';

const SEED = 20250711;

const allCases: readonly OpCase[] = [
  ...activationCases,
  ...elementwiseCases,
  ...indexingCases,
  ...layoutCases,
  ...lossCases,
  ...matmulCases,
  ...normalizationCases,
  ...reductionCases,
];

describe('equal expressions are one node', () => {
  test.each(allCases.map((op) => [op.name, op] as const))('%s', (_, { samples }) => {
    fc.assert(
      fc.property(samples, (sample) => {
        const inputs = sample.inputs.map(({ shape, dtype = 'float32' }, i) => t.input(`n${i}`, shape, dtype));
        const [once, twice] = [sample.build(inputs), sample.build(inputs)].map(
          (y) => (Array.isArray(y) ? y : [y]) as t.Tensor[],
        );
        twice.forEach((y, k) => {
          expect(y).toBe(once[k]);
          const loss = t.sum(t.cast(y, 'float32'));
          if (inputs[0].dtype === 'float32') expect(grad(loss, [inputs[0]])[0]).toBe(grad(loss, [inputs[0]])[0]);
        });
        // Every attribute on the way is plain data.
        for (const node of t.topological(once)) {
          expect(node.inputs.every((x) => x.id < node.id)).toBe(true);
          expect(() => structuredClone(node.attrs)).not.toThrow();
        }
      }),
      { seed: SEED, numRuns: 3, unbiased: true },
    );
  });

  test('the same name, shape and dtype is the same input, and any difference another', () => {
    const x = t.input('x', [2, 3]);
    expect(t.input('x', [2, 3])).toBe(x);
    for (const other of [t.input('y', [2, 3]), t.input('x', [3, 2]), t.input('x', [2, 3], 'float64')])
      expect(other).not.toBe(x);
  });

  test('operands in another order, and other settings, are other nodes', () => {
    const [a, b] = [t.input('a', [2]), t.input('b', [2])];
    expect(t.sub(a, b)).not.toBe(t.sub(b, a));
    expect(t.sum(a, { keepDims: true })).not.toBe(t.sum(a));
    expect(t.sum(a, { axes: [0] })).toBe(t.sum(a));
    expect(t.softmax(a, -1)).toBe(t.softmax(a, 0));
  });
});

describe('numbers that JSON cannot say', () => {
  const odd = [0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 5e-324, Number.MAX_VALUE, 0.1];

  test('constants keep them', () => {
    for (const value of odd) {
      const c = t.constant(value, [2], 'float64');
      expect(t.uniformValue(c)).toBe(value);
      expect([...t.evaluate([c], new Map())[0]]).toEqual([value, value]);
    }
    const all = t.constant(odd, [odd.length], 'float64');
    t.evaluate([all], new Map())[0].forEach((v, i) => {
      expect(v).toBe(odd[i]);
    });
    expect(new Set(odd.map((value) => t.constant(value)))).toHaveLength(odd.length);
  });

  test('attributes keep them apart', () => {
    const x = t.input('x', [1]);
    const ends = [Number.NEGATIVE_INFINITY, -0, 0, 1, Number.POSITIVE_INFINITY];
    expect(new Set(ends.map((high) => t.clip(x, Number.NEGATIVE_INFINITY, high)))).toHaveLength(ends.length);
    expect(new Set([...ends, Number.NaN].map((fill) => t.pad(x, { low: [1], high: [0] }, fill)))).toHaveLength(
      ends.length + 1,
    );
    expect([...t.evaluate([t.pad(x, { low: [1], high: [0] }, Number.NaN)], new Map([[x, [2]]]))[0]]).toEqual([
      Number.NaN,
      2,
    ]);
  });

  test('any list of doubles comes back from a constant', () => {
    fc.assert(
      fc.property(fc.float64Array({ maxLength: 20 }), (list) => {
        const [back] = t.evaluate([t.constant(list, [list.length], 'float64')], new Map());
        list.forEach((v, i) => {
          expect(back[i]).toBe(v);
        });
      }),
      { seed: SEED },
    );
  });
});

test('float16 memory rounds to the nearest, ties to even', () => {
  const float16 = (bits: number) => t.decode(Uint16Array.of(bits), 'float16')[0];
  const wrong: number[] = [];
  for (let bits = 0; bits < 0x7c00; bits++) {
    const middle = (float16(bits) + (bits === 0x7bff ? 65536 : float16(bits + 1))) / 2;
    const [same, tie, below] = t.encode([float16(bits), middle, -middle * (1 - 2 ** -30)], 'float16') as Uint16Array;
    if (same !== bits || tie !== bits + (bits % 2) || below !== (0x8000 | bits)) wrong.push(bits);
  }
  expect(wrong).toEqual([]);
  expect([
    ...t.decode(t.encode([Number.NaN, Number.POSITIVE_INFINITY, -70000, -0], 'float16') as Uint16Array, 'float16'),
  ]).toEqual([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0]);
});

test('making the same graph again makes no new nodes', () => {
  const x = t.input('x', [3]);
  const graph = () => t.sum(t.tanh(t.add(x, 1)));
  const first = graph();
  for (let i = 0; i < 100; i++) graph();
  // Node numbers are given out in order of creation.
  expect(t.input('made right after', [1]).id).toBe(first.id + 1);
});
