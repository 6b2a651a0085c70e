/** @file A trained model as an ONNX file for inference. */
import { ConfigError } from '../base/errors.ts';
import { expandComposites } from '../compile/expand.ts';
import { lowerToOnnx } from '../compile/lower.ts';
import { simplify } from '../compile/simplify.ts';
import { type Model, type Traced, trace } from '../nn/scope.ts';
import type { OnnxModel, OnnxTensor } from '../onnx/model.ts';
import { writeOnnx } from '../onnx/write.ts';
import { ParamLayout } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import { encode, isFloat } from '../tensor/dtype.ts';
import { softmax } from '../tensor/ops/softmax.ts';
import { apply, input, type Tensor, topological } from '../tensor/tensor.ts';
import { foldBatchNorm, type Settled, settle } from './export/fold.ts';
import { freeBatch, PROBES } from './export/free-batch.ts';
import { tidy } from './export/tidy.ts';

export interface ExportOptions {
  /** Examples a run takes: `free` (default) for any number, or one number. */
  readonly batch?: 'free' | number;
  /** Whether the output is the softmax of the model's over its last axis, probabilities instead of logits; false by default. */
  readonly softmax?: boolean;
  /** Names of the graph's input and output; `input` and `output` by default. */
  readonly names?: { readonly input?: string; readonly output?: string };
  /** Version of Edgewise, for the file's producer field; none by default. */
  readonly version?: string;
  /** Further properties of the file, such as the run it comes from. Its model's name is always among them. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * The bytes of an ONNX model that evaluates `model` with the given parameters and buffers, in float32, with operators of the ONNX
 * standard alone.
 *
 * Parameters become initializers under their names. Batch norm is folded into the convolution or linear layer before it, or
 * becomes a product and a sum where there is none, and whatever else the weights alone decide is computed in advance.
 *
 * @param params the model's parameters, in a vector of its layout.
 * @param buffers its buffers: running statistics.
 * @throws ConfigError where a vector belongs to another model, a name is taken, or a free batch dimension is asked for and
 * the model's computation depends on the batch size.
 */
export function exportOnnx(
  model: Model,
  params: ParamVector,
  buffers: ParamVector,
  options: ExportOptions = {},
): Uint8Array<ArrayBuffer> {
  return writeOnnx(exportModel(model, params, buffers, options));
}

/** As {@link exportOnnx}, before it is written. */
export function exportModel(
  model: Model,
  params: ParamVector,
  buffers: ParamVector,
  options: ExportOptions = {},
): OnnxModel {
  const { batch = 'free', names = {}, version = '', metadata = {} } = options;
  if (batch !== 'free' && !(Number.isInteger(batch) && batch >= 1)) {
    throw new ConfigError(`exportOnnx: batch is ${batch}; give 'free' or a whole number of at least 1.`);
  }
  const sizes = batch === 'free' ? PROBES : [batch, batch + PROBES[0]];
  const graphs = sizes.map((size) => inferenceGraph(model, size, options.softmax ?? false));
  const [{ traced }] = graphs;
  const given = weightsOf(traced, params, buffers);
  // Equal nodes are one, so what both batch sizes have in common depends on neither the size nor the input.
  const [first, second] = graphs.slice(0, 2).map(({ output }) => new Set(topological([output])));
  const settled = settle([graphs[0].output], given, new Set([...first].filter((node) => second.has(node))));
  const border = { input: names.input ?? 'input', output: names.output ?? 'output' };
  const initializers = nameWeights(settled, traced, border);
  const lowered = (batch === 'free' ? graphs : graphs.slice(0, 1)).map((graph) => lower(graph, initializers, border));
  const whole = batch === 'free' ? freeBatch(lowered) : lowered[0];
  const domains = new Set(whole.graph.nodes.map((node) => node.domain));
  return {
    ...whole,
    opsets: whole.opsets.filter(({ domain }) => domain === '' || domains.has(domain)),
    producerVersion: version,
    metadata: { model: model.name, ...metadata },
    graph: { ...tidy(whole.graph), name: model.name },
  };
}

interface InferenceGraph {
  readonly traced: Traced;
  readonly output: Tensor;
}

function inferenceGraph(model: Model, batch: number, probabilities: boolean): InferenceGraph {
  const traced = trace(model, { batch, training: false });
  if (traced.randoms.length > 0) {
    throw new ConfigError(
      `exportOnnx: model '${model.name}' draws random numbers ('${traced.randoms[0].name}') in evaluation too; an ONNX file cannot be given them.`,
    );
  }
  const output = probabilities ? softmax(traced.output) : traced.output;
  const [simplified] = simplify(expandComposites(foldBatchNorm([output]), 'onnx'));
  return { traced, output: simplified };
}

/** Every declared symbol with its values, buffers first. */
function weightsOf(traced: Traced, params: ParamVector, buffers: ParamVector): Map<Tensor, ArrayLike<number>> {
  new ParamLayout(traced.params).assertSame(params.layout, 'the parameter vector');
  new ParamLayout(traced.buffers).assertSame(buffers.layout, 'the buffer vector');
  return new Map([
    ...traced.buffers.map(({ symbol, name }) => [symbol, buffers.view(name)] as const),
    ...traced.params.map(({ symbol, name }) => [symbol, params.view(name)] as const),
  ]);
}

/** Names of the graph's input and output. */
interface Border {
  readonly input: string;
  readonly output: string;
}

interface Initializer {
  readonly name: string;
  /** What it stands for in the graph, and what stands for it while the graph is lowered. */
  readonly tensor: Tensor;
  readonly symbol: Tensor;
  readonly values: ArrayLike<number>;
}

/**
 * Names for weights: a parameter's own, and for what was computed from several that of the last one of its size, which for a
 * folded convolution is its weight, and for a shift the bias.
 */
function nameWeights(settled: readonly Settled[], traced: Traced, border: Border): Initializer[] {
  const declared = new Map([...traced.buffers, ...traced.params].map(({ symbol, name }) => [symbol, name]));
  const taken = new Set(settled.flatMap(({ tensor }) => declared.get(tensor) ?? []));
  if (border.input === border.output || taken.has(border.input) || taken.has(border.output)) {
    const name = taken.has(border.input) ? border.input : border.output;
    throw new ConfigError(`exportOnnx: the name '${name}' is taken already; choose other names for input and output.`);
  }
  taken.add(border.input).add(border.output);
  const parameters = new Set(traced.params.map(({ symbol }) => symbol));
  const freeName = ({ tensor, from }: Settled): string => {
    const heir = from.findLast((symbol) => parameters.has(symbol) && symbol.size === tensor.size);
    if (heir && !taken.has(declared.get(heir)!)) return declared.get(heir)!;
    const folded = `${declared.get(heir ?? from[from.length - 1])}.folded`;
    let name = folded;
    for (let i = 2; taken.has(name); i++) name = `${folded}${i}`;
    return name;
  };
  return settled.map((weight) => {
    const { tensor, values } = weight;
    const name = declared.get(tensor) ?? freeName(weight);
    taken.add(name);
    return { name, tensor, symbol: input(name, tensor.shape, tensor.dtype), values };
  });
}

/** The graph with its weights as initializers. */
function lower({ traced, output }: InferenceGraph, weights: readonly Initializer[], border: Border): OnnxModel {
  const x = input(border.input, traced.input.shape, traced.input.dtype);
  const replaced = new Map([[traced.input, x], ...weights.map(({ tensor, symbol }) => [tensor, symbol] as const)]);
  const result = replace(output, replaced);
  const model = lowerToOnnx([x, ...weights.map(({ symbol }) => symbol)], [result], {
    provider: 'onnx',
    outputNames: [border.output],
  });
  const inputs = model.graph.inputs.filter(({ name }) => name === border.input);
  const initializers = [...weights.map(tensorOf), ...model.graph.initializers];
  return { ...model, graph: { ...model.graph, inputs, initializers } };
}

/** `root` with some of its nodes replaced by others of the same type. */
function replace(root: Tensor, replacements: ReadonlyMap<Tensor, Tensor>): Tensor {
  const done = new Map(replacements);
  for (const node of topological([root], new Set(replacements.keys()))) {
    if (done.has(node)) continue;
    const inputs = node.inputs.map((x) => done.get(x)!);
    done.set(node, inputs.every((x, i) => x === node.inputs[i]) ? node : apply(node.op, inputs, node.attrs));
  }
  return done.get(root)!;
}

function tensorOf({ name, symbol: { dtype, shape }, values }: Initializer): OnnxTensor {
  if (!isFloat(dtype))
    throw new ConfigError(`exportOnnx: '${name}' holds ${dtype}; parameters and buffers are floating-point numbers.`);
  const data = encode(values, dtype);
  return { name, dtype, dims: shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}
