/** @file An exported graph as people expect to see it: biases inside Conv and Gemm, under the names of their layers. */
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../../onnx/model.ts';

/** Nodes that take a bias as their third input. */
const takesBias = new Set(['Conv', 'ConvTranspose', 'Gemm']);

/**
 * Moves the bias that is added to the result of a Conv, ConvTranspose or Gemm into that node, and drops attributes that say nothing.
 * A bias that the layer did not have itself is named after its weight.
 */
export function tidy(graph: OnnxGraph): OnnxGraph {
  const initializers = new Map(graph.initializers.map((tensor) => [tensor.name, tensor]));
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const readers = new Map<string, OnnxNode[]>();
  for (const node of graph.nodes)
    for (const name of node.inputs) readers.set(name, [...(readers.get(name) ?? []), node]);
  const producer = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node])));
  const taken = new Set([...initializers.keys(), ...producer.keys(), ...graph.inputs.map(({ name }) => name)]);
  const merged = new Map<OnnxNode, OnnxNode>();
  const gone = new Set<OnnxNode>();
  const renamed = new Map<string, string>();
  for (const node of graph.nodes) {
    if (node.opType !== 'Add') continue;
    const [result, bias] = initializers.has(node.inputs[0]) ? [node.inputs[1], node.inputs[0]] : node.inputs;
    const layer = producer.get(result);
    const vector = initializers.get(bias);
    if (!layer || !vector || !takesBias.has(layer.opType) || layer.inputs.length !== 2 || outputs.has(result)) continue;
    if (readers.get(result)!.length > 1 || readers.get(bias)!.length > 1) continue;
    const weight = initializers.get(layer.inputs[1]);
    if (!weight || !isChannelVector(vector, layer.opType === 'Gemm' ? 0 : weight.dims.length - 2)) continue;
    const name = weight.name.replace(/weight$/, 'bias');
    if (!taken.has(name)) {
      renamed.set(bias, name);
      taken.add(name);
    }
    initializers.set(bias, { ...vector, dims: [vector.dims[0]] });
    merged.set(layer, { ...layer, inputs: [...layer.inputs, bias], outputs: node.outputs });
    gone.add(node);
  }
  const rename = (name: string) => renamed.get(name) ?? name;
  return {
    ...graph,
    nodes: graph.nodes
      .filter((node) => !gone.has(node))
      .map((node) => merged.get(node) ?? node)
      .map((node) => ({ ...node, inputs: node.inputs.map(rename), attrs: plainAttrs(node, initializers) })),
    initializers: [...initializers.values()].map((tensor) => ({ ...tensor, name: rename(tensor.name) })),
  };
}

/** One number for each channel: [C, 1, ...] after a convolution, [C] after a product of matrices. */
const isChannelVector = ({ dims }: OnnxTensor, spatial: number): boolean =>
  dims.length === 1 + spatial && dims.slice(1).every((extent) => extent === 1);

/** `allowzero` matters to a Reshape to a shape with a zero only, and many readers do not know it. */
function plainAttrs(node: OnnxNode, initializers: ReadonlyMap<string, OnnxTensor>): OnnxNode['attrs'] {
  if (node.opType !== 'Reshape' || !('allowzero' in node.attrs)) return node.attrs;
  const shape = initializers.get(node.inputs[1]);
  if (!shape || hasZero(shape.data)) return node.attrs;
  const { allowzero: _, ...rest } = node.attrs;
  return rest;
}

function hasZero(data: Uint8Array): boolean {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < data.byteLength; at += 8) if (view.getBigInt64(at, true) === 0n) return true;
  return false;
}
