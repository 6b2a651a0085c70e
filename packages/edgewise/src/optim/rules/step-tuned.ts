/**
 * @file Step-Tuned SGD: a step size from the curvature along the last half step, by two gradients of the same batch.
 *
 * C. Castera, J. Bolte, C. Févotte, E. Pauwels, "Second-order step-size tuning of SGD for non-convex optimization", Neural Processing
 * Letters 2022, arXiv 2103.03570.
 */
import { ConfigError } from '../../base/errors.ts';
import {
  add,
  div,
  greater,
  maximum,
  minimum,
  mul,
  neg,
  pow,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { sum } from '../../tensor/ops/reduce.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer } from '../definition.ts';
import { decayRate, learningRate, number } from '../hyperparameters.ts';
import { correction, ema, refuseUnlessFinite } from '../math.ts';

/** The step size of both halves of step t. */
const rateOf = (t: Tensor, gamma: Tensor, h: { readonly lr: Tensor; readonly delta: Tensor }): Tensor =>
  div(mul(h.lr, gamma), pow(t, add(0.5, h.delta)));

export const stepTunedSgd = defineOptimizer({
  name: 'stepTunedSgd',
  title: 'Step-Tuned SGD',
  source: {
    title: 'Second-order step-size tuning of SGD for non-convex optimization',
    authors: 'Castera, Bolte, Févotte, Pauwels',
    year: 2022,
    arxiv: '2103.03570',
    reference: 'a third-party implementation, commit 10ccb20, that agrees with an independent transcription',
  },
  family: 'two evaluations',
  formula: `
a  = α γ / t^(1/2 + δ)
θ' = θ  - a g(θ)                                 both gradients of the same batch
θ  = θ' - a g(θ')
Δθ = -a g(θ);   Δg = g(θ') - g(θ)
G  = β G + (1 - β) Δg;   c = <G / (1 - β^t), Δθ>
γ  = ‖Δθ‖² / c  if c > 0, else ν;   γ = min(max(γ, γ_min), γ_max)
`,
  use: 'SGD that reads curvature off a second gradient of the batch. Only α is tuned; with the default bounds γ changes the step by a factor of at most 4. Twice the gradients a step.',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(0.1, 'Base step size α, before the schedule; the rule decays it by itself.'),
    nu: number({ default: 2, above: 0, doc: 'Multiplier ν where the curvature along the step is not positive.' }),
    beta: decayRate(0.9, 'Decay rate β of the average of gradient differences.'),
    gammaMin: number({ default: 0.5, above: 0, doc: 'Least multiplier of the step size.' }),
    gammaMax: number({ default: 2, above: 0, doc: 'Largest multiplier of the step size.' }),
    delta: number({ default: 0.001, min: -0.5, doc: 'Excess δ of the exponent of t over one half.' }),
  },
  slots: { first: { doc: 'gradient at the start of the step' }, average: { doc: 'average of gradient differences' } },
  scalars: { gamma: { per: 'optimizer', doc: 'multiplier of the step size', init: () => 1 } },
  counter: 'optimizer',
  restart: { slots: ['average'], scalars: ['gamma'] },
  check({ gammaMin, gammaMax }) {
    if (gammaMin > gammaMax)
      throw new ConfigError(`stepTunedSgd: gammaMin ${gammaMin} is above gammaMax ${gammaMax}; swap them.`);
  },
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
        const length2 = sum(square(moved));
        const gamma = where(greater(curvature, 0), div(length2, curvature), h.nu);
        const next = minimum(maximum(gamma, h.gammaMin), h.gammaMax);
        return {
          theta: sub(theta, mul(rate, grad)),
          slots: { average },
          scalars: { gamma: next },
          refuse: [refuseUnlessFinite(add(length2, curvature))],
          report: { gamma: next },
        };
      },
    },
  ],
});
