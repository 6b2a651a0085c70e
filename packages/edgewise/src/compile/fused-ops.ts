/** @file Ops that only compiled graphs have: several of a model's in one kernel. They have no derivative. */
import { int, ints, type Lowering, string } from '../tensor/lowering.ts';
import { type ConvAttrs, convInputOp, convOp } from '../tensor/ops/conv.ts';
import { lowerConvEnding, lowerConvPair } from '../tensor/ops/conv-lowering.ts';
import { add, mul, relu } from '../tensor/ops/elementwise.ts';
import { reshape } from '../tensor/ops/layout.ts';
import { type MatmulAttrs, matmul, matmulOp } from '../tensor/ops/matmul.ts';
import { emitProductPlus } from '../tensor/ops/matmul-lowering.ts';
import { type ReduceAttrs, sum } from '../tensor/ops/reduce.ts';
import { reducedShape, type Shape, sizeOf } from '../tensor/shape.ts';
import { make, type OpDef, type Tensor, uniformValue } from '../tensor/tensor.ts';

/** a · b + c for matrices a and b and a c that broadcasts to the product: inputs (a, b, c). */
export const gemmOp: OpDef<MatmulAttrs> = {
  name: 'gemm',
  infer: ([a, b], attrs) => matmulOp.infer([a, b], attrs),
  decompose: ([a, b, c], attrs) => add(matmul(a, b, attrs), c),
  lower: (to, [a, b, c], { inputs: [x, y], attrs, dtype }) =>
    emitProductPlus(
      to,
      { name: a, shape: x.shape, transposed: attrs.transposeA },
      { name: b, shape: y.shape, transposed: attrs.transposeB },
      c,
      dtype,
    ),
};

/** The sum of two convolutions, or of two input gradients, of one geometry: inputs (x, w, x', w') or (y, w, y', w'). */
export interface ConvPairAttrs extends ConvAttrs {
  readonly of: 'conv' | 'convInput';
}

export const convPairOp: OpDef<ConvPairAttrs> = {
  name: 'convPair',
  infer: ([x], attrs) => ({ dtype: x.dtype, shape: attrs.of === 'conv' ? attrs.y : attrs.x }),
  decompose: ([x, w, x2, w2], { of, ...attrs }) => {
    const op = of === 'conv' ? convOp : convInputOp;
    return add(make(op, [x, w], attrs), make(op, [x2, w2], attrs));
  },
  lower: lowerConvPair,
};

/** A convolution that adds a bias to each channel, or ends in ReLU, or both: inputs (x, w) or (x, w, bias). */
export interface ConvEndingAttrs extends ConvAttrs {
  readonly relu: boolean;
}

export const convEndingOp: OpDef<ConvEndingAttrs> = {
  name: 'convEnding',
  infer: ([x], { y }) => ({ dtype: x.dtype, shape: y }),
  decompose: ([x, w, bias], { relu: cut, ...attrs }) => {
    const y = make(convOp, [x, w], attrs);
    const biased = bias ? add(y, reshape(bias, [bias.size, ...attrs.strides.map(() => 1)])) : y;
    return cut ? relu(biased) : biased;
  },
  lower: lowerConvEnding,
};

/** Σ a · b over axes without the product in memory: inputs (a, b), which have one shape. */
export const dotOp: OpDef<ReduceAttrs> = {
  name: 'dot',
  infer: ([a], { axes, keepDims }) => ({ dtype: a.dtype, shape: reducedShape(a.shape, axes, keepDims) }),
  decompose: ([a, b], attrs) => sum(mul(a, b), attrs),
  lower: (to, [a, b], { inputs: [x], attrs, shape }) => {
    const { outer } = dotSplit(x.shape, attrs)!;
    const rows = (name: string) => to.node('Reshape', [name, to.ints([sizeOf(outer), 1, -1])]);
    const products = to.node('FusedMatMul', [rows(a), rows(b)], { transB: int(1) }, { domain: 'com.microsoft' });
    const apart = to.node('Reshape', [products, to.ints(outer)]);
    const rest = attrs.axes.filter((axis) => axis < outer.length);
    const total = rest.length === 0 ? apart : to.node('ReduceSum', [apart, to.ints(rest)], { keepdims: int(0) });
    return to.node('Reshape', [total, to.ints(shape)]);
  },
};

