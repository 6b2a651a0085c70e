/** @file What inference needs no more: batch norm as an operation of its own, and computation that the weights alone decide. */
import { decomposed, evaluate } from '../../tensor/evaluate.ts';
import { convInputOp, convOp } from '../../tensor/ops/conv.ts';
import { add, mul } from '../../tensor/ops/elementwise.ts';
import { reshape } from '../../tensor/ops/layout.ts';
import { matmulOp } from '../../tensor/ops/matmul.ts';
import { apply, erase, isA, make, type Tensor, topological } from '../../tensor/tensor.ts';

/**
 * Batch norm with given statistics is one factor and one shift a channel. Both go into the convolution, transposed convolution or
 * linear layer before it where nothing else reads that layer's result; otherwise they become a product and a sum.
 */
export function foldBatchNorm(outputs: readonly Tensor[]): Tensor[] {
  const order = topological(outputs);
  const readers = new Map<Tensor, number>();
  for (const x of [...order.flatMap((node) => [...new Set(node.inputs)]), ...outputs])
    readers.set(x, (readers.get(x) ?? 0) + 1);
  const done = new Map<Tensor, Tensor>();
  for (const node of order) {
    const inputs = node.inputs.map((x) => done.get(x)!);
    const same = inputs.every((x, i) => x === node.inputs[i]);
    const rebuilt = same ? node : apply(node.op, inputs, node.attrs);
    done.set(node, isAffine(rebuilt) ? withoutAffine(node, rebuilt, readers) : rebuilt);
  }
  return outputs.map((output) => done.get(output)!);
}

const isAffine = ({ op }: Tensor) => op.name === 'batchNormInference' || op.name === 'channelAffine';

/** @param original the node before anything was replaced, whose readers are known. */
function withoutAffine(original: Tensor, node: Tensor, readers: ReadonlyMap<Tensor, number>): Tensor {
  const affine = node.op.name === 'batchNormInference' ? decomposed(node)! : node;
  const [x, factor, shift] = affine.inputs;
  const [source] = original.inputs;
  const alone = (t: Tensor) => readers.get(t) === 1;
  if (alone(source) && (!isBiased(source) || alone(source.inputs[0]))) {
    const folded = intoLayer(x, factor, shift);
    if (folded) return folded;
  }
  return decomposed(affine)!;
}

/** A sum whose second operand is a vector over the channels, as convolution and linear layers write their bias. */
function isBiased(x: Tensor): boolean {
  if (x.op.name !== 'add') return false;
  const [y, bias] = x.inputs;
  return (
    y.rank === x.rank && bias.size === x.shape[1] && bias.shape.length === x.rank - 1 && bias.shape[0] === bias.size
  );
}

/** The layer x with factor and shift [C] worked into its weight and bias; undefined where x is no such layer. */
function intoLayer(x: Tensor, factor: Tensor, shift: Tensor): Tensor | undefined {
  const [product, bias] = isBiased(x) ? x.inputs : [x, undefined];
  const scaled = scaledProduct(product, factor);
  if (!scaled) return undefined;
  const channels = factor.size;
  const moved = bias ? add(mul(reshape(bias, [channels]), factor), shift) : shift;
  return add(scaled, reshape(moved, [channels, ...x.shape.slice(2).map(() => 1)]));
}

function scaledProduct(product: Tensor, factor: Tensor): Tensor | undefined {
  const [x, weight] = product.inputs;
  const along = (axis: number) =>
    reshape(
      factor,
      weight.shape.map((_, i) => (i === axis ? factor.size : 1)),
    );
  if (isA(product, convOp)) return make(convOp, [x, mul(weight, along(0))], product.attrs);
  if (isA(product, convInputOp) && product.attrs.groups === 1)
    return make(convInputOp, [x, mul(weight, along(1))], product.attrs);
  if (isA(product, matmulOp) && product.rank === 2) {
    return erase(apply(matmulOp, [x, mul(weight, along(product.attrs.transposeB ? 0 : 1))], product.attrs));
  }
  return undefined;
}

/** A value that the weights decide. */
export interface Settled {
  /** The symbol or result in the graph. */
  readonly tensor: Tensor;
  readonly values: ArrayLike<number>;
  /** Declared symbols it is made from, in the order of `given`. */
  readonly from: readonly Tensor[];
}

/**
 * What a graph reads of `given` (parameters and buffers): as far as possible results that depend on them alone, computed
 * here, in float64.
 *
 * @param fixed nodes that may be computed once and for all: those that do not depend on the model's input or batch size.
 */
export function settle(
  outputs: readonly Tensor[],
  given: ReadonlyMap<Tensor, ArrayLike<number>>,
  fixed: ReadonlySet<Tensor>,
): Settled[] {
  // For each fixed node, the declared symbols it is made from; without any it is a constant, which is not ours to store.
  const sources = new Map<Tensor, ReadonlySet<Tensor>>();
  const wanted = new Set<Tensor>();
  const settled = (x: Tensor) => (sources.get(x)?.size ?? 0) > 0;
  for (const node of topological(outputs)) {
    if (given.has(node)) sources.set(node, new Set([node]));
    else if (fixed.has(node)) sources.set(node, new Set(node.inputs.flatMap((x) => [...(sources.get(x) ?? [])])));
    if (!settled(node)) for (const x of node.inputs) if (settled(x)) wanted.add(x);
  }
  for (const output of outputs) if (settled(output)) wanted.add(output);
  const results = [...wanted].filter((x) => !given.has(x));
  const needed = new Set(results.flatMap((x) => [...sources.get(x)!]));
  const computed = evaluate(results, new Map([...given].filter(([symbol]) => needed.has(symbol))));
  const declared = [...given.keys()];
  return [...wanted].map((tensor) => ({
    tensor,
    values: given.get(tensor) ?? computed[results.indexOf(tensor)],
    from: declared.filter((symbol) => sources.get(tensor)!.has(symbol)),
  }));
}
