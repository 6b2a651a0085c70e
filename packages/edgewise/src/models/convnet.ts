import { ConfigError } from '../base/errors.ts';
import { type ActivationName, activate, activationNames } from '../nn/activation.ts';
import { conv } from '../nn/conv.ts';
import { dropout } from '../nn/dropout.ts';
import { linear } from '../nn/linear.ts';
import { batchNorm } from '../nn/normalization.ts';
import { choice, flag, integer, number, numbers } from '../optim/hyperparameters.ts';
import { flatten } from '../tensor/ops/layout.ts';
import { maxPool } from '../tensor/ops/pool.ts';
import { defineModel, expectImages, wholeNumbers } from './definition.ts';

/**
 * A small convolutional network for small images, after LeNet-5: convolutions `conv1`, `conv2`, ... that keep the size, each
 * followed by a max pool over 2 by 2 pixels and an activation, then fully connected layers `fc1`, `fc2`, ...
 */
export const convnet = defineModel({
  name: 'convnet',
  aliases: ['cnn', 'lenet'],
  doc: 'A few convolutions with pooling, then fully connected layers.',
  paper: 'after LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition.',
  options: {
    channels: numbers({
      default: [16, 32],
      anyLength: true,
      min: 1,
      doc: 'Channels of each convolution; each halves height and width.',
      unit: 'channels',
    }),
    kernelSize: integer({ default: 3, min: 1, doc: 'Height and width of the kernels.', unit: 'pixels' }),
    widths: numbers({
      default: [128],
      anyLength: true,
      min: 1,
      doc: 'Units of each fully connected layer between the convolutions and the output; may be empty.',
      unit: 'units',
    }),
    activation: choice<ActivationName>({
      default: 'relu',
      choices: activationNames,
      doc: 'Function after each layer.',
    }),
    batchNorm: flag({
      default: false,
      doc: 'Whether batch normalisation follows each convolution, which then has no bias.',
    }),
    dropout: number({
      default: 0,
      min: 0,
      below: 1,
      doc: 'Probability of dropping an input of each fully connected layer.',
    }),
  },
  build: (options, problem) => {
    const { channels, kernelSize, widths, activation, batchNorm: normalized, dropout: p } = options;
    wholeNumbers('convnet', 'channels', channels);
    wholeNumbers('convnet', 'widths', widths);
    const [, height, width] = expectImages('convnet', problem);
    if (Math.min(height, width) < 2 ** channels.length) {
      throw new ConfigError(
        `convnet: ${channels.length} convolutions halve images of ${height} by ${width} pixels to nothing; give fewer channels.`,
      );
    }
    return {
      forward: (scope, x) => {
        const features = channels.reduce((h, outChannels, i) => {
          const y = conv(scope.at(`conv${i + 1}`), h, { outChannels, kernelSize, padding: 'same', bias: !normalized });
          const pooled = maxPool(normalized ? batchNorm(scope.at(`bn${i + 1}`), y) : y, { window: 2 });
          // After the pool: the same for any activation that increases, on a quarter of the elements.
          return activate(pooled, activation);
        }, x);
        const hidden = widths.reduce((h, outFeatures, i) => {
          const kept = dropout(scope.at(`dropout${i + 1}`), h, { p });
          return activate(linear(scope.at(`fc${i + 1}`), kept, { outFeatures }), activation);
        }, flatten(features));
        const last = widths.length + 1;
        const kept = dropout(scope.at(`dropout${last}`), hidden, { p });
        return linear(scope.at(`fc${last}`), kept, { outFeatures: problem.classes, tags: ['head'] });
      },
    };
  },
});
