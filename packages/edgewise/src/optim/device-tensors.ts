/**
 * @file Phases over tensors on a device: the matrix products of Muon and SOAP.
 *
 * What depends on numbers only (learning rates, 1 - β^t) is computed on the host in float64, as everywhere else, and handed over.
 */
import type { FloatDType } from '../params/vector.ts';
import type { Device } from '../runtime/device.ts';
import { isFloat } from '../tensor/dtype.ts';
import { evaluate } from '../tensor/evaluate.ts';
import { cast, greater } from '../tensor/ops/elementwise.ts';
import { apply, input, inputName, type Tensor, topological } from '../tensor/tensor.ts';
import type { TensorEvaluator } from './tensors.ts';

type Memory = Float32Array | Float64Array;

/** A graph on the device, with memory for what goes in. */
interface Compiled {
  /** What is given, by symbol. */
  readonly arrays: readonly (readonly [symbol: Tensor, memory: Memory])[];
  /** What the host computes. */
  readonly numbers: readonly (readonly [value: Tensor, memory: Memory])[];
  readonly run: () => Promise<readonly ArrayLike<number>[]>;
}

/**
 * Computes phases over tensors on `device`: the `tensors` of an optimizer's target. Each rule is compiled once for each shape of its
 * tensors; the programs are freed with the device. What it returns is overwritten when the same rule runs again on the same shape.
 * @param dtype What the device computes in; that of the parameters, so that they keep their precision.
 * @throws DeviceError, when it is used, for ops that the device does not have.
 */
export function deviceTensors(device: Device, dtype: FloatDType = 'float32'): TensorEvaluator {
  const compiled = new Map<string, Promise<Compiled> | undefined>();
  return async (outputs, given) => {
    const key = outputs.map(({ id }) => id).join();
    if (!compiled.has(key)) compiled.set(key, compile(device, dtype, outputs));
    const program = await compiled.get(key);
    if (!program) return evaluate(outputs, given);
    for (const [symbol, memory] of program.arrays) {
      const values = given.get(symbol);
      if (values) memory.set(values);
    }
    const values = evaluate(
      program.numbers.map(([value]) => value),
      given,
    );
    for (const [i, [, memory]] of program.numbers.entries()) memory.set(values[i]);
    return program.run();
  };
}

/** Undefined where there are numbers among the outputs, which the host computes. */
function compile(device: Device, dtype: FloatDType, outputs: readonly Tensor[]): Promise<Compiled> | undefined {
  const allocateFloats = (length: number): Memory =>
    dtype === 'float64' ? new Float64Array(length) : new Float32Array(length);
  const numbers = numbersBehind(outputs);
  if (outputs.some((output) => numbers.has(output))) return undefined;
  const arrays: [Tensor, Memory][] = [];
  const handed: [Tensor, Memory][] = [];
  const feeds = new Map<Tensor, Memory>();
  const twins = new Map<Tensor, Tensor>();
  for (const node of topological(outputs, numbers)) {
    if (numbers.has(node)) {
      const symbol = input(`number ${handed.length}`, [], dtype);
      const memory = allocateFloats(1);
      handed.push([node, memory]);
      feeds.set(symbol, memory);
      twins.set(
        node,
        node.dtype === 'bool' ? greater(symbol, 0.5) : isFloat(node.dtype) ? symbol : cast(symbol, node.dtype),
      );
      continue;
    }
    const inputs = node.inputs.map((x) => twins.get(x)!);
    const twin = apply(node.op, inputs, inPrecision(node.attrs, dtype));
    twins.set(node, twin);
    if (inputName(node) !== undefined) {
      const memory = allocateFloats(node.size);
      arrays.push([node, memory]);
      feeds.set(twin, memory);
    }
  }
  return device
    .compile(
      [...feeds.keys()],
      outputs.map((output) => twins.get(output)!),
    )
    .then((program) => {
      const call = program.bind(feeds);
      // Outputs are floating-point numbers of that precision.
      const results = call.results as readonly Memory[];
      const run = async () => {
        await call.run();
        return results;
      };
      return { arrays, numbers: handed, run };
    });
}

/** Nodes of rank 0 behind `outputs` into which nothing but such nodes goes. */
function numbersBehind(outputs: readonly Tensor[]): Set<Tensor> {
  const numbers = new Set<Tensor>();
  for (const node of topological(outputs))
    if (node.rank === 0 && node.inputs.every((x) => numbers.has(x))) numbers.add(node);
  return numbers;
}

/** Attributes that name float64, the dtype rules are written in, name `dtype` then. */
const inPrecision = (attrs: object, dtype: FloatDType): object =>
  Object.fromEntries(Object.entries(attrs).map(([name, value]) => [name, value === 'float64' ? dtype : value]));
