/** @file What a network is trained for: a loss, and what is counted beside it. */
import { ConfigError } from '../base/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import type { DType } from '../tensor/dtype.ts';
import { cast, equal, lessEqual, mul, sub } from '../tensor/ops/elementwise.ts';
import { reshape, sliceAxis } from '../tensor/ops/layout.ts';
import { crossEntropy } from '../tensor/ops/losses.ts';
import { argMax, cumSum, sum } from '../tensor/ops/reduce.ts';
import { softmax } from '../tensor/ops/softmax.ts';
import type { Shape } from '../tensor/shape.ts';
import { input, type Tensor } from '../tensor/tensor.ts';

export interface Objective {
  readonly name: 'crossEntropy' | 'squaredError';
  /** The symbol for the targets of a batch. */
  target(batch: number, dtype: DType): Tensor;
  /** Loss of each example: [batch]. What is minimised is their mean. */
  losses(output: Tensor, target: Tensor): Tensor;
  /** 1 where an example is classified rightly, 0 elsewhere: [batch] in the output's dtype; absent where nothing is classified. */
  correct?(output: Tensor, target: Tensor): Tensor;
}

export interface CrossEntropyOptions {
  /** Share of the target taken from the true class and spread over all, in [0, 1); 0 by default. Never applied when evaluating. */
  readonly labelSmoothing?: number;
}

/** Softmax cross-entropy in nats, targets are class numbers (int32). */
export function crossEntropyObjective({ labelSmoothing = 0 }: CrossEntropyOptions = {}): Objective {
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw new ConfigError(`labelSmoothing is ${labelSmoothing}; give a number from 0 up to, but below, 1.`);
  }
  return {
    name: 'crossEntropy',
    target: (batch) => input('target', [batch], 'int32'),
    losses: (output, target) => crossEntropy(output, target, { labelSmoothing, reduction: 'none' }),
    correct: (output, target) => cast(equal(cast(argMax(output, -1), 'int32'), target), output.dtype),
  };
}

/**
 * Class numbers drawn from the softmax over the last axis of `logits` [..., C], one for each row, by inverting the distribution
 * function: int32 of shape [...].
 *
 * @param uniforms independent uniform numbers in [0, 1), one for each row.
 */
export function sampledLabels(logits: Tensor, uniforms: Tensor): Tensor {
  const axis = logits.rank - 1;
  const classes = logits.shape[axis];
  const reached = cumSum(softmax(logits), axis);
  // Against the sum as it was rounded, which may differ from 1; the last class is what remains.
  const bar = mul(sliceAxis(reached, axis, classes - 1), reshape(uniforms, [...uniforms.shape, 1]));
  return cast(
    sum(cast(lessEqual(sliceAxis(reached, axis, 0, classes - 1), bar), logits.dtype), { axes: axis }),
    'int32',
  );
}

/** ½ Σ over outputs of (output - target)², targets are numbers of shape `targetShape`. */
export function squaredErrorObjective(targetShape: Shape): Objective {
  return {
    name: 'squaredError',
    target: (batch, dtype) => input('target', [batch, ...targetShape], dtype),
    losses: (output, target) => {
      const error = sub(reshape(output, target.shape), target);
      return mul(sum(mul(error, error), { axes: targetShape.map((_, axis) => axis + 1) }), 0.5);
    },
  };
}

/** The objective a data set calls for. */
export function objectiveFor(data: Dataset, options: CrossEntropyOptions = {}): Objective {
  if (data.kind === 'classification') return crossEntropyObjective(options);
  if (options.labelSmoothing)
    throw new ConfigError(
      `labelSmoothing is ${options.labelSmoothing}, but data set '${data.name}' has no classes; leave it out.`,
    );
  return squaredErrorObjective(data.targetShape);
}
