/** @file Recognises sums of tensors that are scaled and shifted channel by channel. */
import { channelAffineOp } from '../tensor/ops/batch-norm.ts';
import { add, mul } from '../tensor/ops/elementwise.ts';
import { expand, reshape } from '../tensor/ops/layout.ts';
import { sameShape } from '../tensor/shape.ts';
import { constant, isA, type Tensor } from '../tensor/tensor.ts';
import { channelSumOp, channelSumParts } from './fused-ops.ts';

/** Σ a x + b, then perhaps ReLU: a and b are [C], and stand for ones and zeros where undefined. */
export interface ChannelForm {
  readonly terms: readonly { readonly x: Tensor; readonly a: Tensor | undefined }[];
  readonly bias: Tensor | undefined;
  readonly relu: boolean;
  /** How many ops it stands for. */
  readonly joined: number;
  /** A [C] filled with one number. */
  readonly like: (value: number) => Tensor;
}

type Parts = Pick<ChannelForm, 'terms' | 'bias' | 'joined'>;

/** The form of a node, read through those of its inputs that nobody else uses; undefined where it is none of these ops. */
export function channelForm(node: Tensor, alone: (input: number) => boolean): ChannelForm | undefined {
  const parts = partsOf(node, alone);
  if (!parts) return undefined;
  const like = (value: number) => constant(value, [node.shape[1]], node.dtype);
  return { ...parts, relu: node.op.name === 'relu', like };
}

function partsOf(node: Tensor, alone: (input: number) => boolean): Parts | undefined {
  const { inputs, shape } = node;
  const read = (i: number): Parts => (alone(i) ? known(inputs[i]) : undefined) ?? leaf(inputs[i]);
  const whole = (i: number) => sameShape(inputs[i].shape, shape);
  const over = (i: number) => channelVector(inputs[i], shape);
  switch (node.op.name) {
    case 'relu':
      return counted(read(0));
    case 'neg':
      return counted(scaled(read(0), constant(-1, [shape[1]], node.dtype)));
    case 'add':
    case 'sub': {
      const minus = (parts: Parts) =>
        node.op.name === 'sub' ? scaled(parts, constant(-1, [shape[1]], node.dtype)) : parts;
      if (whole(0) && whole(1)) return counted(joined(read(0), minus(read(1))));
      const [left, right] = [over(0), over(1)];
      if (whole(0) && right) return counted(joined(read(0), minus(shift(right))));
      return whole(1) && left ? counted(joined(shift(left), minus(read(1)))) : undefined;
    }
    case 'mul': {
      const [left, right] = [over(0), over(1)];
      if (whole(0) && right) return counted(scaled(read(0), right));
      return whole(1) && left ? counted(scaled(read(1), left)) : undefined;
    }
    default:
      return isA(node, channelAffineOp) ? counted(joined(scaled(read(0), inputs[1]), shift(inputs[2]))) : undefined;
  }
}

const leaf = (x: Tensor): Parts => ({ terms: [{ x, a: undefined }], bias: undefined, joined: 0 });
const shift = (bias: Tensor): Parts => ({ terms: [], bias, joined: 0 });
const counted = (parts: Parts): Parts => ({ ...parts, joined: parts.joined + 1 });

/** What an input that has been looked at already stands for. */
function known(x: Tensor): Parts | undefined {
  if (isA(x, channelSumOp)) {
    if (x.attrs.relu) return undefined;
    const { terms, bias } = channelSumParts(x.inputs, x.attrs);
    return { terms, bias, joined: 2 };
  }
  // One op by itself was not worth joining, but may be now. Its own inputs are leaves: they were not joined either.
  return ['add', 'sub', 'mul', 'neg', 'channelAffine'].includes(x.op.name) ? partsOf(x, () => false) : undefined;
}

const sumOf = (a: Tensor | undefined, b: Tensor | undefined) => (a && b ? add(a, b) : (a ?? b));

function joined(left: Parts, right: Parts): Parts {
  const terms = [...left.terms];
  for (const { x, a } of right.terms) {
    const same = terms.findIndex((term) => term.x === x);
    if (same < 0) terms.push({ x, a });
    else {
      const one = constant(1, [x.shape[1]], x.dtype);
      terms[same] = { x, a: add(terms[same].a ?? one, a ?? one) };
    }
  }
  return { terms, bias: sumOf(left.bias, right.bias), joined: left.joined + right.joined };
}

function scaled({ terms, bias, joined: ops }: Parts, by: Tensor): Parts {
  const times = (v: Tensor | undefined) => v && mul(v, by);
  return { terms: terms.map(({ x, a }) => ({ x, a: times(a) ?? by })), bias: times(bias), joined: ops };
}

/** [C] of something that broadcasts along every axis but the channels', axis 1, of `shape`. */
export function channelVector(v: Tensor, shape: readonly number[]): Tensor | undefined {
  const lead = shape.length - v.rank;
  const fits = v.shape.every((extent, axis) => extent === 1 || (axis + lead === 1 && extent === shape[1]));
  if (lead < 0 || !fits) return undefined;
  return v.size === shape[1] ? reshape(v, [shape[1]]) : expand(reshape(v, [1]), [shape[1]]);
}
