/**
 * @file AdaBelief: the second moment is that of the gradient's surprise, its distance from its average.
 *
 * J. Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", NeurIPS 2020, arXiv 2010.07468.
 * Rule of the authors' adabelief-pytorch 0.2.0.
 */
import { add, div, greaterEqual, maximum, mul, sqrt, square, sub, where } from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { choice, decayCoefficient, decayRates, flag, learningRate, stabiliser } from '../hyperparameters.ts';
import { correction, ema, shrunk, withPenalty } from '../math.ts';
import { rectification } from './radam.ts';

export const adabelief = defineOptimizer({
  name: 'adabelief',
  title: 'AdaBelief',
  source: {
    title: 'AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients',
    authors: 'Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris, Duncan',
    year: 2020,
    arxiv: '2010.07468',
    reference: 'github.com/juntang-zhuang/Adabelief-Optimizer, adabelief-pytorch 0.2.0',
  },
  family: 'adaptive moments',
  formula: `
g = g + λ θ                                      coupled
m = β1 m + (1 - β1) g
s = β2 s + (1 - β2) (g - m)² + ε                 ε adds up in the stored s
w = max(w, s)                                    amsgrad
θ = (1 - η λ) θ                                  decoupled; (1 - λ) θ with fixed decay
θ = θ - η / (1 - β1^t) · m / (√(s or w) / √(1 - β2^t) + ε)                    rectify off
θ = θ - η R √(1 - β2^t) / (1 - β1^t) · m / (√s + ε)  if ρ ≥ 5                 rectify on, R and ρ as in RAdam
    θ - η m / (1 - β1^t), or θ where steps are skipped  otherwise
`,
  use: 'Steps are large where gradients are what their average foretold. ε = 1e-16 where Adam beats SGD (transformers, GANs), 1e-8 where SGD beats Adam (convolutional networks). A constant gradient makes steps very large: that is the rule.',
  decay: 'decoupled',
  hyperparameters: {
    lr: learningRate(1e-3),
    betas: decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of squared surprises.'),
    eps: stabiliser(1e-16, 'Stabiliser ε, added to the stored second moment at every step, and to its root.'),
    weightDecay: decayCoefficient(
      0,
      'Weight-decay coefficient λ; how it acts is said by `decoupled` and `fixedDecay`.',
    ),
    amsgrad: flag({
      default: false,
      doc: 'Divide by the largest second moment so far; without effect where rectified.',
    }),
    rectify: flag({ default: true, doc: 'Rectify the first steps as RAdam does.' }),
    below: choice({
      choices: ['momentum', 'skip'],
      default: 'momentum',
      doc: 'What a step does before ρ reaches 5 (with `rectify`): a momentum step, or nothing but updating the averages.',
    }),
    decoupled: flag({ default: true, doc: 'Decay weights directly instead of adding λθ to the gradient.' }),
    fixedDecay: flag({
      default: false,
      doc: 'Multiply weights by 1 - λ, whatever the learning rate; with `decoupled`.',
    }),
  },
  slots: {
    m: { doc: 'average of gradients' },
    s: { doc: 'average of squared surprises' },
    w: { doc: 'largest s so far', when: ({ amsgrad }) => amsgrad },
  },
  restart: { slots: ['m', 's', 'w'], scalars: [] },
  update(symbols) {
    const { theta, grad, t, slots, h, is } = symbols;
    const [beta1, beta2] = h.betas;
    const g = h.decoupled ? grad : withPenalty(grad, symbols);
    const m = ema(beta1, slots.m, g);
    const s = add(ema(beta2, slots.s, square(sub(g, m))), h.eps);
    const w = h.amsgrad ? maximum(slots.w, s) : undefined;
    const state = w ? { m, s, w } : { m, s };
    const fixed = h.fixedDecay && !is('weightDecay', 0);
    const decayed = fixed ? mul(sub(1, h.weightDecay), theta) : shrunk(symbols);
    const from = h.decoupled ? decayed : theta;
    const mean = div(m, correction(beta1, t));
    const root = sqrt(correction(beta2, t));
    if (!h.rectify) {
      return { theta: sub(from, mul(h.lr, div(mean, add(div(sqrt(w ?? s), root), h.eps)))), slots: state };
    }
    const { length, factor } = rectification(beta2, t);
    const rectified = mul(mul(factor, root), div(mean, add(sqrt(s), h.eps)));
    const step = where(greaterEqual(length, 5), rectified, h.below === 'skip' ? 0 : mean);
    return { theta: sub(from, mul(h.lr, step)), slots: state };
  },
});
