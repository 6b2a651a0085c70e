/** @file Sums over long vectors, accumulated in float64 in a fixed order, so that equal inputs give equal bits. */

/** Numbers in memory that can be read and written. */
export type Vector = Float32Array | Float64Array;

export function dot(a: Vector, b: Vector): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const whole = a.length - (a.length % 4);
  for (let i = 0; i < whole; i += 4) {
    s0 += a[i] * b[i];
    s1 += a[i + 1] * b[i + 1];
    s2 += a[i + 2] * b[i + 2];
    s3 += a[i + 3] * b[i + 3];
  }
  for (let i = whole; i < a.length; i++) s0 += a[i] * b[i];
  return s0 + s1 + (s2 + s3);
}

/** Euclidean length. */
export const length = (a: Vector): number => Math.sqrt(dot(a, a));

/** y ← y + by · x. */
export function addScaled(y: Vector, by: number, x: Vector): void {
  for (let i = 0; i < y.length; i++) y[i] += by * x[i];
}

/** x ← by · x. */
export function scale(x: Vector, by: number): void {
  for (let i = 0; i < x.length; i++) x[i] *= by;
}
