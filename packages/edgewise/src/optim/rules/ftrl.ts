/**
 * @file Momentum by follow-the-regularised-leader, and step sizes from an estimate of the gradient's moment.
 *
 * X. Li, M. Liu, F. Orabona, "On the Last Iterate Convergence of Momentum Methods", ALT 2022, arXiv 2102.07002. J. Zhang, H. Lin, S. Das,
 * S. Sra, A. Jadbabaie, "Beyond Worst-Case Analysis in Stochastic Approximation: Moment Estimation Improves Instance Complexity", ICML 2022,
 * arXiv 2006.04429.
 */
import { ConfigError } from '../../base/errors.ts';
import { add, div, greater, mul, sqrt, square, sub, where } from '../../tensor/ops/elementwise.ts';
import { sum } from '../../tensor/ops/reduce.ts';
import { defineOptimizer } from '../definition.ts';
import { choice, decayRate, flag, learningRate, number } from '../hyperparameters.ts';
import { ema, refuseUnlessFinite } from '../math.ts';

export const ftrlMomentum = defineOptimizer({
  name: 'ftrlMomentum',
  title: 'FTRL-based momentum',
  source: {
    title: 'On the Last Iterate Convergence of Momentum Methods',
    authors: 'Li, Liu, Orabona',
    year: 2022,
    arxiv: '2102.07002',
  },
  family: 'averaging',
  formula: `
A_t = α_1 + ... + α_t;   α_t = 1 (equal) or t (increasing)
S   = S + α_t g
η_t = c / √t                                     decreasing
      c                                          constant
      c / √(ε + Σ_{i≤t} g_i²)                    adaptive, by coordinate; Σ_{i<t} delayed
θ   = (A_t θ + α_{t+1} (θ_1 - η_t S)) / A_{t+1}
`,
  use: 'Where the last iterate must be good without averaging and without knowing the number of steps: convex problems. Keeps the starting point.',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(0.1, 'Scale c of the step sizes, before the schedule.'),
    rate: choice({
      choices: ['decreasing', 'constant', 'adaptive'],
      default: 'decreasing',
      doc: 'Step sizes: c/√t, c, or by coordinate from the squares of gradients.',
    }),
    weights: choice({
      choices: ['equal', 'increasing'],
      default: 'equal',
      doc: 'Weights of gradients and iterates: α_t = 1 or α_t = t.',
    }),
    delayed: flag({ default: false, doc: 'Leave the present gradient out of the adaptive step size.' }),
    eps: number({ default: 1e-8, above: 0, doc: 'Stabiliser ε inside the root of the adaptive step size.' }),
  },
  slots: {
    start: { doc: 'parameters before the first step', init: () => 'theta' },
    s: { doc: 'weighted sum of gradients' },
    v: { doc: 'sum of squared gradients', when: ({ rate }) => rate === 'adaptive' },
  },
  restart: { slots: ['start', 's', 'v'], scalars: [] },
  check({ rate, delayed }) {
    if (delayed && rate !== 'adaptive')
      throw new ConfigError(
        `ftrlMomentum: delayed with rate ${rate}; only the adaptive rate depends on gradients, so choose that or drop delayed.`,
      );
  },
  update({ theta, grad, t, slots, h }) {
    const increasing = h.weights === 'increasing';
    // A_t, A_{t+1} and the weights of this and the next step.
    const [weight, next] = increasing ? [t, add(t, 1)] : [1, 1];
    const total = increasing ? div(mul(t, add(t, 1)), 2) : t;
    const after = add(total, next);
    const s = add(slots.s, mul(grad, weight));
    const adaptive = h.rate === 'adaptive';
    const v = adaptive ? add(slots.v, square(grad)) : undefined;
    const rate = h.rate === 'constant' ? h.lr : div(h.lr, v ? sqrt(add(h.eps, h.delayed ? slots.v : v)) : sqrt(t));
    const leader = sub(slots.start, mul(rate, s));
    return {
      theta: add(mul(div(total, after), theta), mul(div(next, after), leader)),
      slots: v ? { s, v } : { s },
    };
  },
});

export const momentEstimation = defineOptimizer({
  name: 'momentEstimation',
  title: 'SGD with moment estimation',
  source: {
    title: 'Beyond Worst-Case Analysis in Stochastic Approximation: Moment Estimation Improves Instance Complexity',
    authors: 'Zhang, Lin, Das, Sra, Jadbabaie',
    year: 2022,
    arxiv: '2006.04429',
  },
  family: 'averaging',
  formula: `
η_t = c / (√M + m)                               M: estimate WITHOUT this gradient
θ   = θ - η_t g
M   = β M + (1 - β) ‖g‖²
W   = W + η_t;   a = a + η_t / W (θ' - a)        θ' before the step; evaluated
`,
  use: 'Noise that changes while training: one step size follows the second moment of gradients. c is of the order of distance over √T, β = 1 - 2 T^(-2/3) in the analysis; every constant is from memory of the paper.',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(0.1, 'Scale c of the step sizes, before the schedule.'),
    floor: number({
      default: 1,
      above: 0,
      doc: 'Floor m under the estimate of the gradient norm.',
      search: { low: 1e-3, high: 10, scale: 'log' },
    }),
    beta: decayRate(0.99, 'Decay rate β of the estimate.'),
    averaged: flag({
      default: true,
      doc: 'Evaluate the average of iterates weighted by step sizes instead of the last one.',
    }),
  },
  slots: { a: { doc: 'weighted average of iterates', when: ({ averaged }) => averaged, init: () => 'theta' } },
  scalars: {
    moment: { per: 'optimizer', doc: 'estimate M of the squared gradient norm' },
    weight: { per: 'tensor', doc: 'sum W of step sizes' },
  },
  restart: { slots: ['a'], scalars: ['moment', 'weight'] },
  evaluated: ({ theta, slots, h }) => (h.averaged ? slots.a : theta),
  update({ theta, grad, slots, scalars, h }) {
    const norm2 = sum(square(grad));
    const rate = div(h.lr, add(sqrt(scalars.moment), h.floor));
    const weight = add(scalars.weight, rate);
    // While every rate so far was 0 there is no weight.
    const share = where(greater(weight, 0), div(rate, weight), 0);
    return {
      theta: sub(theta, mul(rate, grad)),
      scalars: { moment: ema(h.beta, scalars.moment, norm2), weight },
      ...(h.averaged && { slots: { a: add(slots.a, mul(share, sub(theta, slots.a))) } }),
      refuse: [refuseUnlessFinite(norm2)],
      report: { gradNorm: sqrt(norm2) },
    };
  },
});
