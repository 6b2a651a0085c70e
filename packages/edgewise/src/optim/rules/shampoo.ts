/**
 * @file Shampoo: a preconditioner for every axis of a tensor.
 *
 * V. Gupta, T. Koren, Y. Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", ICML 2018, arXiv 1802.09568. Averages in place of
 * sums, roots that are kept for some steps, other exponents and grafting: R. Anil et al., "Scalable Second Order Optimization for Deep
 * Learning", 2020, arXiv 2002.09018.
 *
 * εI is added when roots are taken instead of being what the statistics start from, which is the same for sums, and lasts for averages. All
 * statistics are of the gradient itself; a copy in wide use takes those of later axes of the gradient that earlier ones already changed.
 */
import {
  add,
  div,
  equal,
  greater,
  maximum,
  mod,
  mul,
  neg,
  pow,
  sqrt,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { reshape } from '../../tensor/ops/layout.ts';
import { eigh } from '../../tensor/ops/linalg.ts';
import { matmul } from '../../tensor/ops/matmul.ts';
import { norm } from '../../tensor/ops/reduce.ts';
import type { Shape } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { applyAll, gram, type MatrixAxis, matrixAxes, pack, packedShape, unpack } from '../axes.ts';
import { defineOptimizer } from '../definition.ts';
import {
  choice,
  count,
  decayCoefficient,
  decayRate,
  integer,
  learningRate,
  number,
  stabiliser,
} from '../hyperparameters.ts';
import { correction, ema, globalNorm, refuseUnlessFinite, shrunk } from '../math.ts';

/** A number is a vector of one element. */
const axesShape = (shape: Shape): Shape => (shape.length === 0 ? [1] : shape);

const axesOf = (shape: Shape, { maxDimension }: { readonly maxDimension: number }): readonly MatrixAxis[] =>
  matrixAxes(axesShape(shape), maxDimension);

/** (H + ε I)^(-p) of a positive semi-definite H. */
function inverseRoot(statistics: Tensor, eps: Tensor, p: Tensor): Tensor {
  const { values, vectors } = eigh(statistics);
  // Rounding may leave an eigenvalue a little under zero.
  const powers = pow(add(maximum(values, 0), eps), neg(p));
  return matmul(mul(vectors, powers), vectors, { transposeB: true });
}

export const shampoo = defineOptimizer({
  name: 'shampoo',
  title: 'Shampoo',
  source: {
    title: 'Shampoo: Preconditioned Stochastic Tensor Optimization',
    authors: 'Gupta, Koren, Singer',
    year: 2018,
    arxiv: '1802.09568',
  },
  family: 'matrix',
  formula: `
for each axis i of a tensor with k axes, G the gradient with the slices along i as rows:
H = H + G Gᵀ                                     sum
H = β2 H + (1 - β2) G Gᵀ                         average: divided by 1 - β2^t where it is used
P = (H + ε I)^(-1/(2k))                          anew every n steps; another exponent where one is given
u = g times P along every axis                   L^(-1/4) g R^(-1/4) for a matrix
u = u ‖a‖ / ‖u‖                                  grafting; a = g, or g / (√v̂ + ε') with Adam's v
b = μ b + u
θ = (1 - η λ) θ - η b
`,
  use: 'Small models, and as the ground that SOAP and Muon stand on: the first step from sums is that of Muon with all singular values at 1. Roots are taken on the host; rootEvery says how often. With grafting the learning rates of SGD or Adam can be used.',
  decay: 'decoupled',
  hyperparameters: {
    lr: learningRate(0.1),
    momentum: decayRate(0, 'Momentum μ, the decay rate of the sum of preconditioned gradients; 0 for none.'),
    statistics: choice({
      choices: ['sum', 'average'],
      default: 'sum',
      doc: 'Whether statistics are summed over all steps, as in the paper, or averaged with decay rate β2.',
    }),
    beta2: decayRate(0.99, 'Decay rate β2 of averaged statistics.'),
    eps: stabiliser(1e-4, 'ε times the identity is added to the statistics before their roots are taken.'),
    exponent: number({
      default: 0,
      min: 0,
      doc: 'Exponent p of the preconditioners H^(-p); 0 stands for 1/(2k) with k axes, 1/4 for matrices. 1/2 in later work.',
      search: { low: 0.1, high: 1, scale: 'linear' },
    }),
    rootEvery: integer({
      default: 1,
      min: 1,
      unit: 'steps',
      doc: 'Steps n for which roots are kept: they are taken at steps 1, 1 + n, 1 + 2n, and so on of each tensor. Practice is 10 to 100, with grafting or a larger ε: until the second time, directions that the first gradient did not have are scaled by a power of ε alone.',
    }),
    maxDimension: count({
      default: 1024,
      min: 1,
      doc: 'Axes longer than this are not preconditioned; the exponent counts them all the same.',
    }),
    grafting: choice({
      choices: ['none', 'sgd', 'adam'],
      default: 'none',
      doc: 'Whose length the step of each tensor takes before momentum: its own, that of the gradient, or that of Adam’s step without an average of gradients.',
    }),
    graftBeta: decayRate(0.999, 'Decay rate of the average of squared gradients for grafting from Adam.'),
    graftEps: stabiliser(1e-8, 'Stabiliser ε′ of the division for grafting from Adam.'),
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ: weights are multiplied by 1 - ηλ.'),
  },
  slots: {
    statistics: {
      doc: 'sums or averages of G Gᵀ, one matrix for each axis, one after the other',
      shape: ({ shape }, values) => packedShape(axesOf(shape, values)),
    },
    roots: {
      doc: 'preconditioners, in the same order',
      shape: ({ shape }, values) => packedShape(axesOf(shape, values)),
    },
    b: { doc: 'momentum of preconditioned gradients', when: ({ momentum }) => momentum > 0 },
    v: { doc: 'average of squared gradients for grafting', when: ({ grafting }) => grafting === 'adam' },
  },
  restart: { slots: ['statistics', 'roots', 'b', 'v'], scalars: [] },
  phases: [
    // Statistics cannot get rid of what is not finite.
    { evaluate: 'loss', update: ({ grad }) => ({ refuse: [refuseUnlessFinite(globalNorm(grad))] }) },
    {
      over: 'tensors',
      only: () => true,
      update({ grad, slots, h }) {
        const axes = axesOf(grad.shape, h);
        if (axes.length === 0) return {};
        const g = reshape(grad, axesShape(grad.shape));
        const fresh = pack(axes.map(({ axis }) => gram(g, axis)));
        const statistics =
          h.statistics === 'sum' ? add(slots.statistics, fresh) : ema(h.beta2, slots.statistics, fresh);
        return { slots: { statistics } };
      },
    },
    {
      over: 'tensors',
      host: true,
      only: () => true,
      when: ({ t, h }) => equal(mod(sub(t, 1), h.rootEvery), 0),
      update({ grad, slots, h, t }) {
        const shape = axesShape(grad.shape);
        const axes = axesOf(shape, h);
        if (axes.length === 0) return {};
        const p = where(greater(h.exponent, 0), h.exponent, 1 / (2 * shape.length));
        const scale = h.statistics === 'sum' ? 1 : correction(h.beta2, t);
        const roots = unpack(slots.statistics, axes).map((matrix) => inverseRoot(div(matrix, scale), h.eps, p));
        return { slots: { roots: pack(roots) } };
      },
    },
    {
      over: 'tensors',
      only: () => true,
      update(s) {
        const { grad, slots, h, t, is } = s;
        const axes = axesOf(grad.shape, h);
        const g = reshape(grad, axesShape(grad.shape));
        const preconditioned = reshape(axes.length > 0 ? applyAll(g, axes, unpack(slots.roots, axes)) : g, grad.shape);
        const v = h.grafting === 'adam' ? ema(h.graftBeta, slots.v, square(grad)) : undefined;
        const donor = v ? div(grad, add(sqrt(div(v, correction(h.graftBeta, t))), h.graftEps)) : grad;
        const own = norm(preconditioned);
        const u =
          h.grafting === 'none'
            ? preconditioned
            : mul(preconditioned, where(greater(own, 0), div(norm(donor), own), 0));
        const b = is('momentum', 0) ? undefined : add(mul(h.momentum, slots.b), u);
        return { theta: sub(shrunk(s), mul(h.lr, b ?? u)), slots: { ...(b && { b }), ...(v && { v }) } };
      },
    },
  ],
});
