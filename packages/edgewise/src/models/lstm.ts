import { embedding } from '../nn/embedding.ts';
import { linear } from '../nn/linear.ts';
import { lstm as recurrent } from '../nn/recurrent.ts';
import { flag, integer, number } from '../optim/hyperparameters.ts';
import { concat, reshape, transpose } from '../tensor/ops/layout.ts';
import { defineModel, sequenceOf } from './definition.ts';

/**
 * A classifier of sequences of whole numbers below `vocabulary` ([steps]), of vectors ([steps, features]), or of the rows of an
 * image: an LSTM, and a linear layer on the hidden state of its last layer after the last step.
 */
export const lstm = defineModel({
  name: 'lstm',
  doc: 'Long short-term memory that classifies sequences.',
  paper: 'Hochreiter and Schmidhuber 1997, Long short-term memory; forget gates of Gers, Schmidhuber and Cummins 2000.',
  options: {
    hiddenSize: integer({ default: 128, min: 1, doc: 'Width of the hidden and of the cell state.', unit: 'units' }),
    layers: integer({ default: 1, min: 1, doc: 'Layers on top of each other.' }),
    bidirectional: flag({ default: false, doc: 'Whether each layer also runs from the last step to the first.' }),
    vocabulary: integer({ default: 256, min: 1, doc: 'Different tokens there are, for sequences of whole numbers.' }),
    embedding: integer({
      default: 64,
      min: 1,
      doc: 'Numbers that stand for one token, for sequences of whole numbers.',
      unit: 'features',
    }),
    dropout: number({
      default: 0,
      min: 0,
      below: 1,
      doc: 'Probability of dropping an output of a layer before the next one reads it.',
    }),
  },
  build: (options, problem) => {
    const { hiddenSize, layers, bidirectional, vocabulary } = options;
    const { inputShape, classes } = problem;
    const tokens = inputShape.length === 1;
    const { steps, features } = tokens ? { steps: inputShape[0], features: 1 } : sequenceOf('lstm', problem);
    return {
      inputDtype: tokens ? 'int32' : undefined,
      forward: (scope, x) => {
        const batch = x.shape[0];
        const rows = inputShape.length === 3 ? reshape(transpose(x, [0, 2, 1, 3]), [batch, steps, features]) : x;
        const seen = tokens ? embedding(scope.at('token'), x, { vocabulary, width: options.embedding }) : rows;
        const { states } = recurrent(scope.at('lstm'), seen, {
          hiddenSize,
          layers,
          bidirectional,
          dropout: options.dropout,
        });
        const last = states.slice(bidirectional ? -2 : -1).map(({ h }) => h);
        return linear(scope.at('head'), concat(last, 1), { outFeatures: classes, tags: ['head'] });
      },
    };
  },
});
