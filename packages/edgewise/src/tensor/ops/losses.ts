/** @file Losses. Where a `reduction` can be chosen it is the mean over examples (or elements), their sum, or none. */
import { ConfigError, ShapeError } from '../../base/errors.ts';
import { isInteger } from '../dtype.ts';
import { broadcastShapes, normalizeAxis, sameShape, showShape } from '../shape.ts';
import { commonDtype, constant, expectFloat, make, type OpDef, type Tensor } from '../tensor.ts';
import {
  abs,
  add,
  cast,
  clip,
  div,
  equal,
  greater,
  log,
  logicalNot,
  mul,
  neg,
  sigmoid,
  softplus,
  square,
  sub,
  where,
} from './elementwise.ts';
import { addAlong, gather, takeAlong } from './indexing.ts';
import { expand, squeeze, transpose, unsqueeze } from './layout.ts';
import { mean, sum } from './reduce.ts';
import { logSoftmax, softmax } from './softmax.ts';

/** `mean`, `sum`, or `none`: the losses themselves. */
export type Reduction = 'mean' | 'sum' | 'none';

function reduce(losses: Tensor, reduction: Reduction): Tensor {
  if (reduction === 'none') return losses;
  return reduction === 'sum' ? sum(losses) : mean(losses);
}

interface LabelAttrs {
  readonly smoothing: number;
}

/** -log p[label] of each row of the last axis, with the label's share 1 - ε + ε/C and every other class's ε/C. */
const labelCrossEntropyOp: OpDef<LabelAttrs> = {
  name: 'crossEntropy',
  infer: ([logits, labels]) => {
    expectFloat('crossEntropy', logits);
    if (!isInteger(labels.dtype)) {
      throw new ShapeError(
        `crossEntropy: the labels are ${labels.dtype}${showShape(labels.shape)}, but int32 or int64 class numbers are wanted.`,
      );
    }
    const shape = logits.shape.slice(0, -1);
    if (logits.rank < 1 || !sameShape(labels.shape, shape)) {
      throw new ShapeError(
        `crossEntropy: logits ${showShape(logits.shape)} want labels of shape ${showShape(shape)}, but got ${showShape(labels.shape)}.`,
      );
    }
    return { dtype: logits.dtype, shape };
  },
  decompose: ([logits, labels], { smoothing }) => {
    const logP = logSoftmax(logits);
    const picked = squeeze(takeAlong(logP, unsqueeze(labels, -1)), -1);
    return smoothing === 0
      ? neg(picked)
      : neg(add(mul(picked, 1 - smoothing), mul(mean(logP, { axes: -1 }), smoothing)));
  },
  // Softmax minus target, times the row's weight: one pass after the softmax.
  vjp: ({ inputs: [logits, labels], attrs }, g) => [mul(slope(logits, labels, attrs), unsqueeze(g, -1)), undefined],
  jvp: ({ inputs: [logits, labels], attrs }, [t]) => t && sum(mul(slope(logits, labels, attrs), t), { axes: -1 }),
};

function slope(logits: Tensor, labels: Tensor, { smoothing }: LabelAttrs): Tensor {
  const { shape, dtype } = logits;
  const p = softmax(logits);
  const rest = smoothing === 0 ? p : sub(p, smoothing / shape[shape.length - 1]);
  return addAlong(rest, constant(smoothing - 1, [...shape.slice(0, -1), 1], dtype), unsqueeze(labels, -1));
}

export interface CrossEntropyOptions {
  /** Axis of the classes, the last by default; give 1 for logits [N, C, ...]. */
  readonly axis?: number;
  /** Share of the target spread evenly over all classes, in [0, 1); 0 by default (Szegedy et al. 2016). */
  readonly labelSmoothing?: number;
  /** `mean` by default; with `classWeights` and integer labels, the mean weighted by them. */
  readonly reduction?: Reduction;
  /** Integer labels equal to this count for nothing, not in the mean's denominator either. Need not be a class. */
  readonly ignoreIndex?: number;
  /** A weight for each class, [C]. */
  readonly classWeights?: Tensor;
}

