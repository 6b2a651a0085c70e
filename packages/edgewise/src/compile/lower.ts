import { DeviceError, EdgewiseError } from '../base/errors.ts';
import type { OnnxAttr, OnnxGraph, OnnxModel, OnnxNode, OnnxTensor, OnnxValueInfo } from '../onnx/model.ts';
import { type DType, encode, type TypedArray } from '../tensor/dtype.ts';
import type { Lowering, NodeAttr, NodeOptions } from '../tensor/lowering.ts';
import { type Shape, sizeOf } from '../tensor/shape.ts';
import { constantOp, constantValues, inputName, isA, type Tensor, topological } from '../tensor/tensor.ts';
import { expandComposites } from './expand.ts';
import { simplify } from './simplify.ts';

/** Operator sets our lowerings are written for; ONNX Runtime 1.20 and later run them. */
const opset = 21;
const irVersion = 10;

export interface LowerOptions {
  /** Execution provider the model is for; `cpu` by default. `onnx` stands for any runtime: standard operators only. */
  readonly provider?: string;
  /** Size of the blocks in the provider's own convolution layout; 1 (default) keeps the model to public operators. */
  readonly channelBlock?: number;
  /** Names of the outputs; `output0`, `output1`, ... by default. */
  readonly outputNames?: readonly string[];
}

/**
 * A graph of ops as an ONNX model in memory. Inputs keep their names; every op must have a lowering
 * (run `expandComposites` first).
 *
 * @throws EdgewiseError where two different inputs share a name, or an op has no lowering.
 */
export function lowerToOnnx(
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  options: LowerOptions = {},
): OnnxModel {
  const { provider = 'cpu', channelBlock = 1 } = options;
  const names = new Map<string, Tensor>();
  for (const x of [...inputs, ...topological(outputs).filter((node) => inputName(node) !== undefined)]) {
    const name = inputName(x);
    if (name === undefined)
      throw new EdgewiseError(`lower: ${x} is listed as an input but is the result of an op; list inputs only.`);
    const other = names.get(name) ?? x;
    if (other !== x)
      throw new EdgewiseError(`lower: two inputs are called '${name}': ${other} and ${x}; give each its own name.`);
    if (!inputs.includes(x))
      throw new EdgewiseError(
        `lower: the outputs depend on input '${name}', which is not listed as an input; list it.`,
      );
    names.set(name, x);
  }
  const outputNames = options.outputNames ?? outputs.map((_, i) => `output${i}`);
  const clash = outputNames.find((name) => names.has(name));
  if (clash !== undefined)
    throw new EdgewiseError(`lower: '${clash}' is the name of an input and of an output; rename the input.`);
  const writer = new GraphWriter({ provider, channelBlock }, new Set([...names.keys(), ...outputNames]));
  return {
    irVersion,
    opsets: [
      { domain: '', version: opset },
      { domain: 'com.microsoft', version: 1 },
      ...(channelBlock > 1 ? [{ domain: 'com.microsoft.nchwc', version: 1 }] : []),
    ],
    producerName: 'edgewise',
    producerVersion: '',
    metadata: {},
    graph: writer.graph('main', inputs, outputs, outputNames),
  };
}

const valueInfo = (name: string, { dtype, shape }: { dtype: DType; shape: Shape }): OnnxValueInfo => ({
  name,
  dtype,
  dims: shape,
});

/** Constants up to this size are compared, and written once. */
const sharedBytes = 1 << 14;

/** What lowerings may ask about where the graph will run. */
type Target = Pick<Lowering, 'provider' | 'channelBlock'>;

/** Collects the nodes of one graph. A child graph sees its parent's values, as in ONNX. */
class GraphWriter implements Lowering {
  readonly provider: string;
  readonly channelBlock: number;
  readonly #parent: GraphWriter | undefined;
  readonly #counter: { next: number };
  /** Names that inputs and outputs bring, which no value inside may take. */
  readonly #reserved: ReadonlySet<string>;
  readonly #nodes: OnnxNode[] = [];
  readonly #initializers: OnnxTensor[] = [];
  readonly #emitted = new Map<string, readonly string[]>();
  readonly #names = new Map<Tensor, string>();

