import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import { broadcastShapes } from '../../../src/tensor/index.ts';
import {
  at,
  awayFrom,
  between,
  broadcasting,
  type Draw,
  distinct,
  type Given,
  indicesOf,
  integers,
  normal,
  type OpCase,
  pointwise,
  shapes,
} from './case.ts';

const noErf = { skip: { float64: 'ONNX Runtime has no float64 Erf' } };
const noAtan = { skip: { float64: 'ONNX Runtime has no float64 Atan' } };

/** Trapezium rule on the Gaussian: slow and sure. */
function erfByQuadrature(x: number): number {
  const n = 4000;
  const h = x / n;
  let total = (1 + Math.exp(-x * x)) / 2;
  for (let i = 1; i < n; i++) total += Math.exp(-((i * h) ** 2));
  // Euler-Maclaurin end correction.
  return (2 / Math.sqrt(Math.PI)) * (h * total + (h * h * 2 * x * Math.exp(-x * x)) / 12);
}

/** A binary op on broadcasting operands. */
function binary(
  name: string,
  build: (a: t.Tensor, b: t.Tensor) => t.Tensor,
  formula: (a: number, b: number) => number,
  draws: readonly [Draw, Draw] = [normal, normal],
): OpCase {
  return {
    name,
    samples: broadcasting(2).map(([a, b]) => ({
      inputs: [
        { shape: a, draw: draws[0] },
        { shape: b, draw: draws[1] },
      ],
      build: ([x, y]) => build(x, y),
      reference: ([x, y]) => [elementsOf([x, y], ([p, q]) => formula(p, q))],
    })),
  };
}

function elementsOf(inputs: readonly Given[], formula: (x: number[]) => number): number[] {
  return indicesOf(broadcastShapes('reference', ...inputs.map((x) => x.shape))).map((index) =>
    formula(inputs.map((x) => at(x, index))),
  );
}

const comparison = (
  name: string,
  build: (a: t.Tensor, b: t.Tensor) => t.Tensor,
  formula: (a: number, b: number) => boolean,
) => binary(name, build, (a, b) => (formula(a, b) ? 1 : 0), [integers(-2, 3), integers(-2, 3)]);

const logic = (
  name: string,
  build: (a: t.Tensor, b: t.Tensor) => t.Tensor,
  formula: (a: number, b: number) => number,
): OpCase => ({
  name,
  runs: 3,
  samples: broadcasting(2).map(([a, b]) => ({
    inputs: [
      { shape: a, draw: integers(0, 2), dtype: 'bool' },
      { shape: b, draw: integers(0, 2), dtype: 'bool' },
    ],
    build: ([x, y]) => build(x, y),
    reference: ([x, y]) => [elementsOf([x, y], ([p, q]) => formula(p, q))],
  })),
});

const special: Draw = (_, count) =>
  Float64Array.from(
    { length: count },
    (__, i) => [Number.NaN, 1, Number.POSITIVE_INFINITY, -0, Number.NEGATIVE_INFINITY][i % 5],
  );

