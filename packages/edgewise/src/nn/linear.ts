import { ShapeError } from '../base/errors.ts';
import { type Initializer, torchDefault } from '../params/initializers.ts';
import { add } from '../tensor/ops/elementwise.ts';
import { reshape } from '../tensor/ops/layout.ts';
import { matmul } from '../tensor/ops/matmul.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { layerName, wholeNumber } from './check.ts';
import type { Scope } from './scope.ts';

/** Settings that every layer with a weight and a bias has. */
export interface WeightOptions {
  /** Whether a bias is added; true by default. */
  readonly bias?: boolean;
  /** First weights; U(-1/√fanIn, 1/√fanIn) by default, as in PyTorch. */
  readonly init?: Initializer;
  /** First bias; drawn as the weight is by default, with the fan-in of the weight. */
  readonly biasInit?: Initializer;
  /** Tags of weight and bias beside `weight` and `bias`, such as `head`; none by default. */
  readonly tags?: readonly string[];
}

export interface LinearOptions extends WeightOptions {
  /** Features of the result. */
  readonly outFeatures: number;
}

/**
 * y = x Wᵀ + b over the last axis. Declares `weight` [out, in] and `bias` [out].
 *
 * @param x [..., in]
 * @returns [..., out]
 */
export function linear(scope: Scope, x: Tensor, options: LinearOptions): Tensor {
  const layer = layerName('linear', scope);
  if (x.rank === 0) throw new ShapeError(`${layer}: x is a scalar, but its last axis must hold the features.`);
  const { bias = true, init = torchDefault(), biasInit, tags = [] } = options;
  const features = x.shape[x.rank - 1];
  const out = wholeNumber(layer, 'outFeatures', options.outFeatures);
  const weight = scope.param('weight', [out, features], init, ['weight', ...tags]);
  // One product of two matrices, whatever the rank: the weight's gradient is then one product too.
  const product = matmul(reshape(x, [-1, features]), weight, { transposeB: true });
  const first = biasInit ?? torchDefault({ fanIn: features });
  const y = bias ? add(product, scope.param('bias', [out], first, ['bias', ...tags])) : product;
  return reshape(y, [...x.shape.slice(0, -1), out]);
}