  constructor({ provider, channelBlock }: Target, reserved: ReadonlySet<string>, parent?: GraphWriter) {
    this.provider = provider;
    this.channelBlock = channelBlock;
    this.#reserved = reserved;
    this.#parent = parent;
    this.#counter = parent ? parent.#counter : { next: 0 };
  }

  graph(
    name: string,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    outputNames: readonly string[],
  ): OnnxGraph {
    for (const x of inputs) this.#names.set(x, this.#parent ? this.#fresh() : inputName(x)!);
    for (const node of topological(outputs)) this.#write(node);
    outputs.forEach((output, i) => {
      this.#nodes.push({
        opType: 'Identity',
        domain: '',
        name: '',
        inputs: [this.#nameOf(output)],
        outputs: [outputNames[i]],
        attrs: {},
      });
    });
    return {
      name,
      nodes: withoutCopies(this.#nodes, new Set(inputs.map((x) => this.#names.get(x)!)), this.#initializers),
      inputs: inputs.map((x) => valueInfo(this.#names.get(x)!, x)),
      outputs: outputs.map((x, i) => valueInfo(outputNames[i], x)),
      initializers: this.#initializers,
    };
  }

  #nameOf(tensor: Tensor): string {
    const name = this.#lookup(tensor);
    if (name === undefined) throw new EdgewiseError(`lower: ${tensor} is used before it is written.`);
    return name;
  }

  #lookup(tensor: Tensor): string | undefined {
    return this.#names.get(tensor) ?? (this.#parent ? this.#parent.#lookup(tensor) : undefined);
  }

  #write(tensor: Tensor): void {
    if (this.#lookup(tensor) !== undefined) return;
    if (isA(tensor, constantOp)) {
      const values = constantValues(tensor)!;
      this.#names.set(tensor, this.#constant(tensor, values));
      return;
    }
    if (!tensor.op.lower) {
      throw new DeviceError(
        `lower: op '${tensor.op.name}' has no ONNX lowering; run it on the interpreter or give the op one.`,
      );
    }
    const inputs = tensor.inputs.map((x) => this.#nameOf(x));
    this.#names.set(tensor, tensor.op.lower(this, inputs, tensor));
  }

  #constant({ dtype, shape }: Tensor, values: readonly number[]): string {
    const size = sizeOf(shape);
    if (values.length === size) return this.tensor(encode(values, dtype), dtype, shape);
    // A filled tensor takes no room in the model.
    return size <= 1
      ? this.tensor(encode(values.slice(0, size), dtype), dtype, shape)
      : this.node('Expand', [this.scalar(values[0], dtype), this.ints(shape)]);
  }

  node(
    opType: string,
    inputs: readonly string[],
    attrs: Readonly<Record<string, NodeAttr>> = {},
    options: NodeOptions = {},
  ): string {
    return this.nodes(opType, inputs, attrs, options)[0];
  }

