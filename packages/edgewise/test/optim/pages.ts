/** @file Rules that ask the most of the language: what they need must stay sayable. Each is checked against recorded trajectories. */

import {
  changeGradient,
  correction,
  decayCoefficient,
  decayRates,
  defineOptimizer,
  ema,
  flag,
  globalNorm,
  integer,
  learningRate,
  number,
  type OptimizerDefinition,
  type RuleSymbols,
  type Schema,
} from '../../src/optim/index.ts';
import {
  abs,
  add,
  div,
  equal,
  greater,
  logicalAnd,
  maximum,
  minimum,
  mod,
  mul,
  neg,
  pow,
  sqrt,
  square,
  sub,
  where,
} from '../../src/tensor/ops/elementwise.ts';
import { transpose } from '../../src/tensor/ops/layout.ts';
import { matmul } from '../../src/tensor/ops/matmul.ts';
import { norm, sum } from '../../src/tensor/ops/reduce.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

const page = { source: { title: 'test', authors: 'test', year: 2024 }, formula: 'test', use: 'test' };
const eps = (value: number) => number({ default: value, above: 0, doc: 'ε' });
const perTensor = (x: Tensor) => norm(x, { axes: [1, 2], keepDims: true });

/** Norms of tensors, after a global one. */
export const lamb = defineOptimizer({
  name: 'lamb',
  title: 'LAMB',
  ...page,
  family: 'layer-wise',
  hyperparameters: {
    lr: learningRate(1e-3),
    betas: decayRates([0.9, 0.999], 'β'),
    eps: eps(1e-6),
    weightDecay: decayCoefficient(0.01, 'λ'),
    maxGradNorm: number({ default: 1, min: 0, doc: 'G' }),
    biasCorrection: flag({ default: true, doc: 'corrected' }),
    alwaysAdapt: flag({ default: false, doc: 'adapt tensors without decay too' }),
  },
  slots: { m: { doc: 'm' }, v: { doc: 'v' } },
  update({ theta, grad, t, slots, h, is }) {
    const g = is('maxGradNorm', 0) ? grad : div(grad, maximum(div(globalNorm(grad), h.maxGradNorm), 1));
    const [beta1, beta2] = h.betas;
    const m = ema(beta1, slots.m, g);
    const v = ema(beta2, slots.v, square(g));
    const [c1, c2] = h.biasCorrection ? [correction(beta1, t), correction(beta2, t)] : [1, 1];
    const u = add(
      div(div(m, c1), add(div(sqrt(v), h.biasCorrection ? sqrt(correction(beta2, t)) : c2), h.eps)),
      mul(h.weightDecay, theta),
    );
    const [size, step] = [perTensor(theta), perTensor(u)];
    const ratio = where(logicalAnd(greater(size, 0), greater(step, 0)), div(size, step), 1);
    const q = h.alwaysAdapt ? ratio : where(greater(h.weightDecay, 0), ratio, 1);
    return { theta: sub(theta, mul(mul(h.lr, q), u)), slots: { m, v } };
  },
});

/** Scalars of state, sums over the model that decide the step, a start from the parameters, steps not taken. */
export const prodigy = defineOptimizer({
  name: 'prodigy',
  title: 'Prodigy',
  ...page,
  family: 'parameter-free',
  hyperparameters: {
    lr: learningRate(1),
    betas: decayRates([0.9, 0.999], 'β'),
    eps: eps(1e-8),
    weightDecay: decayCoefficient(0, 'λ'),
    d0: number({ default: 1e-6, above: 0, doc: 'd_0' }),
    dCoef: number({ default: 1, above: 0, doc: 'c' }),
  },
  slots: { m: { doc: 'm' }, v: { doc: 'v' }, s: { doc: 's' }, x0: { doc: 'start', init: () => 'theta' } },
  scalars: {
    d: { per: 'optimizer', doc: 'd', init: ({ d0 }) => d0 },
    dMax: { per: 'optimizer', doc: 'largest estimate', init: ({ d0 }) => d0 },
    r: { per: 'optimizer', doc: 'numerator' },
  },
  update({ theta, grad, slots, scalars: { d, dMax, r }, h }) {
    const [beta1, beta2] = h.betas;
    const beta3 = sqrt(beta2);
    const rate = mul(d, h.lr);
    const scale = mul(div(d, h.d0), rate);
    const numerator = mul(scale, sum(mul(grad, sub(slots.x0, theta))));
    const m = add(mul(beta1, slots.m), mul(mul(d, sub(1, beta1)), grad));
    const v = add(mul(beta2, slots.v), mul(mul(mul(d, d), sub(1, beta2)), square(grad)));
    const s = add(mul(beta3, slots.s), mul(scale, grad));
    const r1 = add(mul(beta3, r), numerator);
    const total = sum(abs(s));
    const estimate = div(mul(h.dCoef, r1), total);
    const first = where(equal(d, h.d0), maximum(d, estimate), d);
    const best = maximum(dMax, estimate);
    // Growth is not limited here: G = ∞.
    const next = where(greater(best, first), best, best);
    const decayed = mul(theta, sub(1, mul(h.weightDecay, rate)));
    return {
      theta: sub(decayed, mul(rate, div(m, add(sqrt(v), mul(next, h.eps))))),
      slots: { m, v, s },
      scalars: { d: next, dMax: best, r: r1 },
      refuse: [{ when: equal(total, 0), because: 'all gradients so far are zero' }],
      report: { d: next },
    };
  },
});

