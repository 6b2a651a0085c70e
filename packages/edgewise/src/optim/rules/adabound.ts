/**
 * @file AdaBound, AMSBound and AdaBoundW: Adam whose element-wise learning rates are clamped ever closer to one final rate.
 *
 * L. Luo, Y. Xiong, Y. Liu, X. Sun, "Adaptive Gradient Methods with Dynamic Bound of Learning Rate", ICLR 2019, arXiv 1902.09843.
 * Rules of the authors' code.
 */
import { add, div, greater, maximum, minimum, mul, sqrt, square, sub, where } from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer, type RuleSymbols, type Source } from '../definition.ts';
import { decayCoefficient, decayRates, flag, learningRate, number, stabiliser } from '../hyperparameters.ts';
import { correction, ema, shrunk, withPenalty } from '../math.ts';

const source: Source = {
  title: 'Adaptive Gradient Methods with Dynamic Bound of Learning Rate',
  authors: 'Luo, Xiong, Liu, Sun',
  year: 2019,
  arxiv: '1902.09843',
  reference: 'github.com/Luolc/AdaBound adabound.py, commit 2e928c3',
};
const hyperparameters = (weightDecay: ReturnType<typeof decayCoefficient>) =>
  ({
    lr: learningRate(1e-3),
    betas: decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of their squares.'),
    eps: stabiliser(1e-8, 'Stabiliser ε, added to the root of the second moment before the clamp.'),
    weightDecay,
    finalLr: number({
      default: 0.1,
      above: 0,
      doc: "Rate f that all element-wise rates approach; follows the schedule, and a group's factor, in proportion to the learning rate.",
      search: { low: 0.003, high: 1, scale: 'log' },
    }),
    gamma: number({
      default: 1e-3,
      above: 0,
      unit: '1/step',
      doc: 'Speed γ at which the bounds close in: after 1/γ steps the lower one is half of the final rate.',
      search: { low: 1e-4, high: 1e-1, scale: 'log' },
    }),
    amsbound: flag({
      default: false,
      doc: 'Use the largest second moment so far (AMSBound) instead of the current one.',
    }),
  }) as const;
type BoundSchema = ReturnType<typeof hyperparameters>;

const page = {
  source,
  family: 'adaptive moments' as const,
  slots: {
    m: { doc: 'average of gradients' },
    v: { doc: 'average of squared gradients' },
    w: { doc: 'largest v so far', when: ({ amsbound }: { readonly amsbound: boolean }) => amsbound },
  },
  restart: { slots: ['m', 'v', 'w'] as const, scalars: [] },
};
const rule = `
m  = β1 m + (1 - β1) g
v  = β2 v + (1 - β2) g²
w  = max(w, v)                                   amsbound: takes the place of v below
f  = f_final η / η_0
lo = f (1 - 1 / (γ t + 1));   hi = f (1 + 1 / (γ t))
a  = clamp(η √(1 - β2^t) / (1 - β1^t) / (√v + ε), lo, hi)`;

function bounded(
  g: Tensor,
  {
    t,
    slots,
    h,
    baseLr,
    lrScale,
  }: Pick<RuleSymbols<BoundSchema, 'm' | 'v' | 'w', never>, 't' | 'slots' | 'h' | 'baseLr' | 'lrScale'>,
) {
  const [beta1, beta2] = h.betas;
  const m = ema(beta1, slots.m, g);
  const v = ema(beta2, slots.v, square(g));
  const w = h.amsbound ? maximum(slots.w, v) : undefined;
  // A group's factor is in both rates, and is 0 where it is frozen.
  const final = where(greater(h.lr, 0), mul(mul(h.finalLr, lrScale), div(h.lr, baseLr)), 0);
  const low = mul(final, sub(1, div(1, add(mul(h.gamma, t), 1))));
  const high = mul(final, add(1, div(1, mul(h.gamma, t))));
  const rate = div(mul(h.lr, sqrt(correction(beta2, t))), correction(beta1, t));
  const own = minimum(maximum(div(rate, add(sqrt(w ?? v), h.eps)), low), high);
  return { step: mul(own, m), slots: w ? { m, v, w } : { m, v } };
}

export const adabound = defineOptimizer({
  ...page,
  name: 'adabound',
  title: 'AdaBound',
  formula: `\ng  = g + λ θ${rule}\nθ  = θ - a m\n`,
  use: "A start like Adam and an end like SGD: the element-wise rates close in on `finalLr`, which is tuned as SGD's rate would be.",
  decay: 'coupled',
  hyperparameters: hyperparameters(
    decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
  ),
  update(s) {
    const { step, slots } = bounded(withPenalty(s.grad, s), s);
    return { theta: sub(s.theta, step), slots };
  },
});

/** `adabound` with the largest second moment, by its own name. */
export const amsbound = {
  ...adabound,
  name: 'amsbound',
  title: 'AMSBound',
  use: 'AdaBound whose denominators never shrink.',
  hyperparameters: {
    ...adabound.hyperparameters,
    amsbound: { ...adabound.hyperparameters.amsbound, default: true },
  },
} satisfies typeof adabound;

export const adaboundw = defineOptimizer({
  ...page,
  name: 'adaboundw',
  title: 'AdaBoundW',
  formula: `${rule}\nθ  = (1 - η λ) θ - a m                           (1 - λ) θ - a m  with plain decay\n`,
  use: 'AdaBound with decoupled decay.',
  decay: 'decoupled',
  hyperparameters: {
    ...hyperparameters(decayCoefficient(0, 'Weight-decay coefficient λ: weights are multiplied by 1 - ηλ.')),
    plainDecay: flag({
      default: false,
      doc: "Multiply weights by 1 - λ, whatever the learning rate, as the authors' package does.",
    }),
  },
  update(s) {
    const { step, slots } = bounded(s.grad, s);
    const from = s.h.plainDecay ? mul(sub(1, s.h.weightDecay), s.theta) : shrunk(s);
    return { theta: sub(from, step), slots };
  },
});
