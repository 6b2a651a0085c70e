import { ConfigError, NonFiniteError } from '../base/errors.ts';
import { tridiagonalEigen } from './tridiagonal.ts';
import { addScaled, dot, length, scale, type Vector } from './vectors.ts';

/** A symmetric linear map on vectors: a Hessian, a Gauss-Newton matrix, anything one can multiply by. */
export interface LinearOperator {
  /** Length of the vectors. */
  readonly size: number;
  /** out ← A v. `v` stays as it is. */
  apply(v: Vector, out: Vector): Promise<void>;
}

export interface LanczosOptions {
  /** Where to start; need not have unit length. A good guess of the leading eigenvector (the last one found) saves products. */
  readonly start: Vector;
  /** Most products to spend; the spec's advice is 12 from a warm start and 20 from a random one. */
  readonly steps: number;
  /** Stop once the residual is below this share of the leading eigenvalue; 0 (default) spends all steps. */
  readonly tolerance?: number;
}

/** The leading eigenpair as seen from the Krylov space. */
export interface LanczosResult {
  /** Largest Ritz value: never above the largest eigenvalue. */
  readonly eigenvalue: number;
  /** ‖A v - λ v‖: some eigenvalue of A lies within this distance of `eigenvalue`. */
  readonly residual: number;
  /** Its Ritz vector, of unit length. */
  readonly vector: Vector;
  /** All Ritz values, largest first. */
  readonly ritzValues: Float64Array;
  /** The residual of each of them. */
  readonly residuals: Float64Array;
  /** Products spent. */
  readonly products: number;
}

/**
 * Lanczos iteration with full re-orthogonalisation (twice, Parlett's "twice is enough") for the largest eigenvalue.
 * Memory: one vector for each step. Inner products are accumulated in float64.
 *
 * @throws ConfigError for a start of zeros, the wrong length or no steps; NonFiniteError where a product is not finite.
 */
export async function lanczos(
  operator: LinearOperator,
  { start, steps, tolerance = 0 }: LanczosOptions,
): Promise<LanczosResult> {
  if (start.length !== operator.size) {
    throw new ConfigError(
      `lanczos: the start vector has ${start.length} entries, but the operator acts on ${operator.size}.`,
    );
  }
  if (!Number.isInteger(steps) || steps < 1)
    throw new ConfigError(`lanczos: ${steps} steps were asked for; give a whole number of at least 1.`);
  const norm = length(start);
  if (!(norm > 0 && Number.isFinite(norm)))
    throw new ConfigError('lanczos: the start vector is zero or not finite; draw a random one.');
  const basis = [start.slice()];
  scale(basis[0], 1 / norm);
  const diagonal: number[] = [];
  const offDiagonal: number[] = [];
  for (;;) {
    const v = basis[basis.length - 1];
    const w = v.slice();
    await operator.apply(v, w);
    const alpha = dot(v, w);
    if (!Number.isFinite(alpha)) {
      throw new NonFiniteError(
        `lanczos: product ${basis.length} is not finite; the loss or its derivatives overflow at these weights.`,
      );
    }
    diagonal.push(alpha);
    for (let pass = 0; pass < 2; pass++) {
      for (const q of basis) addScaled(w, -dot(q, w), q);
    }
    const beta = length(w);
    const result = summarize(basis, diagonal, offDiagonal, beta);
    // An invariant space was found: what follows would be rounding noise.
    const exhausted = beta <= 1e-7 * Math.max(...result.ritzValues.map(Math.abs));
    if (
      basis.length === Math.min(steps, operator.size) ||
      exhausted ||
      result.residual <= tolerance * Math.abs(result.eigenvalue)
    ) {
      return { ...result, vector: combine(basis, result.weights), products: basis.length };
    }
    offDiagonal.push(beta);
    scale(w, 1 / beta);
    basis.push(w);
  }
}

function summarize(
  basis: readonly Vector[],
  diagonal: readonly number[],
  offDiagonal: readonly number[],
  beta: number,
) {
  const { values, vectors } = tridiagonalEigen(diagonal, offDiagonal);
  const last = basis.length - 1;
  const residuals = Float64Array.from(vectors, (vector) => Math.abs(beta * vector[last]));
  return { eigenvalue: values[0], residual: residuals[0], ritzValues: values, residuals, weights: vectors[0] };
}

function combine(basis: readonly Vector[], weights: Float64Array): Vector {
  const vector = basis[0].slice().fill(0);
  basis.forEach((q, i) => {
    addScaled(vector, weights[i], q);
  });
  scale(vector, 1 / length(vector));
  return vector;
}
