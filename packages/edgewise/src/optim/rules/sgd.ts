/**
 * @file Stochastic gradient descent with momentum, in the form of the frameworks.
 *
 * H. Robbins, S. Monro, 1951; heavy ball: B. Polyak, 1964; Nesterov's momentum: Y. Nesterov, 1983, written at the
 * iterates as in I. Sutskever et al., ICML 2013. Rule of `torch.optim.SGD`.
 */
import { add, equal, mul, neg, sub, where } from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, flag, learningRate, number } from '../hyperparameters.ts';
import { checkNesterov } from './momentum.ts';

export const sgd = defineOptimizer({
  name: 'sgd',
  aliases: ['momentum', 'heavyBall', 'nesterov', 'nag'],
  title: 'SGD, heavy ball and Nesterov momentum',
  source: {
    title:
      'A Stochastic Approximation Method; Some methods of speeding up the convergence of iteration methods; On the importance of initialization and momentum in deep learning',
    authors: 'Robbins, Monro; Polyak; Sutskever, Martens, Dahl, Hinton',
    year: 2013,
    reference: 'torch.optim.SGD, PyTorch 1.13',
  },
  family: 'gradient descent',
  formula: `
g = -g                                           if maximize
g = g + λ θ
b = g at the first step, else μ b + (1 - τ) g
d = g + μ b  with Nesterov's momentum, else b
θ = θ - η d
`,
  use: 'Convolutional networks with a tuned schedule, and every study of training dynamics: its stability threshold is the plainest.',
  decay: 'coupled',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(0.1),
    momentum: number({
      default: 0,
      min: 0,
      below: 1,
      doc: 'Momentum μ, the decay rate of the sum of past gradients; 0 for plain gradient descent, usually 0.9.',
      search: { low: 0.5, high: 0.99, scale: 'log of 1 - x' },
    }),
    dampening: number({
      default: 0,
      min: 0,
      max: 1,
      doc: 'Dampening τ: gradients enter the momentum buffer times 1 - τ, except the first, which enters whole.',
    }),
    nesterov: flag({
      default: false,
      doc: "Nesterov's momentum: the step looks one momentum step ahead. Needs momentum above 0 and no dampening.",
    }),
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
    maximize: flag({
      default: false,
      doc: 'Ascend instead of descend. The gradient is negated before the L2 term is added, so that decay still shrinks the weights.',
    }),
  },
  slots: { b: { doc: 'momentum buffer', when: ({ momentum }) => momentum > 0 } },
  restart: { slots: ['b'], scalars: [] },
  check: (values) => checkNesterov('sgd', values),
  // The edge of a quadratic of curvature λ1: (2 + 2μ)/η for the heavy ball, (2 + 2μ)/((1 + 2μ) η) for Nesterov's momentum.
  stability({ lr, momentum, dampening, nesterov, maximize }) {
    if (maximize || lr === 0) return undefined;
    const gain = nesterov ? 1 + 2 * momentum : 1 - (momentum > 0 ? dampening : 0);
    return { threshold: gain === 0 ? Number.POSITIVE_INFINITY : (2 + 2 * momentum) / (gain * lr), of: 'hessian' };
  },

  update({ theta, grad, t, slots, h, is }) {
    const ascent = h.maximize ? neg(grad) : grad;
    const g = is('weightDecay', 0) ? ascent : add(ascent, mul(h.weightDecay, theta));
    if (is('momentum', 0)) return { theta: sub(theta, mul(h.lr, g)) };
    const b = where(equal(t, 1), g, add(mul(h.momentum, slots.b), mul(sub(1, h.dampening), g)));
    const d = h.nesterov ? add(g, mul(h.momentum, b)) : b;
    return { theta: sub(theta, mul(h.lr, d)), slots: { b } };
  },
});
