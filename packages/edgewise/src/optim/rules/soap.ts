/**
 * @file SOAP: Adam in the eigenbasis of Shampoo's statistics.
 *
 * N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024, arXiv 2409.11321. Rule of the authors' code.
 *
 * A tensor of more than two axes has a basis for each of its axes, as there, and is not flattened.
 */
import type { Segment } from '../../params/layout.ts';
import {
  add,
  div,
  equal,
  greater,
  less,
  logicalAnd,
  maximum,
  mod,
  mul,
  sqrt,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { gather } from '../../tensor/ops/indexing.ts';
import { flip } from '../../tensor/ops/layout.ts';
import { eigh, qr } from '../../tensor/ops/linalg.ts';
import { matmul } from '../../tensor/ops/matmul.ts';
import { sort } from '../../tensor/ops/ordering.ts';
import { norm, sum } from '../../tensor/ops/reduce.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { applyAll, gram, matrixAxes, pack, packedShape, unpack } from '../axes.ts';
import { defineOptimizer, type RuleSymbols } from '../definition.ts';
import {
  count,
  decayCoefficient,
  decayRates,
  flag,
  integer,
  learningRate,
  number,
  stabiliser,
  type Values,
} from '../hyperparameters.ts';
import { correction, ema, globalNorm, refuseUnlessFinite, tensorNorm } from '../math.ts';

/** What is added to the root mean square that a direction is divided by. */
const RMS_EPS = 1e-30;

const hyperparameters = {
  lr: learningRate(3e-3),
  betas: decayRates([0.95, 0.95], 'Decay rates of the averages of rotated gradients and of their squares.'),
  shampooBeta: number({
    default: -1,
    min: -1,
    below: 1,
    doc: 'Decay rate βs of the statistics that the bases belong to; any negative number stands for β2.',
  }),
  eps: stabiliser(1e-8, 'Stabiliser ε, added to the root of the second moment before bias correction.'),
  weightDecay: decayCoefficient(
    0.01,
    'Weight-decay coefficient λ: after the step weights are multiplied by 1 - ηλ with the learning rate in force.',
  ),
  preconditionFrequency: integer({
    default: 10,
    min: 1,
    unit: 'steps',
    doc: 'Steps f between refreshes of the bases. Refreshes run on the host: the fewer, the faster and the staler.',
  }),
  maxDimension: count({
    default: 10000,
    min: 1,
    doc: 'Axes longer than this are not rotated. A basis and its statistics take twice the square of the extent.',
  }),
  normalizeGrads: flag({ default: false, doc: 'Divide the direction of each tensor by its root mean square.' }),
  correctBias: flag({ default: true, doc: 'Correct the averages for their start at zero.' }),
} as const;

type SoapSchema = typeof hyperparameters;
type Soap = RuleSymbols<SoapSchema, 'm' | 'v' | 'statistics' | 'bases', never>;

const axesOf = (shape: readonly number[], { maxDimension }: Pick<Values<SoapSchema>, 'maxDimension'>) =>
  matrixAxes(shape, maxDimension);

const slotShape = ({ shape }: Segment, values: Values<SoapSchema>) =>
  packedShape(shape.length > 1 ? axesOf(shape, values) : []);

const shampooRate = ({ shampooBeta, betas }: Soap['h']): Tensor => where(less(shampooBeta, 0), betas[1], shampooBeta);

/** η, or η √(1 - β2^k) / (1 - β1^k). */
function stepSize({ lr, betas: [beta1, beta2], correctBias }: Soap['h'], k: Tensor): Tensor {
  return correctBias ? mul(lr, div(sqrt(correction(beta2, k)), correction(beta1, k))) : lr;
}

/** θ after a step of size `rate` along `u` and its decay. */
function moved({ theta, h, is }: Soap, rate: Tensor, u: Tensor): Tensor {
  const stepped = sub(theta, mul(rate, u));
  return is('weightDecay', 0) ? stepped : mul(sub(1, mul(h.lr, h.weightDecay)), stepped);
}

export const soap = defineOptimizer({
  name: 'soap',
  title: 'SOAP',
  source: {
    title: 'SOAP: Improving and Stabilizing Shampoo using Adam',
    authors: 'Vyas, Morwani, Zhao, Shapira, Brandfonbrener, Janson, Kakade',
    year: 2024,
    arxiv: '2409.11321',
    reference: 'github.com/nikhilvyas/SOAP, commit a1e553530fde97d0e6b307d7c82ac6d38b072340',
  },
  family: 'matrix',
  formula: `
first call, no step:
L = (1 - βs) g gᵀ,  R = (1 - βs) gᵀ g            one for each axis
QL, QR = eigenvectors of L and R, largest eigenvalue first
later, k = t - 1:
h = QLᵀ g QR
m = β1 m + (1 - β1) h
v = β2 v + (1 - β2) h²
u = QL (m / (√v + ε)) QRᵀ
u = u / RMS(u)                                   normalizeGrads
θ = (1 - η λ) (θ - η √(1 - β2^k) / (1 - β1^k) u)
L = βs L + (1 - βs) g gᵀ,  R = βs R + (1 - βs) gᵀ g
where k is a multiple of f, for each axis:
sort the columns of Q and with them v by diag(Qᵀ L Q), largest first
Q = Q of the QR factorization of L Q
m = the same direction in the new basis
`,
  use: 'Language models with large batches, as AdamW with fewer steps. Biases and gains move as under Adam; the first gradient only sets up the bases. Memory grows with the square of the extents: lower maxDimension for wide layers.',
  decay: 'decoupled',
  hyperparameters,
  slots: {
    m: { doc: 'average of gradients, in the rotated basis' },
    v: { doc: 'average of squared rotated gradients' },
    statistics: { doc: 'averages of g gᵀ, one matrix for each axis, one after the other', shape: slotShape },
    bases: { doc: 'their eigenvectors as columns, in the same order', shape: slotShape },
  },
  restart: { slots: ['m', 'v', 'statistics', 'bases'], scalars: [] },
  phases: [
    // The bases cannot get rid of what is not finite.
    { evaluate: 'loss', update: ({ grad }) => ({ refuse: [refuseUnlessFinite(globalNorm(grad))] }) },
    {
      over: 'tensors',
      host: true,
      when: ({ t }) => equal(t, 1),
      update({ grad, h }) {
        const axes = axesOf(grad.shape, h);
        if (axes.length === 0) return {};
        const statistics = axes.map(({ axis }) => mul(sub(1, shampooRate(h)), gram(grad, axis)));
        const bases = statistics.map((matrix) => flip(eigh(matrix).vectors, [1]));
        return { slots: { statistics: pack(statistics), bases: pack(bases) } };
      },
    },
    {
      over: 'tensors',
      when: ({ t }) => greater(t, 1),
      update(s) {
        const { grad, slots, h, t } = s;
        const axes = axesOf(grad.shape, h);
        const [beta1, beta2] = h.betas;
        const bases = axes.length > 0 ? unpack(slots.bases, axes) : [];
        const rotated = applyAll(grad, axes, bases, true);
        const m = ema(beta1, slots.m, rotated);
        const v = ema(beta2, slots.v, square(rotated));
        const direction = applyAll(div(m, add(sqrt(v), h.eps)), axes, bases);
        const u = h.normalizeGrads
          ? div(direction, add(div(norm(direction), Math.sqrt(direction.size)), RMS_EPS))
          : direction;
        const theta = moved(s, stepSize(h, sub(t, 1)), u);
        if (axes.length === 0) return { theta, slots: { m, v } };
        const fresh = pack(axes.map(({ axis }) => gram(grad, axis)));
        return { theta, slots: { m, v, statistics: ema(shampooRate(h), slots.statistics, fresh) } };
      },
    },
    {
      over: 'tensors',
      host: true,
      when: ({ t, h }) => logicalAnd(greater(t, 1), equal(mod(sub(t, 1), h.preconditionFrequency), 0)),
      update({ theta, slots, h }) {
        const axes = axesOf(theta.shape, h);
        if (axes.length === 0) return {};
        const statistics = unpack(slots.statistics, axes);
        const bases = unpack(slots.bases, axes);
        const orders = bases.map((basis, i) => {
          const curvature = sum(mul(basis, matmul(statistics[i], basis)), { axes: 0 });
          return sort(curvature, { descending: true }).indices;
        });
        const next = bases.map((basis, i) => qr(matmul(statistics[i], gather(basis, orders[i], 1))).q);
        return {
          slots: {
            m: applyAll(applyAll(slots.m, axes, bases), axes, next, true),
            v: axes.reduce((v, { axis }, i) => gather(v, orders[i], axis), slots.v),
            bases: pack(next),
          },
        };
      },
    },
    {
      only: ({ shape }) => shape.length < 2,
      update(s) {
        const { theta, grad, slots, h, t, size } = s;
        const [beta1, beta2] = h.betas;
        const first = equal(t, 1);
        const m = where(first, slots.m, ema(beta1, slots.m, grad));
        const v = where(first, slots.v, ema(beta2, slots.v, square(grad)));
        const direction = div(m, add(sqrt(v), h.eps));
        const u = h.normalizeGrads ? div(direction, add(div(tensorNorm(direction), sqrt(size)), RMS_EPS)) : direction;
        const rate = stepSize(h, maximum(sub(t, 1), 1));
        return { theta: where(first, theta, moved(s, rate, u)), slots: { m, v } };
      },
    },
  ],
});