/**
 * Softmax cross-entropy, natural logarithm.
 *
 * @param logits unnormalised log-probabilities: [N, C], [N, T, C], ..., or as `axis` says.
 * @param labels class numbers (int32 or int64) with the shape of the logits without the class axis, or target probabilities with
 *   the shape of the logits, through which it is differentiable too.
 * @returns a scalar, or without reduction the losses with the class axis dropped.
 * @throws ShapeError where shapes do not match, ConfigError where an option is out of range. A label that is no class is an
 *   error when the graph runs.
 */
export function crossEntropy(logits: Tensor, labels: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { axis = -1, labelSmoothing = 0, reduction = 'mean', ignoreIndex, classWeights } = options;
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw new ConfigError(
      `crossEntropy: labelSmoothing is ${labelSmoothing}, but a share of at least 0 and below 1 is wanted.`,
    );
  }
  expectFloat('crossEntropy', logits);
  const at = normalizeAxis('crossEntropy', axis, logits.rank);
  const classes = logits.shape[at];
  if (classWeights && (classWeights.dtype !== logits.dtype || !sameShape(classWeights.shape, [classes]))) {
    throw new ShapeError(
      `crossEntropy: ${classes} classes want ${logits.dtype}[${classes}] weights, but got ${classWeights.dtype}${showShape(classWeights.shape)}.`,
    );
  }
  const scores = lastAxis(logits, at);
  if (!isInteger(labels.dtype)) {
    if (ignoreIndex !== undefined)
      throw new ConfigError('crossEntropy: ignoreIndex has no meaning for target probabilities; give integer labels.');
    if (!sameShape(labels.shape, logits.shape)) {
      throw new ShapeError(
        `crossEntropy: target probabilities ${showShape(labels.shape)} must have the shape of the logits, ${showShape(logits.shape)}.`,
      );
    }
    commonDtype('crossEntropy', [logits, labels]);
    const given = lastAxis(labels, at);
    const target = labelSmoothing === 0 ? given : add(mul(given, 1 - labelSmoothing), labelSmoothing / classes);
    return reduce(softCrossEntropy(scores, classWeights ? mul(target, classWeights) : target), reduction);
  }
  const counts = ignoreIndex === undefined ? undefined : logicalNot(equal(labels, ignoreIndex));
  const safe = counts ? where(counts, labels, 0) : labels;
  let losses: Tensor;
  let weights: Tensor | undefined;
  if (classWeights === undefined) {
    losses = make(labelCrossEntropyOp, [scores, safe], { smoothing: labelSmoothing });
  } else {
    const own = make(labelCrossEntropyOp, [scores, safe], { smoothing: 0 });
    weights = gather(classWeights, safe);
    losses = mul(own, labelSmoothing === 0 ? weights : mul(weights, 1 - labelSmoothing));
    if (labelSmoothing > 0)
      losses = add(losses, softCrossEntropy(scores, expand(mul(classWeights, labelSmoothing / classes), scores.shape)));
  }
  if (counts) {
    losses = where(counts, losses, 0);
    const present = cast(counts, logits.dtype);
    weights = weights ? mul(weights, present) : present;
  }
  if (reduction === 'mean' && weights) return div(sum(losses), sum(weights));
  return reduce(losses, reduction);
}

/** x with `axis` moved to the end. */
function lastAxis(x: Tensor, axis: number): Tensor {
  const others = [...Array(x.rank).keys()].filter((i) => i !== axis);
  return transpose(x, [...others, axis]);
}

const noAttrs = {};

