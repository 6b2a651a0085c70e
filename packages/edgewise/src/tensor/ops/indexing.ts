/** @file Reading and writing at positions that are tensors: int32 or int64, counted from the end where negative. */
import { EdgewiseError, ShapeError } from '../../base/errors.ts';
import { type DType, encode, isFloat, isInteger } from '../dtype.ts';
import { int, type Lowering, string } from '../lowering.ts';
import { around, normalizeAxis, type Shape, showShape, sizeOf } from '../shape.ts';
import { commonDtype, constant, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { add, equal, less, onnxDtype, where } from './elementwise.ts';
import { reshape, unsqueeze } from './layout.ts';
import { iota } from './ranges.ts';

interface AxisAttrs {
  readonly axis: number;
}

interface ScatterAttrs extends AxisAttrs {
  /** Extent of the result along `axis`. */
  readonly extent: number;
}

function expectIndices(op: string, indices: Tensor): void {
  if (!isInteger(indices.dtype)) {
    throw new ShapeError(
      `${op}: the indices are ${indices.dtype}${showShape(indices.shape)}, but int32 or int64 is wanted; cast them.`,
    );
  }
}

/** `index` counted from the front; throws where it is outside [-bound, bound). */
function wrapped(op: string, index: number, bound: number): number {
  if (!(index >= -bound && index < bound)) {
    throw new EdgewiseError(
      `${op}: index ${index} is outside an axis of extent ${bound}; give one from ${-bound} to ${bound - 1}.`,
    );
  }
  return index < 0 ? index + bound : index;
}

const gatherOp: OpDef<AxisAttrs> = {
  name: 'gather',
  infer: ([x, indices], { axis }) => {
    expectIndices('gather', indices);
    return { dtype: x.dtype, shape: [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)] };
  },
  evaluate: ([x, indices], { axis }, type) => {
    const [before, extent, after] = around(x.shape, axis);
    const rows = Array.from(indices.data, (i) => wrapped('gather', i, extent));
    const out = new Float64Array(sizeOf(type.shape));
    for (let b = 0; b < before; b++) {
      rows.forEach((row, k) => {
        const from = (b * extent + row) * after;
        out.set(x.data.subarray(from, from + after), (b * rows.length + k) * after);
      });
    }
    return out;
  },
  lower: (to, [x, indices], { attrs }) => to.node('Gather', [x, indices], { axis: int(attrs.axis) }),
  vjp: ({ inputs: [x, indices], attrs: { axis } }, g) => [scatterAdd(g, indices, x.shape[axis], axis)],
  jvp: ({ inputs: [, indices], attrs: { axis } }, [t]) => t && gather(t, indices, axis),
};

/**
 * Slices of x at `indices` along `axis` (0 by default): the axis is replaced by the axes of `indices`. With a table of
 * vectors [V, D] and indices [N, T] this is an embedding, [N, T, D].
 *
 * An index outside the axis is an error when the graph runs.
 */
export function gather(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return make(gatherOp, [x, indices], { axis: normalizeAxis('gather', axis, x.rank) });
}

