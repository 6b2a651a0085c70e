import { ShapeError } from '../base/errors.ts';
import { type Initializer, normal } from '../params/initializers.ts';
import { add } from '../tensor/ops/elementwise.ts';
import { gather } from '../tensor/ops/indexing.ts';
import { showShape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { layerName, wholeNumber } from './check.ts';
import type { Scope } from './scope.ts';

export interface EmbeddingOptions {
  /** Rows of the table: how many different indices there are. */
  readonly vocabulary: number;
  /** Numbers in each vector. */
  readonly width: number;
  /** First table; N(0, 1) by default, as in PyTorch. */
  readonly init?: Initializer;
}

/**
 * A learned vector for each index. Declares `weight` [vocabulary, width]. An index outside the table is an error when the
 * graph runs.
 *
 * @param indices int32 or int64, any shape
 * @returns [...indices, width]
 */
export function embedding(
  scope: Scope,
  indices: Tensor,
  { vocabulary, width, init = normal() }: EmbeddingOptions,
): Tensor {
  const layer = layerName('embedding', scope);
  const shape = [wholeNumber(layer, 'vocabulary', vocabulary), wholeNumber(layer, 'width', width)];
  return gather(scope.param('weight', shape, init, ['embedding']), indices);
}

export interface PositionalEmbeddingOptions {
  /**
   * `learned` (default): a parameter `weight` [T, E]; `sinusoidal`: sines and cosines of wavelengths from 2π to 10000 · 2π
   * (Vaswani et al. 2017, section 3.5), in a buffer `pe` that no step changes.
   */
  readonly kind?: 'learned' | 'sinusoidal';
  /** First learned vectors; N(0, 0.02²) by default, as in GPT-2 and BERT. */
  readonly init?: Initializer;
}

/**
 * x plus a vector for each position.
 *
 * @param x [N, T, E]
 */
export function positionalEmbedding(scope: Scope, x: Tensor, options: PositionalEmbeddingOptions = {}): Tensor {
  const { kind = 'learned', init = normal({ std: 0.02 }) } = options;
  if (x.rank !== 3)
    throw new ShapeError(`${layerName('positionalEmbedding', scope)}: x ${showShape(x.shape)} must be [N, T, E].`);
  const shape = x.shape.slice(1);
  return add(
    x,
    kind === 'learned' ? scope.param('weight', shape, init, ['embedding']) : scope.buffer('pe', shape, sinusoids),
  );
}

/** PE(t, 2i) = sin(t / 10000^(2i/E)), PE(t, 2i + 1) = cos of the same. */
const sinusoids: Initializer = {
  name: 'sinusoids',
  options: {},
  fill: (_, out, [steps, width]) => {
    for (let t = 0; t < steps; t++) {
      for (let j = 0; j < width; j++) {
        const angle = t / 10000 ** ((j - (j % 2)) / width);
        out[t * width + j] = j % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
      }
    }
  },
};
