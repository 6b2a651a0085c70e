/** @file Linear algebra of the matrix methods' second transcriptions: plain loops, slow ways that cannot go wrong. */

export type Matrix = number[][];

export const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0].map((_, j) => row.reduce((sum, x, k) => sum + x * b[k][j], 0)));
export const transposed = (a: Matrix): Matrix => a[0].map((_, j) => a.map((row) => row[j]));

/** Distance in memory between neighbours along an axis. */
const strideOf = (shape: readonly number[], axis: number) => shape.slice(axis + 1).reduce((n, extent) => n * extent, 1);

/** Σ over all lines along `axis` of line lineᵀ. */
export function outer(tensor: readonly number[], shape: readonly number[], axis: number): Matrix {
  const [stride, extent] = [strideOf(shape, axis), shape[axis]];
  const result: Matrix = Array.from({ length: extent }, () => new Array<number>(extent).fill(0));
  for (const [at, x] of tensor.entries()) {
    const i = Math.floor(at / stride) % extent;
    for (let j = 0; j < extent; j++) result[i][j] += x * tensor[at + (j - i) * stride];
  }
  return result;
}

/** `matrix` applied to every line along `axis`. */
export function applied(tensor: readonly number[], shape: readonly number[], axis: number, matrix: Matrix): number[] {
  const [stride, extent] = [strideOf(shape, axis), shape[axis]];
  return tensor.map((_, at) => {
    const i = Math.floor(at / stride) % extent;
    return matrix[i].reduce((sum, x, j) => sum + x * tensor[at + (j - i) * stride], 0);
  });
}

/** Eigenvalues and eigenvectors (columns) of a symmetric matrix by Jacobi's rotations, largest eigenvalue first. */
export function jacobi(symmetric: Matrix): { values: number[]; vectors: Matrix } {
  const n = symmetric.length;
  let a = symmetric;
  let vectors: Matrix = a.map((row, i) => row.map((_, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 60; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (a[p][q] === 0) continue;
        const angle = Math.atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2;
        const rotation: Matrix = a.map((row, i) => row.map((_, j) => (i === j ? 1 : 0)));
        rotation[p][p] = rotation[q][q] = Math.cos(angle);
        rotation[p][q] = Math.sin(angle);
        rotation[q][p] = -Math.sin(angle);
        a = product(product(transposed(rotation), a), rotation);
        a[p][q] = a[q][p] = 0;
        vectors = product(vectors, rotation);
      }
    }
  }
  const order = a.map((_, i) => i).sort((i, j) => a[j][j] - a[i][i]);
  return { values: order.map((i) => a[i][i]), vectors: vectors.map((row) => order.map((i) => row[i])) };
}

/** Columns of `a` made orthonormal one after the other, twice over. */
export function orthonormal(a: Matrix): Matrix {
  const done: number[][] = [];
  for (const column of transposed(a)) {
    let rest = column;
    for (const q of [...done, ...done]) {
      const along = rest.reduce((sum, x, i) => sum + x * q[i], 0);
      rest = rest.map((x, i) => x - along * q[i]);
    }
    const length = Math.hypot(...rest);
    done.push(rest.map((x) => x / length));
  }
  return transposed(done);
}
