import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import { at, axisOf, broadcasting, type Given, indicesOf, type OpCase, shapes, shapesWithEmpty } from './case.ts';

/** Elements of the result: for each of its indices where it comes from in x, or undefined for `fill`. */
const pick = (x: Given, shape: readonly number[], from: (index: number[]) => number[] | undefined, fill = 0) =>
  indicesOf(shape).map((index) => {
    const source = from(index);
    return source ? at(x, source) : fill;
  });

const perAxis = <T>(shape: readonly number[], of: (extent: number) => fc.Arbitrary<T>) => fc.tuple(...shape.map(of));

const positive = (axis: number, rank: number) => (axis + rank) % rank;

export const layoutCases: readonly OpCase[] = [
  {
    name: 'reshape',
    samples: shapesWithEmpty(0, 4)
      .chain((shape) =>
        fc.tuple(fc.constant(shape), fc.shuffledSubarray(shape, { minLength: shape.length }), fc.boolean()),
      )
      .map(([shape, order, free]) => ({
        inputs: [{ shape }],
        build: ([x]) => t.reshape(x, free && !shape.includes(0) && order.length > 0 ? [-1, ...order.slice(1)] : order),
        reference: ([x]) => [x.data],
      })),
  },
  {
    name: 'flatten, unsqueeze, squeeze',
    samples: shapes(2, 4).map((shape) => ({
      inputs: [{ shape }],
      build: ([x]) => [t.flatten(x), t.unsqueeze(x, 1), t.squeeze(t.unsqueeze(x, -1), -1)],
      reference: ([x]) => [x.data, x.data, x.data],
    })),
  },
  {
    name: 'transpose',
    samples: shapesWithEmpty(0, 4)
      .chain((shape) =>
        fc.tuple(
          fc.constant(shape),
          fc.shuffledSubarray(
            shape.map((_, i) => i),
            { minLength: shape.length },
          ),
        ),
      )
      .map(([shape, order]) => ({
        inputs: [{ shape }],
        build: ([x]) => t.transpose(x, order),
        reference: ([x]) => [
          pick(
            x,
            order.map((axis) => shape[axis]),
            (index) => shape.map((_, axis) => index[order.indexOf(axis)]),
          ),
        ],
      })),
  },
  {
    name: 'swapAxes',
    samples: shapes(2, 4)
      .chain((shape) => fc.tuple(fc.constant(shape), axisOf(shape.length), axisOf(shape.length)))
      .map(([shape, a, b]) => {
        const swap = (list: readonly number[]) => {
          const [i, j] = [positive(a, shape.length), positive(b, shape.length)];
          return list.map((v, k) => (k === i ? list[j] : k === j ? list[i] : v));
        };
        return {
          inputs: [{ shape }],
          build: ([x]) => t.swapAxes(x, a, b),
          reference: ([x]) => [pick(x, swap(shape), swap)],
        };
      }),
  },
  {
    name: 'expand',
    samples: broadcasting(1).chain(([shape]) =>
      fc
        .tuple(
          shapes(0, 1),
          perAxis(shape, (n) => (n === 1 ? fc.integer({ min: 1, max: 3 }) : fc.constant(n))),
        )
        .map(([lead, grown]) => ({
          inputs: [{ shape }],
          build: ([x]) => t.expand(x, [...lead, ...grown]),
          reference: ([x]) => [pick(x, [...lead, ...grown], (index) => index)],
        })),
    ),
  },
  {
    name: 'concat',
    samples: shapesWithEmpty(1, 4)
      .chain((shape) =>
        fc.tuple(
          fc.constant(shape),
          axisOf(shape.length),
          fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 4 }),
        ),
      )
      .map(([shape, axis, extents]) => {
        const along = positive(axis, shape.length);
        return {
          inputs: extents.map((n) => ({ shape: shape.map((m, i) => (i === along ? n : m)) })),
          build: (parts) => t.concat(parts, axis),
          reference: (parts) => {
            const total = extents.reduce((a, b) => a + b, 0);
            return [
              indicesOf(shape.map((m, i) => (i === along ? total : m))).map((index) => {
                let [k, part] = [index[along], 0];
                while (k >= extents[part]) k -= extents[part++];
                return at(
                  { ...parts[part], shape: parts[part].shape },
                  index.map((v, i) => (i === along ? k : v)),
                );
              }),
            ];
          },
        };
      }),
  },
  {
    name: 'stack',
    runs: 4,
    samples: shapes(0, 3)
      .chain((shape) => fc.tuple(fc.constant(shape), fc.integer({ min: 0, max: shape.length })))
      .map(([shape, axis]) => ({
        inputs: [{ shape }, { shape }],
        build: (parts) => t.stack(parts, axis),
        reference: (parts) => [
          indicesOf([...shape.slice(0, axis), 2, ...shape.slice(axis)]).map((index) =>
            at(parts[index[axis]], [...index.slice(0, axis), ...index.slice(axis + 1)]),
          ),
        ],
      })),
  },
  {
    name: 'slice',
    samples: shapes(1, 4, 6)
      .chain((shape) =>
        fc.tuple(
          fc.constant(shape),
          perAxis(shape, (n) =>
            fc
              .record({ start: fc.nat({ max: n - 1 }), step: fc.integer({ min: 1, max: 3 }) })
              .chain(({ start, step }) =>
                fc.record({
                  start: fc.constant(start),
                  step: fc.constant(step),
                  size: fc.nat({ max: Math.ceil((n - start) / step) }),
                }),
              ),
          ),
        ),
      )
      .map(([shape, cuts]) => {
        const [starts, sizes, steps] = [cuts.map((c) => c.start), cuts.map((c) => c.size), cuts.map((c) => c.step)];
        return {
          inputs: [{ shape }],
          build: ([x]) => t.slice(x, starts, sizes, steps),
          reference: ([x]) => [pick(x, sizes, (index) => index.map((k, axis) => starts[axis] + k * steps[axis]))],
        };
      }),
  },
  {
    name: 'split and select',
    samples: shapes(1, 3, 5)
      .chain((shape) => fc.tuple(fc.constant(shape), fc.nat({ max: shape.length - 1 })))
      .chain(([shape, axis]) =>
        fc.tuple(
          fc.constant(shape),
          fc.constant(axis),
          fc.nat({ max: shape[axis] }),
          fc.integer({ min: -shape[axis], max: shape[axis] - 1 }),
        ),
      )
      .map(([shape, axis, cut, index]) => {
        const resized = (n: number) => shape.map((m, i) => (i === axis ? n : m));
        const shifted = (by: number) => (position: number[]) => position.map((k, i) => (i === axis ? k + by : k));
        return {
          inputs: [{ shape }],
          build: ([x]) => [...t.split(x, [cut, shape[axis] - cut], axis), t.select(x, axis, index)],
          reference: ([x]) => [
            pick(x, resized(cut), (k) => k),
            pick(x, resized(shape[axis] - cut), shifted(cut)),
            pick(x, resized(1), shifted(positive(index, shape[axis]))),
          ],
        };
      }),
  },
  {
    name: 'pad',
    samples: shapes(1, 4)
      .chain((shape) =>
        fc.tuple(
          fc.constant(shape),
          perAxis(shape, (n) =>
            fc
              .record({
                gap: fc.constantFrom(0, 0, 1, 2),
                low: fc.integer({ min: -2, max: 2 }),
                high: fc.integer({ min: -2, max: 2 }),
              })
              .map(({ gap, low, high }) => ({ gap, low, high, length: (n - 1) * (gap + 1) + 1 }))
              // Cropping may leave nothing, but not less than nothing.
              .filter(({ low, high, length }) => length + low + high >= 0 && low > -length && high > -length),
          ),
          fc.constantFrom(0, 1.5),
        ),
      )
      .map(([shape, pads, value]) => {
        const [low, high, interior] = [pads.map((p) => p.low), pads.map((p) => p.high), pads.map((p) => p.gap)];
        return {
          inputs: [{ shape }],
          build: ([x]) => t.pad(x, { low, high, interior }, value),
          reference: ([x]) => [
            pick(
              x,
              pads.map((p) => p.length + p.low + p.high),
              (index) => {
                const spread = index.map((k, axis) => (k - low[axis]) / (interior[axis] + 1));
                return spread.every((k, axis) => Number.isInteger(k) && k >= 0 && k < shape[axis]) ? spread : undefined;
              },
              value,
            ),
          ],
        };
      }),
  },
  {
    name: 'flip',
    samples: shapesWithEmpty(1, 4)
      .chain((shape) => fc.tuple(fc.constant(shape), fc.subarray(shape.map((_, i) => i))))
      .map(([shape, axes]) => ({
        inputs: [{ shape }],
        build: ([x]) => t.flip(x, axes),
        reference: ([x]) => [
          pick(x, shape, (index) => index.map((k, axis) => (axes.includes(axis) ? shape[axis] - 1 - k : k))),
        ],
      })),
  },
  {
    name: 'roll',
    samples: shapes(1, 4)
      .chain((shape) => fc.tuple(fc.constant(shape), axisOf(shape.length), fc.integer({ min: -6, max: 6 })))
      .map(([shape, axis, shift]) => {
        const along = positive(axis, shape.length);
        const back = (k: number) => (((k - shift) % shape[along]) + shape[along]) % shape[along];
        return {
          inputs: [{ shape }],
          build: ([x]) => t.roll(x, shift, axis),
          reference: ([x]) => [pick(x, shape, (index) => index.map((k, i) => (i === along ? back(k) : k)))],
        };
      }),
  },
];
