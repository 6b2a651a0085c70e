import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import { at, awayFrom, between, indicesOf, normal, type OpCase, pointwise, shapes } from './case.ts';

const wide = between(-4, 4);
const sigma = (x: number) => 1 / (1 + Math.exp(-x));

/** Φ by the trapezium rule over the density. */
function normalCdf(x: number): number {
  const n = 4000;
  const [from, h] = [-12, (x + 12) / n];
  let total = 0;
  for (let i = 0; i <= n; i++) total += (i === 0 || i === n ? 0.5 : 1) * Math.exp(-((from + i * h) ** 2) / 2);
  const endSlope = -x * Math.exp((-x * x) / 2);
  return (total * h - (h * h * endSlope) / 12) / Math.sqrt(2 * Math.PI);
}

const tanhGelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

export const activationCases: readonly OpCase[] = [
  pointwise(
    'gelu',
    (x) => t.gelu(x),
    wide,
    (x) => x * normalCdf(x),
    { skip: { float64: 'ONNX Runtime has no float64 Erf' } },
  ),
  pointwise('gelu by tanh', (x) => t.gelu(x, { approximate: 'tanh' }), wide, tanhGelu),
  pointwise('silu', t.silu, wide, (x) => x * sigma(x)),
  pointwise(
    'swish',
    (x) => t.swish(x, -0.7),
    wide,
    (x) => x * sigma(-0.7 * x),
  ),
  pointwise('quickGelu', t.quickGelu, wide, (x) => x * sigma(1.702 * x)),
  pointwise(
    'elu',
    (x) => t.elu(x, 1.3),
    awayFrom([0]),
    (x) => (x > 0 ? x : 1.3 * (Math.exp(x) - 1)),
  ),
  pointwise(
    'celu',
    (x) => t.celu(x, 0.7),
    awayFrom([0]),
    (x) => Math.max(0, x) + Math.min(0, 0.7 * (Math.exp(x / 0.7) - 1)),
  ),
  pointwise(
    'selu',
    t.selu,
    awayFrom([0]),
    (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * (Math.exp(x) - 1)),
  ),
  pointwise(
    'leakyRelu',
    (x) => t.leakyRelu(x, 0.2),
    awayFrom([0]),
    (x) => (x > 0 ? x : 0.2 * x),
  ),
  pointwise(
    'hardSigmoid',
    (x) => t.hardSigmoid(x),
    awayFrom([-3, 3], -5, 5),
    (x) => Math.min(1, Math.max(0, x / 6 + 0.5)),
  ),
  pointwise('hardSwish', t.hardSwish, awayFrom([-3, 3], -5, 5), (x) => x * Math.min(1, Math.max(0, x / 6 + 0.5))),
  pointwise('mish', t.mish, wide, (x) => x * Math.tanh(Math.log(1 + Math.exp(x)))),
  pointwise('mish far out', t.mish, between(21, 100), (x) => x),
  pointwise('softsign', t.softsign, awayFrom([0]), (x) => x / (1 + Math.abs(x))),
  pointwise('logSigmoid', t.logSigmoid, wide, (x) => Math.log(sigma(x))),
  pointwise('relu6', t.relu6, awayFrom([0, 6], -2, 8), (x) => Math.min(6, Math.max(0, x))),
  pointwise(
    'hardTanh',
    (x) => t.hardTanh(x),
    awayFrom([-1, 1]),
    (x) => Math.min(1, Math.max(-1, x)),
  ),
  {
    name: 'prelu',
    samples: shapes(2, 4).map((shape) => ({
      inputs: [{ shape, draw: awayFrom([0]) }, { shape: [shape[1], ...shape.slice(2).map(() => 1)] }],
      build: ([x, slope]) => t.prelu(x, slope),
      reference: ([x, slope]) => [indicesOf(x.shape).map((i) => (at(x, i) > 0 ? at(x, i) : at(x, i) * at(slope, i)))],
    })),
  },
  {
    name: 'glu',
    samples: fc.tuple(shapes(1, 3), fc.nat()).map(([half, pick]) => {
      const axis = pick % half.length;
      const shape = half.map((n, i) => (i === axis ? 2 * n : n));
      return {
        inputs: [{ shape, draw: normal }],
        build: ([x]) => t.glu(x, axis - half.length),
        reference: ([x]) => [
          indicesOf(half).map((index) => {
            const gate = index.map((k, i) => (i === axis ? k + half[axis] : k));
            return at(x, index) * sigma(at(x, gate));
          }),
        ],
      };
    }),
  },
];
