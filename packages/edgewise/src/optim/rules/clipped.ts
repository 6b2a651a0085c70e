/**
 * @file Descent whose steps are bounded by their own length: clipped updates, normalised momentum, the square root of the loss, and
 * relative clipping for scale-invariant weights.
 *
 * Clipped updates: B. Zhang, J. Jin, C. Fang, L. Wang, NeurIPS 2020, arXiv 2010.02519, code of Crawshaw et al.; theory form: J. Zhang, T. He,
 * S. Sra, A. Jadbabaie, ICLR 2020, arXiv 1905.11881. Normalised GD and GD on √L: S. Arora, Z. Li, A. Panigrahi, ICML 2022,
 * arXiv 2205.09745. Relative clipping: Z. Li, S. Bhojanapalli, M. Zaheer, S. Reddi, S. Kumar, ICML 2022, arXiv 2202.00980.
 */
import {
  add,
  div,
  equal,
  greater,
  logicalAnd,
  logicalOr,
  minimum,
  mul,
  sqrt,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer } from '../definition.ts';
import { choice, decayCoefficient, decayRate, flag, learningRate, number } from '../hyperparameters.ts';
import { globalNorm, refuseUnlessFinite, tensorNorm, withPenalty } from '../math.ts';
import { checkNesterov } from './momentum.ts';

const directionParameters = {
  momentum: decayRate(0, 'Momentum μ, the decay rate of the sum of past gradients.'),
  dampening: number({
    default: 0,
    min: 0,
    max: 1,
    doc: 'Dampening τ: gradients enter the momentum buffer times 1 - τ, except the first, which enters whole.',
  }),
  nesterov: flag({ default: false, doc: "Nesterov's momentum. Needs momentum above 0 and no dampening." }),
  weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
};
const slots = { b: { doc: 'momentum buffer', when: ({ momentum }: { readonly momentum: number }) => momentum > 0 } };

/** The direction of `sgd`, and its buffer. */
function direction(
  g: Tensor,
  t: Tensor,
  buffer: () => Tensor,
  h: { readonly momentum: Tensor; readonly dampening: Tensor; readonly nesterov: boolean },
  plain: boolean,
): { d: Tensor; b: Tensor | undefined } {
  if (plain) return { d: g, b: undefined };
  // Without momentum there is no dampening either.
  const whole = logicalOr(equal(t, 1), equal(h.momentum, 0));
  const b = where(whole, g, add(mul(h.momentum, buffer()), mul(sub(1, h.dampening), g)));
  return { d: h.nesterov ? add(g, mul(h.momentum, b)) : b, b };
}

const directionFormula = `
g = g + λ θ
b = g at the first step, else μ b + (1 - τ) g
d = g + μ b  with Nesterov's momentum, else b`;

/** Keeps a direction of length zero from being divided by it; of the authors' code. */
const TINY = 1e-10;

export const sgdClip = defineOptimizer({
  name: 'sgdClip',
  title: 'SGD with clipped updates',
  source: {
    title:
      'Improved Analysis of Clipping Algorithms for Non-convex Optimization; Why gradient clipping accelerates training',
    authors: 'Zhang, Jin, Fang, Wang; Zhang, He, Sra, Jadbabaie',
    year: 2020,
    arxiv: '2010.02519',
    reference: 'github.com/zhenxun-zhuang/Generalized-SignSGD sgd_clip.py, commit 3105b7e',
  },
  family: 'gradient descent',
  formula: `${directionFormula}
θ = θ - min(η, c / (‖d‖ + 1e-10)) d              step length
    θ - min(η, γ η / ‖d‖) d                      theory: γ = c is a length of the direction
`,
  use: 'Losses whose curvature grows with the gradient. c bounds the length of a step, whatever the learning rate; to bound the gradient take the wrapper clipNorm.',
  decay: 'coupled',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(0.1),
    clippingParam: number({
      default: 1,
      above: 0,
      doc: 'Bound c: on the length of a step, or in the theory form on the direction.',
      search: { low: 1e-3, high: 10, scale: 'log' },
    }),
    form: choice({
      choices: ['step length', 'theory'],
      default: 'step length',
      doc: 'What c bounds: ‖Δθ‖, or the length of the direction from which on the rate falls.',
    }),
    ...directionParameters,
  },
  slots,
  restart: { slots: ['b'], scalars: [] },
  check: (values) => checkNesterov('sgdClip', values),
  update(s) {
    const { theta, grad, t, h, is } = s;
    const { d, b } = direction(withPenalty(grad, s), t, () => s.slots.b, h, is('momentum', 0));
    const length = globalNorm(d);
    const bound =
      h.form === 'theory' ? div(mul(h.lr, h.clippingParam), length) : div(h.clippingParam, add(length, TINY));
    const rate = minimum(h.lr, bound);
    return {
      theta: sub(theta, mul(rate, d)),
      slots: b ? { b } : {},
      refuse: [refuseUnlessFinite(length)],
      report: { directionNorm: length },
    };
  },
});

