import { ShapeError } from '../base/errors.ts';
import { allocate, type DType, holds, type TypedArray } from '../tensor/dtype.ts';
import { inputName, type Tensor } from '../tensor/tensor.ts';

/** Memory for the inputs of a program, by symbol. */
export type Feeds = ReadonlyMap<Tensor, TypedArray>;

/** A program with its memory attached: running it again reads and writes the same buffers. */
export interface Call {
  /** Computes every output from what the inputs' memory holds now. */
  run(): Promise<void>;
  /** Memory of the outputs, in their order; overwritten by each run. */
  readonly results: readonly TypedArray[];
}

/** A compiled graph: a fixed list of input symbols to a fixed list of outputs. */
export interface Program {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /**
   * Attaches memory for repeated runs. Inputs and the given `results` are used in place, without copies; the rest is
   * allocated. WebAssembly memory must not grow while a call is bound to it.
   */
  bind(feeds: Feeds, results?: readonly (TypedArray | undefined)[]): Call;
  /** Runs once on the given memory; new results. */
  run(feeds: Feeds): Promise<readonly TypedArray[]>;
  /** Frees the device's memory; the program cannot run afterwards. */
  dispose(): Promise<void>;
}

/** Where programs run. */
export interface Device {
  /** `cpu`, `cuda`, `webgpu`, `wasm` or `interpreter`. */
  readonly name: string;
  /** Element types it computes with at least for elementwise ops. */
  readonly floats: readonly DType[];
  /**
   * Compiles a graph. `inputs` fixes which symbols are fed; it may list more than `outputs` need.
   * @throws DeviceError where the device cannot run an op of the graph.
   */
  compile(inputs: readonly Tensor[], outputs: readonly Tensor[]): Promise<Program>;
  dispose(): Promise<void>;
}

/** The memory for `symbol`, checked for dtype and size; throws where it is missing. */
export function feedFor(symbol: Tensor, feeds: Feeds): TypedArray {
  const data = feeds.get(symbol);
  if (data === undefined)
    throw new ShapeError(`run: input '${inputName(symbol)}' ${symbol} was given no memory; bind one.`);
  return checkedMemory(data, symbol, `input '${inputName(symbol)}'`);
}

/** `data` where it fits `tensor`, else a ShapeError naming `what`. */
export function checkedMemory(data: TypedArray, tensor: Tensor, what: string): TypedArray {
  if (!holds(data, tensor.dtype) || data.length !== tensor.size) {
    throw new ShapeError(
      `run: ${what} wants ${tensor.size} elements of ${tensor.dtype}, but got ${data.length} in a ${data.constructor.name}.`,
    );
  }
  return data;
}

/** Memory for each output: what was given, checked, or new. */
export function resultMemory(
  outputs: readonly Tensor[],
  given: readonly (TypedArray | undefined)[] = [],
): TypedArray[] {
  return outputs.map((output, i) => {
    const memory = given[i];
    return memory ? checkedMemory(memory, output, `output ${i}`) : allocate(output.dtype, output.size);
  });
}
