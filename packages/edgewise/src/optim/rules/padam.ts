/**
 * @file Padam: a power between 0 and 1/2 of the second moment in the denominator, between momentum and AMSGrad.
 *
 * J. Chen et al., "Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks", IJCAI 2020,
 * arXiv 1806.06763. Rule of the authors' code.
 */
import { add, div, maximum, mul, pow, sqrt, square, sub } from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, decayRates, flag, learningRate, number, stabiliser } from '../hyperparameters.ts';
import { correction, ema, shrunk, withPenalty } from '../math.ts';

/** Exponents that take square roots alone, by the number of them. */
const ROOTS: readonly number[] = [0.5, 0.25, 0.125, 0.0625];

export const padam = defineOptimizer({
  name: 'padam',
  title: 'Padam',
  source: {
    title: 'Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks',
    authors: 'Chen, Zhou, Tang, Yang, Cao, Gu',
    year: 2020,
    arxiv: '1806.06763',
    reference: 'github.com/uclaml/Padam Padam.py, commit 586a02b',
  },
  family: 'adaptive moments',
  formula: `
g = g + λ θ                                      coupled
m = β1 m + (1 - β1) g
v = β2 v + (1 - β2) g²
w = max(w, v)                                    amsgrad: takes the place of v below
θ = (1 - η λ) θ                                  decoupled
θ = θ - η √(1 - β2^t) / (1 - β1^t) · m / (√v + ε)^(2p)
`,
  use: 'Convolutional networks, where Adam generalises worse than SGD: p = 1/8 with the learning rates of SGD. p = 1/2 is AMSGrad, p towards 0 momentum.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(0.1),
    betas: decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of their squares.'),
    eps: stabiliser(1e-8, 'Stabiliser ε, added to the root of the second moment before the power is taken.'),
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ; how it acts is said by `decoupled`.'),
    partial: number({
      default: 0.25,
      above: 0,
      max: 0.5,
      doc: 'Exponent p of the second moment. The paper uses 1/8, the code 1/4; powers of two are fast.',
      search: { low: 0.0625, high: 0.5, scale: 'log' },
    }),
    amsgrad: flag({ default: true, doc: 'Divide by the largest second moment so far instead of the current one.' }),
    decoupled: flag({
      default: false,
      doc: 'Decay weights by 1 - ηλ (as GadamX does) instead of adding λθ to the gradient.',
    }),
  },
  slots: {
    m: { doc: 'average of gradients' },
    v: { doc: 'average of squared gradients' },
    w: { doc: 'largest v so far', when: ({ amsgrad }) => amsgrad },
  },
  restart: { slots: ['m', 'v', 'w'], scalars: [] },
  update(s) {
    const { grad, t, slots, h, is } = s;
    const [beta1, beta2] = h.betas;
    const g = h.decoupled ? grad : withPenalty(grad, s);
    const m = ema(beta1, slots.m, g);
    const v = ema(beta2, slots.v, square(g));
    const w = h.amsgrad ? maximum(slots.w, v) : undefined;
    const root = add(sqrt(w ?? v), h.eps);
    const roots = ROOTS.findIndex((exponent) => is('partial', exponent));
    const denominator =
      roots < 0 ? pow(root, mul(2, h.partial)) : ROOTS.slice(0, roots).reduce((x: Tensor) => sqrt(x), root);
    const rate = div(mul(h.lr, sqrt(correction(beta2, t))), correction(beta1, t));
    const from = h.decoupled ? shrunk(s) : s.theta;
    return { theta: sub(from, mul(rate, div(m, denominator))), slots: w ? { m, v, w } : { m, v } };
  },
});
