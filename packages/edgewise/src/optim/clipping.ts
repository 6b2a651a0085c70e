/** @file Gradient clipping, for any optimizer: a definition in, a definition out. */
import { ConfigError } from '../base/errors.ts';
import { maximum, minimum, mul, neg } from '../tensor/ops/elementwise.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { OptimizerDefinition, Refusal, RuleSymbols } from './definition.ts';
import { type NumberParameter, number, type Schema } from './hyperparameters.ts';
import { clipFactor, globalNorm, refuseUnlessFinite } from './math.ts';

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
  return withGradient(base, 'clipNorm', clipNorm, (grad, limit) => {
    const gradNorm = globalNorm(grad);
    return {
      grad: mul(grad, clipFactor(gradNorm, limit, 1e-6)),
      refuse: [refuseUnlessFinite(gradNorm)],
      report: { gradNorm },
    };
  });
}

/** `base` on gradients whose components are cut to [-c, c] (`torch.nn.utils.clip_grad_value_`). Adds the hyper-parameter `clipValue` (c). */
export function clipValue<H extends Schema, S extends string, C extends string>(
  base: OptimizerDefinition<H, S, C>,
): OptimizerDefinition<H & { readonly clipValue: NumberParameter }, S, C> {
  return withGradient(base, 'clipValue', clipAt, (grad, limit) => ({
    grad: minimum(maximum(grad, neg(limit)), limit),
    refuse: [],
    report: {},
  }));
}

interface Changed {
  readonly grad: Tensor;
  readonly refuse: readonly Refusal[];
  readonly report: Readonly<Record<string, Tensor>>;
}

/**
 * `base` with the gradient it steps along changed by `change` unless the hyper-parameter `name` is 0. Where a step
 * evaluates several gradients, that is the last one: what leads there (the ascent of SAM) sees the gradient itself.
 */
function withGradient<H extends Schema, S extends string, C extends string, N extends string>(
  base: OptimizerDefinition<H, S, C>,
  name: N,
  parameter: NumberParameter,
  change: (grad: Tensor, limit: Tensor) => Changed,
): OptimizerDefinition<H & Record<N, NumberParameter>, S, C> {
  if (name in base.hyperparameters)
    throw new ConfigError(`${base.name} has a hyper-parameter '${name}' already; clip once.`);
  const target = base.phases.findLastIndex(({ evaluate }) => evaluate !== undefined);
  const erased: OptimizerDefinition = base;
  const phases = erased.phases.map((phase, i) => {
    if (i !== target) return phase;
    const update = (s: RuleSymbols<Schema, string, string>) => {
      if (s.is(name, 0)) return phase.update(s);
      const limit: unknown = s.h[name];
      const { grad, refuse, report } = change(s.grad, limit as Tensor); // a number, declared below
      const inner = phase.update({ ...s, grad });
      return { ...inner, refuse: [...refuse, ...(inner.refuse ?? [])], report: { ...inner.report, ...report } };
    };
    return { ...phase, update };
  });
  const made: OptimizerDefinition = {
    ...erased,
    name: `${base.name}+${name}`,
    aliases: [],
    hyperparameters: { ...base.hyperparameters, [name]: parameter },
    phases,
  };
  // The same definition with one more hyper-parameter, which its own rule does not read.
  return made as unknown as OptimizerDefinition<H & Record<N, NumberParameter>, S, C>;
}
