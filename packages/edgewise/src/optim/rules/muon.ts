/**
 * @file Muon: momentum whose singular values are made equal, for hidden weight matrices; AdamW for all else.
 *
 * K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (write-up). Scale of AdamW's steps: J. Liu et al., "Muon
 * is Scalable for LLM Training", 2025, arXiv 2502.16982. Rule of the author's code, in the precision at hand where that rounds to bfloat16.
 */
import type { Segment } from '../../params/layout.ts';
import { add, div, greater, mul, sqrt, square, sub, where } from '../../tensor/ops/elementwise.ts';
import { reshape, transpose } from '../../tensor/ops/layout.ts';
import { matmul } from '../../tensor/ops/matmul.ts';
import { norm } from '../../tensor/ops/reduce.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer } from '../definition.ts';
import {
  choice,
  count,
  decayCoefficient,
  decayRate,
  decayRates,
  flag,
  learningRate,
  stabiliser,
} from '../hyperparameters.ts';
import { correction, ema, globalNorm, refuseUnlessFinite, shrunk } from '../math.ts';

/** Odd polynomial a x + b x³ + c x⁵ whose iterates take [0.01, 1] into [0.68, 1.13], with a steep slope at 0. */
const QUINTIC = { a: 3.4445, b: -4.775, c: 2.0315 };

/** What is added to the Frobenius norm that the matrix is divided by. */
const NORM_EPS = 1e-7;

const NOT_HIDDEN = ['embedding', 'head', 'norm', 'bias'];

/** Whether a parameter maps hidden features to hidden features: of rank 2 or more, and no embedding, head, gain or bias. */
const isHiddenMatrix = ({ shape, tags, length }: Segment): boolean =>
  shape.length > 1 && length > 0 && !tags.some((tag) => NOT_HIDDEN.includes(tag));

/** `x` with singular values near 1, by `steps` iterations of {@link QUINTIC}; for a matrix with no more rows than columns. */
function orthogonalized(x: Tensor, steps: number): Tensor {
  let y = div(x, add(norm(x), NORM_EPS));
  for (let i = 0; i < steps; i++) {
    const gram = matmul(y, y, { transposeB: true });
    const polynomial = add(mul(gram, QUINTIC.b), mul(matmul(gram, gram), QUINTIC.c));
    y = add(mul(y, QUINTIC.a), matmul(polynomial, y));
  }
  return y;
}

const SCALES = {
  original: (rows: number, columns: number) => Math.sqrt(Math.max(1, rows / columns)),
  matchRmsAdamw: (rows: number, columns: number) => 0.2 * Math.sqrt(Math.max(rows, columns)),
  rmsToRms: (rows: number, columns: number) => Math.sqrt(rows / columns),
};

