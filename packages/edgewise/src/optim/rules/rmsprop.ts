/**
 * @file RMSProp and Adadelta.
 *
 * T. Tieleman, G. Hinton, lecture 6.5, 2012; centred: A. Graves, arXiv 1308.0850; rule of `torch.optim.RMSprop`, and TensorFlow's as in timm's
 * RMSpropTF. Adadelta: M. Zeiler, arXiv 1212.5701, rule of `torch.optim.Adadelta`.
 */
import { add, div, equal, maximum, mul, sqrt, square, sub, where } from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, decayRate, flag, learningRate, stabiliser } from '../hyperparameters.ts';
import { ema, withPenalty } from '../math.ts';

const penalty = decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.');

export const rmsprop = defineOptimizer({
  name: 'rmsprop',
  title: 'RMSProp',
  source: {
    title: 'Lecture 6.5: rmsprop; Generating Sequences With Recurrent Neural Networks',
    authors: 'Tieleman, Hinton; Graves',
    year: 2012,
    arxiv: '1308.0850',
    reference: 'torch.optim.RMSprop, PyTorch 1.13; timm RMSpropTF',
  },
  family: 'adaptive moments',
  formula: `
g = g + λ θ
v = α v + (1 - α) g²                             v = 1 before the first step in TensorFlow's style
a = α a + (1 - α) g                              centred
w = v - a²  centred,  else v
d = g / (√w + ε)                                 g / √(w + ε) in TensorFlow's style
b = μ b + d;   θ = θ - η b                       TensorFlow's style: b = μ b + η d;  θ = θ - b
`,
  use: 'Recurrent networks and reinforcement learning. There is no bias correction: the first step is 1/√(1 - α) times a sign step.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(1e-2),
    alpha: decayRate(0.99, 'Decay rate α of the average of squared gradients; 0.9 in TensorFlow.'),
    eps: stabiliser(1e-8, "Stabiliser ε: added to the root, or inside it in TensorFlow's style (1e-10 there)."),
    momentum: decayRate(0, 'Momentum μ of the scaled gradients; 0 for none.'),
    centered: flag({ default: false, doc: 'Divide by the root of the variance instead of the second moment.' }),
    weightDecay: penalty,
    tfStyle: flag({
      default: false,
      doc: 'As TensorFlow: the average starts at one, ε is inside the root, the learning rate inside the momentum.',
    }),
  },
  slots: {
    v: { doc: 'average of squared gradients' },
    a: { doc: 'average of gradients', when: ({ centered }) => centered },
    b: { doc: 'momentum buffer', when: ({ momentum }) => momentum > 0 },
  },
  restart: { slots: ['v', 'a', 'b'], scalars: [] },
  stability: ({ lr, momentum, centered }) =>
    lr === 0 || centered ? undefined : { threshold: (2 + 2 * momentum) / lr, of: 'preconditioned hessian' },
  preconditioner: ({ slots, h }) => (h.tfStyle ? sqrt(add(slots.v, h.eps)) : add(sqrt(slots.v), h.eps)),
  update(s) {
    const { theta, grad, t, slots, h, is } = s;
    const g = withPenalty(grad, s);
    const before = h.tfStyle ? where(equal(t, 1), 1, slots.v) : slots.v;
    const v = ema(h.alpha, before, square(g));
    const a = h.centered ? ema(h.alpha, slots.a, g) : undefined;
    // At least 0 in exact arithmetic.
    const w = a ? maximum(sub(v, square(a)), 0) : v;
    const d = div(g, h.tfStyle ? sqrt(add(w, h.eps)) : add(sqrt(w), h.eps));
    const state = a ? { v, a } : { v };
    if (is('momentum', 0)) return { theta: sub(theta, mul(h.lr, d)), slots: state };
    const b = add(mul(h.momentum, slots.b), h.tfStyle ? mul(h.lr, d) : d);
    return { theta: sub(theta, h.tfStyle ? b : mul(h.lr, b)), slots: { ...state, b } };
  },
});

export const adadelta = defineOptimizer({
  name: 'adadelta',
  title: 'Adadelta',
  source: {
    title: 'ADADELTA: An Adaptive Learning Rate Method',
    authors: 'Zeiler',
    year: 2012,
    arxiv: '1212.5701',
    reference: 'torch.optim.Adadelta, PyTorch 1.13',
  },
  family: 'adaptive moments',
  formula: `
g = g + λ θ
v = ρ v + (1 - ρ) g²
Δ = √(a + ε) / √(v + ε) · g
a = ρ a + (1 - ρ) Δ²                             after use
θ = θ - η Δ
`,
  use: 'Rarely the best; its steps have the units of the weights and start very small, about √(ε/(1 - ρ)), so ε decides the early progress.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(1),
    rho: decayRate(0.9, 'Decay rate ρ of both averages of squares; 0.95 in the paper.'),
    eps: stabiliser(1e-6, 'Stabiliser ε, inside both roots.'),
    weightDecay: penalty,
  },
  slots: { v: { doc: 'average of squared gradients' }, a: { doc: 'average of squared steps' } },
  restart: { slots: ['v', 'a'], scalars: [] },
  update(s) {
    const { theta, grad, slots, h } = s;
    const g = withPenalty(grad, s);
    const v = ema(h.rho, slots.v, square(g));
    const step = mul(div(sqrt(add(slots.a, h.eps)), sqrt(add(v, h.eps))), g);
    return { theta: sub(theta, mul(h.lr, step)), slots: { v, a: ema(h.rho, slots.a, square(step)) } };
  },
});