/** A product carried as state in float64. */
export const nadam = defineOptimizer({
  name: 'nadam',
  title: 'NAdam',
  ...page,
  family: 'adaptive moments',
  hyperparameters: {
    lr: learningRate(2e-3),
    betas: decayRates([0.9, 0.999], 'β'),
    eps: eps(1e-8),
    momentumDecay: number({ default: 4e-3, min: 0, doc: 'ψ' }),
  },
  slots: { m: { doc: 'm' }, v: { doc: 'v' } },
  scalars: { product: { per: 'tensor', doc: 'Π', init: () => 1 } },
  update({ theta, grad, t, slots, scalars, h }) {
    const [beta1, beta2] = h.betas;
    const mu = (step: Tensor) => mul(beta1, sub(1, mul(0.5, pow(0.96, mul(step, h.momentumDecay)))));
    const product = mul(scalars.product, mu(t));
    const ahead = mu(add(t, 1));
    const m = ema(beta1, slots.m, grad);
    const v = ema(beta2, slots.v, square(grad));
    const numerator = add(
      mul(div(sub(1, mu(t)), sub(1, product)), grad),
      mul(div(ahead, sub(1, mul(product, ahead))), m),
    );
    return {
      theta: sub(theta, mul(h.lr, div(numerator, add(sqrt(div(v, correction(beta2, t))), h.eps)))),
      slots: { m, v },
      scalars: { product },
    };
  },
});

/** A step along the heavy-ball direction no longer than c, or of length lr: a global norm of something the step computes. */
const directionRule = (normalized: boolean) =>
  defineOptimizer({
    name: normalized ? 'sgd_normalized' : 'sgd_clip',
    title: 'clipped update',
    ...page,
    family: 'gradient descent',
    hyperparameters: {
      lr: learningRate(0.1),
      momentum: number({ default: 0, min: 0, below: 1, doc: 'μ' }),
      dampening: number({ default: 0, min: 0, max: 1, doc: 'τ' }),
      nesterov: flag({ default: false, doc: 'Nesterov' }),
      c: number({ default: 1, above: 0, doc: 'c' }),
    },
    slots: { b: { doc: 'b', when: ({ momentum }) => momentum > 0 } },
    update({ theta, grad, t, slots, h, is }) {
      const b = is('momentum', 0)
        ? grad
        : where(equal(t, 1), grad, add(mul(h.momentum, slots.b), mul(sub(1, h.dampening), grad)));
      const d = h.nesterov ? add(grad, mul(h.momentum, b)) : b;
      const length = add(globalNorm(d), 1e-10);
      const rate = normalized ? div(h.lr, length) : minimum(h.lr, div(h.c, length));
      return { theta: sub(theta, mul(rate, d)), slots: is('momentum', 0) ? {} : { b } };
    },
  });
export const sgdClip = directionRule(false);
export const sgdNormalized = directionRule(true);

/** Two gradients of one batch in a step, inner products over the model. */
export const stepTuned = defineOptimizer({
  name: 'step_tuned_sgd',
  title: 'Step-Tuned SGD',
  ...page,
  family: 'two evaluations',
  hyperparameters: {
    lr: learningRate(0.1, 'α'),
    nu: number({ default: 2, above: 0, doc: 'ν' }),
    beta: number({ default: 0.9, min: 0, below: 1, doc: 'β' }),
    low: number({ default: 0.5, above: 0, doc: 'm̃' }),
    high: number({ default: 2, above: 0, doc: 'M̃' }),
    exponent: number({ default: 0.501, above: 0, doc: '1/2 + δ' }),
  },
  slots: { first: { doc: 'first gradient' }, average: { doc: 'G' } },
  scalars: { gamma: { per: 'optimizer', doc: 'γ', init: () => 1 } },
  counter: 'optimizer',
  phases: [
    {
      evaluate: 'loss',
      update: ({ theta, grad, t, scalars, h }) => ({
        theta: sub(theta, mul(rateOf(t, scalars.gamma, h), grad)),
        slots: { first: grad },
      }),
      undo: ({ theta, t, slots, scalars, h }) => ({ theta: add(theta, mul(rateOf(t, scalars.gamma, h), slots.first)) }),
    },
    {
      evaluate: 'loss',
      update({ theta, grad, t, slots, scalars, h }) {
        const rate = rateOf(t, scalars.gamma, h);
        const moved = neg(mul(rate, slots.first));
        const average = ema(h.beta, slots.average, sub(grad, slots.first));
        const curvature = div(sum(mul(average, moved)), correction(h.beta, t));
        const gamma = where(greater(curvature, 0), div(sum(square(moved)), curvature), h.nu);
        return {
          theta: sub(theta, mul(rate, grad)),
          slots: { average },
          scalars: { gamma: minimum(maximum(gamma, h.low), h.high) },
        };
      },
    },
  ],
});

