/** @file How the gradient of a convolution in its kernel becomes ONNX nodes; measured in docs/decisions/0004-convolution-gradients.md. */
import { int, ints, type Lowering } from '../lowering.ts';
import { type Shape, sizeOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import type { ConvAttrs } from './conv.ts';
import { swapped } from './conv-lowering.ts';
import { emitProduct } from './matmul-lowering.ts';

export function lowerConvKernel(to: Lowering, [x, y]: readonly string[], { attrs, dtype }: Tensor<ConvAttrs>): string {
  const { w, strides, low, high, groups } = attrs;
  const plain = [...low, ...high].every((p) => p === 0) && strides.every((s) => s === 1);
  if (!plain || w.slice(2).some((extent) => extent > 1)) return kernelBySliding(to, x, y, attrs);
  const matrices = ([n, channels, ...spatial]: Shape) => [n, groups, channels / groups, sizeOf(spatial)];
  const [left, right] = [matrices(attrs.y), matrices(attrs.x)];
  const rows = { name: to.node('Reshape', [y, to.ints(left)]), shape: left, transposed: false };
  const columns = { name: to.node('Reshape', [x, to.ints(right)]), shape: right, transposed: true };
  const products = emitProduct(to, rows, columns, dtype);
  return to.node('Reshape', [to.node('ReduceSum', [products, to.ints([0])], { keepdims: int(0) }), to.ints(w)]);
}

/**
 * One grouped convolution: every example is a group, its filters are the output gradient, and they slide over x with channels last.
 * There the places a filter slides to are the row tap and, in one axis, (column tap, channel); the stride becomes the distance of
 * the filter's taps. The provider unfolds x in cache and multiplies, so that no tap of x is ever copied to memory.
 */
function kernelBySliding(to: Lowering, x: string, y: string, attrs: ConvAttrs): string {
  const { strides, low, dilations, groups } = attrs;
  const [n, channels, ...extent] = attrs.x;
  const [o, c, ...kernel] = attrs.w;
  const out = attrs.y.slice(2);
  const count = n * groups;
  const channelsFirst: [number, number, number] = [count, channels / groups, sizeOf(extent)];
  const pixels = c === 1 ? x : swapped(to, x, channelsFirst);
  const columns = extent.length - 1;
  // Dilated column taps leave gaps between the channels of one and of the next: then channels are an axis of their own.
  const merged = dilations[columns] === 1;
  const withChannels = (list: readonly number[], entry: number): readonly number[] =>
    merged ? list.map((value, axis) => (axis === columns ? value * c : value)) : [...list, entry];
  const own: readonly number[] = merged ? [] : [1];
  const image = to.node('Reshape', [pixels, to.ints([1, count, ...withChannels(extent, c)])]);
  const filters = to.node('Reshape', [y, to.ints([n * o, 1, ...out, ...own])]);
  const short = kernel.map(
    (taps, axis) => (taps - 1) * dilations[axis] + (out[axis] - 1) * strides[axis] + 1 - extent[axis] - low[axis],
  );
  const slid = to.node('Conv', [image, filters], {
    group: int(count),
    kernel_shape: ints([...out, ...own]),
    strides: ints([...dilations, ...own]),
    dilations: ints(withChannels(strides, 1)),
    pads: ints([
      ...withChannels(low, 0),
      ...withChannels(
        short.map((p) => Math.max(0, p)),
        0,
      ),
    ]),
  });
  // Where the convolution leaves the end of x unread, filters slide further than there are taps.
  const places = kernel.map((taps, axis) => taps + Math.floor(Math.max(0, -short[axis]) / dilations[axis]));
  let taps = to.node('Reshape', [slid, to.ints([n, o, ...places, c])]);
  if (places.some((place, axis) => place > kernel[axis])) {
    const axes = to.ints(kernel.map((_, axis) => axis + 2));
    taps = to.node('Slice', [taps, to.ints(kernel.map(() => 0)), to.ints(kernel), axes]);
  }
  const total = to.node('ReduceSum', [taps, to.ints([0])], { keepdims: int(0) });
  return to.node('Reshape', [c === 1 ? total : swapped(to, total, [o, sizeOf(kernel), c]), to.ints(attrs.w)]);
}
