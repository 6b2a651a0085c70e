import { add } from '../tensor/ops/elementwise.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Activation, activate } from './activation.ts';
import { multiHeadAttention } from './attention.ts';
import { layerName, wholeNumber } from './check.ts';
import { dropout, stochasticDepth } from './dropout.ts';
import { linear } from './linear.ts';
import { layerNorm, rmsNorm } from './normalization.ts';
import type { Scope } from './scope.ts';

export interface TransformerBlockOptions {
  /** Number of attention heads; divides the width of x. */
  readonly heads: number;
  /** Width of the hidden layer of the feed-forward part; four times that of x by default. */
  readonly feedForward?: number;
  /** Activation of the feed-forward part; `gelu` by default. */
  readonly activation?: Activation;
  /** Each position sees itself and what comes before it; false by default. */
  readonly causal?: boolean;
  /** Booleans that broadcast to [N, heads, T, T]: false hides a key from a query. */
  readonly mask?: Tensor;
  /** `pre` (default): x + f(norm(x)), as in GPT-2; `post`: norm(x + f(x)), as in Vaswani et al. 2017. */
  readonly order?: 'pre' | 'post';
  /** Kind of normalisation; `layer` by default. */
  readonly norm?: 'layer' | 'rms';
  /** `eps` of the normalisation, 1e-5 by default. */
  readonly eps?: number;
  /** Projections of the attention, see multiHeadAttention; `fused` by default. */
  readonly projection?: 'fused' | 'separate';
  /** Whether attention and feed-forward layers have biases; true by default. */
  readonly bias?: boolean;
  /** Probability of dropping an element of what either part adds, and of the hidden layer; 0 by default. */
  readonly dropout?: number;
  /** Probability of dropping an attention weight; 0 by default. */
  readonly attentionDropout?: number;
  /** Probability of leaving out what a part adds, for each example by itself; 0 by default. */
  readonly stochasticDepth?: number;
}

/**
 * A transformer block: self-attention and a feed-forward network, each added to what comes in. Parameters as in
 * `torch.nn.TransformerEncoderLayer`: `self_attn`, `linear1`, `linear2`, `norm1`, `norm2`.
 *
 * @param x [N, T, E]
 * @returns [N, T, E]
 */
export function transformerBlock(scope: Scope, x: Tensor, options: TransformerBlockOptions): Tensor {
  const {
    order = 'pre',
    norm = 'layer',
    eps,
    activation = 'gelu',
    bias,
    dropout: p = 0,
    stochasticDepth: depth = 0,
  } = options;
  const width = x.shape[x.rank - 1];
  const hidden = wholeNumber(layerName('transformerBlock', scope), 'feedForward', options.feedForward ?? 4 * width);
  const normalize = (name: string, t: Tensor) => (norm === 'layer' ? layerNorm : rmsNorm)(scope.at(name), t, { eps });
  const residual = (k: 1 | 2, t: Tensor, f: (u: Tensor) => Tensor) => {
    const branch = dropout(scope.at(`dropout${k}`), f(order === 'pre' ? normalize(`norm${k}`, t) : t), { p });
    const sum = add(t, stochasticDepth(scope.at(`drop_path${k}`), branch, { p: depth }));
    return order === 'pre' ? sum : normalize(`norm${k}`, sum);
  };
  const attended = residual(1, x, (t) =>
    multiHeadAttention(scope.at('self_attn'), t, {
      heads: options.heads,
      causal: options.causal,
      mask: options.mask,
      projection: options.projection,
      bias,
      dropout: options.attentionDropout,
    }),
  );
  return residual(2, attended, (t) => {
    const inner = activate(linear(scope.at('linear1'), t, { outFeatures: hidden, bias }), activation);
    return linear(scope.at('linear2'), dropout(scope.at('dropout'), inner, { p }), { outFeatures: width, bias });
  });
}
