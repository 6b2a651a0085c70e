/**
 * @file How the convolution ops become ONNX nodes that ONNX Runtime's CPU provider executes fast. What was tried and measured is
 * in docs/decisions/0004-convolution-gradients.md.
 */
import { int, ints, type Lowering } from '../lowering.ts';
import { type Shape, sizeOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import type { ConvAttrs } from './conv.ts';
import { emitProduct } from './matmul-lowering.ts';

export const lowerConv = (to: Lowering, [x, w]: readonly string[], { attrs }: Tensor<ConvAttrs>): string =>
  blockedConv(to, x, attrs, (block) => blockedFilter(to, w, attrs, block)) ?? to.node('Conv', [x, w], convNode(attrs));

const convNode = ({ strides, low, high, dilations, groups, w }: ConvAttrs) => ({
  strides: ints(strides),
  pads: ints([...low, ...high]),
  dilations: ints(dilations),
  group: int(groups),
  kernel_shape: ints(w.slice(2)),
});

const nchwc = { domain: 'com.microsoft.nchwc' };

/** Multiplications below which a plain Conv takes no longer, and output pixels below which reordering the kernel costs too much. */
const least = { products: 1 << 19, pixels: 256 };

const roundUp = (n: number, block: number) => Math.ceil(n / block) * block;

/** Channels of one output are computed from one input channel. */
const isDepthwise = ({ groups, w: [o, c] }: ConvAttrs) => groups > 1 && c === 1 && o === groups;

/** Fewer input channels than a block: the provider reads them as they are. */
const readsPlain = ({ groups, w: [, c] }: ConvAttrs, block: number) => groups === 1 && c < block;

/**
 * The convolution in the provider's own layout, whose channels come in blocks, where it has one that takes these shapes. By itself
 * ONNX Runtime uses it only where the kernel is a constant. Undefined where a plain Conv is what is left, or better.
 */
function blockedConv(to: Lowering, x: string, attrs: ConvAttrs, filter: (block: number) => string): string | undefined {
  const { channelBlock: block } = to;
  const { groups, strides, low, high, dilations, y } = attrs;
  const [o, c, ...kernel] = attrs.w;
  const pixels = y[0] * sizeOf(y.slice(2));
  if (block === 1 || pixels < least.pixels || pixels * sizeOf(attrs.w) < least.products) return undefined;
  const plain = readsPlain(attrs, block);
  const depthwise = isDepthwise(attrs);
  const splits = groups === 1 || depthwise || (c % block === 0 && (o / groups) % block === 0);
  // ReorderInput wants multiples of 4; it fills the last block with zeros.
  if (!splits || (!plain && attrs.x[1] % 4 !== 0)) return undefined;
  const image = to.node('Reshape', [x, to.ints(flatImage(attrs.x))]);
  const source = attrs.x.length === 4 ? x : image;
  const result = to.node(
    'Conv',
    [plain ? source : to.node('ReorderInput', [source], { channels_last: int(0) }, nchwc), filter(block)],
    {
      strides: ints(inPlane(strides, 1)),
      pads: ints([...inPlane(low, 0), ...inPlane(high, 0)]),
      dilations: ints(inPlane(dilations, 1)),
      group: int(depthwise ? roundUp(groups, block) : groups),
      kernel_shape: ints(inPlane(kernel, 1)),
    },
    nchwc,
  );
  const back = to.node('ReorderOutput', [result], { channels: int(o), channels_last: int(0) }, nchwc);
  return y.length === 4 ? back : to.node('Reshape', [back, to.ints(y)]);
}

/** Settings of one or two spatial axes as those of two. */
const inPlane = (list: readonly number[], fill: number): readonly number[] =>
  list.length === 2 ? list : [fill, ...list];

const flatImage = ([n, c, ...spatial]: Shape): Shape => [n, c, ...inPlane(spatial, 1)];

/** Kernel [O, C/g, ...k] with output channels, and input channels unless read one by one, in blocks; blocks are the last axes. */
function blockedFilter(to: Lowering, w: string, attrs: ConvAttrs, block: number): string {
  const [o, c, ...kernel] = attrs.w;
  const oneByOne = readsPlain(attrs, block) || isDepthwise(attrs);
  const [outputs, inputs] = [roundUp(o, block), oneByOne ? c : roundUp(c, block)];
  const taps = sizeOf(kernel);
  const whole = outputs === o && inputs === c;
  const missing = [outputs - o, inputs - c, ...kernel.map(() => 0)];
  const filled = whole ? w : to.node('Pad', [w, to.ints([...missing.map(() => 0), ...missing])]);
  // Two transpositions of two axes are four times as fast as one of five.
  const inner = oneByOne ? filled : swapped(to, filled, [(outputs * inputs) / block, block, taps]);
  return to.node('Reshape', [
    swapped(to, inner, [outputs / block, block, inputs * taps]),
    to.ints([outputs, inputs, ...inPlane(kernel, 1)]),
  ]);
}

/** x read as a batch of matrices, each transposed. */
function swapped(to: Lowering, x: string, shape: readonly [number, number, number]): string {
  return to.node('Transpose', [to.node('Reshape', [x, to.ints(shape)])], { perm: ints([0, 2, 1]) });
}

export function lowerConvInput(to: Lowering, [y, w]: readonly string[], { attrs, dtype }: Tensor<ConvAttrs>): string {
  const { strides, low, dilations, x } = attrs;
  const spatial = strides.map((_, axis) => axis);
  const reach = dilations.map((d, axis) => d * (attrs.w[axis + 2] - 1));
  // Outputs that saw nothing but padding: the first ones, and those past the last that still counts.
  const first = spatial.map((axis) => Math.max(0, Math.ceil((low[axis] - reach[axis]) / strides[axis])));
  const last = spatial.map((axis) =>
    Math.min(attrs.y[axis + 2], Math.floor((x[axis + 2] - 1 + low[axis]) / strides[axis]) + 1),
  );
  if (spatial.some((axis) => first[axis] >= last[axis])) return to.node('Expand', [to.scalar(0, dtype), to.ints(x)]);
  const kept = [...attrs.y.slice(0, 2), ...spatial.map((axis) => last[axis] - first[axis])];
  const ends = [to.ints(first), to.ints(last), to.ints(spatial.map((axis) => axis + 2))];
  const seen = kept.every((extent, axis) => extent === attrs.y[axis]) ? y : to.node('Slice', [y, ...ends]);
  return transposedConv(to, seen, w, { ...attrs, y: kept, low: low.map((l, axis) => l - first[axis] * strides[axis]) });
}

function transposedConv(to: Lowering, y: string, w: string, attrs: ConvAttrs): string {
  const { strides, low, dilations, groups, x } = attrs;
  const reach = dilations.map((d, axis) => d * (attrs.w[axis + 2] - 1));
  if (strides.every((s) => s === 1)) {
    // A convolution with the kernel turned around; the CPU's Conv uses every thread, ConvTranspose does not.
    const [o, c, ...kernel] = attrs.w;
    const mirrored = {
      ...attrs,
      x: attrs.y,
      w: [c * groups, o / groups, ...kernel],
      y: x,
      low: reach.map((r, axis) => r - low[axis]),
      high: low.map((l, axis) => x[axis + 2] - attrs.y[axis + 2] + l),
    };
    const filter = (block: number) =>
      groups === 1 && o % block === 0 && c % block === 0
        ? turnedFilter(to, w, attrs, block)
        : blockedFilter(to, turned(to, w, attrs), mirrored, block);
    return blockedConv(to, y, mirrored, filter) ?? to.node('Conv', [y, turned(to, w, attrs)], convNode(mirrored));
  }
  // ConvTranspose yields what the kernel reaches; before and beyond that x has zero gradient.
  const before = low.map((l) => Math.max(0, -l));
  const after = strides.map((s, axis) => x[axis + 2] + low[axis] - (attrs.y[axis + 2] - 1) * s - reach[axis] - 1);
  const full = to.node('ConvTranspose', [y, w], {
    strides: ints(strides),
    dilations: ints(dilations),
    group: int(groups),
    kernel_shape: ints(attrs.w.slice(2)),
    pads: ints([...low.map((l) => Math.max(0, l)), ...after.map((r) => Math.max(0, -r))]),
  });
  if ([...before, ...after].every((r) => r <= 0)) return full;
  return to.node('Pad', [full, to.ints([0, 0, ...before, 0, 0, ...after.map((r) => Math.max(0, r))])]);
}

/** Kernel [O, C/g, ...k] → [C, O/g, ...k] with every spatial axis reversed. */
function turned(to: Lowering, w: string, { groups, w: shape }: ConvAttrs): string {
  const [o, c, ...kernel] = shape;
  const axes = kernel.map((_, axis) => axis);
  let moved: string;
  if (groups === 1) moved = to.node('Transpose', [w], { perm: ints([1, 0, ...axes.map((axis) => axis + 2)]) });
  else {
    const split = to.node('Reshape', [w, to.ints([groups, o / groups, c, ...kernel])]);
    const transposed = to.node('Transpose', [split], { perm: ints([0, 2, 1, ...axes.map((axis) => axis + 3)]) });
    moved = to.node('Reshape', [transposed, to.ints([groups * c, o / groups, ...kernel])]);
  }
  if (kernel.every((extent) => extent === 1)) return moved;
  const minus = to.ints(axes.map(() => -1));
  const ends = to.ints(axes.map(() => Number.MIN_SAFE_INTEGER));
  return to.node('Slice', [moved, minus, ends, to.ints(axes.map((axis) => axis + 2)), minus]);
}

/** {@link turned} and {@link blockedFilter} at once, in fewer passes: taps first, their order reversed, then whole blocks moved. */
function turnedFilter(to: Lowering, w: string, { w: [o, c, ...kernel] }: ConvAttrs, block: number): string {
  const taps = sizeOf(kernel);
  const tapsFirst = to.node('Transpose', [to.node('Reshape', [w, to.ints([o * c, taps])])], { perm: ints([1, 0]) });
  const reversed =
    taps === 1
      ? tapsFirst
      : to.node('Gather', [tapsFirst, to.ints(Array.from({ length: taps }, (_, tap) => taps - 1 - tap))], {
          axis: int(0),
        });
  const blocks = to.node('Reshape', [reversed, to.ints([taps, o / block, block, c / block, block])]);
  const moved = to.node('Transpose', [blocks], { perm: ints([3, 1, 0, 2, 4]) });
  return to.node('Reshape', [moved, to.ints([c, o, ...inPlane(kernel, 1)])]);
}

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
