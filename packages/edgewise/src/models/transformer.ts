import { ConfigError } from '../base/errors.ts';
import { type ActivationName, activationNames } from '../nn/activation.ts';
import { dropout } from '../nn/dropout.ts';
import { embedding, positionalEmbedding } from '../nn/embedding.ts';
import { linear } from '../nn/linear.ts';
import { layerNorm, rmsNorm } from '../nn/normalization.ts';
import { transformerBlock } from '../nn/transformer.ts';
import { choice, flag, integer, number } from '../optim/hyperparameters.ts';
import { normal, zeros } from '../params/initializers.ts';
import { reshape, transpose } from '../tensor/ops/layout.ts';
import { mean } from '../tensor/ops/reduce.ts';
import { defineModel, sequenceOf } from './definition.ts';

/**
 * A transformer over sequences of whole numbers below `vocabulary` ([steps]), of vectors ([steps, features]), or over the
 * rows of an image: embedding, positions, blocks, and a linear layer on the mean over positions (`task` classify) or on
 * each position (`task` predict: the next token, so that no position sees what comes after it).
 */
export const transformer = defineModel({
  name: 'transformer',
  doc: 'Transformer that classifies sequences, or predicts the next token at every step.',
  paper:
    'Vaswani et al. 2017, Attention is all you need (arXiv 1706.03762); normalisation before each part as in GPT-2 (Radford et al. 2019).',
  options: {
    task: choice({
      default: 'classify',
      choices: ['classify', 'predict'],
      doc: 'classify: [classes] for each sequence. predict: [steps, classes], each step seeing only itself and what came before.',
    }),
    vocabulary: integer({ default: 256, min: 1, doc: 'Different tokens there are, for sequences of whole numbers.' }),
    width: integer({ default: 64, min: 1, doc: 'Numbers that stand for one position.', unit: 'features' }),
    heads: integer({ default: 4, min: 1, doc: 'Attention heads; must divide the width.' }),
    layers: integer({ default: 2, min: 1, doc: 'Blocks on top of each other.' }),
    feedForward: integer({
      default: 0,
      min: 0,
      doc: 'Units of the hidden layer in each block. 0: four times the width.',
      unit: 'units',
    }),
    activation: choice<ActivationName>({
      default: 'gelu',
      choices: activationNames,
      doc: 'Function of the hidden layer in each block.',
    }),
    order: choice({
      default: 'pre',
      choices: ['pre', 'post'],
      doc: 'Normalise what goes into each part (pre) or what comes out of each sum (post).',
    }),
    norm: choice({ default: 'layer', choices: ['layer', 'rms'], doc: 'Kind of normalisation.' }),
    positions: choice({ default: 'learned', choices: ['learned', 'sinusoidal'], doc: 'How positions are told apart.' }),
    fused: flag({
      default: true,
      doc: 'One matrix for queries, keys and values instead of three, which optimizers with norms or factors by matrix see as one.',
    }),
    dropout: number({
      default: 0,
      min: 0,
      below: 1,
      doc: 'Probability of dropping an element of embeddings, of attention and of what a block adds.',
    }),
  },
  build: (options, problem) => {
    const { task, vocabulary, width, heads, layers, feedForward, activation, order, norm, dropout: p } = options;
    const { inputShape, classes } = problem;
    const tokens = inputShape.length === 1;
    const { steps, features } = tokens ? { steps: inputShape[0], features: 1 } : sequenceOf('transformer', problem);
    if (width % heads !== 0) {
      throw new ConfigError(`transformer: ${heads} heads do not divide the width ${width}; choose heads that do.`);
    }
    const init = normal({ std: 0.02 });
    return {
      inputDtype: tokens ? 'int32' : undefined,
      forward: (scope, x) => {
        const batch = x.shape[0];
        const rows = inputShape.length === 3 ? reshape(transpose(x, [0, 2, 1, 3]), [batch, steps, features]) : x;
        const embedded = tokens
          ? embedding(scope.at('token'), x, { vocabulary, width, init })
          : linear(scope.at('token'), rows, { outFeatures: width });
        const placed = positionalEmbedding(scope.at('position'), embedded, { kind: options.positions });
        let h = dropout(scope.at('dropout'), placed, { p });
        for (let i = 0; i < layers; i++) {
          h = transformerBlock(scope.at('layers').at(i), h, {
            heads,
            feedForward: feedForward === 0 ? undefined : feedForward,
            activation,
            causal: task === 'predict',
            order,
            norm,
            projection: options.fused ? 'fused' : 'separate',
            dropout: p,
            attentionDropout: p,
          });
        }
        // After blocks of the kind 'post' everything is normalised already.
        const seen = order === 'post' ? h : (norm === 'layer' ? layerNorm : rmsNorm)(scope.at('norm'), h);
        return linear(scope.at('head'), task === 'predict' ? seen : mean(seen, { axes: 1 }), {
          outFeatures: classes,
          init,
          biasInit: zeros(),
          tags: ['head'],
        });
      },
    };
  },
});
