/** @file Gradient clipping, for any optimizer: a definition in, a definition out. */
import { greater, maximum, minimum, mul, neg, where } from '../../tensor/ops/elementwise.ts';
import type { OptimizerDefinition } from '../definition.ts';
import { type NumberParameter, number, type Schema } from '../hyperparameters.ts';
import { clipFactor, globalNorm, refuseUnlessFinite } from '../math.ts';
import { changeGradient } from './gradient.ts';

const clipNorm = number({
  default: 0,
  min: 0,
  doc: 'Largest Euclidean norm of the gradient over all tensors; larger gradients are scaled down to it. 0 turns clipping off. A step whose norm is not finite is not taken.',
  search: { low: 0.1, high: 10, scale: 'log' },
});

const clipAt = number({
  default: 0,
  min: 0,
  doc: 'Largest absolute value of a component of the gradient; larger ones are cut to it. 0 turns clipping off.',
  search: { low: 0.01, high: 10, scale: 'log' },
});

/**
 * `base` on gradients scaled by `min(1, c / (‖g‖ + 1e-6))`, with the norm over all tensors (R. Pascanu, T. Mikolov,
 * Y. Bengio, ICML 2013; `torch.nn.utils.clip_grad_norm_`). Adds the hyper-parameter `clipNorm` (c) and reports `gradNorm`.
 */
export function clipGlobalNorm<H extends Schema, S extends string, C extends string>(
  base: OptimizerDefinition<H, S, C>,
): OptimizerDefinition<H & { readonly clipNorm: NumberParameter }, S, C> {
  return changeGradient(base, 'clipNorm', clipNorm, {
    measures: ['gradNorm'],
    measure({ grad }) {
      const gradNorm = globalNorm(grad);
      return { numbers: { gradNorm }, refuse: [refuseUnlessFinite(gradNorm)], report: { gradNorm } };
    },
    // Off where 0, also in a group only.
    change: ({ grad }, limit, { gradNorm }) =>
      mul(grad, where(greater(limit, 0), clipFactor(gradNorm, limit, 1e-6), 1)),
  });
}

/** `base` on gradients whose components are cut to [-c, c] (`torch.nn.utils.clip_grad_value_`). Adds the hyper-parameter `clipValue` (c). */
export function clipValue<H extends Schema, S extends string, C extends string>(
  base: OptimizerDefinition<H, S, C>,
): OptimizerDefinition<H & { readonly clipValue: NumberParameter }, S, C> {
  return changeGradient(base, 'clipValue', clipAt, {
    change({ grad }, limit) {
      const bound = where(greater(limit, 0), limit, Number.POSITIVE_INFINITY);
      return minimum(maximum(grad, neg(bound)), bound);
    },
  });
}
