import { hvp } from '../autodiff/index.ts';
import { ShapeError } from '../base/errors.ts';
import type { ParamLayout } from '../params/layout.ts';
import type { Device, Feeds } from '../runtime/device.ts';
import type { TypedArray } from '../tensor/dtype.ts';
import { input, type Tensor } from '../tensor/tensor.ts';
import type { LinearOperator } from './lanczos.ts';
import type { Vector } from './vectors.ts';

export interface HessianOptions {
  readonly device: Device;
  /** Scalar loss, the mean over the examples of one batch. */
  readonly loss: Tensor;
  /** Parameter symbols in the order of the layout. */
  readonly params: readonly Tensor[];
  readonly layout: ParamLayout;
  /** Memory of the parameters, one window each: read at every product, so the Hessian is always the one at the present weights. */
  readonly weights: readonly TypedArray[];
  /** Every other input, one set for each batch of equal size; the Hessian is that of the mean over batches. */
  readonly batches: readonly Feeds[];
}

/** A Hessian one can multiply by; `dispose` frees its program. */
export interface HessianOperator extends LinearOperator {
  dispose(): Promise<void>;
}

/**
 * The Hessian of a loss over the parameter vector as a linear operator: exact products, forward over reverse,
 * about two gradients' time each. Vectors have the layout's size, padding included and zero.
 */
export async function hessian({
  device,
  loss,
  params,
  layout,
  weights,
  batches,
}: HessianOptions): Promise<HessianOperator> {
  const [first] = params;
  if (batches.length === 0) throw new ShapeError('hessian: no batches were given; at least one is wanted.');
  const directions = params.map((p, i) => input(`direction.${i}`, p.shape, p.dtype));
  const fed = [...batches[0].keys()];
  const program = await device.compile([...params, ...directions, ...fed], hvp(loss, params, directions));
  const memory = () => (first.dtype === 'float64' ? new Float64Array(layout.size) : new Float32Array(layout.size));
  const [direction, product] = [memory(), memory()];
  const window = (vector: Vector) =>
    layout.segments.map(({ offset, length }) => vector.subarray(offset, offset + length));
  const own = [
    ...params.map((p, i) => [p, weights[i]] as const),
    ...directions.map((d, i) => [d, window(direction)[i]] as const),
  ];
  const calls = batches.map((batch) => program.bind(new Map<Tensor, TypedArray>([...own, ...batch]), window(product)));
  return {
    size: layout.size,
    apply: async (v, out) => {
      direction.set(v);
      const total = calls.length === 1 ? out : new Float64Array(layout.size);
      for (const call of calls) {
        await call.run();
        if (total === out) out.set(product);
        else for (let i = 0; i < total.length; i++) total[i] += product[i] / calls.length;
      }
      if (total !== out) out.set(total);
    },
    dispose: () => program.dispose(),
  };
}
