/**
 * @file LARS: a learning rate for each tensor, in proportion to its norm.
 *
 * Y. You, I. Gitman, B. Ginsburg, "Large Batch Training of Convolutional Networks", 2017, arXiv 1708.03888. Rule of timm; the forms of the
 * paper, of MAE and MoCo v3 by options.
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
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { choice, decayCoefficient, decayRate, flag, learningRate, number } from '../hyperparameters.ts';
import { tensorNorm } from '../math.ts';
import { checkNesterov } from './momentum.ts';

export const lars = defineOptimizer({
  name: 'lars',
  title: 'LARS',
  source: {
    title: 'Large Batch Training of Convolutional Networks',
    authors: 'You, Gitman, Ginsburg',
    year: 2017,
    arxiv: '1708.03888',
    reference: 'timm lars.py, commit aa4b585; MAE',
  },
  family: 'layer-wise',
  formula: `
q = τ ‖θ‖ / (‖g‖ + λ ‖θ‖ + ε)                    separate; per tensor, 1 where ‖θ‖ or ‖g‖ is 0
    τ ‖θ‖ / (‖g + λ θ‖ + ε)                      joint
q = min(q / η, 1)                                trustClip (LARC)
d = q (g + λ θ)                                  g + λ θ where λ = 0, unless alwaysAdapt
b = d at the first step, else μ b + (1 - τ_b) d  lrInside: η d in place of d
θ = θ - η (d + μ b  with Nesterov's momentum, else b)
`,
  use: 'Convolutional networks with batches of thousands, with warm-up and a polynomial schedule; no decay and no adaptation on biases and norms. Tensors that start at zero take one full raw step.',
  decay: 'coupled',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(1),
    momentum: decayRate(0.9, 'Momentum μ, the decay rate of the sum of past directions.'),
    dampening: number({
      default: 0,
      min: 0,
      max: 1,
      doc: 'Dampening of the momentum, except for the first direction.',
    }),
    nesterov: flag({ default: false, doc: "Nesterov's momentum. Needs momentum above 0 and no dampening." }),
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty, inside what is scaled.'),
    trustCoeff: number({
      default: 0.001,
      above: 0,
      doc: "Trust coefficient τ: share of a tensor's norm that a step of rate 1 has.",
      search: { low: 1e-4, high: 1e-1, scale: 'log' },
    }),
    eps: number({ default: 1e-8, min: 0, doc: 'Stabiliser ε of the ratio; 0 in the paper and MAE.' }),
    ratio: choice({
      choices: ['separate', 'joint'],
      default: 'separate',
      doc: 'What the norm of the parameters is compared with: ‖g‖ + λ‖θ‖ (paper, timm) or ‖g + λθ‖ (MAE, MoCo v3, optax).',
    }),
    trustClip: flag({ default: false, doc: "Let no tensor's rate exceed the learning rate (LARC)." }),
    alwaysAdapt: flag({ default: false, doc: 'Scale tensors without decay too.' }),
    excludeVectors: flag({
      default: false,
      doc: 'Leave out tensors of rank 1 and below, from scaling and from decay (MAE, MoCo v3).',
    }),
    lrInside: flag({
      default: false,
      doc: 'Learning rate inside the momentum buffer (paper, optax) instead of outside: differs where the rate changes.',
    }),
  },
  slots: { b: { doc: 'momentum buffer', when: ({ momentum }) => momentum > 0 } },
  restart: { slots: ['b'], scalars: [] },
  check: (values) => checkNesterov('lars', values),
  update({ theta, grad, t, slots, h, rank, is }) {
    const vector = greater(2, rank);
    const decay = h.excludeVectors ? where(vector, 0, h.weightDecay) : h.weightDecay;
    const penalized = is('weightDecay', 0) ? grad : add(grad, mul(decay, theta));
    const [size, slope] = [tensorNorm(theta), tensorNorm(h.ratio === 'joint' ? penalized : grad)];
    const total = h.ratio === 'joint' ? slope : add(slope, mul(decay, size));
    const trust = div(mul(h.trustCoeff, size), add(total, h.eps));
    const known = where(logicalAnd(greater(size, 0), greater(slope, 0)), trust, 1);
    const clipped = h.trustClip ? minimum(div(known, h.lr), 1) : known;
    const adapted = h.alwaysAdapt ? clipped : where(greater(decay, 0), clipped, 1);
    const q = h.excludeVectors ? where(vector, 1, adapted) : adapted;
    const own = mul(q, penalized);
    const d = h.lrInside ? mul(h.lr, own) : own;
    const step = (x: typeof d) => sub(theta, h.lrInside ? x : mul(h.lr, x));
    if (is('momentum', 0)) return { theta: step(d) };
    const b = where(
      logicalOr(equal(t, 1), equal(h.momentum, 0)),
      d,
      add(mul(h.momentum, slots.b), mul(sub(1, h.dampening), d)),
    );
    return { theta: step(h.nesterov ? add(d, mul(h.momentum, b)) : b), slots: { b } };
  },
});

/** `lars` whose local rates never exceed the learning rate. */
export const larc = {
  ...lars,
  name: 'larc',
  title: 'LARC',
  use: 'LARS in which no tensor’s rate exceeds the learning rate: for smaller batches, and without its long warm-up.',
  hyperparameters: { ...lars.hyperparameters, trustClip: { ...lars.hyperparameters.trustClip, default: true } },
} satisfies typeof lars;