const scatterAddOp: OpDef<ScatterAttrs> = {
  name: 'scatterAdd',
  infer: ([updates, indices, base], { axis, extent }) => {
    expectIndices('scatterAdd', indices);
    const middle = updates.shape.slice(axis, axis + indices.rank);
    if (middle.join() !== indices.shape.join()) {
      throw new ShapeError(
        `scatterAdd: updates ${showShape(updates.shape)} do not have the shape of the indices, ${showShape(indices.shape)}, from axis ${axis} on.`,
      );
    }
    return withBase('scatterAdd', updates, base, [
      ...updates.shape.slice(0, axis),
      extent,
      ...updates.shape.slice(axis + indices.rank),
    ]);
  },
  evaluate: ([updates, indices, base], { axis, extent }, type) => {
    const [before, , after] = around(type.shape, axis);
    const rows = Array.from(indices.data, (i) => wrapped('scatterAdd', i, extent));
    const out = base ? base.data.slice() : new Float64Array(sizeOf(type.shape));
    for (let b = 0; b < before; b++) {
      rows.forEach((row, k) => {
        const from = (b * rows.length + k) * after;
        const at = (b * extent + row) * after;
        for (let i = 0; i < after; i++) out[at + i] += updates.data[from + i];
      });
    }
    return out;
  },
  lower: (to, [updates, indices, base], node) => {
    const { axis, extent } = node.attrs;
    const [before, , after] = around(node.shape, axis);
    const [{ size }, { size: count, dtype: indexType }] = node.inputs;
    const reshaped = (name: string, shape: Shape) => to.node('Reshape', [name, to.ints(shape)]);
    if (size === 0) return base ?? to.node('Expand', [to.scalar(0, node.dtype), to.ints(node.shape)]);
    const flat = reshaped(updates, [before, count, after]);
    if (isFloat(node.dtype) && productIsFaster(extent, after)) {
      const hit: OneHotAttrs = { depth: extent, axis: 0, on: 1, off: 0, dtype: 'float32' };
      const hits = emitOneHot(to, reshaped(indices, [count]), indexType, hit);
      const table = node.dtype === 'float32' ? hits : to.node('Cast', [hits], { to: int(onnxDtype[node.dtype]) });
      const sums = reshaped(to.node('MatMul', [table, flat]), node.shape);
      return base === undefined ? sums : to.node('Add', [base, sums]);
    }
    // ScatterND would be faster, but with two threads and repeated indices it loses updates (ONNX Runtime 1.30).
    const places = to.node('Expand', [reshaped(indices, [1, count, 1]), to.ints([before, count, after])]);
    const whole = [before, extent, after];
    const start = base ? reshaped(base, whole) : to.node('Expand', [to.scalar(0, node.dtype), to.ints(whole)]);
    const sums = to.node('ScatterElements', [start, places, flat], { axis: int(1), reduction: string('add') });
    return reshaped(sums, node.shape);
  },
  vjp: ({ inputs: [, indices, base], attrs: { axis } }, g, needed) => [
    needed[0] ? gather(g, indices, axis) : undefined,
    undefined,
    ...(base ? [g] : []),
  ],
  jvp: (node, [t, , tBase]) => {
    const { axis, extent } = node.attrs;
    return t ? scatter(scatterAddOp, t, node.inputs[1], tBase, { axis, extent }) : tBase;
  },
};

/**
 * Whether a product with a one-hot table [extent, count] beats ScatterElements for rows of `length`. Measured for 49 to 5000
 * rows of 4 to 768: about 11 ns an element scattered, against 0.04 ns a multiplication and 3 ns an entry of the table.
 */
const productIsFaster = (extent: number, length: number) => extent * (0.04 + 3 / Math.max(1, length)) < 11;

function withBase(op: string, updates: Tensor, base: Tensor | undefined, shape: Shape) {
  if (updates.dtype === 'bool')
    throw new ShapeError(`${op}: the updates are booleans, but numbers are wanted; cast them.`);
  if (base) {
    commonDtype(op, [updates, base]);
    if (base.shape.join() !== shape.join()) {
      throw new ShapeError(
        `${op}: the base has shape ${showShape(base.shape)}, but updates ${showShape(updates.shape)} want ${showShape(shape)}.`,
      );
    }
  }
  return { dtype: updates.dtype, shape };
}

const scatter = (
  op: OpDef<ScatterAttrs>,
  updates: Tensor,
  indices: Tensor,
  base: Tensor | undefined,
  attrs: ScatterAttrs,
) => make(op, base ? [updates, indices, base] : [updates, indices], attrs);

/**
 * Zeros with `updates` added at `indices` along an axis of the given extent; updates for the same index add up. The transpose of
 * {@link gather}: `updates` has the shape a gather would give.
 */
export function scatterAdd(updates: Tensor, indices: Tensor, extent: number, axis = 0): Tensor {
  const attrs = {
    axis: normalizeAxis('scatterAdd', axis, updates.rank - indices.rank + 1),
    extent: checkExtent('scatterAdd', extent),
  };
  return scatter(scatterAddOp, updates, indices, undefined, attrs);
}

