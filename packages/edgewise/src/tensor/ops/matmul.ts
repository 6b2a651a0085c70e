import { ShapeError } from '../../base/errors.ts';
import { broadcastShapes, broadcastStrides, showShape, sizeOf } from '../shape.ts';
import { commonDtype, expectFloat, type MaybeTensor, make, type OpDef, type Tensor } from '../tensor.ts';
import { addAll } from './elementwise.ts';
import { emitProduct } from './matmul-lowering.ts';
import { sumTo } from './reduce.ts';

export interface MatmulAttrs {
  /** Read the last two axes of a (of b) swapped. */
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

export const matmulOp: OpDef<MatmulAttrs> = {
  name: 'matmul',
  infer: ([a, b], attrs) => {
    const dtype = commonDtype('matmul', [a, b]);
    expectFloat('matmul', a);
    const [m, k] = lastTwo(a, attrs.transposeA);
    const [k2, n] = lastTwo(b, attrs.transposeB);
    if (k !== k2) {
      throw new ShapeError(
        `matmul: ${describe(a, attrs.transposeA)} times ${describe(b, attrs.transposeB)}: inner extents ${k} and ${k2} differ.`,
      );
    }
    return { dtype, shape: [...broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n] };
  },
  evaluate: ([a, b], { transposeA, transposeB }, type) => {
    const batch = type.shape.slice(0, -2);
    const [m, n] = type.shape.slice(-2);
    const k = a.shape[a.shape.length - (transposeA ? 2 : 1)];
    const out = new Float64Array(sizeOf(type.shape));
    const offsets = [a, b].map((x) => batchOffsets(x.shape, batch));
    const [aRow, aCol] = transposeA ? [1, m] : [k, 1];
    const [bRow, bCol] = transposeB ? [1, k] : [n, 1];
    for (let s = 0; s < offsets[0].length; s++) {
      const [aAt, bAt, outAt] = [offsets[0][s], offsets[1][s], s * m * n];
      for (let i = 0; i < m; i++) {
        for (let p = 0; p < k; p++) {
          const x = a.data[aAt + i * aRow + p * aCol];
          for (let j = 0; j < n; j++) out[outAt + i * n + j] += x * b.data[bAt + p * bRow + j * bCol];
        }
      }
    }
    return out;
  },
  lower: (to, [a, b], { inputs: [x, y], attrs, dtype }) =>
    emitProduct(
      to,
      { name: a, shape: x.shape, transposed: attrs.transposeA },
      { name: b, shape: y.shape, transposed: attrs.transposeB },
      dtype,
    ),
  vjp: (node, g, needed) => {
    const [a, b] = node.inputs;
    const { transposeA: ta, transposeB: tb } = node.attrs;
    return [
      needed[0] ? sumTo(ta ? product(b, g, tb, true) : product(g, b, false, !tb), a.shape) : undefined,
      needed[1] ? sumTo(tb ? product(g, a, true, ta) : product(a, g, !ta, false), b.shape) : undefined,
    ];
  },
  jvp: (node, [ta, tb]): MaybeTensor => {
    const [a, b] = node.inputs;
    const { transposeA, transposeB } = node.attrs;
    return addAll(ta && product(ta, b, transposeA, transposeB), tb && product(a, tb, transposeA, transposeB));
  },
};

function lastTwo(x: Tensor, transposed: boolean): [number, number] {
  if (x.rank < 2)
    throw new ShapeError(
      `matmul: ${showShape(x.shape)} is not a matrix or a batch of them; reshape it to rank 2 or more.`,
    );
  const [rows, columns] = x.shape.slice(-2);
  return transposed ? [columns, rows] : [rows, columns];
}

const describe = (x: Tensor, transposed: boolean) => `${showShape(x.shape)}${transposed ? ' transposed' : ''}`;

/** Offset of each matrix of a batch broadcast to `batch`. */
function batchOffsets(shape: readonly number[], batch: readonly number[]): number[] {
  const matrix = sizeOf(shape.slice(-2));
  const strides = broadcastStrides(shape.slice(0, -2), batch);
  return Array.from({ length: sizeOf(batch) }, (_, i) => {
    let rest = i;
    let offset = 0;
    for (let axis = batch.length - 1; axis >= 0; axis--) {
      offset += (rest % batch[axis]) * strides[axis];
      rest = Math.floor(rest / batch[axis]);
    }
    return offset * matrix;
  });
}

const product = (a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean) =>
  make(matmulOp, [a, b], { transposeA, transposeB });

/**
 * Matrix product over the last two axes, other axes broadcast as a batch.
 * `transposeA` and `transposeB` read that operand with its last two axes swapped, without a copy.
 */
export function matmul(
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false }: Partial<MatmulAttrs> = {},
): Tensor {
  return product(a, b, transposeA, transposeB);
}
