/**
 * @file LAMB: Adam's step for each tensor, scaled to the norm of its weights.
 *
 * Y. You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020, arXiv 1904.00962. Rule of timm
 * (NVLAMB); cybertronai's by options.
 */
import {
  add,
  div,
  greater,
  logicalAnd,
  maximum,
  minimum,
  mul,
  sqrt,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, decayRates, flag, learningRate, number, stabiliser } from '../hyperparameters.ts';
import { correction, ema, globalNorm, refuseUnlessFinite, tensorNorm } from '../math.ts';

export const lamb = defineOptimizer({
  name: 'lamb',
  title: 'LAMB',
  source: {
    title: 'Large Batch Optimization for Deep Learning: Training BERT in 76 minutes',
    authors: 'You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer, Hsieh',
    year: 2020,
    arxiv: '1904.00962',
    reference: 'timm lamb.py, commit aa4b585; github.com/cybertronai/pytorch-lamb',
  },
  family: 'layer-wise',
  formula: `
g = g / max(1, ‖g‖ / G)                          over the model, if G > 0
m = β1 m + (1 - β1) g                            m = β1 m + g without averaging
v = β2 v + (1 - β2) g²
u = m / (1 - β1^t) / (√v / √(1 - β2^t) + ε) + λ θ
q = φ(‖θ‖) / ‖u‖                                 per tensor, 1 where either is 0; φ(x) = min(x, normLimit)
q = min(q, 1)                                    trustClip
θ = θ - η q u                                    q = 1 where λ = 0, unless alwaysAdapt
`,
  use: 'Transformers with batches of thousands. Decay is inside the scaled step; implementations that trained BERT clip the global norm at 1 and leave biases and norms alone.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(1e-3),
    betas: decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of their squares.'),
    eps: stabiliser(1e-6, 'Stabiliser ε, added to the root of the second moment after its bias correction.'),
    weightDecay: decayCoefficient(0.01, 'Coefficient λ: λθ is added to the step before it is scaled.'),
    maxGradNorm: number({
      default: 0,
      min: 0,
      doc: 'Largest Euclidean norm G of the gradient over all tensors; 0 turns clipping off. timm and NVLAMB clip at 1.',
      search: { low: 0.1, high: 10, scale: 'log' },
    }),
    biasCorrection: flag({ default: true, doc: 'Divide the averages by 1 - β^t.' }),
    gradAveraging: flag({ default: true, doc: 'Gradients enter the first moment times 1 - β1.' }),
    trustClip: flag({ default: false, doc: 'Let no ratio exceed 1.' }),
    normLimit: number({
      default: 0,
      min: 0,
      doc: "Largest norm of the weights in the ratio; 0 for no limit (10 in cybertronai's).",
    }),
    alwaysAdapt: flag({ default: false, doc: 'Scale tensors without decay too (the paper, cybertronai, optax).' }),
  },
  slots: { m: { doc: 'average of gradients' }, v: { doc: 'average of squared gradients' } },
  restart: { slots: ['m', 'v'], scalars: [] },
  update({ theta, grad, t, slots, h, is }) {
    const clips = !is('maxGradNorm', 0);
    const gradNorm = globalNorm(grad);
    // Off where 0, also in a group only.
    const excess = where(greater(h.maxGradNorm, 0), maximum(div(gradNorm, h.maxGradNorm), 1), 1);
    const g = clips ? div(grad, excess) : grad;
    const [beta1, beta2] = h.betas;
    const m = h.gradAveraging ? ema(beta1, slots.m, g) : add(mul(beta1, slots.m), g);
    const v = ema(beta2, slots.v, square(g));
    const [mean, root] = h.biasCorrection
      ? [div(m, correction(beta1, t)), div(sqrt(v), sqrt(correction(beta2, t)))]
      : [m, sqrt(v)];
    const plain = div(mean, add(root, h.eps));
    const u = is('weightDecay', 0) ? plain : add(plain, mul(h.weightDecay, theta));
    const refusal = clips ? { refuse: [refuseUnlessFinite(gradNorm)], report: { gradNorm } } : {};
    if (is('weightDecay', 0) && !h.alwaysAdapt) return { theta: sub(theta, mul(h.lr, u)), slots: { m, v }, ...refusal };
    const [size, length] = [tensorNorm(theta), tensorNorm(u)];
    const limited = is('normLimit', 0) ? size : where(greater(h.normLimit, 0), minimum(size, h.normLimit), size);
    const known = where(logicalAnd(greater(size, 0), greater(length, 0)), div(limited, length), 1);
    const ratio = h.trustClip ? minimum(known, 1) : known;
    const q = h.alwaysAdapt ? ratio : where(greater(h.weightDecay, 0), ratio, 1);
    return { theta: sub(theta, mul(mul(h.lr, q), u)), slots: { m, v }, ...refusal };
  },
});
