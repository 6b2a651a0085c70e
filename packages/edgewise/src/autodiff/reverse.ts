import { DerivativeError, ShapeError } from '../base/errors.ts';
import { isFloat } from '../tensor/dtype.ts';
import { decomposed } from '../tensor/evaluate.ts';
import { add } from '../tensor/ops/elementwise.ts';
import { showShape } from '../tensor/shape.ts';
import { constant, expectShape, type MaybeTensor, type Tensor, topological } from '../tensor/tensor.ts';

/**
 * Vector-Jacobian product: Σ_k cotangents[k]ᵀ · ∂outputs[k]/∂wrt, one tensor for each of `wrt`.
 * A graph in, a graph out: nothing is computed, and the result can be differentiated again.
 * Where a tensor of `wrt` does not influence the outputs its derivative is a constant zero.
 *
 * @param cotangents shapes of `outputs`; an undefined one stands for zeros.
 * @throws DerivativeError naming an op that has no derivative.
 */
export function vjp(outputs: readonly Tensor[], wrt: readonly Tensor[], cotangents: readonly MaybeTensor[]): Tensor[] {
  return pullBack(outputs, wrt, cotangents).map((g, i) => g ?? constant(0, wrt[i].shape, wrt[i].dtype));
}

/** As {@link vjp}, with undefined for zero derivatives. With `partial`, tensors of `wrt` are held fixed when others vary. */
export function pullBack(
  outputs: readonly Tensor[],
  wrt: readonly Tensor[],
  cotangents: readonly MaybeTensor[],
  partial = false,
): MaybeTensor[] {
  checkWrt('vjp', wrt);
  const targets = new Set(wrt);
  const order = topological(outputs, partial ? targets : undefined);
  const active = influenced(order, targets);
  const pending = new Map<Tensor, Tensor>();
  const send = (to: Tensor, g: MaybeTensor) => {
    if (g === undefined || !active.has(to)) return;
    const sofar = pending.get(to);
    pending.set(to, sofar ? add(sofar, g) : g);
  };
  outputs.forEach((output, k) => {
    const g = cotangents[k];
    if (g) expectShape('vjp', `the cotangent of output ${k}`, g, output.shape);
    send(output, g);
  });
  for (let i = order.length - 1; i >= 0; i--) {
    const tensor = order[i];
    const g = pending.get(tensor);
    if (g === undefined || (partial && targets.has(tensor)) || tensor.inputs.length === 0) continue;
    pullThrough(
      tensor,
      g,
      tensor.inputs.map((x) => active.has(x)),
    ).forEach((part, k) => send(tensor.inputs[k], part));
  }
  return wrt.map((x) => pending.get(x));
}

function pullThrough(tensor: Tensor, g: Tensor, needed: readonly boolean[]): readonly MaybeTensor[] {
  const { op } = tensor;
  if (op.flat || !needed.some(Boolean)) return [];
  if (op.vjp) return op.vjp(tensor, g, needed);
  const expanded = decomposed(tensor);
  if (expanded) return pullThroughParts(tensor, expanded, g);
  throw new DerivativeError(
    `vjp: op '${op.name}' on ${tensor.inputs.map((x) => showShape(x.shape)).join(', ')} has no derivative; use stopGradient if none is wanted.`,
  );
}

/** Derivative of an op that is defined by its parts. */
function pullThroughParts(tensor: Tensor, expanded: Tensor, g: Tensor): MaybeTensor[] {
  const distinct = [...new Set(tensor.inputs.filter((x) => isFloat(x.dtype)))];
  const parts = pullBack([expanded], distinct, [g], true);
  const first = new Set<Tensor>();
  return tensor.inputs.map((x) => {
    // An input used twice gets its whole derivative once.
    if (first.has(x)) return undefined;
    first.add(x);
    return parts[distinct.indexOf(x)];
  });
}

/** Tensors of `order` that depend on one of `sources` along differentiable ops. */
export function influenced(order: readonly Tensor[], sources: ReadonlySet<Tensor>): Set<Tensor> {
  const active = new Set<Tensor>();
  for (const tensor of order) {
    if (sources.has(tensor) || (!tensor.op.flat && isFloat(tensor.dtype) && tensor.inputs.some((x) => active.has(x))))
      active.add(tensor);
  }
  return active;
}

export function checkWrt(what: string, wrt: readonly Tensor[]): void {
  for (const x of wrt) {
    if (!isFloat(x.dtype))
      throw new ShapeError(`${what}: ${x} is not floating point, so nothing can be differentiated with respect to it.`);
  }
}
