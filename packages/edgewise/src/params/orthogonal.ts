/** @file Householder QR, for orthogonal initialization. */

/**
 * Orthonormalizes the `count` rows of length `length` >= `count` in `rows` (row-major, overwritten) and returns them:
 * row i of the result is row i of Q^T in the QR factorization of the transpose, with the signs for which R has a
 * positive diagonal. Of independent normal rows this gives the uniform (Haar) distribution (Mezzadri 2007).
 */
export function orthonormalRows(rows: Float64Array, count: number, length: number): Float64Array {
  const q = new Float64Array(count * length);
  const signs = new Float64Array(count);
  const reflectors: Float64Array[] = [];
  // Row k turns into the unit Householder vector v_k, zero before element k, with H_k = I - 2 v_k v_k^T. Each row takes
  // all earlier reflections at once, so that it stays in the cache.
  for (let k = 0; k < count; k++) {
    const v = rows.subarray(k * length, (k + 1) * length);
    for (let j = 0; j < k; j++) reflect(v, reflectors[j], j);
    const norm = Math.sqrt(dot(v, v, k));
    // H_k maps the row to -sign(v_k) norm e_k: adding, never subtracting, avoids cancellation.
    signs[k] = v[k] > 0 ? -1 : 1;
    v[k] -= signs[k] * norm;
    v.fill(0, 0, k);
    const square = dot(v, v, k);
    const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let i = k; i < length; i++) v[i] *= scale;
    reflectors.push(v);
  }
  for (let k = 0; k < count; k++) {
    const row = q.subarray(k * length, (k + 1) * length);
    row[k] = signs[k];
    for (let j = k; j >= 0; j--) reflect(row, reflectors[j], j);
  }
  return q;
}

/** Applies I - 2 v v^T to `x`; v is zero before element `from`. */
function reflect(x: Float64Array, v: Float64Array, from: number): void {
  const factor = 2 * dot(x, v, from);
  let i = from;
  for (; i + 3 < x.length; i += 4) {
    const a = x[i] - factor * v[i];
    const b = x[i + 1] - factor * v[i + 1];
    const c = x[i + 2] - factor * v[i + 2];
    const d = x[i + 3] - factor * v[i + 3];
    x[i] = a;
    x[i + 1] = b;
    x[i + 2] = c;
    x[i + 3] = d;
  }
  for (; i < x.length; i++) x[i] -= factor * v[i];
}

function dot(x: Float64Array, y: Float64Array, from: number): number {
  // Four sums: one alone would wait for each addition to finish.
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let i = from;
  for (; i + 3 < x.length; i += 4) {
    a += x[i] * y[i];
    b += x[i + 1] * y[i + 1];
    c += x[i + 2] * y[i + 2];
    d += x[i + 3] * y[i + 3];
  }
  for (; i < x.length; i++) a += x[i] * y[i];
  return a + b + (c + d);
}
