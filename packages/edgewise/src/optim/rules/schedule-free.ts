/**
 * @file Schedule-Free SGD and AdamW: an average that replaces the decay of the learning rate.
 *
 * A. Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv 2405.15682. Rules of the authors' reference classes.
 */
import {
  add,
  div,
  greater,
  maximum,
  minimum,
  mul,
  pow,
  sqrt,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer, type RuleSymbols, type Source } from '../definition.ts';
import {
  choice,
  decayCoefficient,
  decayRate,
  integer,
  learningRate,
  number,
  type Schema,
  stabiliser,
} from '../hyperparameters.ts';
import { correction, ema } from '../math.ts';

const source: Source = {
  title: 'The Road Less Scheduled',
  authors: 'Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky',
  year: 2024,
  arxiv: '2405.15682',
  reference: 'github.com/facebookresearch/schedule_free reference classes, commit 70785b5',
};

const shared = {
  warmupSteps: integer({
    default: 0,
    min: 0,
    unit: 'steps',
    doc: 'Steps W over which the rate rises linearly; part of the rule, beside any schedule.',
  }),
  weightPower: number({ default: 2, min: 0, doc: 'Power p of the largest rate so far in the weights of the average.' }),
  stepPower: number({ default: 0, min: 0, doc: 'Power r of the step number in the weights of the average.' }),
  decayAt: choice({
    choices: ['y', 'z'],
    default: 'y',
    doc: 'Where weight decay acts: at the trained point or at the base sequence.',
  }),
} satisfies Schema;

const page = {
  source,
  family: 'averaging' as const,
  scalars: {
    largest: { per: 'tensor' as const, doc: 'largest rate so far' },
    total: { per: 'tensor' as const, doc: 'sum of the weights of the average' },
  },
  counter: 'optimizer' as const,
};

const averaging = `
η_t = η min(1, t / W);   h = max(h, η_t);   w = t^r h^p;   c = w / Σ w
g at the trained point y`;
const points = `
x = (1 - c) x + c z                              evaluated
y = β x + (1 - β) z
`;

type Averaging = Pick<
  RuleSymbols<typeof shared & { lr: ReturnType<typeof learningRate> }, string, 'largest' | 'total'>,
  't' | 'scalars' | 'h' | 'is'
>;

/** The rate after warm-up, and the weight of this step's z in the average. */
function weights({ t, scalars, h, is }: Averaging) {
  const rate = is('warmupSteps', 0) ? h.lr : mul(h.lr, minimum(1, div(t, h.warmupSteps)));
  const largest = maximum(scalars.largest, rate);
  const weight = mul(pow(t, h.stepPower), pow(largest, h.weightPower));
  const total = add(scalars.total, weight);
  // While every rate so far was 0 there is no weight.
  return { rate, weight: where(greater(total, 0), div(weight, total), 0), scalars: { largest, total } };
}

/** x from y and z, with the interpolation β. */
const averageOf = (y: Tensor, z: Tensor, beta: Tensor): Tensor => div(sub(y, mul(sub(1, beta), z)), beta);

export const scheduleFreeSgd = defineOptimizer({
  ...page,
  name: 'scheduleFreeSgd',
  title: 'Schedule-Free SGD',
  formula: `${averaging}
z = z - η_t (g + λ y)                            λ z with decay at z${points}`,
  use: "No schedule and no number of steps to know: a constant rate, 10 to 50 times SGD's, with a warm-up. Evaluated at the average.",
  decay: 'coupled',
  batchScaling: 'linear',
  hyperparameters: {
    lr: learningRate(1),
    momentum: {
      ...decayRate(0.9, 'Interpolation β between the average and the base sequence.'),
      min: undefined,
      above: 0,
    },
    weightDecay: decayCoefficient(0, 'Coefficient λ: λ times the weights is added to the gradient.'),
    ...shared,
  },
  slots: { z: { doc: 'base sequence', init: () => 'theta' } },
  restart: { slots: ['z'], scalars: ['largest', 'total'] },
  evaluated: ({ theta, slots, h }) => averageOf(theta, slots.z, h.momentum),
  update(s) {
    const { theta, grad, slots, h, is } = s;
    const { rate, weight, scalars } = weights(s);
    const decayed = is('weightDecay', 0) ? grad : add(grad, mul(h.weightDecay, h.decayAt === 'y' ? theta : slots.z));
    const z = sub(slots.z, mul(rate, decayed));
    const before = averageOf(theta, slots.z, h.momentum);
    const x = add(before, mul(weight, sub(z, before)));
    return { theta: ema(h.momentum, x, z), slots: { z }, scalars };
  },
});

export const scheduleFreeAdamw = defineOptimizer({
  ...page,
  name: 'scheduleFreeAdamw',
  title: 'Schedule-Free AdamW',
  formula: `${averaging}
v = β2 v + (1 - β2) g²
z = z - η_t λ y - η_t g / (√(v / (1 - β2^t)) + ε)        λ z with decay at z${points}`,
  use: "AdamW without a schedule: a constant rate, 1 to 10 times AdamW's, with a warm-up. Evaluated at the average.",
  decay: 'decoupled',
  hyperparameters: {
    lr: learningRate(2.5e-3),
    betas: {
      kind: 'numbers',
      default: [0.9, 0.999],
      above: 0,
      below: 1,
      doc: 'Interpolation β between the average and the base sequence, and decay rate of the average of squared gradients.',
    },
    eps: stabiliser(1e-8, 'Stabiliser ε, added to the root of the corrected second moment.'),
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ, times the rate in force.'),
    ...shared,
  },
  slots: { z: { doc: 'base sequence', init: () => 'theta' }, v: { doc: 'average of squared gradients' } },
  restart: { slots: ['z', 'v'], scalars: ['largest', 'total'] },
  evaluated: ({ theta, slots, h }) => averageOf(theta, slots.z, h.betas[0]),
  update(s) {
    const { theta, grad, t, slots, h, is } = s;
    const [beta, beta2] = h.betas;
    const { rate, weight, scalars } = weights(s);
    const v = ema(beta2, slots.v, square(grad));
    const scaled = div(grad, add(div(sqrt(v), sqrt(correction(beta2, t))), h.eps));
    const decayed = is('weightDecay', 0)
      ? scaled
      : add(scaled, mul(h.weightDecay, h.decayAt === 'y' ? theta : slots.z));
    const z = sub(slots.z, mul(rate, decayed));
    const before = averageOf(theta, slots.z, beta);
    const x = add(before, mul(weight, sub(z, before)));
    return { theta: ema(beta, x, z), slots: { z, v }, scalars };
  },
});