export const sgdNormalized = defineOptimizer({
  name: 'sgdNormalized',
  aliases: ['normalizedGd', 'ngd'],
  title: 'Normalised gradient descent',
  source: {
    title: 'Understanding Gradient Descent on Edge of Stability in Deep Learning',
    authors: 'Arora, Li, Panigrahi',
    year: 2022,
    arxiv: '2205.09745',
    reference: 'github.com/zhenxun-zhuang/Generalized-SignSGD sgd_normalized.py, commit 3105b7e',
  },
  family: 'gradient descent',
  formula: `${directionFormula}
θ = θ - η d / (‖d‖ + ε)                          θ where d = 0
`,
  use: 'Every step has length η: for studies at the edge of stability with full gradients, where it drifts to flatter minima, and with momentum for noisy ones. A zero gradient gives no step.',
  decay: 'coupled',
  batchScaling: 'none',
  hyperparameters: {
    lr: learningRate(0.1, 'Length η of a step, before the schedule.'),
    eps: number({
      default: TINY,
      min: 0,
      doc: 'Stabiliser ε, added to the length of the direction; 0 for exact normalisation.',
    }),
    ...directionParameters,
  },
  slots,
  restart: { slots: ['b'], scalars: [] },
  check: (values) => checkNesterov('sgdNormalized', values),
  update(s) {
    const { theta, grad, t, h, is } = s;
    const { d, b } = direction(withPenalty(grad, s), t, () => s.slots.b, h, is('momentum', 0));
    const length = globalNorm(d);
    return {
      theta: sub(theta, mul(where(equal(length, 0), 0, div(h.lr, add(length, h.eps))), d)),
      slots: b ? { b } : {},
      refuse: [refuseUnlessFinite(length)],
      report: { directionNorm: length },
    };
  },
});

export const sqrtLossGd = defineOptimizer({
  name: 'sqrtLossGd',
  title: 'Gradient descent on the square root of the loss',
  source: {
    title: 'Understanding Gradient Descent on Edge of Stability in Deep Learning',
    authors: 'Arora, Li, Panigrahi',
    year: 2022,
    arxiv: '2205.09745',
  },
  family: 'gradient descent',
  formula: `
θ = θ - η g / (2 √(L - L_min))                   θ where L = L_min
`,
  use: 'Studies of sharpness reduction with full gradients, where the least loss is known. A step needs the loss at the parameters.',
  batchScaling: 'none',
  hyperparameters: {
    lr: learningRate(0.01),
    minLoss: number({ default: 0, doc: 'Least loss L_min; the step is 0 where the loss is no larger.' }),
  },
  slots: {},
  update({ theta, grad, loss, h }) {
    const excess = sub(loss, h.minLoss);
    const above = greater(excess, 0);
    const rate = where(above, div(h.lr, mul(2, sqrt(where(above, excess, 1)))), 0);
    return {
      theta: sub(theta, mul(rate, grad)),
      refuse: [{ ...refuseUnlessFinite(loss), because: 'the loss is not known' }],
    };
  },
});

export const siSgd = defineOptimizer({
  name: 'siSgd',
  title: 'SGD with relative clipping for scale-invariant weights',
  source: {
    title: 'Robust Training of Neural Networks Using Scale Invariant Architectures',
    authors: 'Li, Bhojanapalli, Zaheer, Reddi, Kumar',
    year: 2022,
    arxiv: '2202.00980',
  },
  family: 'gradient descent',
  formula: `
θ = (1 - η λ) θ - η g · min(1, √(2 C λ / η) ‖θ‖ / ‖g‖)      norms before the decay; no clipping where λ = 0
`,
  use: 'Networks whose weights may be scaled without changing the output: training forgets the scale of their start and survives spikes. Give it those weights only, and the rest to another optimizer.',
  decay: 'decoupled',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(8e-4),
    weightDecay: decayCoefficient(
      1e-2,
      'Weight-decay coefficient λ: weights are multiplied by 1 - ηλ; it also sets the threshold.',
    ),
    clipFactor: number({
      default: 4,
      min: 0,
      doc: 'C of the threshold √(2Cλ/η)‖θ‖, which gradients at the equilibrium of norms reach at C = 1; 0 turns clipping off.',
      search: { low: 1, high: 16, scale: 'log' },
    }),
    per: choice({
      choices: ['model', 'tensor'],
      default: 'model',
      doc: 'Over what norms are taken: all tensors of the step, for weights that are scale-invariant together, or each tensor by itself. What is all zero has the threshold 0 and stays so: give it to another optimizer.',
    }),
  },
  slots: {},
  update({ theta, grad, h, is }) {
    const shrink = sub(1, mul(h.lr, h.weightDecay));
    const decayed = mul(shrink, theta);
    if (is('weightDecay', 0) || is('clipFactor', 0)) return { theta: sub(decayed, mul(h.lr, grad)) };
    const norm = h.per === 'tensor' ? tensorNorm : globalNorm;
    const [size, slope] = [norm(theta), norm(grad)];
    const limit = mul(sqrt(div(mul(mul(2, h.clipFactor), h.weightDecay), h.lr)), size);
    const clips = logicalAnd(greater(slope, limit), logicalAnd(greater(h.weightDecay, 0), greater(h.clipFactor, 0)));
    const factor = where(logicalOr(equal(slope, 0), equal(h.lr, 0)), 1, where(clips, div(limit, slope), 1));
    return {
      theta: sub(decayed, mul(mul(h.lr, factor), grad)),
      refuse: [refuseUnlessFinite(h.per === 'tensor' ? globalNorm(grad) : slope)],
      ...(h.per === 'model' && { report: { clipped: factor } }),
    };
  },
});
