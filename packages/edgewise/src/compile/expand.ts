import { decomposed } from '../tensor/evaluate.ts';
import { apply, type Tensor, topological } from '../tensor/tensor.ts';

/** Rebuilds `outputs` bottom-up, replacing each node by what `rule` makes of it (its inputs already replaced) and of what it was. */
export function rewrite(outputs: readonly Tensor[], rule: (node: Tensor, original: Tensor) => Tensor): Tensor[] {
  const done = new Map<Tensor, Tensor>();
  for (const node of topological(outputs)) {
    const inputs = node.inputs.map((x) => done.get(x)!);
    const same = inputs.every((x, i) => x === node.inputs[i]);
    done.set(node, rule(same ? node : apply(node.op, inputs, node.attrs), node));
  }
  return outputs.map((output) => done.get(output)!);
}

/** Replaces every op by its parts that has no ONNX lowering of its own, or none that `provider` runs in the node's dtype. */
export function expandComposites(outputs: readonly Tensor[], provider: string): Tensor[] {
  return rewrite(outputs, (node) => {
    const { op, inputs } = node;
    if (
      inputs.length === 0 ||
      (op.lower && !op.decomposeOn?.some((lacking) => lacking === provider || lacking === node.dtype))
    )
      return node;
    const parts = decomposed(node);
    return parts ? expandComposites([parts], provider)[0] : node;
  });
}
