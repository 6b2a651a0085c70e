/**
 * @file Sophia: momentum divided by a diagonal of the curvature, refreshed now and then, and clipped.
 *
 * H. Liu, Z. Li, D. Hall, P. Liang, T. Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training", 2023,
 * arXiv 2305.14342. Rule of the authors' SophiaG.
 */
import {
  abs,
  add,
  div,
  equal,
  greater,
  less,
  logicalAnd,
  logicalNot,
  maximum,
  minimum,
  mod,
  mul,
  sign,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { sum } from '../../tensor/ops/reduce.ts';
import { constant, type Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer, type Phase, type RuleSymbols, type Source, type Update } from '../definition.ts';
import {
  choice,
  decayCoefficient,
  decayRates,
  integer,
  learningRate,
  number,
  type Schema,
} from '../hyperparameters.ts';
import { ema, shrunk } from '../math.ts';

const source: Source = {
  title: 'Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training',
  authors: 'Liu, Li, Hall, Liang, Ma',
  year: 2023,
  arxiv: '2305.14342',
  reference: 'github.com/Liuhong99/Sophia sophia.py, commit a7e1572',
};

const hyperparameters = {
  lr: learningRate(1e-4),
  betas: decayRates([0.965, 0.99], 'Decay rates of the averages of gradients and of the curvature diagonal.'),
  weightDecay: decayCoefficient(0.1, 'Weight-decay coefficient λ: weights are multiplied by 1 - ηλ.'),
  interval: integer({
    default: 10,
    min: 1,
    unit: 'steps',
    doc: 'Steps k between refreshes of the curvature; at steps 1, 1 + k, ...',
  }),
  form: choice({
    choices: ['code', 'paper'],
    default: 'code',
    doc: 'The step: sign(m) min(|m| / (ρ B h + 1e-15), 1) as in the code, or clip(m / max(γ h, ε), 1) as in the paper.',
  }),
  rho: number({
    default: 0.04,
    above: 0,
    doc: "Factor ρ on the curvature in the code's form; larger leaves fewer coordinates clipped.",
    search: { low: 0.01, high: 0.5, scale: 'log' },
  }),
  batchTerms: number({
    default: 1,
    above: 0,
    doc: "Number B of terms the batch loss is the mean of (tokens), in the code's form: B ĝ² estimates the Gauss-Newton diagonal.",
  }),
  gamma: number({ default: 0.01, above: 0, doc: "Factor γ on the curvature in the paper's form." }),
  eps: number({ default: 1e-12, above: 0, doc: "Least denominator ε in the paper's form." }),
} satisfies Schema;
type S = RuleSymbols<typeof hyperparameters, 'm' | 'h', never>;
type U = Update<'m' | 'h', never>;

/** Whether this step refreshes the curvature. */
const due = ({ step, h }: S): Tensor => equal(mod(sub(step, 1), h.interval), 0);

function move(s: S, m: Tensor): U {
  const { slots, h, size } = s;
  const curvature = slots.h;
  const limit =
    h.form === 'code'
      ? add(mul(mul(h.rho, h.batchTerms), maximum(curvature, 0)), 1e-15)
      : maximum(mul(h.gamma, curvature), h.eps);
  const step =
    h.form === 'code' ? mul(sign(m), minimum(div(abs(m), limit), 1)) : maximum(minimum(div(m, limit), 1), -1);
  // Coordinates whose momentum is zero, as all padding is, count as clipped.
  const free = where(logicalAnd(less(abs(m), limit), greater(abs(m), 0)), constant(1, [], 'float64'), 0);
  return { theta: sub(shrunk(s), mul(h.lr, step)), report: { unclipped: div(sum(free), sum(size)) } };
}

/** A step in one pass, or, where the curvature is refreshed from a further gradient, in three. */
function phases(
  evaluate: string,
  curvature: (grad: Tensor) => Tensor,
): Phase<typeof hyperparameters, 'm' | 'h', never>[] {
  const first = ({ grad, slots, h }: S) => ema(h.betas[0], slots.m, grad);
  return [
    {
      evaluate: 'loss',
      when: (s) => logicalNot(due(s)),
      update: (s) => {
        const m = first(s);
        return { ...move(s, m), slots: { m } };
      },
    },
    { evaluate: 'loss', when: due, update: (s) => ({ slots: { m: first(s) } }) },
    {
      evaluate,
      when: due,
      update: ({ grad, slots, h }) => ({ slots: { h: ema(h.betas[1], slots.h, curvature(grad)) } }),
    },
    { when: due, update: (s) => move(s, s.slots.m) },
  ];
}

const page = {
  source,
  family: 'adaptive moments' as const,
  decay: 'decoupled' as const,
  hyperparameters,
  slots: { m: { doc: 'average of gradients' }, h: { doc: 'average of the curvature diagonal' } },
  restart: { slots: ['m', 'h'] as const, scalars: [] },
  evaluations: { most: 2, average: '1 + 1/k' },
};

const step = `
m = β1 m + (1 - β1) g
θ = (1 - η λ) θ - η sign(m) min(|m| / (ρ B h + 1e-15), 1)        code
    (1 - η λ) θ - η clip(m / max(γ h, ε), -1, 1)                 paper
`;

export const sophia = defineOptimizer({
  ...page,
  name: 'sophia',
  aliases: ['sophiaG'],
  title: 'Sophia-G',
  formula: `
every k steps, from the gradient ĝ of the loss with labels sampled from the model:
h = β2 h + (1 - β2) ĝ²${step}`,
  use: 'Language models: curvature where AdamW has squared gradients. Watch the reported share of unclipped coordinates, 0.1 to 0.5 is healthy. Needs labels drawn from a softmax.',
  phases: phases('sampled labels', square),
});

export const sophiaH = defineOptimizer({
  ...page,
  name: 'sophiaH',
  title: 'Sophia-H',
  source: { ...source, reference: undefined },
  formula: `
every k steps, with u of random signs:
h = β2 h + (1 - β2) u ⊙ (∇²L u)${step}`,
  use: "As Sophia-G with Hutchinson's estimate of the Hessian's diagonal, for losses without a softmax; where the estimate is negative the step is a sign step.",
  phases: phases('hutchinson', (x) => x),
});
