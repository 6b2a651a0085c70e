/**
 * @file A square matrix for each axis of a tensor, one after the other in one slot, and products along axes: what preconditioners of
 * tensors of any order are made of.
 */

import { concat, reshape, sliceAxis } from '../tensor/ops/layout.ts';
import { matmul } from '../tensor/ops/matmul.ts';
import { sum } from '../tensor/ops/reduce.ts';
import type { Shape } from '../tensor/shape.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** An axis with a matrix of its own. */
export interface MatrixAxis {
  readonly axis: number;
  readonly extent: number;
}

/** Axes of a tensor that are no longer than `limit`, in order; none of a tensor without elements. */
export const matrixAxes = (shape: Shape, limit: number): readonly MatrixAxis[] =>
  sizeOf(shape) === 0 ? [] : shape.flatMap((extent, axis) => (extent <= limit ? [{ axis, extent }] : []));

/** Shape of the slot that holds the matrices of `axes`. */
export const packedShape = (axes: readonly MatrixAxis[]): Shape => [
  axes.reduce((total, { extent }) => total + extent * extent, 0),
];

/** The matrices of `axes` that `slot` holds. */
export function unpack(slot: Tensor, axes: readonly MatrixAxis[]): Tensor[] {
  let from = 0;
  return axes.map(({ extent }) => {
    const to = from + extent * extent;
    const matrix = reshape(sliceAxis(slot, 0, from, to), [extent, extent]);
    from = to;
    return matrix;
  });
}

/** The inverse of {@link unpack}, for one matrix or more. */
export const pack = (matrices: readonly Tensor[]): Tensor =>
  concat(matrices.map((matrix) => reshape(matrix, [matrix.size])));

/** Extents before, of and after an axis. */
function split(shape: Shape, axis: number): readonly [before: number, extent: number, after: number] {
  return [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))];
}

/** M Mᵀ, where the rows of M are the slices of `x` along `axis`. */
export function gram(x: Tensor, axis: number): Tensor {
  const [before, extent, after] = split(x.shape, axis);
  if (before === 1) {
    const rows = reshape(x, [extent, after]);
    return matmul(rows, rows, { transposeB: true });
  }
  if (after === 1) {
    const columns = reshape(x, [before, extent]);
    return matmul(columns, columns, { transposeA: true });
  }
  const batch = reshape(x, [before, extent, after]);
  return sum(matmul(batch, batch, { transposeB: true }), { axes: 0 });
}

/** `x` with `matrix`, or its transpose, applied to every line along `axis`: `matrix x` for axis 0 of a matrix, `x matrixᵀ` for axis 1. */
export function applyAlong(x: Tensor, axis: number, matrix: Tensor, transposed = false): Tensor {
  const [before, extent, after] = split(x.shape, axis);
  const product =
    after === 1
      ? matmul(reshape(x, [before, extent]), matrix, { transposeB: !transposed })
      : matmul(matrix, reshape(x, before === 1 ? [extent, after] : [before, extent, after]), {
          transposeA: transposed,
        });
  return reshape(product, x.shape);
}

/** {@link applyAlong} for each of `axes` with its matrix. */
export const applyAll = (
  x: Tensor,
  axes: readonly MatrixAxis[],
  matrices: readonly Tensor[],
  transposed = false,
): Tensor => axes.reduce((y, { axis }, i) => applyAlong(y, axis, matrices[i], transposed), x);
