import { describe, expect, test } from 'vitest';
import { countOps, simplify } from '../../src/compile/simplify.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import * as ew from '../../src/tensor/index.ts';

const { input, constant } = ew;
const x = input('x', [2, 3], 'float64');
const row = input('row', [3], 'float64');
const flag = input('flag', [2, 3], 'bool');
const given = new Map<ew.Tensor, ArrayLike<number>>([
  [x, [1, -2, 3, 0.5, -0.25, 4]],
  [row, [2, -1, 0.5]],
  [flag, [1, 0, 1, 0, 0, 1]],
]);
const zeros = constant(0, [2, 3], 'float64');
const ones = constant(1, [2, 3], 'float64');

/** x among so many columns of zeros. */
const between = (low: number, high: number) => ew.pad(x, { low: [0, low], high: [0, high] });

/** An expression, and the ops that may be left of it. */
const cases: [string, ew.Tensor, Record<string, number>][] = [
  ['x + 0', ew.add(x, zeros), {}],
  ['x - 0', ew.sub(x, 0), {}],
  ['0 - x', ew.sub(zeros, x), { neg: 1 }],
  ['x · 1', ew.mul(x, ones), {}],
  ['x / 1', ew.div(x, 1), {}],
  ['x · -1', ew.mul(x, -1), { neg: 1 }],
  ['-(-x)', ew.neg(ew.neg(x)), {}],
  ['-(a - b)', ew.neg(ew.sub(x, row)), { sub: 1 }],
  ['a + (-b)', ew.add(x, ew.neg(row)), { sub: 1 }],
  ['a - (-b)', ew.sub(x, ew.neg(row)), { add: 1 }],
  ['(-a)(-b)', ew.mul(ew.neg(x), ew.neg(row)), { mul: 1 }],
  ['(2x) · 3', ew.mul(ew.mul(x, 2), 3), { mul: 1 }],
  ['3x + 3x', ew.add(ew.mul(x, 3), ew.mul(x, 3)), { mul: 1 }],
  ['-(2x)', ew.neg(ew.mul(x, 2)), { mul: 1 }],
  ['x^1', ew.pow(x, 1), {}],
  ['x^2', ew.pow(x, 2), { square: 1 }],
  ['expand folded into the operand that broadcasts', ew.mul(ew.expand(row, [2, 3]), x), { mul: 1 }],
  ['filled constants shrink', ew.maximum(x, zeros), { maximum: 1 }],
  ['where of a known condition', ew.where(constant(1, [2, 3], 'bool'), x, row), {}],
  ['where of equal sides', ew.where(flag, x, x), {}],
  ['expand within where', ew.where(flag, ew.expand(row, [2, 3]), x), { where: 1 }],
  ['reshape of reshape', ew.reshape(ew.reshape(x, [6]), [3, 2]), { reshape: 1 }],
  ['reshape there and back', ew.reshape(ew.reshape(x, [6]), [2, 3]), {}],
  ['transpose of transpose', ew.transpose(ew.transpose(x)), {}],
  ['transpose that moves nothing', ew.transpose(ew.reshape(x, [2, 1, 3]), [1, 0, 2]), { reshape: 1 }],
  ['expand of expand', ew.expand(ew.expand(row, [1, 3]), [2, 3]), { expand: 1 }],
  ['transpose into a product', ew.matmul(x, ew.transpose(x)), { matmul: 1 }],
  ['constants folded', ew.add(x, ew.mul(constant([1, 2, 3], [3], 'float64'), 2)), { add: 1 }],
  ['concat of concat', ew.concat([ew.concat([x, x], 1), x], 1), { concat: 1 }],
  ['concat of concat along another axis', ew.concat([ew.concat([x, x], 1), ew.concat([x, x], 1)], 0), { concat: 2 }],
  ['parts of a split, put back', ew.add(ew.add(between(6, 0), between(3, 3)), between(0, 6)), { concat: 1 }],
  ['parts with zeros on either side', ew.add(between(1, 5), between(4, 2)), { concat: 1, pad: 1 }],
  ['parts that overlap', ew.add(between(1, 2), between(2, 1)), { pad: 2, add: 1 }],
  ['parts with a gap between them', ew.add(between(0, 4), between(4, 0)), { pad: 2, add: 1 }],
  ['a chain of all of it', ew.add(ew.mul(ew.neg(ew.neg(x)), ones), ew.sub(zeros, ew.neg(row))), { add: 1 }],
];

describe('simplify', () => {
  test.each(cases)('%s', (_, expression, left) => {
    const [simple] = simplify([expression]);
    expect(Object.fromEntries(countOps([simple]))).toEqual(left);
    expect([simple.shape, simple.dtype]).toEqual([expression.shape, expression.dtype]);
    const [before, after] = evaluate([expression, simple], given);
    after.forEach((value, i) => expect(value).toBeCloseTo(before[i], 14));
  });

  test('a constant is folded as the device would round it', () => {
    const third = ew.div(constant(1, [], 'float32'), constant(3, [], 'float32'));
    const [folded] = simplify([third]);
    expect(evaluate([folded], new Map())[0][0]).toBe(Math.fround(1 / 3));
  });

  test('what is not neutral stays', () => {
    const nothing = [
      ew.add(x, 1),
      ew.mul(x, 2),
      ew.div(1, x),
      ew.pow(x, 3),
      ew.transpose(x),
      ew.matmul(x, ew.reshape(x, [3, 2])),
    ];
    for (const expression of nothing) expect(simplify([expression])[0]).toBe(expression);
  });

  test('NaN times zero stays NaN: products with zero are not removed', () => {
    const [simple] = simplify([ew.mul(x, 0)]);
    const nan = new Map(given).set(x, new Array(6).fill(Number.NaN));
    expect(evaluate([simple], nan)[0].every(Number.isNaN)).toBe(true);
  });
});
