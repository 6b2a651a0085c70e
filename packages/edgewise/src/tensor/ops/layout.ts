import { ShapeError } from '../../base/errors.ts';
import { int, ints, type Lowering } from '../lowering.ts';
import {
  broadcastShapes,
  broadcastStrides,
  checkShape,
  normalizeAxis,
  type Shape,
  sameShape,
  showShape,
  sizeOf,
  stridesOf,
} from '../shape.ts';
import { commonDtype, constant, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { sumTo } from './reduce.ts';

/** Elements of `x` read along `strides` (in elements) over `shape`, from `offset`. */
function gatherStrided(x: Values, shape: Shape, strides: readonly number[], offset = 0): Float64Array {
  const out = new Float64Array(sizeOf(shape));
  const index = new Array<number>(shape.length).fill(0);
  let at = offset;
  for (let i = 0; i < out.length; i++) {
    out[i] = x.data[at];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]++;
      at += strides[axis];
      if (index[axis] < shape[axis]) break;
      at -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

interface ShapeAttrs {
  readonly shape: Shape;
}

const reshapeOp: OpDef<ShapeAttrs> = {
  name: 'reshape',
  infer: ([x], { shape }) => ({ dtype: x.dtype, shape }),
  evaluate: ([x]) => x.data,
  lower: (to, [x], node) => to.node('Reshape', [x, to.ints(node.attrs.shape)], { allowzero: int(1) }),
  vjp: (node, g) => [reshape(g, node.inputs[0].shape)],
  jvp: (node, [t]) => t && reshape(t, node.shape),
};

/** The same elements in row-major order under another shape; one extent may be -1 and is inferred. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = shape.reduce((n, extent) => (extent === -1 ? n : n * extent), 1);
  const free = shape.filter((extent) => extent === -1).length;
  const full = shape.map((extent) => (extent === -1 ? (known === 0 ? 0 : x.size / known) : extent));
  if (free > 1 || full.some((extent) => !Number.isInteger(extent) || extent < 0) || sizeOf(full) !== x.size) {
    throw new ShapeError(`reshape: ${showShape(x.shape)} (${x.size} elements) does not fit ${showShape(shape)}.`);
  }
  return sameShape(full, x.shape) ? x : make(reshapeOp, [x], { shape: full });
}

/** Inserts axes of extent 1 at `axis`. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis('unsqueeze', axis, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** Removes `axis`, whose extent must be 1. */
export function squeeze(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis('squeeze', axis, x.rank);
  if (x.shape[at] !== 1)
    throw new ShapeError(`squeeze: axis ${axis} of ${showShape(x.shape)} has extent ${x.shape[at]}, not 1.`);
  return reshape(x, [...x.shape.slice(0, at), ...x.shape.slice(at + 1)]);
}

/** Everything from `axis` on as one axis (1 by default: a batch of vectors). */
export function flatten(x: Tensor, axis = 1): Tensor {
  return reshape(x, [...x.shape.slice(0, axis), sizeOf(x.shape.slice(axis))]);
}

interface TransposeAttrs {
  readonly permutation: readonly number[];
}

export const transposeOp: OpDef<TransposeAttrs> = {
  name: 'transpose',
  infer: ([x], { permutation }) => ({ dtype: x.dtype, shape: permutation.map((axis) => x.shape[axis]) }),
  evaluate: ([x], { permutation }, type) => {
    const strides = stridesOf(x.shape);
    return gatherStrided(
      x,
      type.shape,
      permutation.map((axis) => strides[axis]),
    );
  },
  lower: (to, [x], node) => to.node('Transpose', [x], { perm: { type: 'ints', value: node.attrs.permutation } }),
  vjp: (node, g) => [transpose(g, invert(node.attrs.permutation))],
  jvp: (node, [t]) => t && transpose(t, node.attrs.permutation),
};

const invert = (permutation: readonly number[]) => permutation.map((_, axis) => permutation.indexOf(axis));

/** Axes in another order: axis i of the result is axis `permutation[i]` of x; reversed by default. */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const order =
    permutation?.map((axis) => normalizeAxis('transpose', axis, x.rank)) ?? [...Array(x.rank).keys()].reverse();
  if (order.length !== x.rank || new Set(order).size !== x.rank) {
    throw new ShapeError(
      `transpose: ${showShape(order)} is not a permutation of the ${x.rank} axes of ${showShape(x.shape)}.`,
    );
  }
  return order.every((axis, i) => axis === i) ? x : make(transposeOp, [x], { permutation: order });
}

/** Swaps two axes, the last two by default. */
export function swapAxes(x: Tensor, a = -2, b = -1): Tensor {
  const order = [...Array(x.rank).keys()];
  const [i, j] = [normalizeAxis('swapAxes', a, x.rank), normalizeAxis('swapAxes', b, x.rank)];
  [order[i], order[j]] = [order[j], order[i]];
  return transpose(x, order);
}

export const expandOp: OpDef<ShapeAttrs> = {
  name: 'expand',
  infer: ([x], { shape }) => ({ dtype: x.dtype, shape }),
  evaluate: ([x], _, type) => gatherStrided(x, type.shape, broadcastStrides(x.shape, type.shape)),
  lower: (to, [x], node) => to.node('Expand', [x, to.ints(node.attrs.shape)]),
  vjp: (node, g) => [sumTo(g, node.inputs[0].shape)],
  jvp: (node, [t]) => t && expand(t, node.shape),
};

/** Repeats x along axes of extent 1, and new leading axes, up to `shape`. */
export function expand(x: Tensor, shape: Shape): Tensor {
  checkShape('expand', shape);
  if (!sameShape(broadcastShapes('expand', x.shape, shape), shape)) {
    throw new ShapeError(`expand: ${showShape(x.shape)} does not broadcast to ${showShape(shape)}.`);
  }
  return sameShape(shape, x.shape) ? x : make(expandOp, [x], { shape: [...shape] });
}

export interface ConcatAttrs {
  readonly axis: number;
}

export const concatOp: OpDef<ConcatAttrs> = {
  name: 'concat',
  infer: (inputs, { axis }) => {
    const [first] = inputs;
    for (const x of inputs) {
      if (x.rank !== first.rank || x.shape.some((extent, i) => i !== axis && extent !== first.shape[i])) {
        throw new ShapeError(
          `concat: shapes ${inputs.map((t) => showShape(t.shape)).join(', ')} differ outside axis ${axis}.`,
        );
      }
    }
    const total = inputs.reduce((n, x) => n + x.shape[axis], 0);
    return {
      dtype: commonDtype('concat', inputs),
      shape: first.shape.map((extent, i) => (i === axis ? total : extent)),
    };
  },
  evaluate: (inputs, { axis }, type) => {
    const out = new Float64Array(sizeOf(type.shape));
    const row = sizeOf(type.shape.slice(axis));
    let offset = 0;
    for (const x of inputs) {
      const run = sizeOf(x.shape.slice(axis));
      for (let from = 0, to = offset; from < x.data.length; from += run, to += row)
        out.set(x.data.subarray(from, from + run), to);
      offset += run;
    }
    return out;
  },
  lower: (to, inputs, node) => to.node('Concat', inputs, { axis: int(node.attrs.axis) }),
  vjp: (node, g, needed) => {
    let offset = 0;
    return node.inputs.map((x, i) => {
      const from = offset;
      offset += x.shape[node.attrs.axis];
      return needed[i] ? sliceAxis(g, node.attrs.axis, from, offset) : undefined;
    });
  },
  jvp: (node, tangents) =>
    concat(
      node.inputs.map((x, i) => tangents[i] ?? constant(0, x.shape, x.dtype)),
      node.attrs.axis,
    ),
};

/** Joins tensors along an existing axis. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  if (tensors.length === 0) throw new ShapeError('concat: no tensors were given; at least one is wanted.');
  const at = normalizeAxis('concat', axis, tensors[0].rank);
  return tensors.length === 1 ? tensors[0] : make(concatOp, tensors, { axis: at });
}

/** Joins tensors of one shape along a new axis. */
export const stack = (tensors: readonly Tensor[], axis = 0): Tensor =>
  concat(
    tensors.map((x) => unsqueeze(x, axis)),
    axis,
  );

interface SliceAttrs {
  readonly starts: readonly number[];
  /** Extents of the result. */
  readonly sizes: readonly number[];
  readonly steps: readonly number[];
}

const sliceOp: OpDef<SliceAttrs> = {
  name: 'slice',
  infer: ([x], { starts, sizes, steps }) => {
    sizes.forEach((size, axis) => {
      const last = starts[axis] + (size - 1) * steps[axis];
      if (starts[axis] < 0 || size < 0 || steps[axis] < 1 || (size > 0 && last >= x.shape[axis])) {
        throw new ShapeError(
          `slice: axis ${axis} of ${showShape(x.shape)} cannot give ${size} elements from ${starts[axis]} by ${steps[axis]}.`,
        );
      }
    });
    return { dtype: x.dtype, shape: sizes };
  },
  evaluate: ([x], { starts, sizes, steps }) => {
    const strides = stridesOf(x.shape);
    const offset = starts.reduce((n, start, axis) => n + start * strides[axis], 0);
    return gatherStrided(
      x,
      sizes,
      strides.map((stride, axis) => stride * steps[axis]),
      offset,
    );
  },
  lower: (to, [x], node) => {
    const { starts, sizes, steps } = node.attrs;
    const cut = starts.flatMap((_, axis) => (sizes[axis] === node.inputs[0].shape[axis] ? [] : [axis]));
    const ends = starts.map(
      (start, axis) => start + Math.max(0, (sizes[axis] - 1) * steps[axis] + 1) * Math.sign(sizes[axis]),
    );
    const pick = (list: readonly number[]) => to.ints(cut.map((axis) => list[axis]));
    return to.node('Slice', [x, pick(starts), pick(ends), to.ints(cut), pick(steps)]);
  },
  vjp: (node, g) => {
    const { starts, sizes, steps } = node.attrs;
    const high = node.inputs[0].shape.map(
      (extent, i) => extent - starts[i] - (sizes[i] === 0 ? 0 : (sizes[i] - 1) * steps[i] + 1),
    );
    return [pad(g, { low: starts, high, interior: steps.map((step) => step - 1) })];
  },
  jvp: (node, [t]) => t && make(sliceOp, [t], node.attrs),
};

/** x[starts, starts + steps, ...] with `sizes[i]` elements along axis i; steps are 1 by default. */
export function slice(
  x: Tensor,
  starts: readonly number[],
  sizes: readonly number[],
  steps: readonly number[] = sizes.map(() => 1),
): Tensor {
  if (starts.length !== x.rank || sizes.length !== x.rank || steps.length !== x.rank) {
    throw new ShapeError(
      `slice: ${showShape(x.shape)} has ${x.rank} axes, but starts, sizes and steps have ${starts.length}, ${sizes.length} and ${steps.length} entries.`,
    );
  }
  return sameShape(sizes, x.shape)
    ? x
    : make(sliceOp, [x], { starts: [...starts], sizes: [...sizes], steps: [...steps] });
}

/** Elements `from` (inclusive) to `to` (exclusive) by `step` along one axis; negative ends count from the back. */
export function sliceAxis(
  x: Tensor,
  axis: number,
  from: number,
  to: number = x.shape[normalizeAxis('slice', axis, x.rank)],
  step = 1,
): Tensor {
  const at = normalizeAxis('slice', axis, x.rank);
  const extent = x.shape[at];
  const [first, last] = [from < 0 ? from + extent : from, to < 0 ? to + extent : to];
  if (!(first >= 0 && last <= extent && first <= last)) {
    throw new ShapeError(`slice: ${from} to ${to} is outside axis ${axis} of ${showShape(x.shape)}.`);
  }
  const sizes = x.shape.map((n, i) => (i === at ? Math.ceil((last - first) / step) : n));
  return slice(
    x,
    x.shape.map((_, i) => (i === at ? first : 0)),
    sizes,
    x.shape.map((_, i) => (i === at ? step : 1)),
  );
}

/** Cuts x along `axis` into parts of the given extents, or into `parts` equal ones. */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const at = normalizeAxis('split', axis, x.rank);
  const sizes = typeof parts === 'number' ? new Array<number>(parts).fill(x.shape[at] / parts) : parts;
  if (sizes.some((n) => !Number.isInteger(n) || n < 0) || sizes.reduce((a, b) => a + b, 0) !== x.shape[at]) {
    throw new ShapeError(
      `split: axis ${axis} of ${showShape(x.shape)} does not split into ${typeof parts === 'number' ? `${parts} equal parts` : showShape(parts)}.`,
    );
  }
  let offset = 0;
  return sizes.map((n) => {
    offset += n;
    return sliceAxis(x, at, offset - n, offset);
  });
}

