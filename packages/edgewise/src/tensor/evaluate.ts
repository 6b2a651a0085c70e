import { EdgewiseError, ShapeError } from '../base/errors.ts';
import { sameShape, showShape, sizeOf } from './shape.ts';
import { constantOp, constantValues, inputName, isA, type Tensor, topological, type Values } from './tensor.ts';

/**
 * Reference interpreter: computes `outputs` in float64, one op after the other, in plain TypeScript.
 * It is the oracle every device is tested against, and runs problems too small to be worth a device.
 *
 * @param given values of symbols: inputs, or any other tensor to take as known.
 * @throws EdgewiseError where an input has no value, ShapeError where its size is wrong.
 */
export function evaluate(outputs: readonly Tensor[], given: ReadonlyMap<Tensor, ArrayLike<number>>): Float64Array[] {
  const known = new Map<Tensor, Values>();
  for (const [symbol, data] of given) {
    if (data.length !== symbol.size) {
      throw new ShapeError(`evaluate: ${symbol} was given ${data.length} elements; ${symbol.size} are wanted.`);
    }
    known.set(symbol, { dtype: symbol.dtype, shape: symbol.shape, data: Float64Array.from(data) });
  }
  return outputs.map((output) => valueOf(output, known).data.slice());
}

/** Value of `root`, computed with and remembered in `known`. */
function valueOf(root: Tensor, known: Map<Tensor, Values>): Values {
  // An explicit stack: graphs of unrolled networks are deeper than the call stack allows.
  const stack = [root];
  for (let tensor = stack.at(-1); tensor !== undefined; tensor = stack.at(-1)) {
    const missing = known.has(tensor) ? [] : tensor.inputs.filter((x) => !known.has(x));
    if (missing.length > 0) {
      stack.push(...missing);
      continue;
    }
    stack.pop();
    if (!known.has(tensor)) known.set(tensor, compute(tensor, known));
  }
  return known.get(root)!;
}

function compute(tensor: Tensor, known: Map<Tensor, Values>): Values {
  const { op, inputs, attrs, shape, dtype } = tensor;
  if (isA(tensor, constantOp)) {
    const values = constantValues(tensor)!;
    return {
      dtype,
      shape,
      data: values.length === 1 ? new Float64Array(sizeOf(shape)).fill(values[0]) : Float64Array.from(values),
    };
  }
  const name = inputName(tensor);
  if (name !== undefined)
    throw new EdgewiseError(`evaluate: input '${name}' ${showShape(shape)} was given no value; pass one for it.`);
  if (op.evaluate) {
    const data = op.evaluate(
      inputs.map((x) => known.get(x)!),
      attrs,
      tensor,
    );
    return { dtype, shape, data };
  }
  if (op.decompose) {
    const data = valueOf(op.decompose(inputs, attrs), known).data;
    return { dtype, shape, data };
  }
  throw new EdgewiseError(
    `evaluate: op '${op.name}' has neither a reference kernel nor a decomposition; define one of them.`,
  );
}

/** The op's decomposition, checked to have the type the op promises. */
export function decomposed(tensor: Tensor): Tensor | undefined {
  const result = tensor.op.decompose?.(tensor.inputs, tensor.attrs);
  if (result && (result.dtype !== tensor.dtype || !sameShape(result.shape, tensor.shape))) {
    throw new ShapeError(
      `${tensor.op.name}: its decomposition has type ${result.dtype}${showShape(result.shape)}, not ${tensor.dtype}${showShape(tensor.shape)}.`,
    );
  }
  return result;
}

/** Named inputs that `outputs` depend on, in order of creation. */
export function inputsOf(outputs: readonly Tensor[]): Tensor[] {
  return topological(outputs).filter((tensor) => inputName(tensor) !== undefined);
}
