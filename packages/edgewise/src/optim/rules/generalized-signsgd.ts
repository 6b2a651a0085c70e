/**
 * @file Generalized SignSGD: momentum divided by the root of the average of its own squares.
 *
 * M. Crawshaw, M. Liu, F. Orabona, W. Zhang, Z. Zhuang, "Robustness to Unbounded Smoothness of Generalized SignSGD", NeurIPS 2022,
 * arXiv 2208.11195. Rule of the authors' code.
 */
import { add, div, mul, sqrt, square, sub } from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, decayRates, flag, learningRate, stabiliser } from '../hyperparameters.ts';
import { correction, ema, withPenalty } from '../math.ts';

export const generalizedSignSgd = defineOptimizer({
  name: 'generalizedSignSgd',
  aliases: ['signSgd', 'signum'],
  title: 'Generalized SignSGD',
  source: {
    title: 'Robustness to Unbounded Smoothness of Generalized SignSGD',
    authors: 'Crawshaw, Liu, Orabona, Zhang, Zhuang',
    year: 2022,
    arxiv: '2208.11195',
    reference: 'github.com/zhenxun-zhuang/Generalized-SignSGD generalized_signsgd.py, commit 3105b7e',
  },
  family: 'sign',
  formula: `
g = g + λ θ
m = β1 m + (1 - β1) g
v = β2 v + (1 - β2) m²
θ = θ - η m / (√v + ε)                           m and v corrected with biasCorrection
`,
  use: 'Where smoothness grows with the gradient, in place of clipping: without bias correction a coordinate moves by at most η/√(1 - β2) a step. β2 = 0 is signSGD with momentum, β2 towards 1 resembles Adam.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(1e-3),
    betas: decayRates([0.9, 0.999], 'Decay rates of the average of gradients and of the average of its squares.'),
    eps: stabiliser(1e-8, 'Stabiliser ε, added to the root of the second moment.'),
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
    biasCorrection: flag({ default: false, doc: 'Divide both averages by 1 - β^t.' }),
  },
  slots: { m: { doc: 'average of gradients' }, v: { doc: 'average of squares of m' } },
  restart: { slots: ['m', 'v'], scalars: [] },
  update(s) {
    const { theta, grad, t, slots, h } = s;
    const [beta1, beta2] = h.betas;
    const m = ema(beta1, slots.m, withPenalty(grad, s));
    const v = ema(beta2, slots.v, square(m));
    const [mean, root] = h.biasCorrection
      ? [div(m, correction(beta1, t)), div(sqrt(v), sqrt(correction(beta2, t)))]
      : [m, sqrt(v)];
    return { theta: sub(theta, mul(h.lr, div(mean, add(root, h.eps)))), slots: { m, v } };
  },
});
