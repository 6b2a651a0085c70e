/**
 * @file AdaGrad by coordinate, by norm, and delayed, so that a step does not depend on its own noise.
 *
 * J. Duchi, E. Hazan, Y. Singer, JMLR 2011 (rule of `torch.optim.Adagrad`); R. Ward, X. Wu, L. Bottou, arXiv 1806.01811; X. Li,
 * F. Orabona, AISTATS 2019, arXiv 1805.08114, with momentum: "A high probability analysis of adaptive SGD with momentum", 2020.
 */
import { add, div, mul, pow, sqrt, square, sub } from '../../tensor/ops/elementwise.ts';
import { sum } from '../../tensor/ops/reduce.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer, type RuleSymbols } from '../definition.ts';
import { choice, decayCoefficient, decayRate, learningRate, number, stabiliser } from '../hyperparameters.ts';
import { refuseUnlessFinite, withPenalty } from '../math.ts';

const adagradParameters = {
  lr: learningRate(1e-2),
  lrDecay: number({ default: 0, min: 0, unit: '1/step', doc: 'Decay δ of the learning rate beside that by s.' }),
  initialAccumulatorValue: number({
    default: 0,
    min: 0,
    doc: 'Sum of squares s_0 that every coordinate starts with.',
  }),
  eps: stabiliser(1e-10, 'Stabiliser ε of the division.'),
  epsPlacement: choice({
    choices: ['outside', 'inside'],
    default: 'outside',
    doc: 'Where ε is added: to the root of the sum (PyTorch), or to the sum (optax).',
  }),
  weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
};

/** What a step divides by, for the sum s of squares. */
function rootOf(s: Tensor, { h, is }: Pick<RuleSymbols<typeof adagradParameters, never, never>, 'h' | 'is'>): Tensor {
  const total = is('initialAccumulatorValue', 0) ? s : add(h.initialAccumulatorValue, s);
  return h.epsPlacement === 'inside' ? sqrt(add(total, h.eps)) : add(sqrt(total), h.eps);
}

export const adagrad = defineOptimizer({
  name: 'adagrad',
  title: 'AdaGrad',
  source: {
    title: 'Adaptive Subgradient Methods for Online Learning and Stochastic Optimization',
    authors: 'Duchi, Hazan, Singer',
    year: 2011,
    reference: 'torch.optim.Adagrad, PyTorch 1.13',
  },
  family: 'accumulated squares',
  formula: `
g = g + λ θ
s = s + g²
θ = θ - η / (1 + (t - 1) δ) · g / (√(s_0 + s) + ε)      g / √(s_0 + s + ε) with ε inside
`,
  use: 'Sparse gradients and convex problems: coordinates that are rarely seen keep large steps. On long runs the steps vanish.',
  decay: 'coupled',
  hyperparameters: adagradParameters,
  slots: { s: { doc: 'sum of squared gradients' } },
  restart: { slots: ['s'], scalars: [] },
  stability: ({ lr }) => (lr === 0 ? undefined : { threshold: 2 / lr, of: 'preconditioned hessian' }),
  preconditioner: (symbols) => mul(rootOf(symbols.slots.s, symbols), add(1, mul(sub(symbols.t, 1), symbols.h.lrDecay))),
  update(symbols) {
    const { theta, grad, t, slots, h } = symbols;
    const g = withPenalty(grad, symbols);
    const s = add(slots.s, square(g));
    const rate = div(h.lr, add(1, mul(sub(t, 1), h.lrDecay)));
    return { theta: sub(theta, mul(rate, div(g, rootOf(s, symbols)))), slots: { s } };
  },
});