export const elementwiseCases: readonly OpCase[] = [
  binary('add', t.add, (a, b) => a + b),
  binary('sub', t.sub, (a, b) => a - b),
  binary('mul', t.mul, (a, b) => a * b),
  binary('div', t.div, (a, b) => a / b, [normal, awayFrom([0, 0.3, -0.3], -3, 3)]),
  binary('pow', t.pow, (a, b) => a ** b, [between(0.4, 2), between(-2, 3)]),
  binary('maximum', t.maximum, Math.max, [
    (key, n) => integers(-20, 20)(key, n).map((x) => x / 8),
    (key, n) => integers(-20, 20)(key, n).map((x) => (x + 0.5) / 8),
  ]),
  binary('minimum', t.minimum, Math.min, [
    (key, n) => integers(-20, 20)(key, n).map((x) => x / 8),
    (key, n) => integers(-20, 20)(key, n).map((x) => (x + 0.5) / 8),
  ]),
  binary('mod', t.mod, (a, b) => a - b * Math.floor(a / b), [
    (key, n) => integers(-8, 8)(key, n).map((x) => x + 0.5),
    (key, n) => integers(0, 2)(key, n).map((x) => (x === 0 ? -3 : 2)),
  ]),
  comparison('equal', t.equal, (a, b) => a === b),
  comparison('greater', t.greater, (a, b) => a > b),
  comparison('greaterEqual', t.greaterEqual, (a, b) => a >= b),
  comparison('less', t.less, (a, b) => a < b),
  comparison('lessEqual', t.lessEqual, (a, b) => a <= b),
  logic('logicalAnd', t.logicalAnd, (a, b) => a & b),
  logic('logicalOr', t.logicalOr, (a, b) => a | b),
  logic('logicalXor', t.logicalXor, (a, b) => a ^ b),
  {
    name: 'logicalNot',
    runs: 2,
    samples: shapes(0, 3).map((shape) => ({
      inputs: [{ shape, draw: integers(0, 2), dtype: 'bool' }],
      build: ([x]) => t.logicalNot(x),
      reference: ([x]) => [x.data.map((v) => 1 - v)],
    })),
  },
  {
    name: 'where',
    samples: broadcasting(3).map(([c, a, b]) => ({
      inputs: [{ shape: c, draw: integers(0, 2), dtype: 'bool' }, { shape: a }, { shape: b }],
      build: ([x, y, z]) => t.where(x, y, z),
      reference: (inputs) => [elementsOf(inputs, ([p, q, r]) => (p ? q : r))],
    })),
  },
  {
    name: 'where on integers and booleans',
    runs: 6,
    samples: fc
      .tuple(broadcasting(3), fc.constantFrom('int32' as const, 'int64' as const, 'bool' as const))
      .map(([[c, a, b], dtype]) => ({
        inputs: [
          { shape: c, draw: integers(0, 2), dtype: 'bool' },
          { shape: a, draw: integers(0, 2), dtype },
          { shape: b, draw: integers(0, 2), dtype },
        ],
        build: ([x, y, z]) => t.where(x, y, z),
        reference: (inputs) => [elementsOf(inputs, ([p, q, r]) => (p ? q : r))],
      })),
  },
  {
    name: 'arithmetic on integers',
    runs: 3,
    samples: fc.tuple(broadcasting(2), fc.constantFrom('int32' as const, 'int64' as const)).map(([[a, b], dtype]) => ({
      inputs: [
        { shape: a, draw: integers(-9, 10), dtype },
        { shape: b, draw: (key, n) => integers(1, 6)(key, n).map((x, i) => (i % 2 === 0 ? x : -x)), dtype },
      ],
      build: ([x, y]) => [
        t.add(x, y),
        t.mul(x, y),
        t.div(x, y),
        t.mod(x, y),
        t.maximum(x, y),
        t.neg(x),
        t.abs(x),
        t.sub(x, 3),
      ],
      reference: (inputs) =>
        [
          (p: number, q: number) => p + q,
          (p: number, q: number) => p * q,
          (p: number, q: number) => Math.trunc(p / q) + 0,
          (p: number, q: number) => p - q * Math.floor(p / q),
          Math.max,
        ]
          .map((f) => elementsOf(inputs, ([p, q]) => f(p, q)))
          .concat([(x: number) => 0 - x, Math.abs, (x: number) => x - 3].map((f) => Array.from(inputs[0].data, f))),
    })),
  },
  {
    name: 'cast',
    skip: { float64: 'a cast to float32 rounds, as it should' },
    samples: fc
      .tuple(
        shapes(0, 2),
        fc.constantFrom('float32' as const, 'float64' as const, 'int32' as const, 'int64' as const, 'bool' as const),
      )
      .map(([shape, to]) => ({
        inputs: [{ shape, draw: awayFrom([-2, -1, 0, 1, 2]) }],
        build: ([x]) => t.cast(x, to),
        reference: ([x]) => [x.data.map((v) => (to === 'bool' ? 1 : to.startsWith('int') ? Math.trunc(v) + 0 : v))],
      })),
  },
  {
    name: 'whole powers at 0',
    runs: 1,
    samples: fc.constant({
      inputs: [{ shape: [4], draw: () => Float64Array.of(0, 1, -1, 0) }],
      build: ([x]) => [0, 1, 2, 3, 4].map((n) => t.pow(x, n)),
      reference: ([x]) => [0, 1, 2, 3, 4].map((n) => x.data.map((v) => v ** n)),
    }),
  },
  pointwise('neg', t.neg, normal, (x) => -x),
  pointwise('abs', t.abs, awayFrom([0]), Math.abs),
  pointwise('sign', t.sign, awayFrom([0]), Math.sign),
  pointwise('step', t.step, awayFrom([0]), (x) => (x > 0 ? 1 : 0)),
  {
    name: 'step at zeros and tiny numbers',
    runs: 1,
    samples: fc.constant({
      inputs: [
        {
          shape: [6],
          draw: () => Float64Array.of(0, -0, 1.2e-38, -1.2e-38, 3.4e38, Number.POSITIVE_INFINITY),
          fixed: true,
        },
      ],
      build: ([x]) => t.step(x),
      reference: () => [[0, 0, 1, 0, 1, 1]],
    }),
  },
  pointwise('exp', t.exp, normal, Math.exp),
  pointwise('log', t.log, between(0.2, 4), Math.log),
  pointwise('log1p', t.log1p, between(-0.7, 3), Math.log1p),
  pointwise('log1p near 0', t.log1p, between(-1e-4, 1e-4), Math.log1p),
  pointwise('expm1', t.expm1, normal, Math.expm1),
  pointwise('expm1 near 0', t.expm1, between(-1e-4, 1e-4), Math.expm1),
  pointwise('sqrt', t.sqrt, between(0.3, 4), Math.sqrt),
  pointwise('rsqrt', t.rsqrt, between(0.3, 4), (x) => 1 / Math.sqrt(x)),
  pointwise('square', t.square, normal, (x) => x * x),
  pointwise('reciprocal', t.reciprocal, awayFrom([0, 0.3, -0.3]), (x) => 1 / x),
  pointwise('sin', t.sin, normal, Math.sin),
  pointwise('cos', t.cos, normal, Math.cos),
  pointwise('tan', t.tan, between(-1, 1), Math.tan),
  pointwise('atan', t.atan, normal, Math.atan, noAtan),
  pointwise('sinh', t.sinh, between(-2, 2), Math.sinh),
  pointwise('cosh', t.cosh, between(-2, 2), Math.cosh),
  pointwise('tanh', t.tanh, normal, Math.tanh),
  pointwise('sigmoid', t.sigmoid, normal, (x) => 1 / (1 + Math.exp(-x))),
  pointwise('softplus', t.softplus, between(-4, 4), (x) => Math.log(1 + Math.exp(x))),
  pointwise('softplus far out', t.softplus, between(95, 120), (x) => x),
  pointwise('erf', t.erf, normal, erfByQuadrature, noErf),
  pointwise('relu', t.relu, awayFrom([0]), (x) => Math.max(0, x)),
  pointwise(
    'clip',
    (x) => t.clip(x, -0.5, 1.25),
    awayFrom([-0.5, 1.25]),
    (x) => Math.min(1.25, Math.max(-0.5, x)),
  ),
  pointwise(
    'clip on one side',
    (x) => t.clip(x, Number.NEGATIVE_INFINITY, 0.5),
    awayFrom([0.5]),
    (x) => Math.min(0.5, x),
  ),
  pointwise('floor', t.floor, awayFrom([-3, -2, -1, 0, 1, 2, 3]), Math.floor),
  pointwise('ceil', t.ceil, awayFrom([-3, -2, -1, 0, 1, 2, 3]), Math.ceil),
  pointwise('round', t.round, awayFrom([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]), Math.round),
  {
    name: 'round at halves, and stopGradient',
    runs: 2,
    samples: shapes(1, 2).map((shape) => ({
      inputs: [{ shape, draw: (key, n) => integers(-4, 4)(key, n).map((x) => x + 0.5), fixed: true }],
      build: ([x]) => [t.round(x), t.stopGradient(x)],
      reference: ([x]) => [x.data.map((v) => 2 * Math.round(v / 2)), x.data],
    })),
  },
  {
    name: 'isNaN and isFinite',
    runs: 2,
    samples: shapes(1, 2, 6).map((shape) => ({
      inputs: [{ shape, draw: special, fixed: true }],
      build: ([x]) => [t.isNaN(x), t.isFinite(x)],
      reference: ([x]) => [
        x.data.map((v) => (Number.isNaN(v) ? 1 : 0)),
        x.data.map((v) => (Number.isFinite(v) ? 1 : 0)),
      ],
    })),
  },
  {
    name: 'an operand used twice',
    runs: 2,
    samples: shapes(1, 2).map((shape) => ({
      inputs: [{ shape, draw: distinct }],
      build: ([x]) => t.add(t.mul(x, x), t.div(x, t.add(t.mul(x, x), 1))),
      reference: ([x]) => [x.data.map((v) => v * v + v / (v * v + 1))],
    })),
  },
];
