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
import type { Refusal, RuleSymbols } from './definition.ts';
import type { NumberParameter, Schema } from './hyperparameters.ts';

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

/** ‖x‖ of each tensor by itself. */
export const tensorNorm = (x: Tensor): Tensor => norm(x, { axes: [1, 2], keepDims: true });

/** What rules with weight decay are given. */
type Decaying = Pick<
  RuleSymbols<Schema & { readonly lr: NumberParameter; readonly weightDecay: NumberParameter }, string, string>,
  'theta' | 'h' | 'is'
>;

/** Coupled decay: `g + λ θ`; g itself where λ is 0 for all tensors. */
export const withPenalty = (g: Tensor, { theta, h, is }: Decaying): Tensor =>
  is('weightDecay', 0) ? g : add(g, mul(h.weightDecay, theta));

/** Decoupled decay: `(1 - η λ) θ`; θ itself where λ is 0 for all tensors. */
export const shrunk = ({ theta, h, is }: Decaying): Tensor =>
  is('weightDecay', 0) ? theta : mul(sub(1, mul(h.lr, h.weightDecay)), theta);
