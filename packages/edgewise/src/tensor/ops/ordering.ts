/** @file The largest elements along an axis, and sorting. */
import { ShapeError } from '../../base/errors.ts';
import { int } from '../lowering.ts';
import { around, normalizeAxis, showShape, sizeOf } from '../shape.ts';
import { make, type OpDef, type Tensor } from '../tensor.ts';
import { scatterAlong, takeAlong } from './indexing.ts';

interface TopKAttrs {
  readonly axis: number;
  readonly k: number;
  readonly largest: boolean;
}

function topKOp(name: string, result: 'values' | 'indices'): OpDef<TopKAttrs> {
  return {
    name,
    infer: ([x], { axis, k }) => {
      if (x.dtype === 'bool')
        throw new ShapeError(`${name}: got bool${showShape(x.shape)}, but numbers are wanted; cast first.`);
      if (!Number.isInteger(k) || k < 0 || k > x.shape[axis]) {
        throw new ShapeError(`${name}: axis ${axis} of ${showShape(x.shape)} does not have ${k} elements to choose.`);
      }
      return { dtype: result === 'values' ? x.dtype : 'int64', shape: x.shape.map((n, i) => (i === axis ? k : n)) };
    },
    evaluate: ([x], { axis, k, largest }, type) => {
      const [before, extent, after] = around(x.shape, axis);
      const out = new Float64Array(sizeOf(type.shape));
      for (let line = 0; line < before * after; line++) {
        const [b, a] = [Math.floor(line / after), line % after];
        const value = (i: number) => x.data[(b * extent + i) * after + a];
        const order = Array.from({ length: extent }, (_, i) => i).sort(
          (i, j) => (largest ? value(j) - value(i) : value(i) - value(j)) || i - j,
        );
        for (let i = 0; i < k; i++) out[(b * k + i) * after + a] = result === 'values' ? value(order[i]) : order[i];
      }
      return out;
    },
    lower: (to, [x], { attrs: { axis, k, largest } }) => {
      const outputs = to.nodes(
        'TopK',
        [x, to.ints([k])],
        { axis: int(axis), largest: int(largest ? 1 : 0), sorted: int(1) },
        { outputs: 2 },
      );
      return outputs[result === 'values' ? 0 : 1];
    },
    ...(result === 'indices'
      ? { flat: true }
      : {
          vjp: (node, g) => [scatterAlong(g, indicesOf(node), node.inputs[0].shape[node.attrs.axis], node.attrs.axis)],
          jvp: (node, [t]) => t && takeAlong(t, indicesOf(node), node.attrs.axis),
        }),
  };
}

const topKValuesOp = topKOp('topK', 'values');
const topKIndicesOp = topKOp('topKIndices', 'indices');
const indicesOf = (node: Tensor<TopKAttrs>) => make(topKIndicesOp, node.inputs, node.attrs);

/** Values and where they were (int64). */
export interface Ordered {
  readonly values: Tensor;
  readonly indices: Tensor;
}

export interface TopKOptions {
  /** The last by default. */
  readonly axis?: number;
  /** The largest by default, the smallest where false. */
  readonly largest?: boolean;
}

/** The k largest (or smallest) elements along an axis in order; of equal ones the first comes first. */
export function topK(x: Tensor, k: number, { axis = -1, largest = true }: TopKOptions = {}): Ordered {
  const attrs = { axis: normalizeAxis('topK', axis, x.rank), k, largest };
  return { values: make(topKValuesOp, [x], attrs), indices: make(topKIndicesOp, [x], attrs) };
}

export interface SortOptions {
  /** The last by default. */
  readonly axis?: number;
  /** Smallest first by default. */
  readonly descending?: boolean;
}

/** All elements along an axis in order, and where each was; of equal ones the first comes first. */
export function sort(x: Tensor, { axis = -1, descending = false }: SortOptions = {}): Ordered {
  return topK(x, x.shape[normalizeAxis('sort', axis, x.rank)], { axis, largest: descending });
}
