/** @file Factorizations of matrices. Only the reference interpreter computes them. */
import { DeviceError, ShapeError } from '../../base/errors.ts';
import { showShape, sizeOf } from '../shape.ts';
import { expectFloat, make, type OpDef, type Tensor } from '../tensor.ts';
import { reshape, sliceAxis } from './layout.ts';

type NoAttrs = Readonly<Record<string, never>>;

const refuseDevice = (op: string) => (): never => {
  throw new DeviceError(
    `lower: op '${op}' exists in the reference interpreter only; compute it with evaluate, or on device 'interpreter'.`,
  );
};

/** Rows and columns of a matrix, or of each one of a batch. */
function matrixShape(op: string, { shape }: Tensor): readonly [rows: number, columns: number] {
  if (shape.length < 2)
    throw new ShapeError(
      `${op}: ${showShape(shape)} is not a matrix or a batch of them; reshape it to rank 2 or more.`,
    );
  const [rows, columns] = shape.slice(-2);
  return [rows, columns];
}

/** Q, then R, flat. */
const qrOp: OpDef<NoAttrs> = {
  name: 'qr',
  infer: ([x]) => {
    expectFloat('qr', x);
    const [rows, columns] = matrixShape('qr', x);
    const inner = Math.min(rows, columns);
    return { dtype: x.dtype, shape: [...x.shape.slice(0, -2), inner * (rows + columns)] };
  },
  evaluate: ([x], _, type) => {
    const [rows, columns] = x.shape.slice(-2);
    const out = new Float64Array(sizeOf(type.shape));
    const [size, packed] = [rows * columns, type.shape[type.shape.length - 1]];
    const batch = sizeOf(x.shape.slice(0, -2));
    for (let b = 0; b < batch; b++)
      factorizeQr(x.data.subarray(b * size, (b + 1) * size), rows, columns, out.subarray(b * packed, (b + 1) * packed));
    return out;
  },
  lower: refuseDevice('qr'),
};

/** Eigenvalues as the first row, then the matrix whose columns are the eigenvectors. */
const eighOp: OpDef<NoAttrs> = {
  name: 'eigh',
  infer: ([x]) => {
    expectFloat('eigh', x);
    const [rows, columns] = matrixShape('eigh', x);
    if (rows !== columns)
      throw new ShapeError(`eigh: ${showShape(x.shape)} is not square; give a symmetric matrix, or a batch of them.`);
    return { dtype: x.dtype, shape: [...x.shape.slice(0, -2), rows + 1, rows] };
  },
  evaluate: ([x], _, type) => {
    const n = type.shape[type.shape.length - 1];
    const out = new Float64Array(sizeOf(type.shape));
    const batch = sizeOf(x.shape.slice(0, -2));
    for (let b = 0; b < batch; b++)
      decomposeSymmetric(
        x.data.subarray(b * n * n, (b + 1) * n * n),
        n,
        out.subarray(b * n * (n + 1), (b + 1) * n * (n + 1)),
      );
    return out;
  },
  lower: refuseDevice('eigh'),
};

/** Factors of a matrix of m rows and n columns; k is the smaller of the two. */
export interface QrFactors {
  /** [m, k], with orthonormal columns. */
  readonly q: Tensor;
  /** [k, n], upper triangular, with a diagonal that is not negative. */
  readonly r: Tensor;
}

/**
 * The reduced QR factorization over the last two axes, other axes a batch, by Householder reflections in float64. Where columns depend on
 * each other, q is completed to orthonormal columns. It has no derivative and runs in the reference interpreter only.
 */
export function qr(x: Tensor): QrFactors {
  const packed = make(qrOp, [x], {});
  const [rows, columns] = x.shape.slice(-2);
  const batch = x.shape.slice(0, -2);
  const inner = Math.min(rows, columns);
  return {
    q: reshape(sliceAxis(packed, -1, 0, rows * inner), [...batch, rows, inner]),
    r: reshape(sliceAxis(packed, -1, rows * inner), [...batch, inner, columns]),
  };
}

export interface Eigensystem {
  /** [n], smallest first. */
  readonly values: Tensor;
  /** [n, n]; column i, of length 1, belongs to value i. Its largest component, the first of equal ones, is positive. */
  readonly vectors: Tensor;
}

/**
 * Eigenvalues and eigenvectors of symmetric matrices over the last two axes, other axes a batch, in float64: reduction to tridiagonal
 * form, then the implicit QL method (tred2 and tql2 of EISPACK). Of the matrix only the lower triangle is read. All is NaN where it has an
 * element that is not finite. It has no derivative and runs in the reference interpreter only.
 */
