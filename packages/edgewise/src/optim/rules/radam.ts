/**
 * @file RAdam: Adam whose first steps, for which the second moment has seen too little, are momentum steps.
 *
 * L. Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020, arXiv 1908.03265. Rule of `torch.optim.RAdam`'s
 * single-tensor path; the authors' variants by options.
 */
import { add, div, greater, mul, pow, sqrt, square, sub, where } from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer } from '../definition.ts';
import { choice, decayCoefficient, decayRates, flag, learningRate, number, stabiliser } from '../hyperparameters.ts';
import { correction, ema, withPenalty } from '../math.ts';

/** ρ_t, the length of the average that the second moment amounts to, and the factor R that makes up for its variance. */
export function rectification(beta2: Tensor, t: Tensor): { length: Tensor; factor: Tensor } {
  const limit = sub(div(2, sub(1, beta2)), 1);
  const power = pow(beta2, t);
  const length = sub(limit, div(mul(mul(2, t), power), sub(1, power)));
  const above = (x: Tensor) => mul(sub(x, 4), sub(x, 2));
  return { length, factor: sqrt(div(mul(above(length), limit), mul(above(limit), length))) };
}

export const radam = defineOptimizer({
  name: 'radam',
  title: 'RAdam',
  source: {
    title: 'On the Variance of the Adaptive Learning Rate and Beyond',
    authors: 'Liu, Jiang, He, Chen, Liu, Gao, Han',
    year: 2020,
    arxiv: '1908.03265',
    reference: "torch.optim.RAdam (single-tensor path), PyTorch 1.13; the authors' class",
  },
  family: 'adaptive moments',
  formula: `
g   = g + λ θ                                    coupled
m   = β1 m + (1 - β1) g
v   = β2 v + (1 - β2) g²
ρ∞  = 2 / (1 - β2) - 1;   ρ = ρ∞ - 2 t β2^t / (1 - β2^t)
R   = √[ (ρ - 4)(ρ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρ) ]
θ   = (1 - η λ) θ                                decoupled, in steps that update
θ   = θ - η R m / (1 - β1^t) · √(1 - β2^t) / (√v + ε)      if ρ > threshold
      θ - η m / (1 - β1^t), or θ where steps are skipped   otherwise
`,
  use: 'Adam without a warm-up: for β2 of 0.9 and more the first five steps are not adaptive. Those use η on raw gradients, so large gradients need clipping.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(1e-3),
    betas: decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of their squares.'),
    eps: stabiliser(1e-8, 'Stabiliser ε, added to the root of the second moment before its bias correction.'),
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ; how it acts is said by `decoupled`.'),
    threshold: number({
      default: 5,
      min: 4,
      doc: 'Steps are adaptive once ρ is above this: 5 in implementations, 4 in the paper.',
    }),
    below: choice({
      choices: ['momentum', 'skip'],
      default: 'momentum',
      doc: "What a step does before: a momentum step, or nothing but updating the averages (the default of the authors' code).",
    }),
    decoupled: flag({
      default: false,
      doc: "Decay weights by 1 - ηλ in steps that update (the authors' code) instead of adding λθ to the gradient (PyTorch).",
    }),
  },
  slots: { m: { doc: 'average of gradients' }, v: { doc: 'average of squared gradients' } },
  restart: { slots: ['m', 'v'], scalars: [] },
  update(s) {
    const { theta, grad, t, slots, h, is } = s;
    const [beta1, beta2] = h.betas;
    const g = h.decoupled ? grad : withPenalty(grad, s);
    const m = ema(beta1, slots.m, g);
    const v = ema(beta2, slots.v, square(g));
    const { length, factor } = rectification(beta2, t);
    const adaptive = greater(length, h.threshold);
    const mean = div(m, correction(beta1, t));
    const rectified = mul(mul(factor, sqrt(correction(beta2, t))), div(mean, add(sqrt(v), h.eps)));
    const skips = h.below === 'skip';
    const step = mul(h.lr, where(adaptive, rectified, skips ? 0 : mean));
    if (!h.decoupled || is('weightDecay', 0)) return { theta: sub(theta, step), slots: { m, v } };
    const shrink = sub(1, mul(h.lr, h.weightDecay));
    return { theta: sub(mul(skips ? where(adaptive, shrink, 1) : shrink, theta), step), slots: { m, v } };
  },
});
