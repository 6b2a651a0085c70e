/** @file An ONNX model for any batch size, from models for a few. */
import { ConfigError } from '../../base/errors.ts';
import type { OnnxAttr, OnnxGraph, OnnxModel, OnnxNode, OnnxTensor, OnnxValueInfo } from '../../onnx/model.ts';
import { encode } from '../../tensor/dtype.ts';
import { int } from '../../tensor/lowering.ts';
import { hasBodies } from './tidy.ts';

/** Name of the free dimension. */
const BATCH = 'batch';

/**
 * Batch sizes at which graphs are compared: two decide a linear formula, the third confirms it. Primes, so that they meet no other
 * extent, and larger than any constant that graph passes fold, so that nothing of the batch's size was computed in advance.
 */
export const PROBES = [4099, 4111, 4127] as const;

/** A whole number that depends on the batch size N: `factor` N + `rest`. */
interface Affine {
  readonly factor: number;
  readonly rest: number;
}

/** The formula that gives `values` at the batch sizes of {@link PROBES}, if there is one. */
function affine(values: readonly number[]): Affine | undefined {
  const factor = (values[1] - values[0]) / (PROBES[1] - PROBES[0]);
  const rest = values[0] - factor * PROBES[0];
  const fits = Number.isInteger(factor) && values.every((value, i) => value === factor * PROBES[i] + rest);
  return fits ? { factor, rest } : undefined;
}

function show({ factor, rest }: Affine): string {
  const product = factor === 1 ? BATCH : `${factor}*${BATCH}`;
  return rest === 0 ? product : `${product}${rest > 0 ? '+' : ''}${rest}`;
}

/**
 * Joins the same graph, lowered at each batch size of {@link PROBES}, into one whose batch dimension is free. Whole numbers that
 * differ are computed from the shape of the first input; in a Reshape, where only one extent differs, it is inferred.
 *
 * @throws ConfigError where the graphs differ in anything else: the model's result depends on the batch size.
 */
export function freeBatch(models: readonly OnnxModel[]): OnnxModel {
  const graphs = models.map(({ graph }) => graph);
  const [first, ...others] = graphs;
  for (const other of others) {
    if (first.nodes.length !== other.nodes.length || first.initializers.length !== other.initializers.length) {
      throw dependsOnBatch(`it has ${first.nodes.length} nodes at one batch size and ${other.nodes.length} at another`);
    }
    first.nodes.forEach((node, i) => {
      expectSameNode(node, other.nodes[i]);
    });
  }
  const result = new BatchGraph(first);
  first.initializers.forEach(({ name }, i) => {
    const numbers = difference(
      graphs.map((graph) => graph.initializers[i]),
      first,
    );
    if (numbers) result.compute(name, numbers);
  });
  const inputs = freeDims(graphs.map((graph) => graph.inputs));
  const outputs = freeDims(graphs.map((graph) => graph.outputs));
  return { ...models[0], graph: { ...result.finish(), inputs, outputs } };
}

/** The nodes and initializers of a graph while constants are replaced. */
class BatchGraph {
  readonly #graph: OnnxGraph;
  readonly #added: OnnxNode[] = [];
  readonly #taken: Set<string>;
  #initializers: OnnxTensor[];
  #size: string | undefined;

