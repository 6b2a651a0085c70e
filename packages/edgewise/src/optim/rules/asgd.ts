/**
 * @file ASGD: stochastic gradient descent with a decaying rate whose iterates are averaged.
 *
 * B. Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 1992. Rule of `torch.optim.ASGD`.
 */
import { add, div, equal, maximum, mul, pow, sub, where } from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, integer, learningRate, number } from '../hyperparameters.ts';
import { withPenalty } from '../math.ts';

export const asgd = defineOptimizer({
  name: 'asgd',
  aliases: ['averagedSgd'],
  title: 'Averaged SGD',
  source: {
    title: 'Acceleration of Stochastic Approximation by Averaging',
    authors: 'Polyak, Juditsky',
    year: 1992,
    reference: 'torch.optim.ASGD, PyTorch 1.13',
  },
  family: 'averaging',
  formula: `
g   = g + λ θ
η_t = η / (1 + λ_a η (t - 1))^α                  η at the first step
θ   = (1 - λ_a η_t) θ - η_t g
a   = a + (θ - a) / max(1, t - 1 - t_0)          evaluated
`,
  use: 'Convex problems and the end of training: the average is evaluated. For networks rather put the wrapper `average` around sgd or adamw.',
  decay: 'coupled',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(1e-2),
    lambd: number({ default: 1e-4, min: 0, doc: 'Decay term λ_a, of the rate and of the weights.' }),
    alpha: number({ default: 0.75, min: 0, doc: 'Exponent α of the decay of the rate.' }),
    t0: integer({
      default: 1_000_000,
      min: 0,
      unit: 'steps',
      doc: 'Steps before averaging begins; the last iterate until then.',
    }),
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
  },
  slots: { a: { doc: 'average of iterates', init: () => 'theta' } },
  restart: { slots: ['a'], scalars: [] },
  evaluated: ({ slots }) => slots.a,
  update(s) {
    const { theta, grad, t, slots, h } = s;
    const g = withPenalty(grad, s);
    const rate = div(h.lr, pow(add(1, mul(mul(h.lambd, h.lr), sub(t, 1))), h.alpha));
    const next = sub(mul(sub(1, mul(h.lambd, rate)), theta), mul(rate, g));
    const weight = div(1, maximum(1, sub(sub(t, 1), h.t0)));
    return { theta: next, slots: { a: where(equal(weight, 1), next, add(slots.a, mul(weight, sub(next, slots.a)))) } };
  },
});
