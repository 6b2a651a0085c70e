import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import {
  at,
  axisOf,
  type Draw,
  distinct,
  type Given,
  indicesOf,
  integers,
  type OpCase,
  shapes,
  shapesWithEmpty,
} from './case.ts';

const indexTypes = fc.constantFrom('int32' as const, 'int64' as const);

/** Indices into an axis of this extent, some counted from the end; short axes make repeats certain. */
const into = (extent: number): Draw => integers(-extent, extent);

const front = (index: number, extent: number) => (index < 0 ? index + extent : index);

interface Along {
  readonly shape: number[];
  readonly axis: number;
  /** `axis` counted from the front. */
  readonly on: number;
}

const shapeAndAxis = (sources: fc.Arbitrary<number[]>): fc.Arbitrary<Along> =>
  sources.chain((shape) => axisOf(shape.length).map((axis) => ({ shape, axis, on: front(axis, shape.length) })));

const replaced = (shape: readonly number[], on: number, by: readonly number[]) => [
  ...shape.slice(0, on),
  ...by,
  ...shape.slice(on + 1),
];

/** Adds elements to a dictionary of positions and reads it out in order. */
function accumulate(
  shape: readonly number[],
  start: Given | undefined,
  entries: readonly (readonly [number[], number])[],
): number[] {
  const sums = new Map(indicesOf(shape).map((index, i) => [index.join(), start ? start.data[i] : 0]));
  for (const [index, value] of entries) sums.set(index.join(), sums.get(index.join())! + value);
  return [...sums.values()];
}

function gathering(sources: fc.Arbitrary<number[]>) {
  return fc.record({ along: shapeAndAxis(sources), index: shapesWithEmpty(0, 2), dtype: indexTypes });
}

/** Extents that take either lowering of a scatter: a product for few rows, ScatterElements for many. */
const rows = fc.constantFrom(3, 7, 400);

