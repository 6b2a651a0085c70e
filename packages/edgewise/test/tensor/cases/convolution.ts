import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import { at, distinct, type Given, indicesOf, type OpCase, type Sample, shapes } from './case.ts';

/** Geometry of a convolution of one example image, drawn so that the kernel fits. */
interface Drawn {
  readonly x: number[];
  readonly w: number[];
  readonly options: { stride: number[]; dilation: number[]; padding: [number, number][]; groups: number };
}

const axis = fc
  .record({
    kernel: fc.integer({ min: 1, max: 3 }),
    stride: fc.integer({ min: 1, max: 3 }),
    dilation: fc.integer({ min: 1, max: 2 }),
    low: fc.nat({ max: 3 }),
    high: fc.nat({ max: 3 }),
    more: fc.nat({ max: 3 }),
  })
  .map(({ kernel, dilation, low, high, more, ...rest }) => {
    const reach = dilation * (kernel - 1) + 1;
    return { ...rest, kernel, dilation, low, high, extent: Math.max(1, reach - low - high) + more };
  });

const geometry = (spatial: 1 | 2): fc.Arbitrary<Drawn> =>
  fc
    .record({
      n: fc.integer({ min: 1, max: 2 }),
      groups: fc.integer({ min: 1, max: 3 }),
      inputs: fc.integer({ min: 1, max: 2 }),
      outputs: fc.integer({ min: 1, max: 2 }),
      axes: fc.array(axis, { minLength: spatial, maxLength: spatial }),
    })
    .map(({ n, groups, inputs, outputs, axes }) => ({
      x: [n, groups * inputs, ...axes.map((a) => a.extent)],
      w: [groups * outputs, inputs, ...axes.map((a) => a.kernel)],
      options: {
        stride: axes.map((a) => a.stride),
        dilation: axes.map((a) => a.dilation),
        padding: axes.map((a): [number, number] => [a.low, a.high]),
        groups,
      },
    }));

/** The definition: every output element the sum over its window. */
function convolution(x: Given, w: Given, y: readonly number[], { options }: Drawn): number[] {
  const perGroup = w.shape[0] / options.groups;
  return indicesOf(y).map(([n, o, ...place]) =>
    indicesOf(w.shape.slice(1)).reduce((total, [c, ...tap]) => {
      const where = place.map((p, a) => p * options.stride[a] + tap[a] * options.dilation[a] - options.padding[a][0]);
      const inside = where.every((i, a) => i >= 0 && i < x.shape[a + 2]);
      const channel = Math.floor(o / perGroup) * w.shape[1] + c;
      return inside ? total + at(x, [n, channel, ...where]) * at(w, [o, c, ...tap]) : total;
    }, 0),
  );
}

const convSample = (drawn: Drawn): Sample => ({
  inputs: [{ shape: drawn.x }, { shape: drawn.w }],
  build: ([x, w]) => t.conv(x, w, drawn.options),
  reference: ([x, w]) => {
    const { shape } = t.conv(t.input('x', drawn.x), t.input('w', drawn.w), drawn.options);
    return [convolution(x, w, shape, drawn)];
  },
});

/** A transposed convolution whose mirror image is a drawn convolution. */
function transposedSample(drawn: Drawn): Sample {
  const { options } = drawn;
  const y = t.conv(t.input('x', drawn.x), t.input('w', drawn.w), options).shape;
  const reached = y.slice(2).map((p, a) => {
    const [low, high] = options.padding[a];
    return (p - 1) * options.stride[a] - low - high + options.dilation[a] * (drawn.w[a + 2] - 1) + 1;
  });
  const outputPadding = reached.map((r, a) => drawn.x[a + 2] - r);
  return {
    inputs: [{ shape: y }, { shape: drawn.w }],
    build: ([x, w]) => t.convTranspose(x, w, { ...options, outputPadding }),
  };
}