  nodes(
    opType: string,
    inputs: readonly string[],
    attrs: Readonly<Record<string, NodeAttr>>,
    options: NodeOptions,
  ): readonly string[] {
    const { outputs = 1, domain = '', body } = options;
    const key = body ? `#${this.#counter.next}` : `${domain}.${opType}(${inputs.join()})${JSON.stringify(attrs)}`;
    const known = this.#known(key);
    if (known && known.length >= outputs) return known;
    // A node of this graph that was asked for fewer outputs gets the others too, instead of being computed twice.
    const at = known ? this.#nodes.findIndex((node) => node.outputs === known) : -1;
    if (known && at >= 0) {
      const names = [...known, ...Array.from({ length: outputs - known.length }, () => this.#fresh())];
      this.#nodes[at] = { ...this.#nodes[at], outputs: names };
      this.#emitted.set(key, names);
      return names;
    }
    const all: Record<string, OnnxAttr> = { ...attrs };
    if (body) all[body.attr] = { type: 'graph', value: this.#body(body) };
    const names = Array.from({ length: outputs }, () => this.#fresh());
    this.#nodes.push({ opType, domain, name: `${opType}_${names[0]}`, inputs, outputs: names, attrs: all });
    this.#emitted.set(key, names);
    return names;
  }

  #known(key: string): readonly string[] | undefined {
    return this.#emitted.get(key) ?? (this.#parent ? this.#parent.#known(key) : undefined);
  }

  #fresh(): string {
    for (;;) {
      const name = `v${this.#counter.next++}`;
      if (!this.#reserved.has(name)) return name;
    }
  }

  tensor(data: TypedArray, dtype: DType, shape: Shape): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const key = `tensor ${dtype} ${shape.join()} ${bytes.length <= sharedBytes ? bytes.join() : `#${this.#counter.next}`}`;
    const known = this.#known(key);
    if (known) return known[0];
    const name = this.#fresh();
    this.#initializers.push({ name, dtype, dims: shape, data: bytes });
    this.#emitted.set(key, [name]);
    return name;
  }

  scalar(value: number, dtype: DType, shape: Shape = []): string {
    return this.tensor(encode(new Array(sizeOf(shape)).fill(value), dtype), dtype, shape);
  }

  ints(values: readonly number[]): string {
    return this.tensor(
      BigInt64Array.from(values, (value) => BigInt(value)),
      'int64',
      [values.length],
    );
  }

  #body({ inputs, outputs, shared }: NonNullable<NodeOptions['body']>): OnnxGraph {
    const child = new GraphWriter(this, this.#reserved, this);
    for (const [symbol, name] of shared) child.#names.set(symbol, name);
    // Inside a body, too, only ops with a lowering may remain.
    return child.graph(
      'body',
      inputs,
      simplify(expandComposites(outputs, this.provider)),
      outputs.map(() => this.#fresh()),
    );
  }
}

/** Renames a value to the output it is copied to, where the copy is its only reason to have a name of its own. */
function withoutCopies(
  nodes: readonly OnnxNode[],
  inputs: ReadonlySet<string>,
  initializers: readonly OnnxTensor[],
): OnnxNode[] {
  const fixed = new Set([...inputs, ...initializers.map((tensor) => tensor.name)]);
  const produced = new Set(nodes.flatMap((node) => node.outputs));
  const renamed = new Map<string, string>();
  const kept = nodes.filter((node) => {
    const [source] = node.inputs;
    const copies =
      node.opType === 'Identity' &&
      node.name === '' &&
      !fixed.has(source) &&
      produced.has(source) &&
      !renamed.has(source);
    if (copies) renamed.set(source, node.outputs[0]);
    return !copies;
  });
  const rename = (name: string) => renamed.get(name) ?? name;
  return kept.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
    attrs: renameIn(node.attrs, rename),
  }));
}

/** Sub-graphs read outer values by name, so they follow a renaming. */
function renameIn(
  attrs: Readonly<Record<string, OnnxAttr>>,
  rename: (name: string) => string,
): Readonly<Record<string, OnnxAttr>> {
  if (!Object.values(attrs).some((attr) => attr.type === 'graph')) return attrs;
  const entries = Object.entries(attrs).map(([key, attr]): [string, OnnxAttr] => {
    if (attr.type !== 'graph') return [key, attr];
    const nodes = attr.value.nodes.map((node) => ({
      ...node,
      inputs: node.inputs.map(rename),
      attrs: renameIn(node.attrs, rename),
    }));
    return [key, { type: 'graph', value: { ...attr.value, nodes } }];
  });
  return Object.fromEntries(entries);
}
