import { convInputOp, convOp } from '../tensor/ops/conv.ts';
import { matmulOp } from '../tensor/ops/matmul.ts';
import { sumOp } from '../tensor/ops/reduce.ts';
import { broadcastShapes, sameShape, sizeOf } from '../tensor/shape.ts';
import { isA, make, type Tensor, topological } from '../tensor/tensor.ts';
import { type ChannelForm, channelForm, channelVector } from './channel-form.ts';
import { rewrite } from './expand.ts';
import { channelSumOp, convEndingOp, convPairOp, dotOp, dotSplit, gemmOp } from './fused-ops.ts';

/** What the device a graph is fused for can do. */
export interface FuseOptions {
  /** Execution provider; `cpu` by default. */
  readonly provider?: string;
  /** Channels in one block of its convolution layout; 1 (default) where it has none. */
  readonly channelBlock?: number;
}

/** A node whose inputs are fused already, and what it was before. `alone(i)` tells whether input i has no other user. */
interface Site {
  readonly node: Tensor;
  readonly alone: (input: number) => boolean;
}

/**
 * Joins ops into one kernel where nobody else wants what is between them: a product and its bias, two convolutions that are added,
 * sums of products, and sums of tensors scaled channel by channel. Run it last: fused ops have no derivative.
 */
export function fuse(outputs: readonly Tensor[], { provider = 'cpu', channelBlock = 1 }: FuseOptions = {}): Tensor[] {
  const users = new Map<Tensor, number>();
  for (const tensor of [...topological(outputs).flatMap((node) => node.inputs), ...outputs]) {
    users.set(tensor, (users.get(tensor) ?? 0) + 1);
  }
  const onCpu = provider === 'cpu' || provider === 'wasm';
  return rewrite(outputs, (node, original) => {
    const site: Site = { node, alone: (input) => users.get(original.inputs[input]) === 1 };
    return (
      withBias(site) ??
      (onCpu ? convEnding(site) : undefined) ??
      (onCpu ? dot(site) : undefined) ??
      (channelBlock > 1 ? (convPair(site) ?? channelSum(site, channelBlock)) : undefined) ??
      node
    );
  });
}

function withBias({ node, alone }: Site): Tensor | undefined {
  if (node.op.name !== 'add') return undefined;
  for (const [product, c] of [
    [0, 1],
    [1, 0],
  ]) {
    const [x, y] = [node.inputs[product], node.inputs[c]];
    if (!isA(x, matmulOp) || x.rank !== 2 || y.rank > 2 || !alone(product)) continue;
    const fits = sameShape(node.shape, x.shape) && sameShape(broadcastShapes('gemm', x.shape, y.shape), x.shape);
    if (fits) return make(gemmOp, [...x.inputs, y], x.attrs);
  }
  return undefined;
}

function dot({ node, alone }: Site): Tensor | undefined {
  const [product] = node.inputs;
  if (!isA(node, sumOp) || node.dtype !== 'float32' || product.op.name !== 'mul' || !alone(0)) return undefined;
  const whole = product.inputs.every((x) => sameShape(x.shape, product.shape));
  return whole && dotSplit(product.shape, node.attrs) ? make(dotOp, product.inputs, node.attrs) : undefined;
}

function convEnding({ node, alone }: Site): Tensor | undefined {
  const [a, b] = node.inputs;
  if (node.dtype !== 'float32') return undefined;
  if (node.op.name === 'relu' && alone(0)) {
    if (isA(a, convEndingOp) && !a.attrs.relu) return make(convEndingOp, a.inputs, { ...a.attrs, relu: true });
    return isA(a, convOp) ? make(convEndingOp, a.inputs, { ...a.attrs, relu: true }) : undefined;
  }
  if (node.op.name !== 'add') return undefined;
  for (const [conv, other, alones] of [
    [a, b, alone(0)],
    [b, a, alone(1)],
  ] as const) {
    const bias = isA(conv, convOp) && alones && sameShape(conv.shape, node.shape) && channelVector(other, conv.shape);
    if (isA(conv, convOp) && bias) return make(convEndingOp, [...conv.inputs, bias], { ...conv.attrs, relu: false });
  }
  return undefined;
}

function convPair({ node, alone }: Site): Tensor | undefined {
  const [a, b] = node.inputs;
  if (node.op.name !== 'add' || a === b || !alone(0) || !alone(1)) return undefined;
  for (const op of [convOp, convInputOp]) {
    if (isA(a, op) && isA(b, op) && JSON.stringify(a.attrs) === JSON.stringify(b.attrs)) {
      return make(convPairOp, [...a.inputs, ...b.inputs], { ...a.attrs, of: op === convOp ? 'conv' : 'convInput' });
    }
  }
  return undefined;
}

/** Elements below which a pass over memory costs less than the nodes that prepare coefficients. */
const leastSize = 1 << 15;

function channelSum({ node, alone }: Site, block: number): Tensor | undefined {
  const fits = node.dtype === 'float32' && node.rank >= 2 && sizeOf(node.shape.slice(2)) % block === 0;
  if (!fits || node.size < leastSize) return undefined;
  const form = channelForm(node, alone);
  return form && worthwhile(form) ? emit(form) : undefined;
}

/** Passes over memory are saved where at least two ops are joined, and one of them scales: plain sums are as fast by themselves. */
function worthwhile({ terms, bias, joined }: ChannelForm): boolean {
  return joined >= 2 && (bias !== undefined || terms.some(({ a }) => a !== undefined));
}

const emit = ({ terms, bias, relu, like }: ChannelForm): Tensor =>
  make(channelSumOp, [...terms.map(({ x }) => x), ...terms.map(({ a }) => a ?? like(1)), bias ?? like(0)], {
    terms: terms.length,
    relu,
  });