/** One index along an axis, which disappears. */
export const select = (x: Tensor, axis: number, index: number): Tensor =>
  squeeze(sliceAxis(x, axis, index, index === -1 ? undefined : index + 1), axis);

/** Elements added before (`low`), after (`high`) and between (`interior`) those of each axis; negative `low` and `high` crop. */
export interface Padding {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior?: readonly number[];
}

export interface PadAttrs {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior: readonly number[];
  readonly value: number;
}

export const padOp: OpDef<PadAttrs> = {
  name: 'pad',
  infer: ([x], { low, high, interior }) => {
    const shape = x.shape.map((extent, axis) => low[axis] + high[axis] + dilated(extent, interior[axis]));
    if (shape.some((extent) => extent < 0)) {
      throw new ShapeError(
        `pad: low ${showShape(low)} and high ${showShape(high)} crop more than ${showShape(x.shape)} has.`,
      );
    }
    return { dtype: x.dtype, shape };
  },
  evaluate: ([x], { low, interior, value }, type) => {
    const out = new Float64Array(sizeOf(type.shape)).fill(value);
    const strides = stridesOf(type.shape);
    const source = stridesOf(x.shape);
    for (let i = 0; i < x.data.length; i++) {
      let to = 0;
      const inside = x.shape.every((extent, axis) => {
        const at = low[axis] + (Math.floor(i / source[axis]) % extent) * (interior[axis] + 1);
        to += at * strides[axis];
        return at >= 0 && at < type.shape[axis];
      });
      if (inside) out[to] = x.data[i];
    }
    return out;
  },
  lower: (to, [x], node) => {
    const { low, high, interior, value } = node.attrs;
    const fill = to.scalar(value, node.dtype);
    const shape = node.inputs[0].shape;
    if (sizeOf(shape) === 0) return to.node('Expand', [fill, to.ints(node.shape)]);
    let source = x;
    const trailing = high.slice();
    if (interior.some((gap) => gap > 0)) {
      source = spread(to, x, node);
      shape.forEach((extent, axis) => {
        if (extent > 0) trailing[axis] -= interior[axis];
      });
    }
    return low.every((n) => n === 0) && trailing.every((n) => n === 0)
      ? source
      : to.node('Pad', [source, to.ints([...low, ...trailing]), fill]);
  },
  vjp: (node, g) => [unpad(g, node)],
  jvp: (node, [t]) => t && make(padOp, [t], { ...node.attrs, value: 0 }),
};

