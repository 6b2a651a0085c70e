import { Key, uniform } from '../../src/base/random.ts';
import { type Forward, type Model, type Traced, trace } from '../../src/nn/scope.ts';
import type { DType } from '../../src/tensor/dtype.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

export interface LayerRun {
  readonly traced: Traced;
  readonly given: Map<Tensor, ArrayLike<number>>;
  readonly y: Float64Array;
}

/** A layer as a model: traced in float64 on `x` of shape [batch, ...shape]. */
export function traceLayer(forward: Forward, shape: readonly number[], training: boolean, inputDtype?: DType): Traced {
  const model: Model = { name: 'layer', inputShape: shape.slice(1), inputDtype, forward };
  return trace(model, { batch: shape[0], training, dtype: 'float64' });
}

/** Values that look random and are the same in every run. */
export const numbers = (size: number, phase: number) =>
  Float64Array.from({ length: size }, (_, i) => Math.sin(2.3 * i + 1.7 * phase) * Math.cos(0.7 * i * i + phase));

/** Runs a layer with its own first parameters, on the interpreter. */
export function runLayer(
  forward: Forward,
  shape: readonly number[],
  { training = true, seed = 1, x }: { training?: boolean; seed?: number; x?: ArrayLike<number> } = {},
): LayerRun {
  const traced = traceLayer(forward, shape, training);
  const key = Key.fromSeed(seed);
  const given = new Map<Tensor, ArrayLike<number>>([[traced.input, x ?? numbers(traced.input.size, 0)]]);
  for (const { name, symbol, init } of [...traced.params, ...traced.buffers]) {
    const values = new Float64Array(symbol.size);
    init.fill(key.split(name), values, symbol.shape);
    given.set(symbol, values);
  }
  for (const { name, symbol } of traced.randoms)
    given.set(symbol, uniform(key.split(name), new Float64Array(symbol.size)));
  return { traced, given, y: evaluate([traced.output], given)[0] };
}