/** -Σ target · log softmax over the last axis. The target need not sum to 1. */
const softCrossEntropyOp: OpDef<object> = {
  name: 'softCrossEntropy',
  infer: ([logits]) => ({ dtype: logits.dtype, shape: logits.shape.slice(0, -1) }),
  decompose: ([logits, target]) => neg(sum(mul(target, logSoftmax(logits)), { axes: -1 })),
  vjp: ({ inputs: [logits, target] }, g, needed) => {
    const each = unsqueeze(g, -1);
    return [
      needed[0] ? mul(softSlope(logits, target), each) : undefined,
      needed[1] ? neg(mul(logSoftmax(logits), each)) : undefined,
    ];
  },
  jvp: ({ inputs: [logits, target] }, [t, tTarget]) => {
    const moved = t && sum(mul(softSlope(logits, target), t), { axes: -1 });
    const aimed = tTarget && neg(sum(mul(logSoftmax(logits), tTarget), { axes: -1 }));
    return moved && aimed ? add(moved, aimed) : (moved ?? aimed);
  },
};

const softSlope = (logits: Tensor, target: Tensor) =>
  sub(mul(softmax(logits), sum(target, { axes: -1, keepDims: true })), target);

const softCrossEntropy = (logits: Tensor, target: Tensor) => make(softCrossEntropyOp, [logits, target], noAttrs);

/** A loss that is a function of an input and a target of one shape, element by element. */
function expectPair(op: string, x: Tensor, target: Tensor): void {
  expectFloat(op, x);
  commonDtype(op, [x, target]);
  if (!sameShape(x.shape, target.shape)) {
    throw new ShapeError(
      `${op}: predictions ${showShape(x.shape)} and targets ${showShape(target.shape)} must have one shape.`,
    );
  }
}

const logitCrossEntropyOp: OpDef<object> = {
  name: 'binaryCrossEntropyWithLogits',
  infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
  decompose: ([x, z]) => sub(softplus(x), mul(x, z)),
  vjp: ({ inputs: [x, z] }, g, needed) => [
    needed[0] ? mul(g, sub(sigmoid(x), z)) : undefined,
    needed[1] ? neg(mul(g, x)) : undefined,
  ],
  jvp: ({ inputs: [x, z] }, [tx, tz]) => {
    const moved = tx && mul(tx, sub(sigmoid(x), z));
    return tz ? (moved ? sub(moved, mul(tz, x)) : neg(mul(tz, x))) : moved;
  },
};

export interface BinaryCrossEntropyOptions {
  /** `mean` by default. */
  readonly reduction?: Reduction;
  /** Weight of positive targets against negative ones, broadcasting against the logits; 1 without. */
  readonly positiveWeight?: Tensor;
}

/**
 * Cross-entropy of σ(logits) against targets in [0, 1], element by element, without overflow:
 * -w z log σ(x) - (1 - z) log(1 - σ(x)).
 */
export function binaryCrossEntropyWithLogits(
  logits: Tensor,
  targets: Tensor,
  { reduction = 'mean', positiveWeight }: BinaryCrossEntropyOptions = {},
): Tensor {
  expectPair('binaryCrossEntropyWithLogits', logits, targets);
  const losses = make(logitCrossEntropyOp, [logits, targets], noAttrs);
  if (positiveWeight === undefined) return reduce(losses, reduction);
  if (!sameShape(broadcastShapes('binaryCrossEntropyWithLogits', logits.shape, positiveWeight.shape), logits.shape)) {
    throw new ShapeError(
      `binaryCrossEntropyWithLogits: weights ${showShape(positiveWeight.shape)} do not broadcast to ${showShape(logits.shape)}.`,
    );
  }
  return reduce(add(losses, mul(mul(targets, sub(positiveWeight, 1)), softplus(neg(logits)))), reduction);
}

/**
 * ½ Σ over outputs of (prediction - target)², averaged over examples (axis 0): the mean-squared-error loss of the
 * training-dynamics literature. The ½ and the sum over outputs scale the sharpness.
 */