/** Each element in front of a cell of its own, the gaps after it filled. */
function spread(to: Lowering, x: string, { inputs, attrs: { interior, value }, dtype }: Tensor<PadAttrs>): string {
  const { shape } = inputs[0];
  const spaced = to.ints(shape.map((extent, axis) => extent * (interior[axis] + 1)));
  const onCpu = dtype === 'float32' && (to.provider === 'cpu' || to.provider === 'wasm');
  if (onCpu && value === 0 && interior.slice(0, -2).every((gap) => gap === 0)) {
    // A transposed convolution of one tap over one tall image takes a fifth of the time of Pad, which copies element by element.
    const columns = shape[shape.length - 1];
    const image = to.node('Reshape', [x, to.ints([1, 1, sizeOf(shape) / columns, columns])]);
    const gaps = [interior.length > 1 ? interior[interior.length - 2] : 0, interior[interior.length - 1]];
    const settings = {
      strides: ints(gaps.map((gap) => gap + 1)),
      output_padding: ints(gaps),
      kernel_shape: ints([1, 1]),
    };
    return to.node('Reshape', [to.node('ConvTranspose', [image, to.scalar(1, dtype, [1, 1, 1, 1])], settings), spaced]);
  }
  const cells = shape.flatMap((extent, axis) => (interior[axis] > 0 ? [extent, 1] : [extent]));
  const pads = shape.flatMap((_, axis) => (interior[axis] > 0 ? [0, interior[axis]] : [0]));
  const cell = to.node('Reshape', [x, to.ints(cells)]);
  const fill = to.scalar(value, dtype);
  return to.node('Reshape', [to.node('Pad', [cell, to.ints([...pads.map(() => 0), ...pads]), fill]), spaced]);
}

