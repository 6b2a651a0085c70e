/** @file Linear operators made from linear operators. */
import { ShapeError } from '../base/errors.ts';
import type { LinearOperator } from './lanczos.ts';
import { addScaled, type Vector } from './vectors.ts';

function checkSizes(what: string, operators: readonly LinearOperator[]): number {
  const [{ size }] = operators;
  for (const other of operators)
    if (other.size !== size) throw new ShapeError(`${what}: operators of sizes ${size} and ${other.size} do not fit.`);
  return size;
}

/** Σ weights[i] · operators[i]; weights of 1 where left out. */
export function combination(
  operators: readonly LinearOperator[],
  weights: readonly number[] = operators.map(() => 1),
): LinearOperator {
  if (operators.length === 0 || weights.length !== operators.length)
    throw new ShapeError(`combination: ${operators.length} operators and ${weights.length} weights were given.`);
  return {
    size: checkSizes('combination', operators),
    async apply(v, out) {
      const part = v.slice();
      const total = new Float64Array(v.length);
      for (const [i, operator] of operators.entries()) {
        await operator.apply(v, part);
        addScaled(total, weights[i], part);
      }
      out.set(total);
    },
  };
}

/** factor · A. */
export const scaled = (operator: LinearOperator, factor: number): LinearOperator => combination([operator], [factor]);

/** A + shift · I. Padding of parameter vectors is zero and stays so. */
export const shifted = (operator: LinearOperator, shift: number): LinearOperator => ({
  size: operator.size,
  async apply(v, out) {
    await operator.apply(v, out);
    for (let i = 0; i < out.length; i++) out[i] += shift * v[i];
  },
});

/** A B: `second` first, then `first`. */
export function product(first: LinearOperator, second: LinearOperator): LinearOperator {
  return {
    size: checkSizes('product', [first, second]),
    async apply(v, out) {
      const between = v.slice();
      await second.apply(v, between);
      await first.apply(between, out);
    },
  };
}

/** P^(-1/2) A P^(-1/2) for a diagonal P, read at every product; entries that are not above 0 (padding) give 0. */
export function preconditioned(operator: LinearOperator, diagonal: { readonly data: Vector }): LinearOperator {
  return {
    size: operator.size,
    async apply(v, out) {
      const p = diagonal.data;
      const inner = v.slice();
      for (let i = 0; i < inner.length; i++) inner[i] = p[i] > 0 ? v[i] / Math.sqrt(p[i]) : 0;
      await operator.apply(inner, out);
      for (let i = 0; i < inner.length; i++) out[i] = p[i] > 0 ? out[i] / Math.sqrt(p[i]) : 0;
    },
  };
}

/** The block of A that belongs to a stretch of the vector, as an operator on whole vectors: everything outside is 0. */
export function block(operator: LinearOperator, offset: number, length: number): LinearOperator {
  if (!(offset >= 0 && length >= 1 && offset + length <= operator.size))
    throw new ShapeError(`block: elements ${offset} to ${offset + length} do not lie within 0 to ${operator.size}.`);
  const restrict = (vector: Vector) => {
    vector.fill(0, 0, offset);
    vector.fill(0, offset + length);
  };
  return {
    size: operator.size,
    async apply(v, out) {
      const inner = v.slice();
      restrict(inner);
      await operator.apply(inner, out);
      restrict(out);
    },
  };
}
