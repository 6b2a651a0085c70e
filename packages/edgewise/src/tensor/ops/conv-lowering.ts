/**
 * @file How convolutions and their input gradients become ONNX nodes that ONNX Runtime's CPU provider executes fast. What was
 * tried and measured is in docs/decisions/0004-convolution-gradients.md.
 */
import type { DType } from '../dtype.ts';
import { int, ints, type Lowering, string } from '../lowering.ts';
import { type Shape, sizeOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import type { ConvAttrs } from './conv.ts';

/** A convolution to be emitted: the image's value, the geometry, and the kernel as it is and in the provider's blocks. */
interface Direct {
  readonly image: string;
  readonly attrs: ConvAttrs;
  readonly dtype: DType;
  kernel(): string;
  blocks(block: number): string;
}

/** What a convolution may do with its result before it goes to memory. */
interface Ending {
  /** Added for each output channel. */
  readonly bias?: string;
  /** Applied last of all. */
  readonly relu?: boolean;
}

export const lowerConv = (to: Lowering, [x, w]: readonly string[], { attrs, dtype }: Tensor<ConvAttrs>): string =>
  emit(to, directConv(to, x, w, attrs, dtype));

/** Convolution, then bias where there is a third input, then ReLU where asked. */
export const lowerConvEnding = (
  to: Lowering,
  [x, w, bias]: readonly string[],
  { attrs, dtype }: Tensor<ConvAttrs & { readonly relu: boolean }>,
): string => emit(to, directConv(to, x, w, attrs, dtype), { bias, relu: attrs.relu });

export const lowerConvInput = (to: Lowering, [y, w]: readonly string[], { attrs, dtype }: Tensor<ConvAttrs>): string =>
  emitInput(to, y, w, attrs, dtype);

function emitInput(to: Lowering, y: string, w: string, attrs: ConvAttrs, dtype: DType): string {
  const seen = withoutUnseen(to, y, attrs);
  if (seen === undefined) return to.node('Expand', [to.scalar(0, dtype), to.ints(attrs.x)]);
  const direct = directInput(to, seen.y, w, seen.attrs, dtype);
  return direct ? emit(to, direct) : transposedConv(to, seen.y, w, seen.attrs);
}

/** The sum of two convolutions, or of two input gradients, of one geometry: the second adds to the result of the first in place. */
export function lowerConvPair(
  to: Lowering,
  [a, w, a2, w2]: readonly string[],
  node: Tensor<ConvAttrs & { readonly of: 'conv' | 'convInput' }>,
): string {
  const { of, ...attrs } = node.attrs;
  const { dtype } = node;
  const direct = (image: string, kernel: string): Direct | undefined => {
    if (of === 'conv') return directConv(to, image, kernel, attrs, dtype);
    const seen = withoutUnseen(to, image, attrs);
    return seen && directInput(to, seen.y, kernel, seen.attrs, dtype);
  };
  const [first, second] = [direct(a, w), direct(a2, w2)];
  const sum = first && emitBlocked(to, first);
  if (second && sum !== undefined) return unblocked(to, emitBlocked(to, second, {}, sum)!, second.attrs.y);
  const alone = (image: string, kernel: string) =>
    of === 'conv' ? emit(to, directConv(to, image, kernel, attrs, dtype)) : emitInput(to, image, kernel, attrs, dtype);
  return to.node('Add', [alone(a, w), alone(a2, w2)]);
}

const directConv = (to: Lowering, image: string, w: string, attrs: ConvAttrs, dtype: DType): Direct => ({
  image,
  attrs,
  dtype,
  kernel: () => w,
  blocks: (block) => blockedKernel(to, w, attrs, block),
});

/** An input gradient as a convolution with the kernel turned around, which is what it is where the stride is 1. */
function directInput(to: Lowering, y: string, w: string, attrs: ConvAttrs, dtype: DType): Direct | undefined {
  const { strides, low, dilations, groups, x } = attrs;
  // The CPU's ConvTranspose, which other strides need, uses one thread.
  if (strides.some((s) => s > 1)) return undefined;
  const [o, c, ...kernel] = attrs.w;
  const mirrored = {
    ...attrs,
    x: attrs.y,
    w: [c * groups, o / groups, ...kernel],
    y: x,
    low: kernel.map((taps, axis) => (taps - 1) * dilations[axis] - low[axis]),
    high: low.map((l, axis) => x[axis + 2] - attrs.y[axis + 2] + l),
  };
  return {
    image: y,
    attrs: mirrored,
    dtype,
    kernel: () => turned(to, w, attrs),
    blocks: (block) =>
      groups === 1 && o % block === 0 && c % block === 0
        ? turnedBlocks(to, w, attrs, block)
        : blockedKernel(to, turned(to, w, attrs), mirrored, block),
  };
}

function emit(to: Lowering, direct: Direct, ending: Ending = {}): string {
  const { image, attrs, kernel } = direct;
  const blocked = emitBlocked(to, direct, ending);
  if (blocked !== undefined) return unblocked(to, blocked, attrs.y);
  const inputs = [image, kernel(), ...(ending.bias === undefined ? [] : [ending.bias])];
  const result = to.node('Conv', inputs, convNode(attrs));
  return ending.relu ? to.node('Relu', [result]) : result;
}

const convNode = ({ strides, low, high, dilations, groups, w }: ConvAttrs) => ({
  strides: ints(strides),
  pads: ints([...low, ...high]),
  dilations: ints(dilations),
  group: int(groups),
  kernel_shape: ints(w.slice(2)),
});

export const nchwc = { domain: 'com.microsoft.nchwc' };

/** Multiplications below which a plain Conv takes no longer, and output pixels below which reordering the kernel costs too much. */
export const least = { products: 1 << 19, pixels: 256 };

export const roundUp = (n: number, block: number) => Math.ceil(n / block) * block;

/** Channels of one output are computed from one input channel. */
export const isDepthwise = ({ groups, w: [o, c] }: ConvAttrs) => groups > 1 && c === 1 && o === groups;

/** Fewer input channels than a block: the provider reads them as they are. */
const readsPlain = ({ groups, w: [, c] }: ConvAttrs, block: number) => groups === 1 && c < block;

/**
 * The convolution in the provider's own layout, whose channels come in blocks, where it has one that takes these shapes. By itself
 * ONNX Runtime uses it only where the kernel is a constant. Undefined where a plain Conv is what is left, or better.
 *
 * @param sum a blocked result of the same shape that is added to, in place where nobody else reads it.
 */
function emitBlocked(to: Lowering, direct: Direct, ending: Ending = {}, sum?: string): string | undefined {
  const { image, attrs } = direct;
  const { channelBlock: block } = to;
  const { groups, strides, low, high, dilations, y } = attrs;
  const [o, c, ...kernel] = attrs.w;
  const pixels = y[0] * sizeOf(y.slice(2));
  if (block === 1 || direct.dtype !== 'float32') return undefined;
  if (pixels < least.pixels || pixels * sizeOf(attrs.w) < least.products) return undefined;
  const plain = readsPlain(attrs, block);
  const depthwise = isDepthwise(attrs);
  const splits = groups === 1 || depthwise || (c % block === 0 && (o / groups) % block === 0);
  // ReorderInput wants multiples of 4; it fills the last block with zeros.
  if (!splits || (!plain && attrs.x[1] % 4 !== 0)) return undefined;
  const flat = attrs.x.length === 4 ? image : to.node('Reshape', [image, to.ints(flatImage(attrs.x))]);
  const source = plain ? flat : to.node('ReorderInput', [flat], { channels_last: int(0) }, nchwc);
  const missing = roundUp(o, block) - o;
  const bias = ending.bias && missing > 0 ? to.node('Pad', [ending.bias, to.ints([0, missing])]) : ending.bias;
  const inputs = [source, direct.blocks(block), ...(bias || sum ? [bias ?? ''] : []), ...(sum ? [sum] : [])];
  const settings = {
    strides: ints(inPlane(strides, 1)),
    pads: ints([...inPlane(low, 0), ...inPlane(high, 0)]),
    dilations: ints(inPlane(dilations, 1)),
    group: int(depthwise ? roundUp(groups, block) : groups),
    kernel_shape: ints(inPlane(kernel, 1)),
    ...(ending.relu ? { activation: string('Relu') } : {}),
  };
  return to.node('Conv', inputs, settings, nchwc);
}

/** A blocked result as a tensor of shape y. */
function unblocked(to: Lowering, result: string, y: Shape): string {
  const back = to.node('ReorderOutput', [result], { channels: int(y[1]), channels_last: int(0) }, nchwc);
  return y.length === 4 ? back : to.node('Reshape', [back, to.ints(y)]);
}

/** Settings of one or two spatial axes as those of two. */
export const inPlane = (list: readonly number[], fill: number): readonly number[] =>
  list.length === 2 ? list : [fill, ...list];

export const flatImage = ([n, c, ...spatial]: Shape): Shape => [n, c, ...inPlane(spatial, 1)];

/** Kernel [O, C/g, ...k] with output channels, and input channels unless read one by one, in blocks; blocks are the last axes. */
function blockedKernel(to: Lowering, w: string, attrs: ConvAttrs, block: number): string {
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
export function swapped(to: Lowering, x: string, shape: readonly [number, number, number]): string {
  return to.node('Transpose', [to.node('Reshape', [x, to.ints(shape)])], { perm: ints([0, 2, 1]) });
}

/**
 * The outputs that saw more than padding, and the geometry that is left: without the first ones and those past the last that
 * still count. Undefined where none did.
 */
function withoutUnseen(to: Lowering, y: string, attrs: ConvAttrs): { y: string; attrs: ConvAttrs } | undefined {
  const { strides, low, dilations, x } = attrs;
  const spatial = strides.map((_, axis) => axis);
  const reach = dilations.map((d, axis) => d * (attrs.w[axis + 2] - 1));
  const first = spatial.map((axis) => Math.max(0, Math.ceil((low[axis] - reach[axis]) / strides[axis])));
  const last = spatial.map((axis) =>
    Math.min(attrs.y[axis + 2], Math.floor((x[axis + 2] - 1 + low[axis]) / strides[axis]) + 1),
  );
  if (spatial.some((axis) => first[axis] >= last[axis])) return undefined;
  const kept = [...attrs.y.slice(0, 2), ...spatial.map((axis) => last[axis] - first[axis])];
  if (kept.every((extent, axis) => extent === attrs.y[axis])) return { y, attrs };
  const ends = [to.ints(first), to.ints(last), to.ints(spatial.map((axis) => axis + 2))];
  const shifted = low.map((l, axis) => l - first[axis] * strides[axis]);
  return { y: to.node('Slice', [y, ...ends]), attrs: { ...attrs, y: kept, low: shifted } };
}

function transposedConv(to: Lowering, y: string, w: string, attrs: ConvAttrs): string {
  const { strides, low, dilations, groups, x } = attrs;
  const reach = dilations.map((d, axis) => d * (attrs.w[axis + 2] - 1));
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

/** {@link turned} and {@link blockedKernel} at once, in fewer passes: taps first, their order reversed, then whole blocks moved. */
function turnedBlocks(to: Lowering, w: string, { w: [o, c, ...kernel] }: ConvAttrs, block: number): string {
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