/** `base` with `updates` added at `indices` along `axis`, as {@link scatterAdd} does to zeros. */
export function indexAdd(base: Tensor, updates: Tensor, indices: Tensor, axis = 0): Tensor {
  const at = normalizeAxis('indexAdd', axis, base.rank);
  return scatter(scatterAddOp, updates, indices, base, { axis: at, extent: base.shape[at] });
}

function expectAlong(op: string, x: Tensor, indices: Tensor, axis: number): void {
  expectIndices(op, indices);
  if (x.rank !== indices.rank || x.shape.some((extent, i) => i !== axis && extent !== indices.shape[i])) {
    throw new ShapeError(
      `${op}: indices ${showShape(indices.shape)} must have the extents of ${showShape(x.shape)} on every axis but ${axis}.`,
    );
  }
}

const takeAlongOp: OpDef<AxisAttrs> = {
  name: 'takeAlong',
  infer: ([x, indices], { axis }) => {
    expectAlong('takeAlong', x, indices, axis);
    return { dtype: x.dtype, shape: indices.shape };
  },
  evaluate: ([x, indices], { axis }) =>
    alongPositions('takeAlong', indices, axis, x.shape[axis]).map((at) => x.data[at]),
  lower: (to, [x, indices], { attrs }) => to.node('GatherElements', [x, indices], { axis: int(attrs.axis) }),
  vjp: ({ inputs: [x, indices], attrs: { axis } }, g) => [scatterAlong(g, indices, x.shape[axis], axis)],
  jvp: ({ inputs: [, indices], attrs: { axis } }, [t]) => t && takeAlong(t, indices, axis),
};

/** For each index its flat position in a tensor of extent `bound` along `axis` and otherwise of the indices' shape. */
function alongPositions(op: string, indices: Values, axis: number, bound: number): Float64Array {
  const [, along, after] = around(indices.shape, axis);
  return indices.data.map(
    (index, i) => (Math.floor(i / (along * after)) * bound + wrapped(op, index, bound)) * after + (i % after),
  );
}

/**
 * One element for each index: result[i, j, ...] = x[index[i, j, ...], j, ...] for axis 0, and so on. `indices` has x's extents on every
 * other axis (NumPy's take_along_axis, PyTorch's gather).
 */
export function takeAlong(x: Tensor, indices: Tensor, axis = -1): Tensor {
  return make(takeAlongOp, [x, indices], { axis: normalizeAxis('takeAlong', axis, x.rank) });
}

const scatterAlongOp: OpDef<ScatterAttrs> = {
  name: 'scatterAlong',
  infer: ([updates, indices, base], { axis, extent }) => {
    expectIndices('scatterAlong', indices);
    if (updates.shape.join() !== indices.shape.join()) {
      throw new ShapeError(
        `scatterAlong: updates ${showShape(updates.shape)} and indices ${showShape(indices.shape)} must have one shape.`,
      );
    }
    const shape = updates.shape.map((n, i) => (i === axis ? extent : n));
    return withBase('scatterAlong', updates, base, shape);
  },
  evaluate: ([updates, indices, base], { axis, extent }, type) => {
    const out = base ? base.data.slice() : new Float64Array(sizeOf(type.shape));
    alongPositions('scatterAlong', indices, axis, extent).forEach((at, i) => {
      out[at] += updates.data[i];
    });
    return out;
  },
  lower: (to, [updates, indices, base], { attrs, dtype, shape }) => {
    const start = base ?? to.node('Expand', [to.scalar(0, dtype), to.ints(shape)]);
    return to.node('ScatterElements', [start, indices, updates], { axis: int(attrs.axis), reduction: string('add') });
  },
  vjp: ({ inputs: [, indices, base], attrs: { axis } }, g, needed) => [
    needed[0] ? takeAlong(g, indices, axis) : undefined,
    undefined,
    ...(base ? [g] : []),
  ],
  jvp: (node, [t, , tBase]) => (t ? scatter(scatterAlongOp, t, node.inputs[1], tBase, node.attrs) : tBase),
};