const dilated = (extent: number, gap: number) => (extent === 0 ? 0 : (extent - 1) * (gap + 1) + 1);

/** Reads back the elements a pad put somewhere, with zeros where it cropped them. */
function unpad(g: Tensor, node: Tensor<PadAttrs>): Tensor {
  const { low, high, interior } = node.attrs;
  const cropped = pad(g, { low: low.map((n) => Math.max(0, -n)), high: high.map((n) => Math.max(0, -n)) });
  const starts = low.map((n) => Math.max(0, n));
  return slice(
    cropped,
    starts,
    node.inputs[0].shape,
    interior.map((gap) => gap + 1),
  );
}

/** Surrounds and spreads x with `value` (0 by default). */
export function pad(x: Tensor, { low, high, interior = low.map(() => 0) }: Padding, value = 0): Tensor {
  if (
    low.length !== x.rank ||
    high.length !== x.rank ||
    interior.length !== x.rank ||
    interior.some((gap) => gap < 0)
  ) {
    throw new ShapeError(
      `pad: ${showShape(x.shape)} wants ${x.rank} entries in low, high and interior (0 or more), but got ${showShape(low)}, ${showShape(high)}, ${showShape(interior)}.`,
    );
  }
  if ([...low, ...high, ...interior].every((n) => n === 0)) return x;
  return make(padOp, [x], { low: [...low], high: [...high], interior: [...interior], value });
}

