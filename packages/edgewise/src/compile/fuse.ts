/** @file Ops that only compiled graphs have: several of a model's in one kernel. */
import { int } from '../tensor/lowering.ts';
import { type MatmulAttrs, matmulOp } from '../tensor/ops/matmul.ts';
import { broadcastShapes, sameShape } from '../tensor/shape.ts';
import { isA, make, type OpDef, type Tensor, topological } from '../tensor/tensor.ts';
import { rewrite } from './expand.ts';

/** a · b + c for matrices a and b and a c that broadcasts to the product. */
const gemmOp: OpDef<MatmulAttrs> = {
  name: 'gemm',
  infer: ([a, b], attrs) => matmulOp.infer([a, b], attrs),
  lower: (to, inputs, { attrs }) =>
    to.node('Gemm', inputs, { transA: int(attrs.transposeA ? 1 : 0), transB: int(attrs.transposeB ? 1 : 0) }),
};

/** Joins matrix products with what is added to them, where nobody else wants the product. Run it last: fused ops have no derivative. */
export function fuse(outputs: readonly Tensor[]): Tensor[] {
  const users = new Map<Tensor, number>();
  for (const tensor of [...topological(outputs).flatMap((node) => node.inputs), ...outputs]) {
    users.set(tensor, (users.get(tensor) ?? 0) + 1);
  }
  return rewrite(outputs, (node, original) => {
    if (node.op.name !== 'add') return node;
    for (const [product, c] of [
      [0, 1],
      [1, 0],
    ]) {
      const [x, y] = [node.inputs[product], node.inputs[c]];
      if (isA(x, matmulOp) && x.rank === 2 && users.get(original.inputs[product]) === 1 && y.rank <= 2) {
        const fits = sameShape(node.shape, x.shape) && sameShape(broadcastShapes('gemm', x.shape, y.shape), x.shape);
        if (fits) return make(gemmOp, [...x.inputs, y], x.attrs);
      }
    }
    return node;
  });
}