/** Zeros of the given extent along `axis` with each update added at its index: the transpose of {@link takeAlong}. */
export function scatterAlong(updates: Tensor, indices: Tensor, extent: number, axis = -1): Tensor {
  const attrs = {
    axis: normalizeAxis('scatterAlong', axis, updates.rank),
    extent: checkExtent('scatterAlong', extent),
  };
  return scatter(scatterAlongOp, updates, indices, undefined, attrs);
}

/** `base` with each update added at its index along `axis`, as {@link scatterAlong} does to zeros. */
export function addAlong(base: Tensor, updates: Tensor, indices: Tensor, axis = -1): Tensor {
  const at = normalizeAxis('addAlong', axis, base.rank);
  return scatter(scatterAlongOp, updates, indices, base, { axis: at, extent: base.shape[at] });
}

function checkExtent(op: string, extent: number): number {
  if (!Number.isInteger(extent) || extent < 0)
    throw new ShapeError(`${op}: extent ${extent} must be a whole number, 0 or more.`);
  return extent;
}

interface OneHotAttrs {
  readonly depth: number;
  readonly axis: number;
  readonly on: number;
  readonly off: number;
  readonly dtype: DType;
}

const oneHotOp: OpDef<OneHotAttrs> = {
  name: 'oneHot',
  infer: ([indices], { depth, axis, dtype }) => {
    expectIndices('oneHot', indices);
    return { dtype, shape: [...indices.shape.slice(0, axis), depth, ...indices.shape.slice(axis)] };
  },
  evaluate: ([indices], { depth, axis, on, off }, type) => {
    const [, , after] = around(type.shape, axis);
    const out = new Float64Array(sizeOf(type.shape)).fill(off);
    indices.data.forEach((index, i) => {
      const at = index < 0 ? index + depth : index;
      if (at >= 0 && at < depth) out[(Math.floor(i / after) * depth + at) * after + (i % after)] = on;
    });
    return out;
  },
  lower: (to, [indices], { inputs: [x], attrs, shape }) => {
    if (x.rank > 0) return emitOneHot(to, indices, x.dtype, attrs);
    // OneHot wants at least one axis.
    return to.node('Reshape', [
      emitOneHot(to, to.node('Reshape', [indices, to.ints([1])]), x.dtype, attrs),
      to.ints(shape),
    ]);
  },
  decompose: ([indices], { depth, axis, on, off, dtype }) => {
    const positive = where(less(indices, 0), add(indices, depth), indices);
    const places = reshape(iota(depth, indices.dtype), [depth, ...new Array<number>(indices.rank - axis).fill(1)]);
    return where(equal(unsqueeze(positive, axis), places), constant(on, [], dtype), constant(off, [], dtype));
  },
  decomposeOn: ['float64', 'int32', 'bool'],
  flat: true,
};

function emitOneHot(
  to: Lowering,
  indices: string,
  indexType: DType,
  { depth, axis, on, off, dtype }: OneHotAttrs,
): string {
  const wide = indexType === 'int64' ? indices : to.node('Cast', [indices], { to: int(7) });
  return to.node('OneHot', [wide, to.ints([depth]), to.tensor(encode([off, on], dtype), dtype, [2])], {
    axis: int(axis),
  });
}

export interface OneHotOptions {
  /** float32 by default. */
  readonly dtype?: DType;
  /** Value at the index, 1 by default. */
  readonly on?: number;
  /** Value elsewhere, 0 by default. */
  readonly off?: number;
  /** Where the new axis goes in the result, last by default. */
  readonly axis?: number;
}

/** A new axis of extent `depth` that is `on` at the index and `off` elsewhere; all `off` for an index outside [-depth, depth). */
export function oneHot(
  indices: Tensor,
  depth: number,
  { dtype = 'float32', on = 1, off = 0, axis = -1 }: OneHotOptions = {},
): Tensor {
  if (!Number.isInteger(depth) || depth < 1)
    throw new ShapeError(`oneHot: depth ${depth} must be a whole number, 1 or more.`);
  return make(oneHotOp, [indices], { depth, axis: normalizeAxis('oneHot', axis, indices.rank + 1), on, off, dtype });
}
