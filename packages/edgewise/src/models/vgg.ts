import { conv } from '../nn/conv.ts';
import { dropout } from '../nn/dropout.ts';
import { linear } from '../nn/linear.ts';
import { batchNorm } from '../nn/normalization.ts';
import { number, numbers } from '../optim/hyperparameters.ts';
import { kaimingNormal, zeros } from '../params/initializers.ts';
import { relu } from '../tensor/ops/elementwise.ts';
import { flatten } from '../tensor/ops/layout.ts';
import { maxPool } from '../tensor/ops/pool.ts';
import { defineModel, expectImages, type ModelInfo, wholeNumbers } from './definition.ts';

/** Channels of the convolutions between two pools: table 1 of the paper, columns A, B, D and E. */
const stages: Readonly<Record<number, readonly (readonly number[])[]>> = {
  11: [[64], [128], [256, 256], [512, 512], [512, 512]],
  13: [
    [64, 64],
    [128, 128],
    [256, 256],
    [512, 512],
    [512, 512],
  ],
  16: [
    [64, 64],
    [128, 128],
    [256, 256, 256],
    [512, 512, 512],
    [512, 512, 512],
  ],
  19: [
    [64, 64],
    [128, 128],
    [256, 256, 256, 256],
    [512, 512, 512, 512],
    [512, 512, 512, 512],
  ],
};

/**
 * VGG for small images: the convolutions of the paper, then, since five pools leave one pixel of 32, one linear layer
 * instead of three of 4096 units. Parameter names as in torchvision: `features.0`, ... and `classifier.0`, ..., where
 * activations and pools count too.
 */
const vgg = (depth: number, normalized: boolean): ModelInfo => {
  const name = `vgg${depth}${normalized ? '_bn' : ''}`;
  return defineModel({
    name,
    doc: `VGG of ${depth} layers for small images such as those of CIFAR${normalized ? ', with batch normalisation' : ''}.`,
    paper:
      'Simonyan and Zisserman 2014, Very deep convolutional networks for large-scale image recognition, table 1 (arXiv 1409.1556).',
    options: {
      widths: numbers({
        default: [],
        anyLength: true,
        min: 1,
        doc: 'Units of fully connected layers before the last one; the paper has [4096, 4096].',
        unit: 'units',
      }),
      dropout: number({
        default: 0,
        min: 0,
        below: 1,
        doc: 'Probability of dropping an input of each fully connected layer.',
      }),
    },
    build: ({ widths, dropout: p }, problem) => {
      expectImages(name, problem, 32);
      wholeNumbers(name, 'widths', widths);
      return {
        forward: (scope, x) => {
          const features = scope.at('features');
          let h = x;
          let at = 0;
          for (const stage of stages[depth]) {
            for (const outChannels of stage) {
              h = conv(features.at(at++), h, {
                outChannels,
                kernelSize: 3,
                padding: 1,
                init: kaimingNormal({ mode: 'fanOut', nonlinearity: 'relu' }),
                biasInit: zeros(),
              });
              if (normalized) h = batchNorm(features.at(at++), h);
              h = relu(h);
              at++;
            }
            h = maxPool(h, { window: 2 });
            at++;
          }
          const classifier = scope.at('classifier');
          let units = flatten(h);
          [...widths, problem.classes].forEach((outFeatures, i) => {
            const head = i === widths.length;
            const kept = dropout(classifier.at(`dropout${i}`), units, { p });
            const y = linear(classifier.at(i), kept, { outFeatures, tags: head ? ['head'] : [] });
            units = head ? y : relu(y);
          });
          return units;
        },
      };
    },
  });
};

/** VGG-11, 13, 16 and 19, without and with batch normalisation (`_bn`). */
export const vggs: readonly ModelInfo[] = [11, 13, 16, 19].flatMap((depth) => [vgg(depth, false), vgg(depth, true)]);
