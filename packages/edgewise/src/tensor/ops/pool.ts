import { ShapeError } from '../../base/errors.ts';
import { int, ints } from '../lowering.ts';
import { type Shape, showShape, sizeOf, stridesOf } from '../shape.ts';
import { constant, expectFloat, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { type ConvGeometry, type ConvOptions, readGeometry } from './conv.ts';
import { add, equal, logicalAnd, logicalNot, maximum, mul, where } from './elementwise.ts';
import { pad, reshape, slice } from './layout.ts';
import { mean } from './reduce.ts';

export interface PoolOptions extends Omit<ConvOptions, 'groups'> {
  /** Extents of the window: one number for all spatial axes, or one each. */
  readonly window: number | readonly number[];
}

interface PoolAttrs extends ConvGeometry {
  readonly window: readonly number[];
  readonly x: Shape;
  readonly y: Shape;
}

function readPool(op: string, x: Tensor, { window, ...options }: PoolOptions): PoolAttrs {
  expectFloat(op, x);
  if (x.rank < 3 || x.rank > 4)
    throw new ShapeError(`${op}: x ${showShape(x.shape)} must be [N, C, length] or [N, C, height, width].`);
  const size = x.shape.slice(2);
  const extents = typeof window === 'number' ? size.map(() => window) : [...window];
  if (extents.length !== size.length || extents.some((n) => !Number.isInteger(n) || n < 1)) {
    throw new ShapeError(
      `${op}: window ${JSON.stringify(window)} wants a whole number of at least 1 for each of ${size.length} spatial axes.`,
    );
  }
  const geometry = readGeometry(op, size, extents, { stride: window, ...options });
  const { strides, low, high, dilations } = geometry;
  const out = size.map((extent, axis) => {
    const reach = dilations[axis] * (extents[axis] - 1) + 1;
    const room = extent + low[axis] + high[axis];
    if (reach > room || low[axis] >= extents[axis] || high[axis] >= extents[axis]) {
      throw new ShapeError(
        `${op}: a window of ${extents[axis]} over ${reach} elements with padding ${low[axis]}, ${high[axis]} does not fit spatial axis ${axis} of ${showShape(x.shape)}; padding must be below the window and the window within the padded axis.`,
      );
    }
    return Math.floor((room - reach) / strides[axis]) + 1;
  });
  return { ...geometry, window: extents, x: x.shape, y: [...x.shape.slice(0, 2), ...out] };
}

const poolNode = ({ strides, low, high, dilations, window }: PoolAttrs) => ({
  kernel_shape: ints(window),
  strides: ints(strides),
  pads: ints([...low, ...high]),
  dilations: ints(dilations),
});

/** For every output element the flat index in x of each window element that lies inside. */
function windows({ x, y, window, strides, low, dilations }: PoolAttrs): number[][] {
  const xs = stridesOf(x);
  const ys = stridesOf(y);
  return Array.from({ length: sizeOf(y) }, (_, at) => {
    let positions = [Math.floor(at / ys[0]) * xs[0] + (Math.floor(at / ys[1]) % y[1]) * xs[1]];
    window.forEach((extent, axis) => {
      const p = Math.floor(at / ys[axis + 2]) % y[axis + 2];
      const inside = Array.from(
        { length: extent },
        (_, k) => p * strides[axis] + k * dilations[axis] - low[axis],
      ).filter((i) => i >= 0 && i < x[axis + 2]);
      positions = positions.flatMap((base) => inside.map((i) => base + i * xs[axis + 2]));
    });
    return positions;
  });
}

/** Index of the first largest element of each window. */
const winners = (x: Values, attrs: PoolAttrs) =>
  windows(attrs).map((positions) => positions.reduce((best, i) => (x.data[i] > x.data[best] ? i : best), positions[0]));

/** For each tap of the window: how to read it of a tensor shaped as x, and how to put a tensor shaped as y there. */
function tapsOf({ window, strides, low, high, dilations, x, y }: PoolAttrs) {
  return Array.from({ length: sizeOf(window) }, (_, tap) => {
    const at = window.map(
      (extent, axis) => (Math.floor(tap / sizeOf(window.slice(axis + 1))) % extent) * dilations[axis],
    );
    const read = (t: Tensor, border = 0) =>
      slice(pad(t, { low: [0, 0, ...low], high: [0, 0, ...high] }, border), [0, 0, ...at], y, [1, 1, ...strides]);
    const before = at.map((offset, axis) => offset - low[axis]);
    const after = strides.map((s, axis) => x[axis + 2] - before[axis] - (y[axis + 2] - 1) * s - 1);
    const place = (t: Tensor) =>
      pad(t, { low: [0, 0, ...before], high: [0, 0, ...after], interior: [0, 0, ...strides.map((s) => s - 1)] });
    return { read, place };
  });
}

const addTaps = (terms: readonly Tensor[]): Tensor => terms.reduce((a, b) => add(a, b));

/**
 * The taps, and for each whether it holds the window's largest element and no earlier tap does. For providers whose MaxPool does not
 * tell where it found the maximum.
 */
function firstHits(input: Tensor, attrs: PoolAttrs) {
  const taps = tapsOf(attrs);
  const seen = taps.map(({ read }) => read(input, Number.NEGATIVE_INFINITY));
  const top = seen.reduce((a, b) => maximum(a, b));
  let free: Tensor | undefined;
  return taps.map((tap, k) => {
    const equals = equal(seen[k], top);
    const hit = free ? logicalAnd(equals, free) : equals;
    free = free ? logicalAnd(free, logicalNot(equals)) : logicalNot(equals);
    return { ...tap, hit };
  });
}

const maxPoolOp: OpDef<PoolAttrs> = {
  name: 'maxPool',
  infer: ([x], { y }) => ({ dtype: x.dtype, shape: y }),
  evaluate: ([x], attrs) => Float64Array.from(winners(x, attrs), (i) => x.data[i]),
  lower: (to, [x], node) => to.node('MaxPool', [x], poolNode(node.attrs)),
  vjp: ({ inputs: [x], attrs }, g) => [make(maxUnpoolOp, [g, x], attrs)],
  jvp: ({ inputs: [x], attrs }, [t]) => t && make(maxPickOp, [t, x], attrs),
};

/** Sends each element of `g` to where x had the window's largest element: inputs (g, x), linear in g, flat in x. */
const maxUnpoolOp: OpDef<PoolAttrs> = {
  name: 'maxUnpool',
  infer: ([g], { x }) => ({ dtype: g.dtype, shape: x }),
  evaluate: ([g, x], attrs) => {
    const out = new Float64Array(x.data.length);
    winners(x, attrs).forEach((i, k) => {
      out[i] += g.data[k];
    });
    return out;
  },
  lower: (to, [g, x], { attrs, dtype }) => {
    const indices = to.nodes('MaxPool', [x], poolNode(attrs), { outputs: 2 })[1];
    const flat = (name: string, size: number) => to.node('Reshape', [name, to.ints([size])]);
    const zeros = to.node('Expand', [to.scalar(0, dtype), to.ints([sizeOf(attrs.x)])]);
    // Windows that do not overlap never send two elements to one place.
    const overlap = attrs.window.some((extent, axis) => (extent - 1) * attrs.dilations[axis] >= attrs.strides[axis]);
    const scattered = to.node('ScatterElements', [zeros, flat(indices, sizeOf(attrs.y)), flat(g, sizeOf(attrs.y))], {
      reduction: { type: 'string', value: overlap ? 'add' : 'none' },
    });
    return to.node('Reshape', [scattered, to.ints(attrs.x)]);
  },
  decomposeOn: ['webgpu'],
  decompose: ([g, x], attrs) => {
    const zero = constant(0, [], g.dtype);
    return addTaps(firstHits(x, attrs).map(({ hit, place }) => place(where(hit, g, zero))));
  },
  vjp: ({ inputs: [, x], attrs }, u) => [make(maxPickOp, [u, x], attrs), undefined],
  jvp: ({ inputs: [, x], attrs }, [t]) => t && make(maxUnpoolOp, [t, x], attrs),
};

/** Reads `u` (shaped as x) where x had the window's largest element: inputs (u, x), linear in u, flat in x. */
const maxPickOp: OpDef<PoolAttrs> = {
  name: 'maxPick',
  infer: ([u], { y }) => ({ dtype: u.dtype, shape: y }),
  evaluate: ([u, x], attrs) => Float64Array.from(winners(x, attrs), (i) => u.data[i]),
  lower: (to, [u, x], { attrs }) => {
    const indices = to.nodes('MaxPool', [x], poolNode(attrs), { outputs: 2 })[1];
    const picked = to.node(
      'Gather',
      [to.node('Reshape', [u, to.ints([sizeOf(attrs.x)])]), to.node('Reshape', [indices, to.ints([sizeOf(attrs.y)])])],
      {
        axis: int(0),
      },
    );
    return to.node('Reshape', [picked, to.ints(attrs.y)]);
  },
  decomposeOn: ['webgpu'],
  decompose: ([u, x], attrs) => {
    const zero = constant(0, [], u.dtype);
    return addTaps(firstHits(x, attrs).map(({ hit, read }) => where(hit, read(u), zero)));
  },
  vjp: ({ inputs: [, x], attrs }, g) => [make(maxUnpoolOp, [g, x], attrs), undefined],
  jvp: ({ inputs: [, x], attrs }, [t]) => t && make(maxPickOp, [t, x], attrs),
};

/**
 * Largest element of each window; padding never wins, and of equal elements the first gets the derivative.
 *
 * @param x [N, C, ...spatial]
 * @returns [N, C, ...spatial'] with the stride equal to the window unless given.
 */
export function maxPool(x: Tensor, options: PoolOptions): Tensor {
  return make(maxPoolOp, [x], readPool('maxPool', x, options));
}

/** Sum over each window, with zeros outside x. Linear, so its derivative is its transpose, below. */
const sumPoolOp: OpDef<PoolAttrs> = {
  name: 'sumPool',
  infer: ([x], { y }) => ({ dtype: x.dtype, shape: y }),
  evaluate: ([x], attrs) =>
    Float64Array.from(windows(attrs), (positions) => positions.reduce((total, i) => total + x.data[i], 0)),
  lower: (to, [x], { attrs, dtype }) => {
    const average = to.node('AveragePool', [x], { ...poolNode(attrs), count_include_pad: int(1) });
    return to.node('Mul', [average, to.scalar(sizeOf(attrs.window), dtype)]);
  },
  decomposeOn: ['float64'],
  decompose: ([x], attrs) =>
    tapsOf(attrs)
      .map(({ read }) => read(x))
      .reduce((a, b) => add(a, b)),
  vjp: ({ attrs }, g) => [make(spreadPoolOp, [g], attrs)],
  jvp: ({ attrs }, [t]) => t && make(sumPoolOp, [t], attrs),
};

/** Adds each element of g to every element of its window: the transpose of a sum pool. */
const spreadPoolOp: OpDef<PoolAttrs> = {
  name: 'spreadPool',
  infer: ([g], { x }) => ({ dtype: g.dtype, shape: x }),
  evaluate: ([g], attrs) => {
    const out = new Float64Array(sizeOf(attrs.x));
    windows(attrs).forEach((positions, k) => {
      for (const i of positions) out[i] += g.data[k];
    });
    return out;
  },
  decompose: ([g], attrs) => {
    const { x, y, window, strides, low, dilations } = attrs;
    // ONNX Runtime folds the Pad below into the pool, and then refuses padding that only a dilated window reaches over.
    if (dilations.some((d) => d > 1)) return addTaps(tapsOf(attrs).map(({ place }) => place(g)));
    // Between the elements of g come stride - 1 zeros; a sum over the mirrored window then meets each at its places.
    const reach = window.map((extent, axis) => (extent - 1) * dilations[axis]);
    const spread = y.slice(2).map((extent, axis) => (extent - 1) * strides[axis] + 1);
    const padded = pad(g, {
      low: [0, 0, ...reach.map((r, axis) => r - low[axis])],
      high: [0, 0, ...spread.map((extent, axis) => x[axis + 2] + low[axis] - extent)],
      interior: [0, 0, ...strides.map((s) => s - 1)],
    });
    const one = window.map(() => 1);
    const zero = window.map(() => 0);
    const whole = { strides: one, low: zero, high: zero, dilations, groups: 1, window, x: padded.shape, y: x };
    return make(sumPoolOp, [padded], whole);
  },
  vjp: ({ attrs }, u) => [make(sumPoolOp, [u], attrs)],
  jvp: ({ attrs }, [t]) => t && make(spreadPoolOp, [t], attrs),
};

export interface AveragePoolOptions extends PoolOptions {
  /** Whether zeros of the padding count in the mean; true by default, as in PyTorch. */
  readonly countPadding?: boolean;
}

/** Mean of each window. @param x [N, C, ...spatial] */
export function averagePool(x: Tensor, { countPadding = true, ...options }: AveragePoolOptions): Tensor {
  const attrs = readPool('averagePool', x, options);
  const total = make(sumPoolOp, [x], attrs);
  if (countPadding || [...attrs.low, ...attrs.high].every((p) => p === 0)) return mul(total, 1 / sizeOf(attrs.window));
  const single = { ...attrs, x: [1, 1, ...attrs.x.slice(2)], y: [1, 1, ...attrs.y.slice(2)] };
  const counts = Float64Array.from(windows(single), (positions) => 1 / positions.length);
  return mul(total, constant(counts, single.y, x.dtype));
}

/** Mean over all spatial axes: [N, C, ...spatial] → [N, C]. */
export function globalAveragePool(x: Tensor): Tensor {
  expectFloat('globalAveragePool', x);
  if (x.rank < 3) throw new ShapeError(`globalAveragePool: x ${showShape(x.shape)} has no spatial axes after [N, C].`);
  return mean(reshape(x, [x.shape[0], x.shape[1], sizeOf(x.shape.slice(2))]), { axes: 2 });
}
