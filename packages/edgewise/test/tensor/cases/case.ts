/**
 * @file What an op case is, and the generators cases are made of. To put an op under test, add an entry to one of the tables in this
 * folder: the suite then checks its values, its derivatives of first, second and third order, and what ONNX Runtime makes of it.
 */
import fc from 'fast-check';
import {
  integers as integersOf,
  type Key,
  normal as normalOf,
  uniform as uniformOf,
} from '../../../src/base/random.ts';
import type { DType, Shape, Tensor } from '../../../src/tensor/index.ts';
import { sizeOf } from '../../../src/tensor/index.ts';

/** How the elements of an input are drawn: `count` of them, a function of the key alone. */
export type Draw = (key: Key, count: number) => Float64Array;

export interface InputSpec {
  readonly shape: Shape;
  /** Standard normal by default. */
  readonly draw?: Draw;
  /** Floating point of the precision under test by default. */
  readonly dtype?: DType;
  /** Hold this floating-point input fixed: nothing is differentiated with respect to it. */
  readonly fixed?: boolean;
}

/** An input as a reference formula sees it. */
export interface Given {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** One problem: an op with all its settings chosen, and shapes for its inputs. */
export interface Sample {
  readonly inputs: readonly InputSpec[];
  readonly build: (inputs: readonly Tensor[]) => Tensor | readonly Tensor[];
  /** The elements of every output by an independent formula, where one is worth having. */
  readonly reference?: (inputs: readonly Given[]) => readonly ArrayLike<number>[];
}

export interface OpCase {
  readonly name: string;
  readonly samples: fc.Arbitrary<Sample>;
  /** How many samples are drawn, 10 by default. */
  readonly runs?: number;
  /** Why a precision is not run on ONNX Runtime, if it is not. */
  readonly skip?: { readonly float64: string };
}

export const normal: Draw = (key, count) => normalOf(key, new Float64Array(count));

export const between =
  (low: number, high: number): Draw =>
  (key, count) =>
    uniformOf(key, new Float64Array(count), low, high);

/** Whole numbers in [low, high). */
export const integers =
  (low: number, high: number): Draw =>
  (key, count) =>
    integersOf(key, new Float64Array(count), low, high);

/** Numbers in [low, high] that keep 0.05 away from every one of `points`: kinks and jumps. */
export const awayFrom =
  (points: readonly number[], low = -3, high = 3): Draw =>
  (key, count) =>
    between(low, high)(key, count).map((x) => {
      const near = points.find((p) => Math.abs(x - p) < 0.05);
      return near === undefined ? x : near + (x < near ? -0.05 : 0.05) + (x - near);
    });

/** Numbers no two of which are closer than 0.1, in random order. */
export const distinct: Draw = (key, count) => {
  const order = Array.from({ length: count }, (_, i) => i);
  const random = between(0, 1)(key, count);
  order.sort((i, j) => random[i] - random[j]);
  return Float64Array.from(order, (rank) => (rank - count / 2) * 0.15 + 0.04);
};

const extent = (max: number) =>
  fc.oneof(
    { weight: 1, arbitrary: fc.constant(1) },
    { weight: 4, arbitrary: fc.integer({ min: Math.min(2, max), max }) },
  );

/** Shapes with extents of 1 now and then; higher ranks more often. */
export const shapes = (minRank: number, maxRank: number, maxExtent = 4): fc.Arbitrary<number[]> =>
  fc
    .constantFrom(
      ...Array.from({ length: maxRank - minRank + 1 }, (_, i) => new Array<number>(i + 1).fill(minRank + i)).flat(),
    )
    .chain((rank) => fc.tuple(...Array.from({ length: rank }, () => extent(maxExtent))));

/** Shapes that may also have an axis without elements. */
export const shapesWithEmpty = (minRank: number, maxRank: number): fc.Arbitrary<number[]> =>
  fc.oneof(
    { weight: 6, arbitrary: shapes(minRank, maxRank) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(shapes(Math.max(1, minRank), maxRank), fc.nat())
        .map(([shape, at]) => shape.map((n, i) => (i === at % shape.length ? 0 : n))),
    },
  );

/** `count` shapes that broadcast to one shape: some with axes of extent 1, some with fewer axes. */
export const broadcasting = (count: number, maxRank = 4): fc.Arbitrary<number[][]> =>
  shapes(0, maxRank).chain((target) => fc.tuple(...Array.from({ length: count }, () => shrunk(target))));

const shrunk = (target: readonly number[]): fc.Arbitrary<number[]> =>
  fc
    .record({
      keep: fc.tuple(...target.map(() => fc.integer({ min: 0, max: 3 }))),
      drop: fc.oneof(
        { weight: 2, arbitrary: fc.constant(0) },
        { weight: 1, arbitrary: fc.nat({ max: target.length }) },
      ),
    })
    .map(({ keep, drop }) => target.map((n, axis) => (keep[axis] === 0 ? 1 : n)).slice(drop));

/** An axis of a shape of this rank, sometimes counted from the end. */
export const axisOf = (rank: number): fc.Arbitrary<number> => fc.integer({ min: -rank, max: rank - 1 });

/** A subset of the axes, or undefined for all. */
export const axesOf = (rank: number): fc.Arbitrary<number[] | undefined> =>
  fc.option(fc.subarray([...Array(rank).keys()], { minLength: 0 }), { nil: undefined, freq: 3 });

/** A case without settings: same-shaped inputs drawn as given. */
export function pointwise(
  name: string,
  build: (x: Tensor) => Tensor,
  draw: Draw,
  formula?: (x: number) => number,
  options: Pick<OpCase, 'skip' | 'runs'> = {},
): OpCase {
  return {
    name,
    runs: 4,
    ...options,
    samples: shapesWithEmpty(0, 3).map((shape) => ({
      inputs: [{ shape, draw }],
      build: ([x]) => build(x),
      reference: formula && (([x]) => [x.data.map((v) => formula(v))]),
    })),
  };
}

/** Every index of a shape in row-major order. */
export function indicesOf(shape: Shape): number[][] {
  return Array.from({ length: sizeOf(shape) }, (_, flat) => {
    const index = new Array<number>(shape.length);
    for (let axis = shape.length - 1, rest = flat; axis >= 0; axis--) {
      index[axis] = rest % shape[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    return index;
  });
}

/** Element of `x` at an index, of which axes of extent 1 and missing leading axes repeat. */
export function at(x: Given, index: readonly number[]): number {
  const lead = index.length - x.shape.length;
  return x.data[x.shape.reduce((flat, n, axis) => flat * n + (n === 1 ? 0 : index[axis + lead]), 0)];
}
