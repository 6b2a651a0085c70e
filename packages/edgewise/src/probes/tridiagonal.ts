/** @file Eigenvalues and eigenvectors of symmetric tridiagonal matrices, as Lanczos makes them. */
import { EdgewiseError } from '../base/errors.ts';

/** Eigenpairs, largest eigenvalue first. */
export interface Eigenpairs {
  readonly values: Float64Array;
  /** Eigenvector i is `vectors[i]`, of unit length. */
  readonly vectors: readonly Float64Array[];
}

/**
 * All eigenpairs by the implicit QL method with Wilkinson shifts (Golub & Van Loan, Matrix Computations, 8.3).
 *
 * @param diagonal n entries.
 * @param offDiagonal n - 1 entries; entry i couples i and i + 1.
 * @throws EdgewiseError where an entry is not finite.
 */
export function tridiagonalEigen(diagonal: ArrayLike<number>, offDiagonal: ArrayLike<number>): Eigenpairs {
  const n = diagonal.length;
  const d = Float64Array.from(diagonal);
  const e = new Float64Array(n);
  e.set(Array.from(offDiagonal).slice(0, n - 1));
  if (![...d, ...e].every(Number.isFinite)) {
    throw new EdgewiseError(
      'tridiagonalEigen: an entry is not finite; the matrix it came from holds NaN or overflowed.',
    );
  }
  // Row k of z holds component k of every eigenvector.
  const z = Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));
  // Dropping entries of this size moves the matrix by its own rounding error.
  const negligible = Number.EPSILON * Math.max(...d.map(Math.abs), ...e.map(Math.abs));
  for (let first = 0; first < n; first++) {
    for (let sweep = 0; sweep < 60; sweep++) {
      let m = first;
      while (m < n - 1 && Math.abs(e[m]) > negligible) m++;
      if (m === first) break;
      sweepQL(d, e, z, first, m);
    }
  }
  const order = [...d.keys()].sort((a, b) => d[b] - d[a]);
  return {
    values: Float64Array.from(order, (i) => d[i]),
    vectors: order.map((i) => Float64Array.from(z, (row) => row[i])),
  };
}

function sweepQL(d: Float64Array, e: Float64Array, z: readonly Float64Array[], first: number, last: number): void {
  const half = (d[first + 1] - d[first]) / (2 * e[first]);
  const root = Math.hypot(half, 1);
  let g = d[last] - d[first] + e[first] / (half + (half >= 0 ? root : -root));
  let [s, c, p] = [1, 1, 0];
  for (let i = last - 1; i >= first; i--) {
    const f = s * e[i];
    const b = c * e[i];
    const r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1] -= p;
      e[last] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1] - p;
    const t = (d[i] - g) * s + 2 * c * b;
    p = s * t;
    d[i + 1] = g + p;
    g = c * t - b;
    for (const row of z) {
      const upper = row[i + 1];
      row[i + 1] = s * row[i] + c * upper;
      row[i] = c * row[i] - s * upper;
    }
  }
  d[first] -= p;
  e[first] = g;
  e[last] = 0;
}
