/**
 * @file D-Adaptation and Prodigy: learning rates from an estimate of the distance to a solution.
 *
 * A. Defazio, K. Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023, arXiv 2301.07733; K. Mishchenko, A. Defazio,
 * "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", 2023, arXiv 2306.06101. Rules of the authors' code.
 */
import {
  abs,
  add,
  div,
  equal,
  less,
  maximum,
  minimum,
  mul,
  sqrt,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { sum } from '../../tensor/ops/reduce.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer, type Refusal, type Source } from '../definition.ts';
import { decayCoefficient, decayRate, decayRates, flag, learningRate, number, stabiliser } from '../hyperparameters.ts';
import { correction, ema, globalNorm, refuseUnlessFinite } from '../math.ts';

const dadaptation: Source = {
  title: 'Learning-Rate-Free Learning by D-Adaptation',
  authors: 'Defazio, Mishchenko',
  year: 2023,
  arxiv: '2301.07733',
  reference: 'github.com/facebookresearch/dadaptation, commit c984980',
};

const lr = { ...learningRate(1, 'Factor η on the estimated rate; 1, times any schedule.'), search: undefined };
const d0 = number({
  default: 1e-6,
  above: 0,
  doc: 'First estimate d_0 of the distance to a solution; small, since it only grows.',
  search: { low: 1e-8, high: 1e-2, scale: 'log' },
});
/** Stands for a growth without limit. */
const UNLIMITED = 1e30;
const growthRate = number({
  default: UNLIMITED,
  min: 1,
  doc: 'Largest factor G by which the estimate may grow in a step; without limit by default, 1.02 acts as a warm-up.',
});
const eps = stabiliser(1e-8, 'Stabiliser ε, added to the root of the second moment.');
const betas = decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of their squares.');
const decouple = (value: boolean) =>
  flag({ default: value, doc: 'Multiply weights by 1 - λ times the rate, instead of adding λθ to the gradient.' });
const biasCorrection = flag({ default: false, doc: 'Correct the rate for the start of the averages, as Adam does.' });

/** An estimate in force: the first one before any step, so that it may be set until then. */
const startingAt = (d0: Tensor, t: Tensor, estimate: Tensor): Tensor => where(equal(t, 1), d0, estimate);

const notStarted = (total: Tensor): Refusal => ({
  when: equal(total, 0),
  because: 'all gradients so far are zero, so there is no estimate to start from',
});

export const dadaptAdam = defineOptimizer({
  name: 'dadaptAdam',
  title: 'D-Adaptation Adam',
  source: dadaptation,
  family: 'parameter-free',
  formula: `
κ = d η                                          times √(1 - β2^t) / (1 - β1^t) with biasCorrection
r = √β2 r + (1 - √β2) Σ κ <g, s / (√v + ε)>      s, v of before
m = β1 m + κ (1 - β1) g
v = β2 v + (1 - β2) g²
s = √β2 s + (1 - √β2) κ g
d = max(d, min(r / ((1 - √β2) ‖s‖₁), G d))
θ = (1 - λ κ) θ - m / (√v + ε)
`,
  use: 'Adam without a rate to tune: leave η at 1 and give it any schedule. All parameters share one estimate.',
  decay: 'coupled',
  batchScaling: 'none',
  hyperparameters: {
    lr,
    betas,
    eps,
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ; how it acts is said by `decouple`.'),
    d0,
    growthRate,
    decouple: decouple(false),
    biasCorrection,
  },
  slots: {
    m: { doc: 'average of gradients times rates' },
    v: { doc: 'average of squared gradients' },
    s: { doc: 'average of gradients times rates, slower' },
  },
  scalars: {
    d: { per: 'optimizer', doc: 'estimate of the distance; d_0 until the first step' },
    r: { per: 'optimizer', doc: 'numerator of the estimate' },
  },
  counter: 'optimizer',
  restart: { slots: ['m', 'v', 's'], scalars: ['d', 'r'] },
  update({ theta, grad, t, slots, scalars, h, is }) {
    const [beta1, beta2] = h.betas;
    const before = startingAt(h.d0, t, scalars.d);
    const sigma = sqrt(beta2);
    const g = h.decouple || is('weightDecay', 0) ? grad : add(grad, mul(h.weightDecay, theta));
    const base = mul(before, h.lr);
    const rate = h.biasCorrection ? mul(base, div(sqrt(correction(beta2, t)), correction(beta1, t))) : base;
    const numerator = mul(rate, sum(mul(g, div(slots.s, add(sqrt(slots.v), h.eps)))));
    const m = add(mul(beta1, slots.m), mul(mul(rate, sub(1, beta1)), g));
    const v = ema(beta2, slots.v, square(g));
    const s = add(mul(sigma, slots.s), mul(mul(sub(1, sigma), rate), g));
    const r = ema(sigma, scalars.r, numerator);
    const total = sum(abs(s));
    const estimate = div(r, mul(sub(1, sigma), total));
    const d = maximum(before, minimum(estimate, mul(h.growthRate, before)));
    const from = h.decouple && !is('weightDecay', 0) ? mul(theta, sub(1, mul(h.weightDecay, rate))) : theta;
    return {
      theta: sub(from, div(m, add(sqrt(v), h.eps))),
      slots: { m, v, s },
      scalars: { d, r },
      refuse: [refuseUnlessFinite(total), notStarted(total)],
      report: { d },
    };
  },
});

export const dadaptSgd = defineOptimizer({
  name: 'dadaptSgd',
  title: 'D-Adaptation SGD',
  source: dadaptation,
  family: 'parameter-free',
  formula: `
g = g + λ θ
κ = d η / ‖g_1‖                                  g_1 without the decay
r = r + κ <g, s>;   s = s + κ g
d = max(d, min(2 r / ‖s‖, G d))
θ = μ θ + (1 - μ) (θ_1 - s)
`,
  use: 'SGD without a rate to tune: leave η at 1 and give it any schedule. Keeps the starting point.',
  decay: 'coupled',
  batchScaling: 'none',
  hyperparameters: {
    lr,
    momentum: decayRate(0, 'Momentum μ: weight of the old point.'),
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
    d0,
    growthRate,
  },
  slots: {
    start: { doc: 'parameters before the first step', init: () => 'theta' },
    s: { doc: 'sum of gradients times rates' },
  },
  scalars: {
    d: { per: 'optimizer', doc: 'estimate of the distance; d_0 until the first step' },
    r: { per: 'optimizer', doc: 'numerator of the estimate' },
    first: { per: 'optimizer', doc: 'norm of the first gradient' },
  },
  counter: 'optimizer',
  restart: { slots: ['start', 's'], scalars: ['d', 'r', 'first'] },
  update({ theta, grad, t, slots, scalars, h, is }) {
    const g = is('weightDecay', 0) ? grad : add(grad, mul(h.weightDecay, theta));
    const first = where(equal(t, 1), globalNorm(grad), scalars.first);
    const before = startingAt(h.d0, t, scalars.d);
    const rate = div(mul(before, h.lr), first);
    const r = add(scalars.r, mul(rate, sum(mul(g, slots.s))));
    const s = add(slots.s, mul(rate, g));
    const length = globalNorm(s);
    const d = maximum(before, minimum(div(mul(2, r), length), mul(h.growthRate, before)));
    const z = sub(slots.start, s);
    return {
      theta: is('momentum', 0) ? z : ema(h.momentum, theta, z),
      slots: { s },
      scalars: { d, r, first },
      refuse: [
        refuseUnlessFinite(globalNorm(grad)),
        notStarted(length),
        { when: less(first, 1e-30), because: 'the first gradient is too small to divide by' },
      ],
      report: { d },
    };
  },
});

export const prodigy = defineOptimizer({
  name: 'prodigy',
  title: 'Prodigy',
  source: {
    title: 'Prodigy: An Expeditiously Adaptive Parameter-Free Learner',
    authors: 'Mishchenko, Defazio',
    year: 2023,
    arxiv: '2306.06101',
    reference: 'github.com/konstmish/prodigy prodigy_reference.py, commit 3efb213',
  },
  family: 'parameter-free',
  formula: `
κ  = d η                                         times √(1 - β2^t) / (1 - β1^t) with biasCorrection
r  = √β2 r + Σ (d / d_0) κ <g, θ_1 - θ>
m  = β1 m + d (1 - β1) g
v  = β2 v + d² (1 - β2) g²
s  = √β2 s + (d / d_0) κ g                       (d / d_0) d g with safeguardWarmup
d̂  = c r / ‖s‖₁
d' = max(d, d̂) if d = d_0, else d;   d_max = max(d_max, d̂);   d' = min(d_max, G d')
θ  = (1 - λ κ) θ - κ m / (√v + d' ε)             κ from the old d
d  = d'
`,
  use: 'Adam without a rate to tune, faster to find it than D-Adaptation: leave η at 1, give it a cosine. With a warm-up set `safeguardWarmup`.',
  decay: 'decoupled',
  batchScaling: 'none',
  hyperparameters: {
    lr,
    betas,
    eps,
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ; how it acts is said by `decouple`.'),
    d0,
    dCoef: number({
      default: 1,
      above: 0,
      doc: 'Coefficient c on the estimate: the way to ask for larger or smaller rates.',
      search: { low: 0.1, high: 10, scale: 'log' },
    }),
    growthRate,
    decouple: decouple(true),
    biasCorrection,
    safeguardWarmup: flag({
      default: false,
      doc: 'Keep the schedule out of the denominator, so that a warm-up does not inflate the estimate.',
    }),
  },
  slots: {
    m: { doc: 'average of gradients' },
    v: { doc: 'average of squared gradients' },
    s: { doc: 'weighted sum of gradients, fading' },
    start: { doc: 'parameters before the first step', init: () => 'theta' },
  },
  scalars: {
    d: { per: 'optimizer', doc: 'estimate of the distance; d_0 until the first step' },
    dMax: { per: 'optimizer', doc: 'largest raw estimate; d_0 until the first step' },
    r: { per: 'optimizer', doc: 'numerator of the estimate' },
  },
  counter: 'optimizer',
  restart: { slots: ['m', 'v', 's', 'start'], scalars: ['d', 'dMax', 'r'] },
  update({ theta, grad, t, slots, scalars, h, is }) {
    const { r } = scalars;
    const d = startingAt(h.d0, t, scalars.d);
    const dMax = startingAt(h.d0, t, scalars.dMax);
    const [beta1, beta2] = h.betas;
    const beta3 = sqrt(beta2);
    const g = h.decouple || is('weightDecay', 0) ? grad : add(grad, mul(h.weightDecay, theta));
    const base = mul(d, h.lr);
    const rate = h.biasCorrection ? mul(base, div(sqrt(correction(beta2, t)), correction(beta1, t))) : base;
    const relative = div(d, h.d0);
    const numerator = mul(mul(relative, rate), sum(mul(g, sub(slots.start, theta))));
    const m = add(mul(beta1, slots.m), mul(mul(d, sub(1, beta1)), g));
    const v = add(mul(beta2, slots.v), mul(mul(mul(d, d), sub(1, beta2)), square(g)));
    const s = add(mul(beta3, slots.s), mul(mul(relative, h.safeguardWarmup ? d : rate), g));
    const next = add(mul(beta3, r), numerator);
    const total = sum(abs(s));
    const estimate = div(mul(h.dCoef, next), total);
    const first = where(equal(d, h.d0), maximum(d, estimate), d);
    const largest = maximum(dMax, estimate);
    const after = minimum(largest, mul(h.growthRate, first));
    const from = h.decouple && !is('weightDecay', 0) ? mul(theta, sub(1, mul(h.weightDecay, rate))) : theta;
    return {
      theta: sub(from, mul(rate, div(m, add(sqrt(v), mul(after, h.eps))))),
      slots: { m, v, s },
      scalars: { d: after, dMax: largest, r: next },
      refuse: [refuseUnlessFinite(total), notStarted(total)],
      report: { d: after },
    };
  },
});
