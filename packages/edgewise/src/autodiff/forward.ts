import { DerivativeError } from '../base/errors.ts';
import { isFloat } from '../tensor/dtype.ts';
import { decomposed } from '../tensor/evaluate.ts';
import { showShape } from '../tensor/shape.ts';
import { constant, expectShape, type MaybeTensor, type Tensor, topological } from '../tensor/tensor.ts';
import { checkWrt } from './reverse.ts';

/**
 * Jacobian-vector product: Σ_i ∂outputs/∂wrt[i] · tangents[i], one tensor for each output.
 * A graph in, a graph out. Outputs that do not depend on `wrt` get a constant zero.
 *
 * @param tangents shapes of `wrt`; an undefined one stands for zeros.
 * @throws DerivativeError naming an op that has no derivative.
 */
export function jvp(outputs: readonly Tensor[], wrt: readonly Tensor[], tangents: readonly MaybeTensor[]): Tensor[] {
  checkWrt('jvp', wrt);
  return pushForward(outputs, wrt, tangents).map((t, i) => t ?? constant(0, outputs[i].shape, outputs[i].dtype));
}

/** As {@link jvp}, with undefined for zero derivatives. */
export function pushForward(
  outputs: readonly Tensor[],
  wrt: readonly Tensor[],
  tangents: readonly MaybeTensor[],
): MaybeTensor[] {
  const known = new Map<Tensor, Tensor>();
  wrt.forEach((x, i) => {
    const t = tangents[i];
    if (t) {
      expectShape('jvp', `the tangent of ${x}`, t, x.shape);
      known.set(x, t);
    }
  });
  const fixed = new Set(wrt);
  for (const tensor of topological(outputs, fixed)) {
    if (fixed.has(tensor) || tensor.op.flat || !isFloat(tensor.dtype)) continue;
    const parts = tensor.inputs.map((x) => known.get(x));
    if (parts.every((t) => t === undefined)) continue;
    const t = pushThrough(tensor, parts);
    if (t) known.set(tensor, t);
  }
  return outputs.map((output) => known.get(output));
}

function pushThrough(tensor: Tensor, tangents: readonly MaybeTensor[]): MaybeTensor {
  const { op } = tensor;
  if (op.jvp) return op.jvp(tensor, tangents);
  const expanded = decomposed(tensor);
  if (expanded) return pushForward([expanded], tensor.inputs, tangents)[0];
  throw new DerivativeError(
    `jvp: op '${op.name}' on ${tensor.inputs.map((x) => showShape(x.shape)).join(', ')} has no derivative; use stopGradient if none is wanted.`,
  );
}
