/**
 * @file Adamax: Adam with the largest gradient so far, fading, in place of the root of the second moment.
 *
 * D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv 1412.6980, section 7; rule of
 * `torch.optim.Adamax`.
 */
import { abs, add, div, maximum, mul, sub } from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, decayRates, learningRate, stabiliser } from '../hyperparameters.ts';
import { correction, ema, withPenalty } from '../math.ts';

export const adamax = defineOptimizer({
  name: 'adamax',
  title: 'Adamax',
  source: {
    title: 'Adam: A Method for Stochastic Optimization',
    authors: 'Kingma, Ba',
    year: 2015,
    arxiv: '1412.6980',
    reference: 'torch.optim.Adamax, PyTorch 1.13',
  },
  family: 'adaptive moments',
  formula: `
g = g + λ θ
m = β1 m + (1 - β1) g
u = max(β2 u, |g| + ε)
θ = θ - η / (1 - β1^t) · m / u
`,
  use: 'Where gradients are sparse or have rare spikes: the denominator is a maximum, which needs no bias correction and, for β1 < β2, bounds a step by η (1 - β1) / (1 - β1/β2), about η.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(2e-3),
    betas: decayRates([0.9, 0.999], 'Decay rates of the average of gradients and of the largest absolute gradient.'),
    eps: stabiliser(1e-8, 'Stabiliser ε, added to the absolute gradient inside the maximum (PyTorch, optax).'),
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
  },
  slots: { m: { doc: 'average of gradients' }, u: { doc: 'largest absolute gradient, fading' } },
  restart: { slots: ['m', 'u'], scalars: [] },
  // Near a minimum the step is Adam's with P = (1 - β1^t) u.
  stability: ({ lr, betas: [beta1] }) =>
    lr === 0 ? undefined : { threshold: (2 + 2 * beta1) / ((1 - beta1) * lr), of: 'preconditioned hessian' },
  preconditioner: ({ t, slots, h }) => mul(correction(h.betas[0], t), slots.u),
  update(s) {
    const { theta, grad, t, slots, h } = s;
    const [beta1, beta2] = h.betas;
    const g = withPenalty(grad, s);
    const m = ema(beta1, slots.m, g);
    const u = maximum(mul(beta2, slots.u), add(abs(g), h.eps));
    return { theta: sub(theta, mul(div(h.lr, correction(beta1, t)), div(m, u))), slots: { m, u } };
  },
});