const window = fc
  .record({
    window: fc.integer({ min: 1, max: 3 }),
    stride: fc.integer({ min: 1, max: 3 }),
    dilation: fc.integer({ min: 1, max: 2 }),
    low: fc.nat({ max: 2 }),
    high: fc.nat({ max: 2 }),
    more: fc.nat({ max: 3 }),
  })
  .map(({ window: extent, dilation, low, high, more, ...rest }) => {
    const reach = dilation * (extent - 1) + 1;
    const [before, after] = [Math.min(low, extent - 1), Math.min(high, extent - 1)];
    return {
      ...rest,
      window: extent,
      dilation,
      low: before,
      high: after,
      extent: Math.max(1, reach - before - after) + more,
    };
  });

interface Pool {
  readonly shape: number[];
  readonly options: { window: number[]; stride: number[]; dilation: number[]; padding: [number, number][] };
}

const pools = (spatial: 1 | 2): fc.Arbitrary<Pool> =>
  fc
    .record({
      n: fc.integer({ min: 1, max: 2 }),
      c: fc.integer({ min: 1, max: 2 }),
      axes: fc.array(window, { minLength: spatial, maxLength: spatial }),
    })
    .map(({ n, c, axes }) => ({
      shape: [n, c, ...axes.map((a) => a.extent)],
      options: {
        window: axes.map((a) => a.window),
        stride: axes.map((a) => a.stride),
        dilation: axes.map((a) => a.dilation),
        padding: axes.map((a): [number, number] => [a.low, a.high]),
      },
    }));

/** What each window holds inside x, put together by `f`. */
const pooled = (x: Given, { shape, options }: Pool, f: (inside: number[]) => number): number[] => {
  const { window: extents, stride, dilation, padding } = options;
  const y = extents.map(
    (k, a) => Math.floor((shape[a + 2] + padding[a][0] + padding[a][1] - dilation[a] * (k - 1) - 1) / stride[a]) + 1,
  );
  return indicesOf([...shape.slice(0, 2), ...y]).map(([n, c, ...place]) =>
    f(
      indicesOf(extents).flatMap((tap) => {
        const where = place.map((p, a) => p * stride[a] + tap[a] * dilation[a] - padding[a][0]);
        return where.every((i, a) => i >= 0 && i < shape[a + 2]) ? [at(x, [n, c, ...where])] : [];
      }),
    ),
  );
};

const total = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);

const poolCase = (
  name: string,
  build: (x: t.Tensor, options: Pool['options']) => t.Tensor,
  formula: (pool: Pool) => (inside: number[]) => number,
): OpCase => ({
  name,
  runs: 25,
  samples: fc.oneof(pools(1), pools(2)).map((pool) => ({
    // Far enough apart that a difference step changes no maximum.
    inputs: [{ shape: pool.shape, draw: distinct }],
    build: ([x]) => build(x, pool.options),
    reference: ([x]) => [pooled(x, pool, formula(pool))],
  })),
});

export const poolingCases: readonly OpCase[] = [
  poolCase('maxPool', t.maxPool, () => (inside) => Math.max(...inside)),
  poolCase(
    'averagePool',
    t.averagePool,
    ({ options }) =>
      (inside) =>
        total(inside) / t.sizeOf(options.window),
  ),
  poolCase(
    'averagePool without padding',
    (x, options) => t.averagePool(x, { ...options, countPadding: false }),
    () => (inside) => total(inside) / inside.length,
  ),
  {
    name: 'globalAveragePool',
    runs: 5,
    samples: shapes(3, 4).map((shape) => ({
      inputs: [{ shape }],
      build: ([x]) => t.globalAveragePool(x),
      reference: ([x]) => {
        const size = t.sizeOf(shape.slice(2));
        return [indicesOf(shape.slice(0, 2)).map((_, i) => total([...x.data.slice(i * size, (i + 1) * size)]) / size)];
      },
    })),
  },
];

export const convolutionCases: readonly OpCase[] = [
  { name: 'conv over one axis', runs: 20, samples: geometry(1).map(convSample) },
  { name: 'conv over two axes', runs: 25, samples: geometry(2).map(convSample) },
  { name: 'convTranspose over one axis', runs: 10, samples: geometry(1).map(transposedSample) },
  { name: 'convTranspose over two axes', runs: 15, samples: geometry(2).map(transposedSample) },
];