export function squaredError(predictions: Tensor, targets: Tensor): Tensor {
  expectPair('squaredError', predictions, targets);
  if (predictions.rank < 1)
    throw new ShapeError('squaredError: the predictions are a scalar, but examples along axis 0 are wanted.');
  return mul(sum(square(sub(predictions, targets))), 0.5 / predictions.shape[0]);
}

export interface LossOptions {
  /** `mean` over all elements by default. */
  readonly reduction?: Reduction;
}

/** (prediction - target)², by default averaged over all elements; no ½ (see {@link squaredError}). */
export function meanSquaredError(
  predictions: Tensor,
  targets: Tensor,
  { reduction = 'mean' }: LossOptions = {},
): Tensor {
  expectPair('meanSquaredError', predictions, targets);
  return reduce(square(sub(predictions, targets)), reduction);
}

/** |prediction - target|, by default averaged over all elements; derivative 0 where equal. */
export function l1(predictions: Tensor, targets: Tensor, { reduction = 'mean' }: LossOptions = {}): Tensor {
  expectPair('l1', predictions, targets);
  return reduce(abs(sub(predictions, targets)), reduction);
}

interface HuberAttrs {
  readonly delta: number;
}

const huberOp: OpDef<HuberAttrs> = {
  name: 'huber',
  infer: ([d]) => ({ dtype: d.dtype, shape: d.shape }),
  // With c = d limited to ±δ this is ½ d² inside and δ |d| - ½ δ² outside.
  decompose: ([d], { delta }) => {
    const c = clip(d, -delta, delta);
    return mul(c, sub(d, mul(c, 0.5)));
  },
  vjp: ({ inputs: [d], attrs: { delta } }, g) => [mul(g, clip(d, -delta, delta))],
  jvp: ({ inputs: [d], attrs: { delta } }, [t]) => t && mul(t, clip(d, -delta, delta)),
};

/** Huber's loss (1964): ½ d² where |d| ≤ δ, δ (|d| - ½ δ) beyond, for d = prediction - target; δ is 1 by default. */
export function huber(
  predictions: Tensor,
  targets: Tensor,
  { delta = 1, reduction = 'mean' }: LossOptions & { readonly delta?: number } = {},
): Tensor {
  expectPair('huber', predictions, targets);
  if (!(delta > 0 && Number.isFinite(delta)))
    throw new ConfigError(`huber: delta is ${delta}, but a finite number above 0 is wanted.`);
  return reduce(make(huberOp, [sub(predictions, targets)], { delta }), reduction);
}

/** {@link huber} with δ = beta, divided by beta: ½ d² / β where |d| ≤ β, |d| - ½ β beyond; β is 1 by default. */
export function smoothL1(
  predictions: Tensor,
  targets: Tensor,
  { beta = 1, reduction = 'mean' }: LossOptions & { readonly beta?: number } = {},
): Tensor {
  if (!(beta > 0 && Number.isFinite(beta)))
    throw new ConfigError(`smoothL1: beta is ${beta}, but a finite number above 0 is wanted.`);
  return mul(huber(predictions, targets, { delta: beta, reduction }), 1 / beta);
}

/**
 * Kullback-Leibler divergence Σ p (log p - log q) over the last axis, where 0 log 0 = 0.
 *
 * @param logQ log-probabilities of the model, [..., C], such as `logSoftmax(logits)`.
 * @param p target probabilities, [..., C].
 * @returns by default the mean over all rows (PyTorch's `batchmean` for [N, C]).
 */
export function klDivergence(logQ: Tensor, p: Tensor, { reduction = 'mean' }: LossOptions = {}): Tensor {
  expectPair('klDivergence', logQ, p);
  if (logQ.rank < 1)
    throw new ShapeError('klDivergence: a scalar was given, but classes along the last axis are wanted.');
  // log of 1 where p is 0, so that neither the value nor the derivative is NaN there.
  const logP = log(where(greater(p, 0), p, 1));
  return reduce(sum(mul(p, sub(logP, logQ)), { axes: -1 }), reduction);
}
