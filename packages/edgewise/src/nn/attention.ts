import { ConfigError, ShapeError } from '../base/errors.ts';
import { type Initializer, xavierUniform, zeros } from '../params/initializers.ts';
import { add, logicalAnd, mul, where } from '../tensor/ops/elementwise.ts';

import { reshape, select, transpose } from '../tensor/ops/layout.ts';
import { matmul } from '../tensor/ops/matmul.ts';
import { causalMask } from '../tensor/ops/ranges.ts';
import { softmax } from '../tensor/ops/softmax.ts';
import { broadcastShapes, sameShape, showShape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { layerName, wholeNumber } from './check.ts';
import { dropout } from './dropout.ts';
import { linear } from './linear.ts';
import type { Scope } from './scope.ts';

export interface AttentionCoreOptions {
  /** Each position sees itself and what comes before it; false by default. */
  readonly causal?: boolean;
  /** Booleans that broadcast to [N, heads, T, S]: false hides a key from a query. A query must see at least one key. */
  readonly mask?: Tensor;
  /** Applied to the weights softmax gives, before they are used. */
  readonly onWeights?: (weights: Tensor) => Tensor;
}

/**
 * softmax(q kᵀ / √d) v for every head (Vaswani et al. 2017, equation 1).
 *
 * @param q [N, heads, T, d]
 * @param k [N, heads, S, d]
 * @param v [N, heads, S, dv]
 * @returns [N, heads, T, dv]
 */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionCoreOptions = {}): Tensor {
  const { causal = false, mask, onWeights } = options;
  // The scale goes to the smaller tensor: q has T d elements a head, the scores T S.
  const scores = matmul(mul(q, 1 / Math.sqrt(q.shape[q.rank - 1])), k, { transposeB: true });
  const [queries, keys] = scores.shape.slice(-2);
  const masks = [...(mask ? [mask] : []), ...(causal ? [causalMask(queries, keys)] : [])];
  for (const given of masks) {
    if (given.dtype !== 'bool' || !sameShape(broadcastShapes('attention', given.shape, scores.shape), scores.shape)) {
      throw new ShapeError(
        `attention: the mask is ${given.dtype}${showShape(given.shape)}, but booleans that broadcast to ${showShape(scores.shape)} are wanted.`,
      );
    }
  }
  const seen = masks.length === 0 ? scores : where(masks.reduce(logicalAnd), scores, Number.NEGATIVE_INFINITY);
  const weights = softmax(seen, -1);
  return matmul(onWeights ? onWeights(weights) : weights, v);
}

export interface MultiHeadAttentionOptions {
  /** Number of heads; divides the width of x. */
  readonly heads: number;
  /** Keys and values come from here, [N, S, E']; from x by default (self-attention). */
  readonly context?: Tensor;
  /** Each position sees itself and what comes before it; false by default. */
  readonly causal?: boolean;
  /** Booleans that broadcast to [N, heads, T, S]: false hides a key from a query. */
  readonly mask?: Tensor;
  /**
   * `fused` (default): one matrix for queries, keys and values, `in_proj_weight` [3E, E] as in PyTorch; self-attention only.
   * `separate`: `q_proj`, `k_proj` and `v_proj`, which may start from a context of another width, and which
   * optimizers that look at whole matrices see as three.
   */
  readonly projection?: 'fused' | 'separate';
  /** Whether the four projections have a bias; true by default. */
  readonly bias?: boolean;
  /** Probability of dropping an attention weight; 0 by default. */
  readonly dropout?: number;
  /** First weights of the projections to queries, keys and values; xavierUniform by default, as in PyTorch. */
  readonly init?: Initializer;
  /** First weights of the projection back; U(±1/√E) by default, as in PyTorch. */
  readonly outInit?: Initializer;
}

/**
 * Multi-head attention (Vaswani et al. 2017), with the parameters of `torch.nn.MultiheadAttention`: those of
 * `projection`, and `out_proj`. Biases start from zero.
 *
 * @param x [N, T, E]
 * @returns [N, T, E]
 */
export function multiHeadAttention(scope: Scope, x: Tensor, options: MultiHeadAttentionOptions): Tensor {
  const { context = x, causal, mask, projection = 'fused', bias = true, init = xavierUniform() } = options;
  const layer = layerName('multiHeadAttention', scope);
  const heads = wholeNumber(layer, 'heads', options.heads);
  if (x.rank !== 3 || context.rank !== 3 || context.shape[0] !== x.shape[0]) {
    throw new ShapeError(
      `${layer}: x ${showShape(x.shape)} and the context ${showShape(context.shape)} must be [N, T, E] and [N, S, E'].`,
    );
  }
  const [batch, steps, width] = x.shape;
  if (width % heads !== 0)
    throw new ConfigError(`${layer}: ${heads} heads do not divide the width ${width} of x; choose heads that do.`);
  const depth = width / heads;
  const perHead = (t: Tensor) => transpose(reshape(t, [batch, t.shape[1], heads, depth]), [0, 2, 1, 3]);

  let q: Tensor;
  let k: Tensor;
  let v: Tensor;
  if (projection === 'fused') {
    if (context !== x)
      throw new ConfigError(`${layer}: a context needs projections of its own; set projection to 'separate'.`);
    const weight = scope.param('in_proj_weight', [3 * width, width], init, ['weight']);
    const product = matmul(reshape(x, [-1, width]), weight, { transposeB: true });
    const all = bias ? add(product, scope.param('in_proj_bias', [3 * width], zeros(), ['bias'])) : product;
    const parts = transpose(reshape(all, [batch, steps, 3, heads, depth]), [2, 0, 3, 1, 4]);
    [q, k, v] = [select(parts, 0, 0), select(parts, 0, 1), select(parts, 0, 2)];
  } else {
    const project = (name: string, from: Tensor) =>
      perHead(linear(scope.at(name), from, { outFeatures: width, bias, init, biasInit: zeros() }));
    [q, k, v] = [project('q_proj', x), project('k_proj', context), project('v_proj', context)];
  }
  const attended = scaledDotProductAttention(q, k, v, {
    causal,
    mask,
    onWeights: (weights) => dropout(scope.at('attn_dropout'), weights, { p: options.dropout ?? 0 }),
  });
  const joined = reshape(transpose(attended, [0, 2, 1, 3]), [batch, steps, width]);
  return linear(scope.at('out_proj'), joined, { outFeatures: width, bias, init: options.outInit, biasInit: zeros() });
}