  constructor(graph: OnnxGraph) {
    this.#graph = graph;
    this.#initializers = [...graph.initializers];
    this.#taken = new Set(
      [...graph.inputs, ...graph.initializers]
        .map(({ name }) => name)
        .concat(graph.nodes.flatMap((node) => node.outputs)),
    );
  }

  /** Replaces the constant `name` by what it is at the batch size the model is run with. */
  compute(name: string, numbers: readonly Affine[]): void {
    const depending = numbers.filter(({ factor }) => factor !== 0);
    const onlyOne =
      depending.length === 1 &&
      depending[0].rest === 0 &&
      numbers.every(({ factor, rest }) => factor !== 0 || rest > 0);
    if (onlyOne && this.#isShape(name)) {
      const extents = numbers.map(({ factor, rest }) => (factor === 0 ? rest : -1));
      this.#initializers = this.#initializers.map((tensor) => (tensor.name === name ? vector(name, extents) : tensor));
      return;
    }
    const factors = this.#constant(
      `${name}_per_example`,
      numbers.map(({ factor }) => factor),
    );
    const rests = this.#constant(
      `${name}_rest`,
      numbers.map(({ rest }) => rest),
    );
    const product = this.#unique(`${name}_product`);
    this.#initializers = this.#initializers.filter((tensor) => tensor.name !== name);
    this.#size ??= this.#node('Shape', [this.#graph.inputs[0].name], this.#unique('batch_size'), {
      start: int(0),
      end: int(1),
    });
    this.#node('Mul', [this.#size, factors], product);
    this.#node('Add', [product, rests], name);
  }

  finish(): OnnxGraph {
    return { ...this.#graph, nodes: [...this.#added, ...this.#graph.nodes], initializers: this.#initializers };
  }

  #constant(name: string, values: readonly number[]): string {
    const unique = this.#unique(name);
    this.#initializers.push(vector(unique, values));
    return unique;
  }

  /** Whether the constant is read as the shape of Reshape nodes and nowhere else. */
  #isShape(name: string): boolean {
    const readers = this.#graph.nodes.filter((node) => node.inputs.includes(name));
    return (
      !hasBodies(this.#graph) &&
      readers.every((node) => node.opType === 'Reshape' && node.inputs[1] === name && node.inputs[0] !== name)
    );
  }

  #node(
    opType: string,
    inputs: readonly string[],
    output: string,
    attrs: Readonly<Record<string, OnnxAttr>> = {},
  ): string {
    this.#added.push({ opType, domain: '', name: `${opType}_${output}`, inputs, outputs: [output], attrs });
    return output;
  }

  #unique(name: string): string {
    let unique = name;
    for (let i = 1; this.#taken.has(unique); i++) unique = `${name}_${i}`;
    this.#taken.add(unique);
    return unique;
  }
}

function vector(name: string, values: readonly number[]): OnnxTensor {
  const data = encode(values, 'int64');
  return {
    name,
    dtype: 'int64',
    dims: [values.length],
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  };
}

/** The elements of a constant as functions of the batch size, or undefined where it does not depend on it. */
function difference(tensors: readonly OnnxTensor[], graph: OnnxGraph): readonly Affine[] | undefined {
  const [first, ...others] = tensors;
  const sameType = others.every(
    ({ name, dtype, dims }) => name === first.name && dtype === first.dtype && sameNumbers(dims, first.dims),
  );
  if (sameType && others.every(({ data }) => sameNumbers(data, first.data))) return undefined;
  const reader = graph.nodes.find((node) => node.inputs.includes(first.name));
  const where = `a constant of the ${reader?.opType} node '${reader?.name}'`;
  if (!sameType || first.dtype !== 'int64' || first.dims.length !== 1)
    throw dependsOnBatch(`${where} differs between batch sizes`);
  const values = tensors.map(({ data }) => wholeNumbers(data));
  return values[0].map((_, i) => {
    const seen = values.map((list) => list[i]);
    const found = affine(seen);
    if (!found)
      throw dependsOnBatch(
        `${where} is ${seen.join(', ')} at batch sizes ${PROBES.join(', ')}, which no linear formula gives`,
      );
    return found;
  });
}

/** The borders of the graph, with formulas of the batch size for what differs. */
function freeDims([first, ...others]: readonly (readonly OnnxValueInfo[])[]): OnnxValueInfo[] {
  return first.map((info, k) => ({
    ...info,
    dims: info.dims?.map((extent, axis) => {
      const seen = [extent, ...others.map((infos) => infos[k].dims?.[axis])].map(Number);
      if (seen.every((other) => other === extent)) return extent;
      const found = affine(seen);
      if (!found)
        throw dependsOnBatch(
          `axis ${axis} of '${info.name}' is ${seen.join(', ')} at batch sizes ${PROBES.join(', ')}`,
        );
      return show(found);
    }),
  }));
}

function expectSameNode(a: OnnxNode, b: OnnxNode): void {
  const same =
    a.opType === b.opType &&
    a.domain === b.domain &&
    sameNames(a.inputs, b.inputs) &&
    sameNames(a.outputs, b.outputs) &&
    JSON.stringify(a.attrs) === JSON.stringify(b.attrs);
  if (!same) throw dependsOnBatch(`its ${a.opType} node '${a.name}' differs between batch sizes`);
}

const dependsOnBatch = (how: string) =>
  new ConfigError(
    `This model cannot be exported with a free batch dimension: ${how}. Give a fixed batch size, or write the model so that each example is computed by itself.`,
  );

const sameNames = (a: readonly string[], b: readonly string[]) =>
  a.length === b.length && a.every((name, i) => name === b[i]);
const sameNumbers = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
};

function wholeNumbers(data: Uint8Array): number[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: data.byteLength / 8 }, (_, i) => Number(view.getBigInt64(8 * i, true)));
}