interface FlipAttrs {
  readonly axes: readonly number[];
}

const flipOp: OpDef<FlipAttrs> = {
  name: 'flip',
  infer: ([x]) => x,
  evaluate: ([x], { axes }) => {
    const strides = stridesOf(x.shape);
    const offset = axes.reduce((n, axis) => n + (x.shape[axis] - 1) * strides[axis], 0);
    return gatherStrided(
      x,
      x.shape,
      strides.map((stride, axis) => (axes.includes(axis) ? -stride : stride)),
      offset,
    );
  },
  lower: (to, [x], node) => {
    const { axes } = node.attrs;
    const fill = (value: number) => to.ints(axes.map(() => value));
    return to.node('Slice', [x, fill(-1), fill(Number.MIN_SAFE_INTEGER), to.ints(axes), fill(-1)]);
  },
  vjp: (node, g) => [flip(g, node.attrs.axes)],
  jvp: (node, [t]) => t && flip(t, node.attrs.axes),
};

/** Reverses the order along `axes`. */
export function flip(x: Tensor, axes: readonly number[]): Tensor {
  const list = axes.map((axis) => normalizeAxis('flip', axis, x.rank)).sort((a, b) => a - b);
  return list.every((axis) => x.shape[axis] === 1) ? x : make(flipOp, [x], { axes: list });
}

/** Moves elements `shift` places forward along `axis`, those that fall off come back at the start. */
export function roll(x: Tensor, shift: number, axis: number): Tensor {
  const at = normalizeAxis('roll', axis, x.rank);
  const extent = x.shape[at];
  const by = extent === 0 ? 0 : ((shift % extent) + extent) % extent;
  return by === 0 ? x : concat([sliceAxis(x, at, extent - by), sliceAxis(x, at, 0, extent - by)], at);
}
