import { describe, expect, test } from 'vitest';
import * as t from '../../src/tensor/index.ts';
import type { Sample } from './cases/case.ts';
import { checkDerivatives, checkParts, checkValues, type Figures } from './check.ts';

/** x³, right but for what is replaced. */
const cube = (name: string, wrong: Partial<t.OpDef<object>>): Sample => {
  const slope = (x: t.Tensor) => t.mul(t.square(x), 3);
  const op: t.OpDef<object> = {
    name: `cube ${name}`,
    infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
    evaluate: ([x]) => x.data.map((v) => v ** 3),
    decompose: ([x]) => t.mul(t.square(x), x),
    decomposeOn: ['webgpu', 'cuda'],
    lower: (to, [x], { dtype }) => to.node('Pow', [x, to.scalar(3, dtype)]),
    vjp: ({ inputs: [x] }, g) => [t.mul(g, slope(x))],
    jvp: ({ inputs: [x] }, [u]) => u && t.mul(u, slope(x)),
    ...wrong,
  };
  return {
    inputs: [{ shape: [2, 2] }],
    build: ([x]) => t.make(op, [x], {}),
    reference: ([x]) => [x.data.map((v) => v * v * v)],
  };
};

const check = (sample: Sample) => {
  const figures: Figures = new Map();
  checkValues(sample, 1, 'here', figures);
  checkParts(sample, 1, 'here', figures);
  checkDerivatives(sample, 1, 'here', figures);
  return figures;
};

describe('the checks of the suite catch', () => {
  const almost = (x: t.Tensor) => t.mul(t.square(x), 3 + 1e-5);
  const faults: readonly [string, Partial<t.OpDef<object>>, RegExp][] = [
    ['a wrong value', { evaluate: ([x]) => x.data.map((v) => v ** 3 + 1e-9) }, /^value/],
    ['parts that are another function', { decompose: ([x]) => t.mul(t.square(x), t.mul(x, 1 + 1e-8)) }, /parts/],
    ['a wrong jvp', { jvp: ({ inputs: [x] }, [u]) => u && t.mul(u, almost(x)) }, /jvp against differences/],
    ['a wrong vjp', { vjp: ({ inputs: [x] }, g) => [t.mul(g, almost(x))] }, /gradient/],
    [
      'a second derivative that is cut off in reverse mode',
      { vjp: ({ inputs: [x] }, g) => [t.mul(g, t.stopGradient(t.mul(t.square(x), 3)))] },
      /hvp/,
    ],
    [
      'a derivative forgotten for the cotangent',
      { vjp: ({ inputs: [x] }, g) => [t.mul(t.stopGradient(g), t.mul(t.square(x), 3))] },
      /hvp/,
    ],
    [
      'a third derivative that is wrong',
      {
        vjp: ({ inputs: [x] }, g) => [t.mul(g, t.mul(x, t.add(t.mul(x, 3), t.mul(t.stopGradient(x), 0))))],
        jvp: ({ inputs: [x] }, [u]) => u && t.mul(u, t.mul(x, t.add(t.mul(t.stopGradient(x), 6), t.mul(x, -3)))),
      },
      /against/,
    ],
  ];

  test.each(faults)('%s', (name, wrong, message) => {
    expect(() => check(cube(name, wrong))).toThrow(message);
  });

  test('nothing where all is right', () => {
    const figures = check(cube('right', {}));
    expect([...figures.keys()].sort()).toEqual([
      'dot-product test',
      'gradient against differences',
      'gradient along a direction against differences',
      'hvp against differences',
      'jvp against differences',
      'parts against the whole',
      'reverse over reverse against forward over reverse',
      'third order against differences',
      'value',
    ]);
  });
});
