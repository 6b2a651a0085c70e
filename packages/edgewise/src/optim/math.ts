/** @file Turns of phrase that update rules share. */
import {
  add,
  div,
  isFinite as isFiniteNumber,
  logicalNot,
  minimum,
  mul,
  type Operand,
  pow,
  sub,
} from '../tensor/ops/elementwise.ts';
import { norm } from '../tensor/ops/reduce.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Refusal } from './definition.ts';

/** Exponential moving average with decay rate β: `β s + (1 - β) x`. */
export const ema = (beta: Tensor, s: Tensor, x: Operand): Tensor => add(mul(beta, s), mul(sub(1, beta), x));

/** `1 - β^t`, by which an average that started at 0 is too small. */
export const correction = (beta: Tensor, t: Tensor): Tensor => sub(1, pow(beta, t));

/** ‖x‖ over all tensors joined. */
export const globalNorm = (x: Tensor): Tensor => norm(x);

/** The factor `min(1, limit / (‖g‖ + ε))` that brings a norm under a limit. */
export const clipFactor = (gradientNorm: Tensor, limit: Tensor, eps: Operand): Tensor =>
  minimum(div(limit, add(gradientNorm, eps)), 1);

export const refuseUnlessFinite = (gradientNorm: Tensor): Refusal => ({
  when: logicalNot(isFiniteNumber(gradientNorm)),
  because: 'the gradient norm is not finite',
});
