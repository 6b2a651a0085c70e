/** @file Every op kernels have, alone: host functions and vector code against the ops' own definitions. */
import { describe, expect, test } from 'vitest';
import { functions } from '../../src/kernels/functions.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import * as ops from '../../src/tensor/ops/elementwise.ts';
import { input, type Tensor } from '../../src/tensor/tensor.ts';
import { bindPage, type Engine, type Page } from './support.ts';

const SPECIAL = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  -2.5,
  3,
  1e-3,
  -7.25,
  2 ** 20,
  1e-40,
  -1e-40,
  1e30,
  -1e30,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
  2,
];
/** What float32 memory holds of them. */
const INPUTS = SPECIAL.map(Math.fround);

const arithmetic = {
  add: ops.add,
  sub: ops.sub,
  mul: ops.mul,
  div: ops.div,
  maximum: ops.maximum,
  minimum: ops.minimum,
  pow: ops.pow,
  mod: ops.mod,
};
const comparisons = {
  equal: ops.equal,
  greater: ops.greater,
  greaterEqual: ops.greaterEqual,
  less: ops.less,
  lessEqual: ops.lessEqual,
};
const plain = {
  neg: ops.neg,
  abs: ops.abs,
  sign: ops.sign,
  sqrt: ops.sqrt,
  square: ops.square,
  reciprocal: ops.reciprocal,
  floor: ops.floor,
  ceil: ops.ceil,
  round: ops.round,
  relu: ops.relu,
  exp: ops.exp,
  log: ops.log,
  log1p: ops.log1p,
  expm1: ops.expm1,
  sin: ops.sin,
  cos: ops.cos,
  atan: ops.atan,
  tanh: ops.tanh,
  sigmoid: ops.sigmoid,
  softplus: ops.softplus,
  erf: ops.erf,
  clip: (x: Tensor) => ops.clip(x, -1, 2),
  stopGradient: ops.stopGradient,
};
const questions = { isNaN: ops.isNaN, isFinite: ops.isFinite };

const asNumber = (x: Tensor) => ops.cast(x, 'float64');

/** Op names with a function of one or two elements giving numbers. */
const rules: Readonly<Record<string, (a: Tensor, b: Tensor) => Tensor>> = {
  ...arithmetic,
  ...Object.fromEntries(
    Object.entries(comparisons).map(([name, op]) => [name, (a: Tensor, b: Tensor) => asNumber(op(a, b))]),
  ),
  ...plain,
  ...Object.fromEntries(Object.entries(questions).map(([name, op]) => [name, (a: Tensor) => asNumber(op(a))])),
  logicalAnd: (a, b) => asNumber(ops.logicalAnd(ops.greater(a, 0), ops.greater(b, 0))),
  logicalOr: (a, b) => asNumber(ops.logicalOr(ops.greater(a, 0), ops.greater(b, 0))),
  logicalXor: (a, b) => asNumber(ops.logicalXor(ops.greater(a, 0), ops.greater(b, 0))),
  logicalNot: (a) => asNumber(ops.logicalNot(ops.greater(a, 0))),
  where: (a, b) => ops.where(ops.greater(a, b), a, ops.neg(b)),
  castToBool: (a) => asNumber(ops.cast(a, 'bool')),
};

const pairs = INPUTS.flatMap((a) => INPUTS.map((b) => [a, b] as const));
const A = pairs.map(([a]) => a);
const B = pairs.map(([, b]) => b);

const page = (rule: (a: Tensor, b: Tensor) => Tensor): Page => ({
  vectors: ['a', 'b', 'out'],
  rule: (s) => ({ writes: { out: rule(s.a, s.b) } }),
});

function run(rule: (a: Tensor, b: Tensor) => Tensor, engine: Engine): Float64Array {
  const { update, views } = bindPage(
    page(rule),
    {
      segments: [{ offset: 0, length: A.length, rows: 1 }],
      size: A.length,
      vectors: { a: A, b: B, out: A.map(() => 0) },
    },
    engine,
  );
  update.run();
  return Float64Array.from(views.out());
}

/** Equal up to rounding; NaN equals NaN, and zeros of either sign are equal. */
function close(actual: number, expected: number, ulp: number): boolean {
  if (Number.isNaN(expected) || Number.isNaN(actual)) return Number.isNaN(expected) && Number.isNaN(actual);
  if (!Number.isFinite(expected)) return actual === expected;
  return Math.abs(actual - expected) <= ulp * Math.abs(expected) + (ulp > 1e-10 ? 1e-44 : 0);
}

describe.each(Object.entries(rules).map(([name, rule]) => ({ name, rule })))('$name', ({ name, rule }) => {
  const [a, b] = [input('a', [A.length], 'float64'), input('b', [A.length], 'float64')];
  const [expected] = evaluate(
    [rule(a, b)],
    new Map([
      [a, A],
      [b, B],
    ]),
  );

  test.each(['interpreter', 'float64', 'float32'] as const)('as the op defines it: %s', (engine) => {
    const ulp = engine === 'float32' ? 2e-7 : 1e-15;
    const wanted = engine === 'float32' ? expected.map(Math.fround) : expected;
    const actual = run(rule, engine);
    const wrong = [...actual].flatMap((x, i) =>
      close(x, wanted[i], ulp) ? [] : [`${name}(${A[i]}, ${B[i]}) = ${x}, not ${wanted[i]}`],
    );
    expect(wrong).toEqual([]);
  });
});

test('host functions are those of the ops', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((name) => input(name, [], 'float64'));
  const numeric = { ...arithmetic, ...plain };
  for (const [name, f] of Object.entries(functions)) {
    const op =
      name in numeric
        ? numeric[name as keyof typeof numeric]
        : name in comparisons
          ? comparisons[name as keyof typeof comparisons]
          : undefined;
    if (!op) continue;
    for (const [x, y] of pairs) {
      const [value] = evaluate(
        [op(a, b)],
        new Map([
          [a, [x]],
          [b, [y]],
          [c, [0]],
        ]),
      );
      expect(Object.is(f(x, y), value[0]) || close(f(x, y), value[0], 1e-15), `${name}(${x}, ${y})`).toBe(true);
    }
  }
});