export function eigh(x: Tensor): Eigensystem {
  const packed = make(eighOp, [x], {});
  const n = x.shape[x.rank - 1];
  return {
    values: reshape(sliceAxis(packed, -2, 0, 1), [...x.shape.slice(0, -2), n]),
    vectors: sliceAxis(packed, -2, 1),
  };
}

function factorizeQr(x: Float64Array, rows: number, columns: number, out: Float64Array): void {
  const inner = Math.min(rows, columns);
  // Columns are contiguous here.
  const a = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) a[j * rows + i] = x[i * columns + j];
  const factors = new Float64Array(inner);
  const diagonal = new Float64Array(inner);
  for (let j = 0; j < inner; j++) {
    const column = a.subarray(j * rows, (j + 1) * rows);
    let largest = 0;
    for (let i = j; i < rows; i++) largest = Math.max(largest, Math.abs(column[i]));
    if (largest === 0) continue;
    let squares = 0;
    for (let i = j; i < rows; i++) squares += (column[i] / largest) ** 2;
    const length = largest * Math.sqrt(squares);
    diagonal[j] = column[j] > 0 ? -length : length;
    // The reflection 1 - f v vᵀ with v_j = 1; v takes the place of the column.
    const head = column[j] - diagonal[j];
    factors[j] = -head / diagonal[j];
    for (let i = j + 1; i < rows; i++) column[i] /= head;
    for (let k = j + 1; k < columns; k++) reflect(column, factors[j], a.subarray(k * rows, (k + 1) * rows), j, rows);
  }
  const q = new Float64Array(rows * inner);
  for (let k = 0; k < inner; k++) {
    const column = q.subarray(k * rows, (k + 1) * rows);
    column[k] = 1;
    for (let j = k; j >= 0; j--) reflect(a.subarray(j * rows, (j + 1) * rows), factors[j], column, j, rows);
  }
  for (let k = 0; k < inner; k++) {
    const sign = diagonal[k] < 0 ? -1 : 1;
    for (let i = 0; i < rows; i++) out[i * inner + k] = sign * q[k * rows + i];
    const r = out.subarray(rows * inner + k * columns);
    r[k] = sign * diagonal[k];
    for (let j = k + 1; j < columns; j++) r[j] = sign * a[j * rows + k];
  }
}

/** `target -= f v (vᵀ target)` from row `from` on, where v is `v` with 1 in row `from`. */
function reflect(v: Float64Array, factor: number, target: Float64Array, from: number, rows: number): void {
  if (factor === 0) return;
  let dot = target[from];
  for (let i = from + 1; i < rows; i++) dot += v[i] * target[i];
  dot *= factor;
  target[from] -= dot;
  for (let i = from + 1; i < rows; i++) target[i] -= dot * v[i];
}

function decomposeSymmetric(x: Float64Array, n: number, out: Float64Array): void {
  if (n === 0) return;
  let scale = 0;
  for (const value of x) scale = Number.isFinite(value) ? Math.max(scale, Math.abs(value)) : Number.NaN;
  if (Number.isNaN(scale)) {
    out.fill(Number.NaN);
    return;
  }
  // Row j holds eigenvector j, so that the inner loops below run along memory.
  const w = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) w[j * n + i] = w[i * n + j] = scale === 0 ? 0 : x[i * n + j] / scale;
  const [d, e] = [new Float64Array(n), new Float64Array(n)];
  tridiagonalize(w, d, e);
  diagonalize(w, d, e);
  const order = Array.from(d.keys()).sort((i, j) => d[i] - d[j]);
  for (const [column, i] of order.entries()) {
    out[column] = d[i] * scale;
    let largest = 0;
    for (let k = 0; k < n; k++) if (Math.abs(w[i * n + k]) > Math.abs(largest)) largest = w[i * n + k];
    const sign = largest < 0 ? -1 : 1;
    for (let k = 0; k < n; k++) out[(k + 1) * n + column] = sign * w[i * n + k];
  }
}

