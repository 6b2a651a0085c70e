import { conv } from '../nn/conv.ts';
import { linear } from '../nn/linear.ts';
import { batchNorm } from '../nn/normalization.ts';
import type { Scope } from '../nn/scope.ts';
import { choice, flag, integer } from '../optim/hyperparameters.ts';
import { kaimingNormal, zeros } from '../params/initializers.ts';
import { add, relu } from '../tensor/ops/elementwise.ts';
import { pad, slice } from '../tensor/ops/layout.ts';
import { globalAveragePool } from '../tensor/ops/pool.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { defineModel, expectImages, type ModelInfo } from './definition.ts';

/** How a block that changes the shape passes its input on; He et al. 2015, section 3.3. */
type Shortcut = 'A' | 'B';

interface BlockOptions {
  readonly channels: number;
  readonly stride: number;
  readonly shortcut: Shortcut;
  readonly zeroInitResidual: boolean;
}

const init = kaimingNormal({ nonlinearity: 'relu' });

/** Two convolutions with batch norm, added to what comes in. */
function basicBlock(scope: Scope, x: Tensor, { channels, stride, shortcut, zeroInitResidual }: BlockOptions): Tensor {
  const convolve = (name: string, h: Tensor, step: number) =>
    conv(scope.at(name), h, { outChannels: channels, kernelSize: 3, stride: step, padding: 1, bias: false, init });
  const inner = relu(batchNorm(scope.at('bn1'), convolve('conv1', x, stride)));
  const residual = batchNorm(scope.at('bn2'), convolve('conv2', inner, 1), zeroInitResidual ? { init: zeros() } : {});
  const same = stride === 1 && x.shape[1] === channels;
  return relu(
    add(residual, same ? x : (shortcut === 'A' ? padded : projected)(scope.at('downsample'), x, channels, stride)),
  );
}

/** Option A: every second pixel, and zeros for the channels there were not. No parameters. */
function padded(_: Scope, x: Tensor, channels: number, stride: number): Tensor {
  const sizes = x.shape.map((extent, axis) => (axis < 2 ? extent : Math.ceil(extent / stride)));
  const seen = slice(x, [0, 0, 0, 0], sizes, [1, 1, stride, stride]);
  const missing = channels - x.shape[1];
  const before = Math.floor(missing / 2);
  return pad(seen, { low: [0, before, 0, 0], high: [0, missing - before, 0, 0] });
}

/** Option B: a convolution of one pixel and batch norm. */
function projected(scope: Scope, x: Tensor, channels: number, stride: number): Tensor {
  const y = conv(scope.at(0), x, { outChannels: channels, kernelSize: 1, stride, bias: false, init });
  return batchNorm(scope.at(1), y);
}

/**
 * The residual network for CIFAR of He et al. 2015, section 4.2: a convolution, three stages of n blocks with 16, 32 and
 * 64 channels on maps of 32, 16 and 8 pixels a side, global average pooling and one linear layer. Parameter names as
 * in torchvision's ResNet: `conv1`, `bn1`, `layer1.0.conv1`, ..., `fc`.
 */
const resnet = (depth: number): ModelInfo =>
  defineModel({
    name: `resnet${depth}`,
    doc: `Residual network of ${depth} layers for small images such as those of CIFAR.`,
    paper: 'He, Zhang, Ren and Sun 2015, Deep residual learning for image recognition, section 4.2 (arXiv 1512.03385).',
    options: {
      shortcut: choice<Shortcut>({
        default: 'A',
        choices: ['A', 'B'],
        doc: 'Where a block changes the shape, its input is passed on by A: zeros for new channels (as in the paper); B: a convolution of one pixel.',
      }),
      width: integer({ default: 16, min: 1, doc: 'Channels of the first stage; doubled twice.', unit: 'channels' }),
      zeroInitResidual: flag({
        default: false,
        doc: 'Whether the last batch norm of each block starts with scale 0, so that blocks start as the identity (Goyal et al. 2017).',
      }),
    },
    build: ({ shortcut, width, zeroInitResidual }, problem) => {
      expectImages(`resnet${depth}`, problem);
      const blocks = (depth - 2) / 6;
      return {
        forward: (scope, x) => {
          const stem = conv(scope.at('conv1'), x, { outChannels: width, kernelSize: 3, padding: 1, bias: false, init });
          let h = relu(batchNorm(scope.at('bn1'), stem));
          for (let stage = 0; stage < 3; stage++) {
            for (let k = 0; k < blocks; k++) {
              const stride = stage > 0 && k === 0 ? 2 : 1;
              h = basicBlock(scope.at(`layer${stage + 1}`).at(k), h, {
                channels: width * 2 ** stage,
                stride,
                shortcut,
                zeroInitResidual,
              });
            }
          }
          return linear(scope.at('fc'), globalAveragePool(h), { outFeatures: problem.classes, tags: ['head'] });
        },
      };
    },
  });

/** ResNet-20, 32, 44, 56 and 110. */
export const resnets: readonly ModelInfo[] = [20, 32, 44, 56, 110].map(resnet);
