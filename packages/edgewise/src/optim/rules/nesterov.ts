/**
 * @file Nesterov's accelerated gradient in two further forms: from gradients at the iterates alone (NME), and by extrapolation (AGD).
 *
 * Y. Nesterov, 1983 and 2004; the estimation form: X. Xie et al., arXiv 2208.06677. With constant η and μ both visit the points of `sgd` with
 * `nesterov`.
 */
import { add, div, mul, sqrt, square, sub } from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer } from '../definition.ts';
import { choice, decayCoefficient, decayRate, learningRate, number } from '../hyperparameters.ts';
import { withPenalty } from '../math.ts';

const momentum = decayRate(0.9, 'Momentum μ, the decay rate of the sum of past gradients.');
const penalty = decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.');

export const nme = defineOptimizer({
  name: 'nme',
  title: 'Nesterov momentum estimation',
  source: {
    title: 'Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models',
    authors: 'Xie, Zhou, Li, Lin, Yan',
    year: 2022,
    arxiv: '2208.06677',
  },
  family: 'gradient descent',
  formula: `
g  = g + λ θ
m  = μ m + g + μ (g - g')                        g' = 0 at the first step
θ  = θ - η m
g' = g
`,
  use: 'The step Adan is made from, without its denominator: the look-ahead gradient is estimated from the difference of two gradients.',
  decay: 'coupled',
  batchScaling: 'linear',
  hyperparameters: { lr: learningRate(0.1), momentum, weightDecay: penalty },
  slots: { m: { doc: 'sum of look-ahead gradients, fading' }, previous: { doc: 'gradient of the step before' } },
  restart: { slots: ['m', 'previous'], scalars: [] },
  stability: ({ lr, momentum: mu }) =>
    lr === 0 ? undefined : { threshold: (2 + 2 * mu) / ((1 + 2 * mu) * lr), of: 'hessian' },
  update(s) {
    const { theta, grad, slots, h } = s;
    const g = withPenalty(grad, s);
    const ahead = add(g, mul(h.momentum, sub(g, slots.previous)));
    const m = add(mul(h.momentum, slots.m), ahead);
    return { theta: sub(theta, mul(h.lr, m)), slots: { m, previous: g } };
  },
});

export const agd = defineOptimizer({
  name: 'agd',
  aliases: ['acceleratedGradient', 'fista'],
  title: 'Accelerated gradient descent',
  source: {
    title: 'A method for solving the convex programming problem with convergence rate O(1/k²)',
    authors: 'Nesterov',
    year: 1983,
  },
  family: 'gradient descent',
  formula: `
g  = g + λ y                                     at the trained point y
m  = μ_t m + g
x  = y - η g                                     evaluated
y  = x - η μ_{t+1} m                             placed with the rate η in force, whatever that of the step to come
μ_t = μ                                          constant
      (t - 1) / (t + 2)                          convex
      (a_t - 1) / a_{t+1},  a_{t+1} = (1 + √(1 + 4 a_t²)) / 2,  a_1 = 1        fista
      (√κ - 1) / (√κ + 1)                        strongly convex
`,
  use: 'Convex problems with full gradients, where theory bounds the loss at x by O(1/t²), or linearly at the condition number κ. For networks take sgd with `nesterov`.',
  decay: 'coupled',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(0.1, 'Learning rate η, before the schedule; 1/L for a gradient of Lipschitz constant L.'),
    momentum: { ...momentum, doc: 'Momentum μ of the constant schedule.' },
    momentumSchedule: choice({
      choices: ['constant', 'convex', 'fista', 'strongly convex'],
      default: 'constant',
      doc: 'How momentum changes with the step.',
    }),
    conditionNumber: number({
      default: 100,
      above: 1,
      doc: 'Condition number κ, from which the momentum follows in the strongly convex case.',
      search: { low: 10, high: 1e5, scale: 'log' },
    }),
    weightDecay: penalty,
  },
  slots: { m: { doc: 'sum of gradients, fading' } },
  scalars: {
    mu: { per: 'tensor', doc: 'momentum of the step to come' },
    ahead: { per: 'tensor', doc: 'η μ by which the trained point is ahead' },
    a: { per: 'tensor', doc: 'a_t of the FISTA sequence', init: () => 1 },
  },
  restart: { slots: ['m'], scalars: ['mu', 'ahead', 'a'] },
  stability: ({ lr, momentum: mu, momentumSchedule }) =>
    lr === 0 || momentumSchedule !== 'constant'
      ? undefined
      : { threshold: (2 + 2 * mu) / ((1 + 2 * mu) * lr), of: 'hessian' },
  evaluated: ({ theta, slots, scalars }) => add(theta, mul(scalars.ahead, slots.m)),
  update(s) {
    const { theta, grad, t, slots, scalars, h } = s;
    const g = withPenalty(grad, s);
    const m = add(mul(scalars.mu, slots.m), g);
    const x = sub(theta, mul(h.lr, g));
    const next = (a: Tensor) => div(add(1, sqrt(add(1, mul(4, square(a))))), 2);
    const a = next(scalars.a);
    const root = sqrt(h.conditionNumber);
    const mu = {
      constant: h.momentum,
      convex: div(t, add(t, 3)),
      fista: div(sub(a, 1), next(a)),
      'strongly convex': div(sub(root, 1), add(root, 1)),
    }[h.momentumSchedule];
    const ahead = mul(h.lr, mu);
    return { theta: sub(x, mul(ahead, m)), slots: { m }, scalars: { mu, ahead, a } };
  },
});