export const muon = defineOptimizer({
  name: 'muon',
  title: 'Muon',
  source: {
    title: 'Muon: An optimizer for hidden layers in neural networks',
    authors: 'Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein',
    year: 2024,
    url: 'https://kellerjordan.github.io/posts/muon/',
    reference: 'github.com/KellerJordan/Muon, commit 857d1adc159e098212f828d927460782d3da59e9',
  },
  family: 'matrix',
  formula: `
hidden matrices, flattened to [first axis, rest]:
b = μ b + (1 - μ) g
X = μ b + (1 - μ) g                              b without Nesterov's momentum
X = X / (‖X‖ + 1e-7)                             transposed if rows > columns
A = X Xᵀ;  X = 3.4445 X + (2.0315 A² - 4.775 A) X    steps times
θ = (1 - η λ) θ - η s X
s = √max(1, rows / columns)                      original
s = 0.2 √max(rows, columns)                      matchRmsAdamw
s = √(rows / columns)                            rmsToRms
all else, by AdamW at the rate otherLr times the schedule:
b = β1 b + (1 - β1) g
v = β2 v + (1 - β2) g²
θ = (1 - η λ) θ - η (b / (1 - β1^t)) / (√v / √(1 - β2^t) + ε)
`,
  use: 'Hidden layers of transformers and convolutional networks. Hidden are parameters of rank 2 and more without the tag embedding, head, norm or bias; tag the last layer head. A step costs fifteen matrix products for each of them, which pays where a gradient costs more: with large batches.',
  decay: 'decoupled',
  hyperparameters: {
    lr: learningRate(
      0.02,
      'Learning rate η of hidden matrices, before the schedule: the size of the step in spectral norm.',
    ),
    momentum: decayRate(0.95, 'Decay rate μ of the average of gradients.'),
    nesterov: flag({
      default: true,
      doc: "Nesterov's momentum: the gradient is averaged once more with the average that already holds it.",
    }),
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ of hidden matrices: they are multiplied by 1 - ηλ.'),
    steps: count({
      default: 5,
      min: 0,
      max: 100,
      doc: 'Iterations that make the singular values equal; 0 only divides by the norm. Singular values below 0.001 of the norm need more than 5.',
    }),
    scale: choice({
      choices: ['original', 'matchRmsAdamw', 'rmsToRms'],
      default: 'original',
      doc: "Factor s on the step: √max(1, rows/columns) as in the author's code, 0.2 √max(rows, columns), with which the step is as large as AdamW's and its learning rate can be used, or √(rows/columns), with which features change as much in layers of any width.",
    }),
    otherLr: learningRate(
      3e-4,
      'Learning rate of the parameters that are no hidden matrices; it follows the schedule by the same factor as lr.',
    ),
    otherBetas: decayRates([0.9, 0.95], 'Decay rates of AdamW for the other parameters.'),
    otherEps: stabiliser(1e-10, 'Stabiliser ε of AdamW for the other parameters.'),
    otherWeightDecay: decayCoefficient(0, 'Weight-decay coefficient λ of AdamW for the other parameters.'),
  },
  slots: {
    b: { doc: 'average of gradients' },
    v: { doc: 'average of squared gradients of the other parameters; unused for hidden matrices' },
  },
  restart: { slots: ['b', 'v'], scalars: [] },
  phases: [
    { evaluate: 'loss', update: ({ grad }) => ({ refuse: [refuseUnlessFinite(globalNorm(grad))] }) },
    {
      over: 'tensors',
      only: isHiddenMatrix,
      update(s) {
        const { theta, grad, slots, h } = s;
        const rows = theta.shape[0];
        const columns = theta.size / rows;
        const b = ema(h.momentum, slots.b, grad);
        const x = reshape(h.nesterov ? ema(h.momentum, b, grad) : b, [rows, columns]);
        const tall = rows > columns;
        const equal = orthogonalized(tall ? transpose(x) : x, h.steps);
        const u = reshape(tall ? transpose(equal) : equal, theta.shape);
        return { theta: sub(shrunk(s), mul(mul(h.lr, SCALES[h.scale](rows, columns)), u)), slots: { b } };
      },
    },
    {
      only: (segment) => !isHiddenMatrix(segment),
      update({ theta, grad, t, slots, h, is, baseLr, lrScale }) {
        const [beta1, beta2] = h.otherBetas;
        // The schedule's factor, to which the scale of a group comes again.
        const rate = where(greater(lrScale, 0), mul(mul(h.otherLr, lrScale), div(h.lr, baseLr)), 0);
        const b = ema(beta1, slots.b, grad);
        const v = ema(beta2, slots.v, square(grad));
        const u = div(div(b, correction(beta1, t)), add(div(sqrt(v), sqrt(correction(beta2, t))), h.otherEps));
        const rest = is('otherWeightDecay', 0) ? theta : mul(sub(1, mul(rate, h.otherWeightDecay)), theta);
        return { theta: sub(rest, mul(rate, u)), slots: { b, v } };
      },
    },
  ],
});
