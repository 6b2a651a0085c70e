import { decomposed } from '../tensor/evaluate.ts';
import { apply, type Tensor, topological } from '../tensor/tensor.ts';

/** Rebuilds `outputs` bottom-up, replacing each node by what `rule` makes of it (its inputs already replaced). */
export function rewrite(outputs: readonly Tensor[], rule: (node: Tensor) => Tensor): Tensor[] {
  const done = new Map<Tensor, Tensor>();
  for (const node of topological(outputs)) {
    const inputs = node.inputs.map((x) => done.get(x)!);
    const same = inputs.every((x, i) => x === node.inputs[i]);
    done.set(node, rule(same ? node : apply(node.op, inputs, node.attrs)));
  }
  return outputs.map((output) => done.get(output)!);
}

/** Replaces every op that has no ONNX lowering of its own by its parts. */
export function expandComposites(outputs: readonly Tensor[]): Tensor[] {
  return rewrite(outputs, (node) => {
    if (node.op.lower || node.inputs.length === 0) return node;
    const parts = decomposed(node);
    return parts ? expandComposites([parts])[0] : node;
  });
}
