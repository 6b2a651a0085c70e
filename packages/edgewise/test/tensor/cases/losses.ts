import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import {
  at,
  awayFrom,
  between,
  type Draw,
  type Given,
  indicesOf,
  integers,
  normal,
  type OpCase,
  shapes,
} from './case.ts';

const reductions = fc.constantFrom('mean' as const, 'sum' as const, 'none' as const);

function reduced(losses: readonly number[], reduction: t.Reduction): number[] {
  const total = losses.reduce((a, b) => a + b, 0);
  return reduction === 'none' ? [...losses] : [reduction === 'sum' ? total : total / losses.length];
}

/** -log softmax of one row at one class, from the definition. */
const nll = (row: readonly number[], label: number) => Math.log(row.reduce((a, b) => a + Math.exp(b), 0)) - row[label];

const row = (x: Given, place: readonly number[], classes: number) =>
  Array.from({ length: classes }, (_, c) => at(x, [...place, c]));

const probabilities: Draw = (key, count) => between(0.05, 1)(key, count);

const problem = fc.record({
  lead: shapes(1, 2),
  classes: fc.integer({ min: 2, max: 5 }),
  reduction: reductions,
  labelSmoothing: fc.constantFrom(0, 0, 0.1, 0.4),
  weighted: fc.boolean(),
  dtype: fc.constantFrom('int32' as const, 'int64' as const),
});

/** A loss of one prediction and one target. */
function paired(
  name: string,
  build: (x: t.Tensor, y: t.Tensor, options: t.LossOptions) => t.Tensor,
  formula: (x: number, y: number) => number,
  draws: readonly [Draw, Draw] = [normal, normal],
): OpCase {
  return {
    name,
    runs: 6,
    samples: fc.tuple(shapes(0, 3), reductions).map(([shape, reduction]) => ({
      inputs: draws.map((draw) => ({ shape, draw })),
      build: ([x, y]) => build(x, y, { reduction }),
      reference: ([x, y]) => [
        reduced(
          Array.from(x.data, (v, i) => formula(v, y.data[i])),
          reduction,
        ),
      ],
    })),
  };
}

/** Differences of two such numbers keep 0.1 away from whole multiples of a half. */
const onGrid: Draw = (key, count) => integers(-4, 5)(key, count).map((x) => x / 2);
const offGrid: Draw = (key, count) => integers(-4, 5)(key, count).map((x) => x / 2 + 0.2);

const sigma = (x: number) => 1 / (1 + Math.exp(-x));