export const indexingCases: readonly OpCase[] = [
  {
    name: 'gather',
    samples: gathering(shapes(1, 3)).map(({ along: { shape, axis, on }, index, dtype }) => ({
      inputs: [{ shape }, { shape: index, dtype, draw: into(shape[on]) }],
      build: ([x, i]) => t.gather(x, i, axis),
      reference: ([x, i]) => [
        indicesOf(replaced(shape, on, index)).map((place) => {
          const row = front(at(i, place.slice(on, on + index.length)), shape[on]);
          return at(x, [...place.slice(0, on), row, ...place.slice(on + index.length)]);
        }),
      ],
    })),
  },
  ...[false, true].map(
    (based): OpCase => ({
      name: based ? 'indexAdd' : 'scatterAdd',
      samples: fc.tuple(gathering(shapes(1, 3)), rows).map(([{ along, index, dtype }, extent]) => {
        const { shape, axis, on } = along;
        const result = replaced(shape, on, [extent]);
        const updates = replaced(shape, on, index);
        return {
          inputs: [
            { shape: updates },
            { shape: index, dtype, draw: into(Math.min(extent, 5)) },
            ...(based ? [{ shape: result }] : []),
          ],
          build: ([u, i, base]) => (base ? t.indexAdd(base, u, i, axis) : t.scatterAdd(u, i, extent, axis)),
          reference: ([u, i, base]) => [
            accumulate(
              result,
              base,
              indicesOf(updates).map((place) => {
                const row = front(at(i, place.slice(on, on + index.length)), extent);
                return [[...place.slice(0, on), row, ...place.slice(on + index.length)], at(u, place)] as const;
              }),
            ),
          ],
        };
      }),
    }),
  ),
  {
    name: 'takeAlong',
    samples: fc
      .record({ along: shapeAndAxis(shapes(1, 3)), count: fc.nat({ max: 4 }), dtype: indexTypes })
      .map(({ along: { shape, axis, on }, count, dtype }) => ({
        inputs: [{ shape }, { shape: replaced(shape, on, [count]), dtype, draw: into(shape[on]) }],
        build: ([x, i]) => t.takeAlong(x, i, axis),
        reference: ([x, i]) => [
          indicesOf(i.shape).map((place) => at(x, replaced(place, on, [front(at(i, place), shape[on])]))),
        ],
      })),
  },
  ...[false, true].map(
    (based): OpCase => ({
      name: based ? 'addAlong' : 'scatterAlong',
      samples: fc
        .record({ along: shapeAndAxis(shapes(1, 3)), extent: fc.integer({ min: 1, max: 5 }), dtype: indexTypes })
        .map(({ along: { shape, axis, on }, extent, dtype }) => {
          const result = replaced(shape, on, [extent]);
          return {
            inputs: [{ shape }, { shape, dtype, draw: into(extent) }, ...(based ? [{ shape: result }] : [])],
            build: ([u, i, base]) => (base ? t.addAlong(base, u, i, axis) : t.scatterAlong(u, i, extent, axis)),
            reference: ([u, i, base]) => [
              accumulate(
                result,
                base,
                indicesOf(shape).map(
                  (place) => [replaced(place, on, [front(at(i, place), extent)]), at(u, place)] as const,
                ),
              ),
            ],
          };
        }),
    }),
  ),
  {
    name: 'scatterAdd of integers',
    runs: 3,
    samples: indexTypes.map((dtype) => ({
      inputs: [
        { shape: [6, 2], dtype, draw: integers(-9, 10) },
        { shape: [6], dtype, draw: into(3) },
      ],
      build: ([u, i]) => t.scatterAdd(u, i, 3),
      reference: ([u, i]) => [
        accumulate(
          [3, 2],
          undefined,
          indicesOf([6, 2]).map((place) => [[front(i.data[place[0]], 3), place[1]], at(u, place)] as const),
        ),
      ],
    })),
  },
  {
    name: 'oneHot',
    samples: fc
      .record({
        shape: shapesWithEmpty(0, 3),
        depth: fc.integer({ min: 1, max: 5 }),
        dtype: indexTypes,
        to: fc.constantFrom(
          'float32' as const,
          'float64' as const,
          'int64' as const,
          'int32' as const,
          'bool' as const,
        ),
        place: fc.nat(),
      })
      .map(({ shape, depth, dtype, to, place }) => {
        const axis = place % (shape.length + 1);
        const [on, off] = to === 'bool' ? [1, 0] : [3, -1];
        return {
          // Some indices are outside and give a row of `off`.
          inputs: [{ shape, dtype, draw: integers(-depth - 2, depth + 2) }],
          build: ([i]) => t.oneHot(i, depth, { dtype: to, on, off, axis: axis - shape.length - 1 }),
          reference: ([i]) => [
            indicesOf([...shape.slice(0, axis), depth, ...shape.slice(axis)]).map((index) => {
              const label = at(i, [...index.slice(0, axis), ...index.slice(axis + 1)]);
              return label >= -depth && label < depth && front(label, depth) === index[axis] ? on : off;
            }),
          ],
        };
      }),
  },
  {
    name: 'topK',
    samples: fc
      .record({ along: shapeAndAxis(shapes(1, 3, 5)), k: fc.nat(), largest: fc.boolean() })
      .map(({ along: { shape, axis, on }, k, largest }) => ({
        inputs: [{ shape, draw: distinct }],
        build: ([x]) => Object.values(t.topK(x, k % (shape[on] + 1), { axis, largest })),
        reference: ([x]) => ordered(x, on, k % (shape[on] + 1), largest),
      })),
  },
  {
    name: 'sort',
    samples: fc
      .record({ along: shapeAndAxis(shapes(1, 3, 5)), descending: fc.boolean() })
      .map(({ along: { shape, axis, on }, descending }) => ({
        inputs: [{ shape, draw: distinct }],
        build: ([x]) => Object.values(t.sort(x, { axis, descending })),
        reference: ([x]) => ordered(x, on, shape[on], descending),
      })),
  },
  {
    name: 'topK of equal elements',
    runs: 2,
    samples: fc.boolean().map((largest) => ({
      inputs: [{ shape: [9], draw: integers(0, 3), fixed: true }],
      build: ([x]) => Object.values(t.topK(x, 5, { largest })),
      reference: ([x]) => ordered(x, 0, 5, largest),
    })),
  },
  ...(['tril', 'triu'] as const).map(
    (name): OpCase => ({
      name,
      samples: fc.tuple(shapes(2, 4), fc.integer({ min: -3, max: 3 })).map(([shape, diagonal]) => ({
        inputs: [{ shape }],
        build: ([x]) => t[name](x, diagonal),
        reference: ([x]) => [
          indicesOf(shape).map((index) => {
            const [row, column] = index.slice(-2);
            return (name === 'tril' ? column <= row + diagonal : column >= row + diagonal) ? at(x, index) : 0;
          }),
        ],
      })),
    }),
  ),
  {
    name: 'causalMask and range',
    runs: 4,
    samples: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.nat({ max: 3 })).map(([queries, past]) => ({
      inputs: [{ shape: [queries, queries + past] }],
      build: ([x]) => [
        t.where(t.causalMask(queries, queries + past), x, 0),
        t.range(1, 2, 0.25, x.dtype),
        t.iota(3),
        t.range(5, 0, -2, 'int32'),
      ],
      reference: ([x]) => [
        indicesOf(x.shape).map(([query, key]) => (key <= query + past ? at(x, [query, key]) : 0)),
        [1, 1.25, 1.5, 1.75],
        [0, 1, 2],
        [5, 3, 1],
      ],
    })),
  },
];

/** Values and indices by repeatedly taking the best that is left. */
function ordered(x: Given, on: number, k: number, largest: boolean): number[][] {
  const places = indicesOf(replaced(x.shape, on, [k]));
  const chosen = places.map((place) => {
    const line = Array.from({ length: x.shape[on] }, (_, i) => at(x, replaced(place, on, [i])));
    const left = line.map((_, i) => i);
    for (let rank = 0; ; rank++) {
      const best = left.reduce((a, b) => ((largest ? line[b] > line[a] : line[b] < line[a]) ? b : a));
      if (rank === place[on]) return [line[best], best];
      left.splice(left.indexOf(best), 1);
    }
  });
  return [chosen.map(([value]) => value), chosen.map(([, index]) => index)];
}
