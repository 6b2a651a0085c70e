import { ShapeError } from '../base/errors.ts';
import { fans, torchDefault } from '../params/initializers.ts';
import {
  type ConvOptions,
  type ConvTransposeOptions,
  conv as convolve,
  convTranspose as transposed,
} from '../tensor/ops/conv.ts';
import { add } from '../tensor/ops/elementwise.ts';
import { reshape } from '../tensor/ops/layout.ts';
import { type Shape, showShape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { layerName, wholeNumber } from './check.ts';
import type { WeightOptions } from './linear.ts';
import type { Scope } from './scope.ts';

interface KernelOptions extends WeightOptions {
  /** Channels of the result. */
  readonly outChannels: number;
  /** Extent of the kernel: one number for all spatial axes, or one each. */
  readonly kernelSize: number | readonly number[];
}

/** Settings of a convolution layer; stride, padding, dilation and groups as in the op. */
export interface ConvLayerOptions extends KernelOptions, ConvOptions {}

/** Settings of a transposed convolution layer; stride, padding, dilation, groups and outputPadding as in the op. */
export interface ConvTransposeLayerOptions extends KernelOptions, ConvTransposeOptions {}

/**
 * Convolution over one or two spatial axes, as many as x has. Declares `weight` [out, C / groups, ...kernel] and `bias` [out].
 *
 * @param x [N, C, ...spatial]
 * @returns [N, out, ...spatial']
 */
export function conv(scope: Scope, x: Tensor, options: ConvLayerOptions): Tensor {
  const { outChannels, kernelSize, groups = 1 } = options;
  const layer = layerName('conv', scope);
  const kernel = kernelOf(layer, x, kernelSize);
  const out = wholeNumber(layer, 'outChannels', outChannels);
  const weight = declareWeight(
    scope,
    layer,
    x,
    [out, x.shape[1] / wholeNumber(layer, 'groups', groups), ...kernel],
    options,
  );
  return withBias(scope, convolve(x, weight, options), weight, options);
}

/**
 * Transposed convolution: the derivative of a convolution in its input. Declares `weight` [C, out / groups, ...kernel]
 * and `bias` [out]; the default initializers count the fan-in as PyTorch does, out / groups times the kernel's extent.
 *
 * @param x [N, C, ...spatial]
 * @returns [N, out, ...spatial'], spatial' = (size - 1) stride - padding + dilation (kernel - 1) + 1 + outputPadding
 */
export function convTranspose(scope: Scope, x: Tensor, options: ConvTransposeLayerOptions): Tensor {
  const { outChannels, kernelSize, groups = 1 } = options;
  const layer = layerName('convTranspose', scope);
  const kernel = kernelOf(layer, x, kernelSize);
  const out = wholeNumber(layer, 'outChannels', outChannels);
  const weight = declareWeight(
    scope,
    layer,
    x,
    [x.shape[1], out / wholeNumber(layer, 'groups', groups), ...kernel],
    options,
  );
  return withBias(scope, transposed(x, weight, options), weight, options);
}

function kernelOf(layer: string, x: Tensor, kernelSize: number | readonly number[]): number[] {
  const spatial = x.rank - 2;
  if (spatial < 1 || spatial > 2) {
    throw new ShapeError(`${layer}: x ${showShape(x.shape)} must be [N, C, length] or [N, C, height, width].`);
  }
  const kernel = typeof kernelSize === 'number' ? new Array<number>(spatial).fill(kernelSize) : [...kernelSize];
  if (kernel.length !== spatial) {
    throw new ShapeError(
      `${layer}: kernelSize ${showShape(kernel)} wants one number for each of the ${spatial} spatial axes of x.`,
    );
  }
  return kernel.map((extent) => wholeNumber(layer, 'kernelSize', extent));
}

function declareWeight(
  scope: Scope,
  layer: string,
  x: Tensor,
  shape: Shape,
  { groups = 1, init, tags = [] }: WeightOptions & ConvOptions,
): Tensor {
  if (!shape.every(Number.isInteger) || shape[0] % groups !== 0) {
    throw new ShapeError(
      `${layer}: ${groups} groups divide neither the channels of x ${showShape(x.shape)} nor those of the result evenly.`,
    );
  }
  return scope.param('weight', shape, init ?? torchDefault(), ['weight', ...tags]);
}

function withBias(
  scope: Scope,
  y: Tensor,
  weight: Tensor,
  { bias = true, biasInit, tags = [] }: WeightOptions,
): Tensor {
  if (!bias) return y;
  const channels = y.shape[1];
  const first = biasInit ?? torchDefault({ fanIn: fans(weight.shape).fanIn });
  const b = scope.param('bias', [channels], first, ['bias', ...tags]);
  return add(y, reshape(b, [channels, ...y.shape.slice(2).map(() => 1)]));
}