export const lossCases: readonly OpCase[] = [
  {
    name: 'crossEntropy with labels',
    runs: 16,
    samples: problem.map(({ lead, classes, reduction, labelSmoothing, weighted, dtype }) => ({
      inputs: [
        { shape: [...lead, classes] },
        { shape: lead, dtype, draw: integers(0, classes) },
        ...(weighted ? [{ shape: [classes], draw: between(0.2, 2), fixed: true }] : []),
      ],
      build: ([x, labels, classWeights]) => t.crossEntropy(x, labels, { reduction, labelSmoothing, classWeights }),
      reference: ([x, labels, weights]) => {
        const w = (c: number) => (weights ? weights.data[c] : 1);
        const places = indicesOf(lead);
        const losses = places.map((place) => {
          const logits = row(x, place, classes);
          const even = logits.reduce((sum, _, c) => sum + w(c) * nll(logits, c), 0) / classes;
          return (1 - labelSmoothing) * w(at(labels, place)) * nll(logits, at(labels, place)) + labelSmoothing * even;
        });
        const weight = places.reduce((sum, place) => sum + w(at(labels, place)), 0);
        return [reduction === 'mean' ? [losses.reduce((a, b) => a + b, 0) / weight] : reduced(losses, reduction)];
      },
    })),
  },
  {
    name: 'crossEntropy differentiated in its class weights',
    runs: 4,
    samples: problem.map(({ lead, classes, labelSmoothing }) => ({
      inputs: [
        { shape: [...lead, classes] },
        { shape: lead, dtype: 'int64', draw: integers(0, classes) },
        { shape: [classes], draw: between(0.5, 2) },
      ],
      build: ([x, labels, classWeights]) => t.crossEntropy(x, labels, { labelSmoothing, classWeights }),
    })),
  },
  {
    name: 'crossEntropy with labels to ignore, classes on axis 1',
    samples: problem.map(({ lead, classes, reduction, weighted, dtype }) => {
      const shape = [lead[0] + 1, classes, ...lead.slice(1)];
      const labelShape = [shape[0], ...lead.slice(1)];
      return {
        inputs: [
          { shape },
          // -100 is no class. The first label always counts.
          {
            shape: labelShape,
            dtype,
            draw: (key, n) => integers(-1, classes)(key, n).map((v, i) => (v >= 0 ? v : i === 0 ? 0 : -100)),
          },
          ...(weighted ? [{ shape: [classes], draw: between(0.2, 2), fixed: true }] : []),
        ],
        build: ([x, labels, classWeights]) =>
          t.crossEntropy(x, labels, { axis: 1, reduction, ignoreIndex: -100, classWeights }),
        reference: ([x, labels, weights]) => {
          const w = (c: number) => (c < 0 ? 0 : weights ? weights.data[c] : 1);
          const places = indicesOf(labelShape);
          const losses = places.map((place) => {
            const label = at(labels, place);
            const logits = Array.from({ length: classes }, (_, c) => at(x, [place[0], c, ...place.slice(1)]));
            return label < 0 ? 0 : w(label) * nll(logits, label);
          });
          const weight = places.reduce((sum, place) => sum + w(at(labels, place)), 0);
          return [reduction === 'mean' ? [losses.reduce((a, b) => a + b, 0) / weight] : reduced(losses, reduction)];
        },
      };
    }),
  },
  {
    name: 'crossEntropy with target probabilities',
    samples: problem.map(({ lead, classes, reduction, labelSmoothing, weighted }) => ({
      inputs: [
        { shape: [...lead, classes] },
        { shape: [...lead, classes], draw: probabilities },
        ...(weighted ? [{ shape: [classes], draw: between(0.2, 2) }] : []),
      ],
      build: ([x, target, classWeights]) => t.crossEntropy(x, target, { reduction, labelSmoothing, classWeights }),
      reference: ([x, target, weights]) => [
        reduced(
          indicesOf(lead).map((place) => {
            const logits = row(x, place, classes);
            return row(target, place, classes).reduce((sum, q, c) => {
              const share = (1 - labelSmoothing) * q + labelSmoothing / classes;
              return sum + share * (weights ? weights.data[c] : 1) * nll(logits, c);
            }, 0);
          }),
          reduction,
        ),
      ],
    })),
  },
  paired(
    'binaryCrossEntropyWithLogits',
    t.binaryCrossEntropyWithLogits,
    (x, z) => -z * Math.log(sigma(x)) - (1 - z) * Math.log(1 - sigma(x)),
    [normal, between(0, 1)],
  ),
  {
    name: 'binaryCrossEntropyWithLogits with a weight for positives',
    runs: 6,
    samples: fc.tuple(shapes(1, 3), reductions).map(([shape, reduction]) => ({
      inputs: [{ shape }, { shape, draw: between(0, 1) }, { shape: [shape[shape.length - 1]], draw: between(0.5, 3) }],
      build: ([x, z, positiveWeight]) => t.binaryCrossEntropyWithLogits(x, z, { positiveWeight, reduction }),
      reference: ([x, z, w]) => [
        reduced(
          indicesOf(shape).map(
            (i) => -at(w, i) * at(z, i) * Math.log(sigma(at(x, i))) - (1 - at(z, i)) * Math.log(1 - sigma(at(x, i))),
          ),
          reduction,
        ),
      ],
    })),
  },
  {
    name: 'squaredError',
    runs: 6,
    samples: shapes(1, 3).map((shape) => ({
      inputs: [{ shape }, { shape }],
      build: ([x, y]) => t.squaredError(x, y),
      reference: ([x, y]) => [[x.data.reduce((sum, v, i) => sum + (v - y.data[i]) ** 2, 0) / 2 / shape[0]]],
    })),
  },
  paired('meanSquaredError', t.meanSquaredError, (x, y) => (x - y) ** 2),
  paired('l1', t.l1, (x, y) => Math.abs(x - y), [onGrid, offGrid]),
  paired(
    'huber',
    (x, y, o) => t.huber(x, y, { ...o, delta: 0.5 }),
    (x, y) => (Math.abs(x - y) <= 0.5 ? (x - y) ** 2 / 2 : 0.5 * (Math.abs(x - y) - 0.25)),
    [onGrid, offGrid],
  ),
  paired(
    'smoothL1',
    (x, y, o) => t.smoothL1(x, y, { ...o, beta: 0.5 }),
    (x, y) => (Math.abs(x - y) <= 0.5 ? (x - y) ** 2 : Math.abs(x - y) - 0.25),
    [onGrid, offGrid],
  ),
  {
    name: 'klDivergence',
    runs: 6,
    samples: fc.tuple(shapes(1, 3), reductions).map(([shape, reduction]) => ({
      inputs: [{ shape }, { shape, draw: probabilities }],
      build: ([logQ, p]) => t.klDivergence(logQ, p, { reduction }),
      reference: ([logQ, p]) => [
        reduced(
          indicesOf(shape.slice(0, -1)).map((place) =>
            row(p, place, shape[shape.length - 1]).reduce(
              (sum, q, c) => sum + q * (Math.log(q) - at(logQ, [...place, c])),
              0,
            ),
          ),
          reduction,
        ),
      ],
    })),
  },
  {
    name: 'klDivergence where a target is 0',
    runs: 1,
    samples: fc.constant({
      inputs: [{ shape: [2, 2] }, { shape: [2, 2], draw: () => Float64Array.of(0, 1, 0.5, 0.5), fixed: true }],
      build: ([logQ, p]) => t.klDivergence(logQ, p, { reduction: 'none' }),
      reference: ([logQ]) => [[-logQ.data[1], -Math.LN2 - (logQ.data[2] + logQ.data[3]) / 2]],
    }),
  },
  {
    name: 'dropout',
    runs: 6,
    samples: fc.tuple(shapes(2, 4), fc.boolean(), fc.constantFrom(0, 0.3, 0.8)).map(([shape, channels, p]) => {
      const mask = channels ? [...shape.slice(0, 2), ...shape.slice(2).map(() => 1)] : shape;
      return {
        inputs: [{ shape }, { shape: mask, draw: awayFrom([p], 0, 1), fixed: true }],
        build: ([x, u]) => t.dropout(x, u, p),
        reference: ([x, u]) => [indicesOf(shape).map((i) => (at(u, i) >= p ? at(x, i) / (1 - p) : 0))],
      };
    }),
  },
  {
    name: 'stochasticDepth',
    runs: 4,
    samples: fc.tuple(shapes(1, 4), fc.constantFrom(0.25, 0.6)).map(([shape, p]) => ({
      inputs: [{ shape }, { shape: [shape[0]], draw: between(0, 1), fixed: true }],
      build: ([x, u]) => t.stochasticDepth(x, u, p),
      reference: ([x, u]) => [indicesOf(shape).map((i) => (u.data[i[0]] >= p ? at(x, i) / (1 - p) : 0))],
    })),
  },
];
