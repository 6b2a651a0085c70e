import { ConfigError, ShapeError } from '../base/errors.ts';
import { type Initializer, ones, zeros } from '../params/initializers.ts';
import { batchNormInference, batchNorm as normalizeBatch } from '../tensor/ops/batch-norm.ts';
import { add, mul } from '../tensor/ops/elementwise.ts';
import {
  groupNorm as normalizeGroups,
  rmsNorm as normalizeRms,
  layerNorm as normalizeRows,
} from '../tensor/ops/normalization.ts';
import { type Shape, showShape } from '../tensor/shape.ts';
import { constant, type Tensor } from '../tensor/tensor.ts';
import { layerName, wholeNumber } from './check.ts';
import type { Scope } from './scope.ts';

export interface NormOptions {
  /** Added to the variance (to the mean square in rmsNorm), 1e-5 by default. */
  readonly eps?: number;
  /** Whether a learned scale and bias follow; true by default. */
  readonly affine?: boolean;
  /** First scale; ones by default. */
  readonly init?: Initializer;
}

const normTags = { weight: ['norm'], bias: ['norm', 'bias'] } as const;

const declareScale = (scope: Scope, shape: Shape, init: Initializer = ones()) =>
  scope.param('weight', shape, init, normTags.weight);
const declareBias = (scope: Scope, shape: Shape) => scope.param('bias', shape, zeros(), normTags.bias);

export interface BatchNormOptions extends NormOptions {
  /** Share of the running statistics that a training step replaces by those of its batch, in [0, 1]; 0.1 by default. */
  readonly momentum?: number;
}

/**
 * Batch normalisation (Ioffe and Szegedy 2015). Training uses the statistics of the batch and folds them into the buffers
 * `running_mean` and `running_var` (the variance as n / (n - 1) times that of the batch, as in PyTorch; as it is where n is 1);
 * evaluation uses the buffers. Declares `weight` and `bias` [C].
 *
 * @param x [N, C, ...]
 */
export function batchNorm(scope: Scope, x: Tensor, options: BatchNormOptions = {}): Tensor {
  const { eps = 1e-5, momentum = 0.1, affine = true, init } = options;
  const layer = layerName('batchNorm', scope);
  if (!(momentum >= 0 && momentum <= 1))
    throw new ConfigError(`${layer}: momentum is ${momentum}; give a number from 0 to 1.`);
  if (x.rank < 2) throw new ShapeError(`${layer}: x ${showShape(x.shape)} must be [N, C, ...].`);
  const shape = [x.shape[1]];
  const scale = affine ? declareScale(scope, shape, init) : constant(1, shape, x.dtype);
  const bias = affine ? declareBias(scope, shape) : constant(0, shape, x.dtype);
  const runningMean = scope.buffer('running_mean', shape, zeros());
  const runningVariance = scope.buffer('running_var', shape, ones());
  if (!scope.training) {
    return batchNormInference(x, { mean: runningMean, variance: runningVariance, scale, bias }, { eps });
  }
  const { y, mean, variance } = normalizeBatch(x, scale, bias, { eps });
  const count = x.size / x.shape[1];
  const moved = (running: Tensor, batch: Tensor, factor: number) =>
    add(mul(running, 1 - momentum), mul(batch, momentum * factor));
  scope.update('running_mean', moved(runningMean, mean, 1));
  scope.update('running_var', moved(runningVariance, variance, count / Math.max(1, count - 1)));
  return y;
}

export interface LayerNormOptions extends NormOptions {
  /** How many of the last axes are normalised together, 1 by default. */
  readonly axes?: number;
  /** Whether the affine part has a bias; true by default. */
  readonly bias?: boolean;
}

/**
 * Layer normalisation over the last axes (Ba, Kiros and Hinton 2016). Declares `weight` and `bias` of the shape of those axes.
 *
 * @param x [..., features]
 */
export function layerNorm(scope: Scope, x: Tensor, options: LayerNormOptions = {}): Tensor {
  const { eps, affine = true, init, bias = true } = options;
  const { axes, shape } = lastAxes(layerName('layerNorm', scope), x, options.axes);
  const scale = affine ? declareScale(scope, shape, init) : undefined;
  return normalizeRows(x, scale, affine && bias ? declareBias(scope, shape) : undefined, { eps, axes });
}

export interface RmsNormOptions extends NormOptions {
  /** How many of the last axes are normalised together, 1 by default. */
  readonly axes?: number;
}

/**
 * Root-mean-square normalisation over the last axes (Zhang and Sennrich 2019): no mean, no bias. Declares `weight`.
 *
 * @param x [..., features]
 */
export function rmsNorm(scope: Scope, x: Tensor, options: RmsNormOptions = {}): Tensor {
  const { eps, affine = true, init } = options;
  const { axes, shape } = lastAxes(layerName('rmsNorm', scope), x, options.axes);
  return normalizeRms(x, affine ? declareScale(scope, shape, init) : undefined, { eps, axes });
}

export interface GroupNormOptions extends NormOptions {
  /** Number of equal runs of channels; divides C. With C of them it is instance normalisation. */
  readonly groups: number;
}

/**
 * Group normalisation (Wu and He 2018). Declares `weight` and `bias` [C].
 *
 * @param x [N, C, ...]
 */
export function groupNorm(scope: Scope, x: Tensor, options: GroupNormOptions): Tensor {
  const { eps, affine = true, init, groups } = options;
  if (x.rank < 2)
    throw new ShapeError(`${layerName('groupNorm', scope)}: x ${showShape(x.shape)} must be [N, C, ...].`);
  const shape = [x.shape[1]];
  const parameters = affine ? { scale: declareScale(scope, shape, init), bias: declareBias(scope, shape) } : {};
  return normalizeGroups(x, groups, { ...parameters, eps });
}

function lastAxes(layer: string, x: Tensor, given = 1): { axes: number; shape: Shape } {
  const axes = wholeNumber(layer, 'axes', given);
  if (axes > x.rank) throw new ShapeError(`${layer}: x ${showShape(x.shape)} has no ${axes} axes to normalise over.`);
  return { axes, shape: x.shape.slice(x.rank - axes) };
}