/** Householder reduction: afterwards `w` holds the transformation, `d` the diagonal and `e` what lies beside it, from 1 on. */
function tridiagonalize(w: Float64Array, d: Float64Array, e: Float64Array): void {
  const n = d.length;
  const last = n - 1;
  for (let j = 0; j < n; j++) d[j] = w[j * n + last];
  for (let i = last; i > 0; i--) {
    let scale = 0;
    for (let k = 0; k < i; k++) scale += Math.abs(d[k]);
    let h = 0;
    if (scale === 0) {
      e[i] = d[i - 1];
      for (let j = 0; j < i; j++) {
        d[j] = w[j * n + i - 1];
        w[j * n + i] = w[i * n + j] = 0;
      }
    } else {
      for (let k = 0; k < i; k++) {
        d[k] /= scale;
        h += d[k] * d[k];
      }
      const f = d[i - 1];
      const g = f > 0 ? -Math.sqrt(h) : Math.sqrt(h);
      e[i] = scale * g;
      h -= f * g;
      d[i - 1] = f - g;
      e.fill(0, 0, i);
      for (let j = 0; j < i; j++) {
        const x = d[j];
        w[i * n + j] = x;
        let sum = e[j] + w[j * n + j] * x;
        for (let k = j + 1; k < i; k++) {
          sum += w[j * n + k] * d[k];
          e[k] += w[j * n + k] * x;
        }
        e[j] = sum;
      }
      let dot = 0;
      for (let j = 0; j < i; j++) {
        e[j] /= h;
        dot += e[j] * d[j];
      }
      const half = dot / (h + h);
      for (let j = 0; j < i; j++) e[j] -= half * d[j];
      for (let j = 0; j < i; j++) {
        const [x, y] = [d[j], e[j]];
        for (let k = j; k < i; k++) w[j * n + k] -= x * e[k] + y * d[k];
        d[j] = w[j * n + i - 1];
        w[j * n + i] = 0;
      }
    }
    d[i] = h;
  }
  for (let i = 0; i < last; i++) {
    w[i * n + last] = w[i * n + i];
    w[i * n + i] = 1;
    const h = d[i + 1];
    const next = (i + 1) * n;
    if (h !== 0) {
      for (let k = 0; k <= i; k++) d[k] = w[next + k] / h;
      for (let j = 0; j <= i; j++) {
        let dot = 0;
        for (let k = 0; k <= i; k++) dot += w[next + k] * w[j * n + k];
        for (let k = 0; k <= i; k++) w[j * n + k] -= dot * d[k];
      }
    }
    w.fill(0, next, next + i + 1);
  }
  for (let j = 0; j < n; j++) {
    d[j] = w[j * n + last];
    w[j * n + last] = 0;
  }
  w[last * n + last] = 1;
  e[0] = 0;
}

/** Implicit QL: turns the tridiagonal matrix into eigenvalues in `d`, and the rows of `w` into eigenvectors. */
function diagonalize(w: Float64Array, d: Float64Array, e: Float64Array): void {
  const n = d.length;
  e.copyWithin(0, 1);
  e[n - 1] = 0;
  let shift = 0;
  let size = 0;
  for (let l = 0; l < n; l++) {
    size = Math.max(size, Math.abs(d[l]) + Math.abs(e[l]));
    const negligible = Number.EPSILON * size;
    let m = l;
    while (Math.abs(e[m]) > negligible) m++;
    while (m > l && Math.abs(e[l]) > negligible) {
      const first = d[l];
      let p = (d[l + 1] - first) / (2 * e[l]);
      const root = p < 0 ? -Math.hypot(p, 1) : Math.hypot(p, 1);
      d[l] = e[l] / (p + root);
      d[l + 1] = e[l] * (p + root);
      const [ahead, beside] = [d[l + 1], e[l + 1]];
      const moved = first - d[l];
      for (let i = l + 2; i < n; i++) d[i] -= moved;
      shift += moved;
      p = d[m];
      let [c, c2, c3, s, s2] = [1, 1, 1, 0, 0];
      for (let i = m - 1; i >= l; i--) {
        c3 = c2;
        c2 = c;
        s2 = s;
        const [g, h] = [c * e[i], c * p];
        const r = Math.hypot(p, e[i]);
        e[i + 1] = s * r;
        s = e[i] / r;
        c = p / r;
        p = c * d[i] - s * g;
        d[i + 1] = h + s * (c * g + s * d[i]);
        const [upper, lower] = [i * n, (i + 1) * n];
        for (let k = 0; k < n; k++) {
          const [x, y] = [w[upper + k], w[lower + k]];
          w[lower + k] = s * x + c * y;
          w[upper + k] = c * x - s * y;
        }
      }
      p = (-s * s2 * c3 * beside * e[l]) / ahead;
      e[l] = s * p;
      d[l] = c * p;
    }
    d[l] += shift;
    e[l] = 0;
  }
}