/** Row length from which one product of a row and a column is faster than Mul and ReduceSum. */
const leastRow = 512;

/** The axes in front of the rows a dot is taken over, or undefined where no trailing axes that are summed make long enough rows. */
export function dotSplit(shape: Shape, { axes }: ReduceAttrs): { outer: Shape } | undefined {
  let length = 1;
  for (let axis = shape.length - 1; axis >= 0 && axes.includes(axis); axis--) {
    length *= shape[axis];
    if (length >= leastRow) return { outer: shape.slice(0, axis) };
  }
  return undefined;
}

/** Shape of {@link channelSumOp}: how many tensors are added, and whether what comes out goes through ReLU. */
export interface ChannelSumAttrs {
  readonly terms: number;
  readonly relu: boolean;
}

/** Σ aᵢ xᵢ + b with aᵢ and b [C] and xᵢ [N, C, ...], all of one shape: inputs (x₁ ..., a₁ ..., b). */
export const channelSumOp: OpDef<ChannelSumAttrs> = {
  name: 'channelSum',
  infer: ([x]) => ({ dtype: x.dtype, shape: x.shape }),
  decompose: (inputs, attrs) => {
    const { terms, bias } = channelSumParts(inputs, attrs);
    const over = (v: Tensor) => reshape(v, [v.size, ...inputs[0].shape.slice(2).map(() => 1)]);
    const total = terms.map(({ x, a }) => mul(x, over(a))).reduce((left, right) => add(left, right));
    return attrs.relu ? relu(add(total, over(bias))) : add(total, over(bias));
  },
  lower: (to, names, { inputs, attrs, dtype }) => {
    // Each term is a depthwise convolution of one tap in the blocked layout, which adds to what is there and ends in ReLU. The
    // tensor is read as if its blocks were neighbouring positions of one channel, so nothing is reordered.
    const block = to.channelBlock;
    const { shape } = inputs[0];
    const [n, channels] = shape;
    const blocked = to.ints([n, channels * block, sizeOf(shape.slice(2)) / block, 1]);
    const read = (name: string) => to.node('Reshape', [name, blocked]);
    const vector = (name: string, of: Shape) => {
      const value = uniformValue(inputs[names.indexOf(name)]);
      return value === undefined ? repeated(to, name, channels, block, of) : to.scalar(value, dtype, of);
    };
    const { terms, bias } = channelSumParts(names, attrs);
    const total = terms.reduce<string | undefined>((sofar, { x, a }, i) => {
      const sources = [read(x), vector(a, [channels * block, 1, 1, 1])];
      if (sofar === undefined) sources.push(vector(bias, [channels * block]));
      else sources.push('', sofar);
      const settings = { group: int(channels * block), kernel_shape: ints([1, 1]) };
      const last = attrs.relu && i === terms.length - 1;
      return to.node('Conv', sources, last ? { ...settings, activation: string('Relu') } : settings, {
        domain: 'com.microsoft.nchwc',
      });
    }, undefined);
    return to.node('Reshape', [total!, to.ints(shape)]);
  },
};

/** The inputs of a channel sum, by their part in it. */
export function channelSumParts<T>(
  inputs: readonly T[],
  { terms }: ChannelSumAttrs,
): { terms: { x: T; a: T }[]; bias: T } {
  return {
    terms: inputs.slice(0, terms).map((x, i) => ({ x, a: inputs[terms + i] })),
    bias: inputs[2 * terms],
  };
}

/** Each element of v [C] as often as a block has elements. */
function repeated(to: Lowering, v: string, channels: number, block: number, shape: Shape): string {
  const source = BigInt64Array.from({ length: channels * block }, (_, i) => BigInt(Math.floor(i / block)));
  return to.node('Gather', [v, to.tensor(source, 'int64', shape)], { axis: int(0) });
}
