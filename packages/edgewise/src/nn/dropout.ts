import { ShapeError } from '../base/errors.ts';
import { dropout as drop, stochasticDepth as dropExamples } from '../tensor/ops/random-ops.ts';
import { showShape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { dropProbability, layerName } from './check.ts';
import type { Scope } from './scope.ts';

export interface DropoutOptions {
  /** Probability of dropping an element (an example, a channel), in [0, 1). */
  readonly p: number;
}

export interface ElementDropoutOptions extends DropoutOptions {
  /** What is dropped as a whole: single elements (default), or channels of [N, C, ...] (Tompson et al. 2015). */
  readonly unit?: 'element' | 'channel';
}

/**
 * Dropout (Srivastava et al. 2014): in training each element is 0 with probability p, otherwise divided by 1 - p; in
 * evaluation nothing happens. Its random numbers are the scope's input `mask`.
 */
export function dropout(scope: Scope, x: Tensor, { p, unit = 'element' }: ElementDropoutOptions): Tensor {
  const layer = layerName('dropout', scope);
  if (dropProbability(layer, 'p', p) === 0 || !scope.training) return x;
  if (unit === 'element') return drop(x, scope.uniform('mask', x.shape), p);
  if (x.rank < 2) throw new ShapeError(`${layer}: x ${showShape(x.shape)} has no channels; it must be [N, C, ...].`);
  return drop(x, scope.uniform('mask', [...x.shape.slice(0, 2), ...x.shape.slice(2).map(() => 1)]), p);
}

/**
 * Stochastic depth (Huang et al. 2016), for what a residual branch adds: in training each example of x is 0 with
 * probability p, otherwise divided by 1 - p; in evaluation nothing happens. Its random numbers are the scope's input `mask`.
 *
 * @param x [N, ...]
 */
export function stochasticDepth(scope: Scope, x: Tensor, { p }: DropoutOptions): Tensor {
  if (dropProbability(layerName('stochasticDepth', scope), 'p', p) === 0 || !scope.training) return x;
  return dropExamples(x, scope.uniform('mask', [x.shape[0]]), p);
}
