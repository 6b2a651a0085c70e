/** @file An exported graph as people expect to see it: biases inside Conv and Gemm, under the names of their layers. */
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../../onnx/model.ts';

/** Channels of the result of a node that takes a bias as its third input; undefined for any other node. */
function channelsOf({ opType, attrs }: OnnxNode, { dims }: OnnxTensor): number | undefined {
  const whole = (name: string, otherwise: number) => (attrs[name]?.type === 'int' ? attrs[name].value : otherwise);
  if (opType === 'Conv') return dims[0];
  if (opType === 'ConvTranspose') return dims[1] * whole('group', 1);
  return opType === 'Gemm' ? dims[whole('transB', 0) === 1 ? 0 : 1] : undefined;
}

/**
 * Moves the bias that is added to the result of a Conv, ConvTranspose or Gemm into that node, and drops attributes that say nothing.
 * A bias that the layer did not have itself is named after its weight.
 */
export function tidy(graph: OnnxGraph): OnnxGraph {
  // Bodies of loops read values of this graph by names that nobody here keeps track of.
  if (hasBodies(graph)) return graph;
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
    const weight = layer && initializers.get(layer.inputs[1]);
    if (!layer || !vector || !weight || layer.inputs.length !== 2 || outputs.has(result)) continue;
    if (readers.get(result)!.length > 1 || readers.get(bias)!.length > 1) continue;
    const spatial = layer.opType === 'Gemm' ? 0 : weight.dims.length - 2;
    if (!isChannelVector(vector, channelsOf(layer, weight), spatial)) continue;
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
const isChannelVector = ({ dims }: OnnxTensor, channels: number | undefined, spatial: number): boolean =>
  dims.length === 1 + spatial && dims[0] === channels && dims.slice(1).every((extent) => extent === 1);

/** Whether nodes of the graph have graphs of their own. */
export const hasBodies = ({ nodes }: OnnxGraph): boolean =>
  nodes.some(({ attrs }) => Object.values(attrs).some(({ type }) => type === 'graph' || type === 'graphs'));

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
