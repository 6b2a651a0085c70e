import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import {
  awayFrom,
  axesOf,
  axisOf,
  between,
  type Draw,
  distinct,
  type Given,
  indicesOf,
  normal,
  type OpCase,
  shapes,
  shapesWithEmpty,
} from './case.ts';

type Reduction = (x: t.Tensor, options?: t.ReduceOptions) => t.Tensor;

/** The lines of `x` along `axes`, in the order of the reduced tensor. */
function lines(x: Given, axes: readonly number[]): number[][] {
  const found = new Map<string, number[]>();
  indicesOf(x.shape.map((n, axis) => (axes.includes(axis) ? 1 : n))).forEach((index) => {
    found.set(index.join(), []);
  });
  indicesOf(x.shape).forEach((index, i) => {
    found.get(index.map((k, axis) => (axes.includes(axis) ? 0 : k)).join())!.push(x.data[i]);
  });
  return [...found.values()];
}

const all = (x: Given) => x.shape.map((_, axis) => axis);

function reduction(
  name: string,
  build: Reduction,
  formula: (line: number[]) => number,
  draw: Draw = normal,
  sources = shapes(0, 4),
): OpCase {
  return {
    name,
    samples: sources
      .chain((shape) => fc.record({ shape: fc.constant(shape), axes: axesOf(shape.length), keepDims: fc.boolean() }))
      .map(({ shape, axes, keepDims }) => ({
        inputs: [{ shape, draw }],
        build: ([x]) => build(x, { axes, keepDims }),
        reference: ([x]) => [lines(x, axes ?? all(x)).map(formula)],
      })),
  };
}

const total = (line: readonly number[]) => line.reduce((a, b) => a + b, 0);
const average = (line: readonly number[]) => total(line) / line.length;
const spread = (line: readonly number[]) => average(line.map((v) => (v - average(line)) ** 2));

const choice = (
  name: string,
  build: (x: t.Tensor, axis: number) => t.Tensor,
  better: (line: number[]) => number,
): OpCase => ({
  name,
  samples: shapes(1, 4)
    .chain((shape) => fc.record({ shape: fc.constant(shape), axis: axisOf(shape.length) }))
    .map(({ shape, axis }) => ({
      inputs: [{ shape, draw: distinct }],
      build: ([x]) => build(x, axis),
      reference: ([x]) => [lines(x, [(axis + shape.length) % shape.length]).map((line) => line.indexOf(better(line)))],
    })),
});

const running = (name: string, reverse: boolean): OpCase => ({
  name,
  samples: shapesWithEmpty(1, 4)
    .chain((shape) => fc.record({ shape: fc.constant(shape), axis: axisOf(shape.length) }))
    .map(({ shape, axis }) => {
      const along = (axis + shape.length) % shape.length;
      return {
        inputs: [{ shape }],
        build: ([x]) => t.cumSum(x, axis, reverse),
        reference: ([x]) => {
          const indices = indicesOf(shape);
          return [
            indices.map((index) =>
              indices.reduce((sum, other, j) => {
                const same = other.every((k, i) =>
                  i === along ? (reverse ? k >= index[i] : k <= index[i]) : k === index[i],
                );
                return same ? sum + x.data[j] : sum;
              }, 0),
            ),
          ];
        },
      };
    }),
});

/** One factor in five is 0, where a quotient rule would fail. */
const withZeros: Draw = (key, count) => awayFrom([0], -2, 2)(key, count).map((x, i) => (i % 5 === 2 ? 0 : x));

export const reductionCases: readonly OpCase[] = [
  reduction('sum', t.sum, total, normal, shapesWithEmpty(0, 4)),
  reduction('mean', t.mean, average),
  reduction('variance', t.variance, spread),
  reduction('max', t.max, (line) => Math.max(...line), distinct),
  reduction('min', t.min, (line) => Math.min(...line), distinct),
  reduction('prod', t.prod, (line) => line.reduce((a, b) => a * b, 1), between(0.5, 1.5), shapes(0, 3, 3)),
  reduction('prod with zeros', t.prod, (line) => line.reduce((a, b) => a * b, 1), withZeros, shapes(1, 2, 3)),
  reduction('norm', t.norm, (line) => Math.sqrt(total(line.map((v) => v * v))), awayFrom([0])),
  reduction('logSumExp', t.logSumExp, (line) => Math.log(total(line.map(Math.exp)))),
  {
    name: 'logSumExp of large numbers and -Infinity',
    runs: 1,
    samples: fc.constant({
      inputs: [
        {
          shape: [4, 2],
          draw: () =>
            Float64Array.of(
              1000,
              1000,
              -1000,
              -1000,
              Number.NEGATIVE_INFINITY,
              2,
              Number.NEGATIVE_INFINITY,
              Number.NEGATIVE_INFINITY,
            ),
          fixed: true,
        },
      ],
      build: ([x]) => t.logSumExp(x, { axes: 1 }),
      reference: () => [[1000 + Math.LN2, -1000 + Math.LN2, 2, Number.NEGATIVE_INFINITY]],
    }),
  },
  choice('argMax', t.argMax, (line) => Math.max(...line)),
  choice('argMin', t.argMin, (line) => Math.min(...line)),
  running('cumSum', false),
  running('cumSum from the end', true),
];
