import { ShapeError } from '../../base/errors.ts';
import { int as intAttr, type Lowering } from '../lowering.ts';
import {
  normalizeAxes,
  normalizeAxis,
  reducedShape,
  type Shape,
  sameShape,
  showShape,
  sizeOf,
  stridesOf,
} from '../shape.ts';
import { constant, erase, expectFloat, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { add, cast, div, equal, exp, isFinite, log, mul, sqrt, stopGradient, sub, where } from './elementwise.ts';
import { expand, reshape, transpose } from './layout.ts';

export interface ReduceAttrs {
  /** Sorted, non-negative. */
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

/** Axes and whether reduced axes stay as extents of 1 (false by default); no axes means all. */
export interface ReduceOptions {
  readonly axes?: number | readonly number[];
  readonly keepDims?: boolean;
}

/** Folds `f` over the reduced axes of `x`, starting from `start`. */
function fold(
  x: Values,
  { axes }: ReduceAttrs,
  start: number,
  f: (total: number, value: number) => number,
): Float64Array {
  const kept = reducedShape(x.shape, axes, true);
  const out = new Float64Array(sizeOf(kept)).fill(start);
  const strides = stridesOf(kept).map((stride, axis) => (axes.includes(axis) ? 0 : stride));
  const index = new Array<number>(x.shape.length).fill(0);
  let at = 0;
  for (let i = 0; i < x.data.length; i++) {
    out[at] = f(out[at], x.data[i]);
    for (let axis = x.shape.length - 1; axis >= 0; axis--) {
      index[axis]++;
      at += strides[axis];
      if (index[axis] < x.shape[axis]) break;
      at -= strides[axis] * x.shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

const inferReduce =
  (name: string) =>
  ([x]: readonly Tensor[], { axes, keepDims }: ReduceAttrs) => {
    if (x.dtype === 'bool')
      throw new ShapeError(`${name}: got bool${showShape(x.shape)}, but numbers are wanted; cast first.`);
    return { dtype: x.dtype, shape: reducedShape(x.shape, axes, keepDims) };
  };

const lowerReduce =
  (onnx: string) =>
  (to: Lowering, [x]: readonly string[], node: Tensor<ReduceAttrs>) =>
    node.attrs.axes.length === 0
      ? x
      : to.node(onnx, [x, to.ints(node.attrs.axes)], { keepdims: intAttr(node.attrs.keepDims ? 1 : 0) });

function reduceWith(op: OpDef<ReduceAttrs>, x: Tensor, { axes, keepDims = false }: ReduceOptions = {}): Tensor {
  return make(op, [x], { axes: normalizeAxes(op.name, axes, x.rank), keepDims });
}

/** A reduced tensor with its reduced axes back as extents of 1. */
function withKeptDims(reduced: Tensor, node: Tensor<ReduceAttrs>): Tensor {
  return reshape(reduced, reducedShape(node.inputs[0].shape, node.attrs.axes, true));
}

export const sumOp: OpDef<ReduceAttrs> = {
  name: 'sum',
  infer: inferReduce('sum'),
  evaluate: ([x], attrs) => fold(x, attrs, 0, (total, value) => total + value),
  lower: lowerReduce('ReduceSum'),
  vjp: (node, g) => [expand(withKeptDims(g, node), node.inputs[0].shape)],
  jvp: (node, [t]) => t && sum(t, node.attrs),
};

/** Sum over `axes` (all by default). */
export const sum = (x: Tensor, options?: ReduceOptions): Tensor => reduceWith(sumOp, x, options);

/** Arithmetic mean over `axes` (all by default). */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectFloat('mean', x);
  const count = normalizeAxes('mean', options.axes, x.rank).reduce((n, axis) => n * x.shape[axis], 1);
  return mul(sum(x, options), 1 / count);
}

/** Population variance over `axes` (all by default), two-pass. */
export function variance(x: Tensor, options: ReduceOptions = {}): Tensor {
  const centred = sub(x, mean(x, { ...options, keepDims: true }));
  return mean(mul(centred, centred), options);
}

function extremeOp(
  name: string,
  onnx: string,
  start: number,
  pick: (a: number, b: number) => number,
): OpDef<ReduceAttrs> {
  const mask = (node: Tensor<ReduceAttrs>) => {
    const [x] = node.inputs;
    const hits = cast(equal(x, withKeptDims(erase(node), node)), node.dtype);
    return div(hits, sum(hits, { axes: node.attrs.axes, keepDims: true }));
  };
  return {
    name,
    infer: (inputs, attrs) => {
      const type = inferReduce(name)(inputs, attrs);
      if (attrs.axes.some((axis) => inputs[0].shape[axis] === 0)) {
        throw new ShapeError(
          `${name}: shape ${showShape(inputs[0].shape)} has no elements along axes ${showShape(attrs.axes)}; there is nothing to choose from.`,
        );
      }
      return type;
    },
    evaluate: ([x], attrs) => fold(x, attrs, start, (a, b) => (a !== a || b !== b ? Number.NaN : pick(a, b))),
    lower: lowerReduce(onnx),
    vjp: (node, g) => [mul(withKeptDims(g, node), mask(node))],
    jvp: (node, [t]) => t && sum(mul(t, mask(node)), node.attrs),
  };
}

const maxOp = extremeOp('max', 'ReduceMax', Number.NEGATIVE_INFINITY, Math.max);
const minOp = extremeOp('min', 'ReduceMin', Number.POSITIVE_INFINITY, Math.min);

/** Largest element over `axes` (all by default); ties share the derivative equally. */
export const max = (x: Tensor, options?: ReduceOptions): Tensor => reduceWith(maxOp, x, options);
/** Smallest element over `axes` (all by default); ties share the derivative equally. */
export const min = (x: Tensor, options?: ReduceOptions): Tensor => reduceWith(minOp, x, options);

const prodOp: OpDef<ReduceAttrs> = {
  name: 'prod',
  infer: inferReduce('prod'),
  evaluate: ([x], attrs) => fold(x, attrs, 1, (total, value) => total * value),
  lower: lowerReduce('ReduceProd'),
  vjp: (node, g) => [mul(withKeptDims(g, node), othersProduct(node))],
  jvp: (node, [t]) => t && sum(mul(t, othersProduct(node)), node.attrs),
};

/** For each element the product of the others along the reduced axes: prefix times suffix, exact with zeros. */
function othersProduct(node: Tensor<ReduceAttrs>): Tensor {
  const [x] = node.inputs;
  const { axes } = node.attrs;
  const lines = axes.reduce((n, axis) => n * x.shape[axis], 1);
  // The diagonal of an n×n table of factors is set to 1, then each row is multiplied out.
  const back = [...Array(x.rank).keys()].filter((axis) => !axes.includes(axis));
  const flat = reshape(transpose(x, [...back, ...axes]), [x.size / Math.max(1, lines), 1, lines]);
  const diagonal = constant(
    Float64Array.from({ length: lines * lines }, (_, i) => (Math.floor(i / lines) === i % lines ? 1 : 0)),
    [1, lines, lines],
    x.dtype,
  );
  const products = prod(where(equal(diagonal, 1), diagonal, expand(flat, [flat.shape[0], lines, lines])), { axes: 2 });
  const order = [...back, ...axes];
  const inverse = order.map((_, axis) => order.indexOf(axis));
  return transpose(
    reshape(
      products,
      order.map((axis) => x.shape[axis]),
    ),
    inverse,
  );
}

/** Product over `axes` (all by default). */
export const prod = (x: Tensor, options?: ReduceOptions): Tensor => reduceWith(prodOp, x, options);

interface ArgAttrs {
  readonly axis: number;
}

function argOp(name: string, onnx: string, better: (a: number, b: number) => boolean): OpDef<ArgAttrs> {
  return {
    name,
    infer: ([x], { axis }) => {
      if (x.shape[axis] === 0)
        throw new ShapeError(
          `${name}: axis ${axis} of ${showShape(x.shape)} is empty; there is nothing to choose from.`,
        );
      return { dtype: 'int64', shape: reducedShape(x.shape, [axis], false) };
    },
    evaluate: ([x], { axis }) => {
      const extent = x.shape[axis];
      const inner = sizeOf(x.shape.slice(axis + 1));
      const out = new Float64Array(x.data.length / extent);
      for (let i = 0; i < out.length; i++) {
        const base = Math.floor(i / inner) * inner * extent + (i % inner);
        for (let k = 1; k < extent; k++)
          if (better(x.data[base + k * inner], x.data[base + out[i] * inner])) out[i] = k;
      }
      return out;
    },
    lower: (to, [x], node) => to.node(onnx, [x], { axis: intAttr(node.attrs.axis), keepdims: intAttr(0) }),
    flat: true,
  };
}

const argMaxOp = argOp('argMax', 'ArgMax', (a, b) => a > b);
const argMinOp = argOp('argMin', 'ArgMin', (a, b) => a < b);

/** Index (int64) of the first largest element along `axis`, which disappears. */
export const argMax = (x: Tensor, axis = -1): Tensor =>
  make(argMaxOp, [x], { axis: normalizeAxis('argMax', axis, x.rank) });
/** Index (int64) of the first smallest element along `axis`, which disappears. */
export const argMin = (x: Tensor, axis = -1): Tensor =>
  make(argMinOp, [x], { axis: normalizeAxis('argMin', axis, x.rank) });

interface CumulateAttrs {
  readonly axis: number;
  readonly reverse: boolean;
}

const cumSumOp: OpDef<CumulateAttrs> = {
  name: 'cumSum',
  infer: ([x]) => x,
  evaluate: ([x], { axis, reverse }) => {
    const out = x.data.slice();
    const extent = x.shape[axis];
    const inner = sizeOf(x.shape.slice(axis + 1));
    const outer = sizeOf(x.shape.slice(0, axis));
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const base = o * extent * inner + i;
        for (let k = 1; k < extent; k++) {
          const [to, from] = reverse ? [extent - 1 - k, extent - k] : [k, k - 1];
          out[base + to * inner] += out[base + from * inner];
        }
      }
    }
    return out;
  },
  lower: (to, [x], node) =>
    to.node('CumSum', [x, to.scalar(node.attrs.axis, 'int64')], { reverse: intAttr(node.attrs.reverse ? 1 : 0) }),
  vjp: (node, g) => [cumSum(g, node.attrs.axis, !node.attrs.reverse)],
  jvp: (node, [t]) => t && cumSum(t, node.attrs.axis, node.attrs.reverse),
};

/** Running sum along `axis`, from the end where `reverse`. */
export const cumSum = (x: Tensor, axis = -1, reverse = false): Tensor =>
  make(cumSumOp, [x], { axis: normalizeAxis('cumSum', axis, x.rank), reverse });

/** Euclidean norm over `axes` (all by default). Its derivative at 0 is not defined. */
export const norm = (x: Tensor, options?: ReduceOptions): Tensor => sqrt(sum(mul(x, x), options));

/** Undoes broadcasting: sums `x` over the axes along which `shape` was repeated. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  const lead = x.rank - shape.length;
  const axes = x.shape.flatMap((extent, axis) =>
    axis < lead || (shape[axis - lead] === 1 && extent !== 1) ? [axis] : [],
  );
  if (axes.length === 0) return x;
  const dropped = reducedShape(x.shape, axes, false);
  return sameShape(dropped, shape) ? sum(x, { axes }) : reshape(sum(x, { axes, keepDims: true }), shape);
}

/** log Σ exp(x) over `axes` (all by default), without overflow. */
export function logSumExp(x: Tensor, { axes, keepDims = false }: ReduceOptions = {}): Tensor {
  const list = normalizeAxes('logSumExp', axes, x.rank);
  const top = stopGradient(max(x, { axes: list, keepDims: true }));
  // An all -∞ line keeps -∞ instead of NaN.
  const shift = where(isFinite(top), top, constant(0, [], x.dtype));
  const total = add(log(sum(exp(sub(x, shift)), { axes: list, keepDims: true })), shift);
  return keepDims ? total : reshape(total, reducedShape(x.shape, list, false));
}
