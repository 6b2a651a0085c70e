import { ShapeError } from '../base/errors.ts';
import { showShape } from '../tensor/shape.ts';
import { constant, type MaybeTensor, type Tensor } from '../tensor/tensor.ts';
import { jvp, pushForward } from './forward.ts';
import { vjp } from './reverse.ts';

/** Gradient of the scalar `loss` with respect to each of `wrt`. Throws ShapeError where `loss` is not a scalar. */
export function grad(loss: Tensor, wrt: readonly Tensor[]): Tensor[] {
  expectScalar('grad', loss);
  return vjp([loss], wrt, [constant(1, loss.shape, loss.dtype)]);
}

/** The loss and its gradient; shared work is done once, since equal sub-graphs are one node. */
export function valueAndGrad(loss: Tensor, wrt: readonly Tensor[]): { value: Tensor; grads: Tensor[] } {
  return { value: loss, grads: grad(loss, wrt) };
}

/**
 * Hessian-vector product ∇²loss · v with respect to `wrt` jointly, forward over reverse (Pearlmutter 1994):
 * exact, also across kinks, at about twice the cost of a gradient.
 */
export function hvp(loss: Tensor, wrt: readonly Tensor[], v: readonly MaybeTensor[]): Tensor[] {
  return jvp(grad(loss, wrt), wrt, v);
}

/**
 * Generalised Gauss-Newton product Jᵀ H_out J v (Schraudolph 2002), where J is the Jacobian of `outputs`
 * (the network's logits) in `wrt` and H_out the Hessian of `loss` in `outputs` alone.
 */
export function ggnvp(
  loss: Tensor,
  outputs: readonly Tensor[],
  wrt: readonly Tensor[],
  v: readonly MaybeTensor[],
): Tensor[] {
  expectScalar('ggnvp', loss);
  const pushed = pushForward(outputs, wrt, v);
  const curved = pushForward(grad(loss, outputs), outputs, pushed);
  return vjp(outputs, wrt, curved);
}

export function expectScalar(what: string, loss: Tensor): void {
  if (loss.size !== 1) {
    throw new ShapeError(
      `${what}: the loss has shape ${showShape(loss.shape)}, but a scalar is wanted; take its mean or sum.`,
    );
  }
}
