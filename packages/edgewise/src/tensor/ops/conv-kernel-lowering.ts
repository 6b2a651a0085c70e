/** @file How the gradient of a convolution in its kernel becomes ONNX nodes; measured in docs/decisions/0004-convolution-gradients.md. */
import type { DType } from '../dtype.ts';
import { int, ints, type Lowering } from '../lowering.ts';
import { type Shape, sizeOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import type { ConvAttrs } from './conv.ts';
import { flatImage, inPlane, isDepthwise, least, nchwc, roundUp, swapped } from './conv-lowering.ts';
import { emitProduct } from './matmul-lowering.ts';

export function lowerConvKernel(to: Lowering, [x, y]: readonly string[], { attrs, dtype }: Tensor<ConvAttrs>): string {
  const { w, strides, low, high, groups } = attrs;
  const plain = [...low, ...high].every((p) => p === 0) && strides.every((s) => s === 1);
  if (!plain || w.slice(2).some((extent) => extent > 1)) {
    return (
      (dtype === 'float32' ? depthwiseKernel(to, x, y, attrs) : undefined) ?? kernelInBands(to, x, y, attrs, dtype)
    );
  }
  const matrices = ([n, channels, ...spatial]: Shape) => [n, groups, channels / groups, sizeOf(spatial)];
  const [left, right] = [matrices(attrs.y), matrices(attrs.x)];
  const rows = { name: to.node('Reshape', [y, to.ints(left)]), shape: left, transposed: false };
  const columns = { name: to.node('Reshape', [x, to.ints(right)]), shape: right, transposed: true };
  const products = emitProduct(to, rows, columns, dtype);
  return to.node('Reshape', [summed(to, products, attrs.x[0], sizeOf(w), dtype), to.ints(w)]);
}

/** Elements of x unfolded up to which the provider may set memory aside in every thread. */
const mostUnfolded = 1 << 23;

/** {@link kernelBySliding}, over bands of rows whose sum it is where the images are large: the provider asks for memory by their size. */
function kernelInBands(to: Lowering, x: string, y: string, attrs: ConvAttrs, dtype: DType): string {
  const { strides, low, dilations } = attrs;
  const [rows, ...others] = attrs.y.slice(2);
  const unfolded = sizeOf(attrs.w.slice(1)) * sizeOf(attrs.y.slice(2));
  const height = Math.ceil(rows / Math.min(rows, Math.ceil(unfolded / mostUnfolded)));
  if (height >= rows) return kernelBySliding(to, x, y, attrs, dtype);
  const axis = to.ints([2]);
  const bands = Array.from({ length: Math.ceil(rows / height) }, (_, band) => {
    const [first, end] = [band * height, Math.min(rows, (band + 1) * height)];
    const origin = first * strides[0] - low[0];
    const reach = (end - 1 - first) * strides[0] + (attrs.w[2] - 1) * dilations[0] + 1;
    const [from, until] = [Math.max(0, origin), Math.min(attrs.x[2], origin + reach)];
    if (from >= until) return [];
    const seen = to.node('Slice', [x, to.ints([from]), to.ints([until]), axis]);
    const part = to.node('Slice', [y, to.ints([first]), to.ints([end]), axis]);
    const [n, channels, , ...width] = attrs.x;
    const own = {
      ...attrs,
      x: [n, channels, until - from, ...width],
      y: [n, attrs.y[1], end - first, ...others],
      low: [from - origin, ...low.slice(1)],
    };
    return [kernelBySliding(to, seen, part, own, dtype)];
  });
  const parts = bands.flat();
  return parts.length === 0 ? kernelBySliding(to, x, y, attrs, dtype) : to.node('Sum', parts);
}

/** Rows of x the last output lacks at the end, by axis: negative where the convolution leaves the end of x unread. */
const missingRows = ({ strides, low, dilations, x, y, w }: ConvAttrs): number[] =>
  strides.map((s, axis) => (w[axis + 2] - 1) * dilations[axis] + (y[axis + 2] - 1) * s + 1 - x[axis + 2] - low[axis]);

/** Where the end of x is unread, filters slide further than there are taps; what is beyond them is cut off. */
function onlyTaps(
  to: Lowering,
  slid: string,
  lead: readonly number[],
  trail: readonly number[],
  attrs: ConvAttrs,
): string {
  const kernel = attrs.w.slice(2);
  const missing = missingRows(attrs);
  const places = kernel.map((taps, axis) => taps + Math.floor(Math.max(0, -missing[axis]) / attrs.dilations[axis]));
  const all = to.node('Reshape', [slid, to.ints([...lead, ...places, ...trail])]);
  if (places.every((place, axis) => place === kernel[axis])) return all;
  const axes = to.ints(kernel.map((_, axis) => axis + lead.length));
  return to.node('Slice', [all, to.ints(kernel.map(() => 0)), to.ints(kernel), axes]);
}

/**
 * Depthwise: every channel of every example is a channel of one depthwise convolution in the provider's blocked layout, whose kernel
 * is the output gradient. Both are in that layout already for the other two convolutions of the layer.
 */
function depthwiseKernel(to: Lowering, x: string, y: string, attrs: ConvAttrs): string | undefined {
  const { channelBlock: block } = to;
  const [n, channels, ...extent] = attrs.x;
  const out = attrs.y.slice(2);
  const worth = n * channels * sizeOf(out) * sizeOf(attrs.w.slice(2)) >= least.products;
  if (block === 1 || !isDepthwise(attrs) || channels % 4 !== 0 || !worth) return undefined;
  const blocked = (t: string, shape: Shape) => {
    const flat = shape.length === 4 ? t : to.node('Reshape', [t, to.ints(flatImage(shape))]);
    return to.node('ReorderInput', [flat], { channels_last: int(0) }, nchwc);
  };
  const all = n * roundUp(channels, block);
  const image = to.node('Reshape', [blocked(x, attrs.x), to.ints([1, all, ...inPlane(extent, 1)])]);
  const filters = to.node('Reshape', [blocked(y, attrs.y), to.ints([all, 1, ...inPlane(out, 1)])]);
  const high = missingRows(attrs).map((p) => Math.max(0, p));
  const settings = {
    group: int(all),
    kernel_shape: ints(inPlane(out, 1)),
    strides: ints(inPlane(attrs.dilations, 1)),
    dilations: ints(inPlane(attrs.strides, 1)),
    pads: ints([...inPlane(attrs.low, 0), ...inPlane(high, 0)]),
  };
  const slid = to.node('Conv', [image, filters], settings, nchwc);
  // One example a batch again, with the places as its image: as many rows as it takes.
  const each = to.node('Reshape', [slid, to.ints([n, all / n, -1, 1])]);
  const back = to.node('ReorderOutput', [each], { channels: int(channels), channels_last: int(0) }, nchwc);
  const taps = onlyTaps(to, back, [n, channels], [], attrs);
  return to.node('Reshape', [summed(to, taps, n, sizeOf(attrs.w), 'float32'), to.ints(attrs.w)]);
}

/**
 * One grouped convolution: every few examples are a group, its filters are the output gradient, and they slide over x with channels
 * last. There the places a filter slides to are the row tap and, in one axis, (column tap, channel); the stride becomes the
 * distance of the filter's taps. The provider unfolds x in cache and multiplies, so that no tap of x is ever copied to memory.
 */
function kernelBySliding(to: Lowering, x: string, y: string, attrs: ConvAttrs, dtype: DType): string {
  const { strides, low, dilations, groups } = attrs;
  const [n, channels, ...extent] = attrs.x;
  const [o, c, ...kernel] = attrs.w;
  const out = attrs.y.slice(2);
  const together = groups === 1 ? examplesTogether(n, sizeOf(out)) : 1;
  const count = n * groups;
  const pixels = c === 1 ? x : swapped(to, x, [count, channels / groups, sizeOf(extent)]);
  const columns = extent.length - 1;
  // Dilated column taps leave gaps between the channels of one and of the next: then channels are an axis of their own.
  const merged = dilations[columns] === 1;
  const withChannels = (list: readonly number[], entry: number): readonly number[] =>
    merged ? list.map((value, axis) => (axis === columns ? value * c : value)) : [...list, entry];
  const own: readonly number[] = merged ? [] : [1];
  const image = to.node('Reshape', [pixels, to.ints([1, count, ...withChannels(extent, c)])]);
  const filters = to.node('Reshape', [
    examplesInside(to, y, [n / together, together, o, sizeOf(out)]),
    to.ints([(n / together) * o, together, ...out, ...own]),
  ]);
  const high = missingRows(attrs).map((p) => Math.max(0, p));
  const slid = to.node('Conv', [image, filters], {
    group: int(count / together),
    kernel_shape: ints([...out, ...own]),
    strides: ints([...dilations, ...own]),
    dilations: ints(withChannels(strides, 1)),
    pads: ints([...withChannels(low, 0), ...withChannels(high, 0)]),
  });
  const taps = onlyTaps(to, slid, [n / together, o], [c], attrs);
  const total = summed(to, taps, n / together, sizeOf(attrs.w), dtype);
  return to.node('Reshape', [c === 1 ? total : swapped(to, total, [o, sizeOf(kernel), c]), to.ints(attrs.w)]);
}

/** Σ over the first axis as a product with ones, which takes half the time of ReduceSum, and a quarter for up to 16 terms. */
function summed(to: Lowering, terms: string, count: number, size: number, dtype: DType): string {
  if (count === 1) return terms;
  const rows = to.node('Reshape', [terms, to.ints([count, size])]);
  return to.node('MatMul', [to.scalar(1, dtype, [1, count]), rows]);
}

/** Terms of a sum from which the provider's product is at its best. */
const longSum = 256;

/** How many examples of small images share a group, so that sums are long; groups enough for every thread remain. */
function examplesTogether(n: number, pixels: number): number {
  const most = Math.min(n / 8, longSum / pixels);
  for (let count = Math.floor(most); count > 1; count--) {
    if (n % count === 0) return count;
  }
  return 1;
}

/** [groups, examples, channels, pixels] with the examples of a group inside each channel. */
function examplesInside(to: Lowering, y: string, shape: readonly [number, number, number, number]): string {
  if (shape[1] === 1) return y;
  return to.node('Transpose', [to.node('Reshape', [y, to.ints(shape)])], { perm: ints([0, 2, 1, 3]) });
}