function rateOf(t: Tensor, gamma: Tensor, h: { readonly lr: Tensor; readonly exponent: Tensor }): Tensor {
  return div(mul(h.lr, gamma), pow(t, h.exponent));
}

/** Any rule at the point the worst direction leads to. */
export function sam(base: OptimizerDefinition, adaptive: boolean): OptimizerDefinition {
  return {
    ...base,
    name: `sam+${base.name}`,
    hyperparameters: { ...base.hyperparameters, rho: number({ default: 0.05, above: 0, doc: 'ρ' }) },
    slots: { ...base.slots, saved: { doc: 'parameters before the ascent' } },
    phases: [
      {
        evaluate: 'loss',
        update({ theta, grad, h }) {
          const scale = adaptive ? square(theta) : 1;
          const weighted = adaptive ? mul(abs(theta), grad) : grad;
          const rho: unknown = h.rho;
          const factor = div(rho as Tensor, add(globalNorm(weighted), 1e-12));
          return { theta: add(theta, mul(factor, adaptive ? mul(scale, grad) : grad)), slots: { saved: theta } };
        },
        undo: ({ slots }) => ({ theta: slots.saved }),
      },
      ...base.phases.map((phase, i) => {
        if (i > 0) return phase;
        const update = (s: RuleSymbols<Schema, string, string>) => ({
          theta: s.slots.saved,
          ...phase.update({ ...s, theta: s.slots.saved }),
        });
        return { ...phase, update };
      }),
    ],
  };
}

/** A slow copy that every k-th step moves towards the parameters and takes their place. */
export function lookahead(base: OptimizerDefinition, reset: readonly string[] = []): OptimizerDefinition {
  return {
    ...base,
    name: `lookahead+${base.name}`,
    hyperparameters: {
      ...base.hyperparameters,
      k: integer({ default: 5, min: 1, doc: 'k' }),
      alpha: number({ default: 0.8, above: 0, max: 1, doc: 'α' }),
    },
    slots: { ...base.slots, slow: { doc: 'slow weights', init: () => 'theta' } },
    phases: [
      ...base.phases,
      {
        when: ({ step, h }) => equal(mod(step, numberOf(h.k)), 0),
        update({ theta, slots, h }) {
          const slow = add(slots.slow, mul(numberOf(h.alpha), sub(theta, slots.slow)));
          return { theta: slow, slots: { slow, ...Object.fromEntries(reset.map((name) => [name, 0])) } };
        },
      },
    ],
  };
}

const numberOf = (x: unknown): Tensor => x as Tensor;

/** Gradients without their mean over each row, for tensors of rank 2 and more. */
export const centralized = (base: OptimizerDefinition): OptimizerDefinition =>
  changeGradient(base, 'centralize', number({ default: 1, doc: 'strength' }), ({ grad, rank, columns }, strength) => ({
    grad: where(greater(rank, 1), sub(grad, mul(strength, div(sum(grad, { axes: 2, keepDims: true }), columns))), grad),
  }));

/** Matrix products for matrices, Adam for the rest. */
export const muon = defineOptimizer({
  name: 'muon',
  title: 'Muon',
  ...page,
  family: 'matrix',
  hyperparameters: {
    lr: learningRate(0.02),
    momentum: number({ default: 0.95, min: 0, below: 1, doc: 'μ' }),
    weightDecay: decayCoefficient(0, 'λ'),
    betas: decayRates([0.9, 0.95], 'β of the rest'),
    eps: eps(1e-10),
  },
  slots: { b: { doc: 'momentum' }, v: { doc: 'second moment of the rest' } },
  phases: [
    {
      evaluate: 'loss',
      over: 'tensors',
      update({ theta, grad, slots, h }) {
        const [rows, columns] = theta.shape;
        const b = ema(h.momentum, slots.b, grad);
        let x = add(mul(sub(1, h.momentum), grad), mul(h.momentum, b));
        if (rows > columns) x = transpose(x);
        x = div(x, add(norm(x), 1e-7));
        for (let i = 0; i < 5; i++) {
          const a = matmul(x, x, { transposeB: true });
          x = add(mul(x, 3.4445), matmul(add(mul(a, -4.775), mul(matmul(a, a), 2.0315)), x));
        }
        if (rows > columns) x = transpose(x);
        const scale = Math.sqrt(Math.max(1, rows / columns));
        return { theta: sub(mul(sub(1, mul(h.lr, h.weightDecay)), theta), mul(mul(h.lr, scale), x)), slots: { b } };
      },
    },
    {
      only: ({ shape }) => shape.length < 2,
      update({ theta, grad, t, slots, h }) {
        const [beta1, beta2] = h.betas;
        const b = ema(beta1, slots.b, grad);
        const v = ema(beta2, slots.v, square(grad));
        const u = div(div(b, correction(beta1, t)), add(sqrt(div(v, correction(beta2, t))), h.eps));
        return { theta: sub(mul(sub(1, mul(h.lr, h.weightDecay)), theta), mul(h.lr, u)), slots: { b, v } };
      },
    },
  ],
});