export const adagradNorm = defineOptimizer({
  name: 'adagradNorm',
  title: 'AdaGrad-Norm',
  source: {
    title: 'AdaGrad Stepsizes: Sharp Convergence over Nonconvex Landscapes',
    authors: 'Ward, Wu, Bottou',
    year: 2018,
    arxiv: '1806.01811',
  },
  family: 'accumulated squares',
  formula: `
g = g + λ θ
S = S + ‖g‖²                                     over the model, or of each tensor
θ = θ - η / √(b_0² + S) · g
`,
  use: 'One step size for all that finds its own scale: for studies of convergence without a known smoothness. Insensitive to b_0.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(1),
    b0: number({
      default: 0.1,
      above: 0,
      doc: 'Norm b_0 whose square the sum of squares starts with; above 0, since the first gradients may be 0.',
      search: { low: 1e-3, high: 10, scale: 'log' },
    }),
    per: choice({
      choices: ['model', 'tensor'],
      default: 'model',
      doc: 'What has one step size: the model, or each tensor. A tensor keeps the step size η / b_0 for as long as its gradient is all zero.',
    }),
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
  },
  slots: {},
  scalars: {
    total: { per: 'optimizer', doc: 'sum of squared gradient norms' },
    totals: { per: 'tensor', doc: 'sum of squared gradient norms of each tensor' },
  },
  restart: { slots: [], scalars: ['total', 'totals'] },
  update(symbols) {
    const { theta, grad, scalars, h } = symbols;
    const g = withPenalty(grad, symbols);
    const norm2 = sum(square(g));
    const each = h.per === 'tensor';
    const total = each
      ? add(scalars.totals, sum(square(g), { axes: [1, 2], keepDims: true }))
      : add(scalars.total, norm2);
    return {
      theta: sub(theta, mul(div(h.lr, sqrt(add(square(h.b0), total))), g)),
      scalars: each ? { totals: total } : { total },
      refuse: [refuseUnlessFinite(norm2)],
      report: { gradNorm: sqrt(norm2) },
    };
  },
});

export const delayedAdagrad = defineOptimizer({
  name: 'delayedAdagrad',
  title: 'Delayed AdaGrad',
  source: {
    title: 'On the Convergence of Stochastic Gradient Descent with Adaptive Stepsizes',
    authors: 'Li, Orabona',
    year: 2019,
    arxiv: '1805.08114',
  },
  family: 'accumulated squares',
  formula: `
η_t = α / (β + S)^(1/2 + ϵ)                      S: sum of squares of the gradients BEFORE this one
m   = μ m + η_t g
θ   = θ - m
S   = S + g²                                     ‖g‖² over the model for the global form
`,
  use: 'Studies of almost-sure convergence: the step size does not depend on the noise of the gradient it is used with. Tune α; β = 1 and ϵ = 0 are usual.',
  hyperparameters: {
    lr: learningRate(0.1, 'Learning rate α, before the schedule.'),
    beta: number({
      default: 1,
      above: 0,
      doc: 'Offset β of the sum of squares.',
      search: { low: 1e-3, high: 100, scale: 'log' },
    }),
    epsilon: number({
      default: 0,
      min: 0,
      max: 0.5,
      doc: 'Excess ϵ of the exponent over one half; above 0 for almost-sure convergence.',
    }),
    momentum: decayRate(0, 'Momentum μ; the learning rate is inside the buffer.'),
    per: choice({
      choices: ['coordinate', 'model'],
      default: 'coordinate',
      doc: 'What has one step size: each coordinate, or the model.',
    }),
  },
  slots: {
    s: { doc: 'sum of squared gradients', when: ({ per }) => per === 'coordinate' },
    m: { doc: 'momentum buffer', when: ({ momentum }) => momentum > 0 },
  },
  scalars: { total: { per: 'optimizer', doc: 'sum of squared gradient norms' } },
  restart: { slots: ['s', 'm'], scalars: ['total'] },
  update({ theta, grad, slots, scalars, h, is }) {
    const rateFor = (total: Tensor) => {
      const base = add(h.beta, total);
      return div(h.lr, is('epsilon', 0) ? sqrt(base) : pow(base, add(0.5, h.epsilon)));
    };
    const global = h.per === 'model';
    const norm2 = sum(square(grad));
    const step = mul(rateFor(global ? scalars.total : slots.s), grad);
    const m = is('momentum', 0) ? undefined : add(mul(h.momentum, slots.m), step);
    return {
      theta: sub(theta, m ?? step),
      slots: { ...(m && { m }), ...(!global && { s: add(slots.s, square(grad)) }) },
      ...(global && { scalars: { total: add(scalars.total, norm2) }, refuse: [refuseUnlessFinite(norm2)] }),
    };
  },
});
