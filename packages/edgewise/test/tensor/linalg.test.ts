/** @file Factorizations against their definitions. */
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { vjp } from '../../src/autodiff/index.ts';
import { Key, normal } from '../../src/base/random.ts';
import { ortDevice } from '../../src/runtime/index.ts';
import { evaluate, input } from '../../src/tensor/index.ts';
import { eigh, qr } from '../../src/tensor/ops/linalg.ts';

const draw = (seed: number, length: number): Float64Array => {
  const values = new Float64Array(length);
  normal(Key.fromSeed(seed), values);
  return values;
};

/** a b, or a bᵀ. */
function product(a: ArrayLike<number>, b: ArrayLike<number>, m: number, k: number, n: number, transposed = false) {
  return Array.from({ length: m * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let p = 0; p < k; p++) sum += a[i * k + p] * b[transposed ? j * k + p : p * n + j];
    return sum;
  });
}
const turned = (a: ArrayLike<number>, m: number, n: number) =>
  Array.from({ length: m * n }, (_, at) => a[(at % m) * n + Math.floor(at / m)]);
const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Number.isNaN(x - b[i]) ? Infinity : Math.abs(x - b[i])), 0);
const identity = (n: number) => Array.from({ length: n * n }, (_, at) => (Math.floor(at / n) === at % n ? 1 : 0));

function factors(data: ArrayLike<number>, m: number, n: number) {
  const x = input('x', [m, n], 'float64');
  const { q, r } = qr(x);
  return evaluate([q, r], new Map([[x, data]]));
}

describe('qr', () => {
  test.each([
    [1, 1],
    [4, 4],
    [7, 3],
    [3, 7],
    [40, 40],
    [5, 0],
  ])('%i rows, %i columns: q r is the matrix, q orthonormal, r triangular with a diagonal of at least 0', (m, n) => {
    const a = draw(m + n, m * n);
    const k = Math.min(m, n);
    const [q, r] = factors(a, m, n);
    expect(worst(product(q, r, m, k, n), a)).toBeLessThan(1e-13);
    expect(worst(product(turned(q, m, k), q, k, m, k), identity(k))).toBeLessThan(1e-14);
    for (let i = 0; i < k; i++) {
      expect(r[i * n + i]).toBeGreaterThanOrEqual(0);
      for (let j = 0; j < i; j++) expect(r[i * n + j]).toBe(0);
    }
  });

  test('dependent columns, zeros, tiny and huge numbers', () => {
    const rank1 = Array.from({ length: 20 }, (_, at) => (1 + Math.floor(at / 4)) * ((at % 4) - 1.5));
    for (const a of [rank1, rank1.map(() => 0), rank1.map((x) => x * 1e-200), rank1.map((x) => x * 1e200)]) {
      const [q, r] = factors(a, 5, 4);
      const size = Math.max(...a.map(Math.abs));
      expect(worst(product(q, r, 5, 4, 4), a)).toBeLessThanOrEqual(1e-14 * size);
      expect(worst(product(turned(q, 5, 4), q, 4, 5, 4), identity(4))).toBeLessThan(1e-14);
    }
  });

  test('a batch is each of its matrices', () => {
    const a = draw(5, 2 * 12);
    const x = input('x', [2, 4, 3], 'float64');
    const { q, r } = qr(x);
    const [qs, rs] = evaluate([q, r], new Map([[x, a]]));
    for (const b of [0, 1]) {
      const [one, other] = factors(a.subarray(12 * b, 12 * (b + 1)), 4, 3);
      expect([...qs.subarray(12 * b, 12 * (b + 1))]).toEqual([...one]);
      expect([...rs.subarray(9 * b, 9 * (b + 1))]).toEqual([...other]);
    }
  });
});

function system(data: ArrayLike<number>, n: number) {
  const x = input('x', [n, n], 'float64');
  const { values, vectors } = eigh(x);
  return evaluate([values, vectors], new Map([[x, data]]));
}

function checkSystem(a: ArrayLike<number>, n: number): Float64Array {
  const [values, vectors] = system(a, n);
  const size = Math.max(...Array.from(a, Math.abs), Number.MIN_VALUE);
  const scaled = vectors.map((v, at) => (v * values[at % n]) / size);
  const whole = product(scaled, vectors, n, n, n, true);
  expect(
    worst(
      whole,
      Array.from(a, (x) => x / size),
    ),
  ).toBeLessThan(4e-15 * n);
  expect(worst(product(vectors, vectors, n, n, n, true), identity(n))).toBeLessThan(4e-15 * n);
  for (let i = 1; i < n; i++) expect(values[i]).toBeGreaterThanOrEqual(values[i - 1]);
  for (let j = 0; j < n; j++) {
    const column = Array.from({ length: n }, (_, i) => vectors[i * n + j]);
    const largest = Math.max(...column.map(Math.abs));
    expect(column.find((x) => Math.abs(x) === largest)).toBeGreaterThan(0);
  }
  return values;
}

describe('eigh', () => {
  test.each([1, 2, 3, 8, 60])('%i rows: V diag(λ) Vᵀ is the matrix, V orthonormal, λ ascending', (n) => {
    const g = draw(n, n * n);
    checkSystem(
      Array.from(g, (_, at) => g[at] + g[(at % n) * n + Math.floor(at / n)]),
      n,
    );
  });

  test('known eigenvalues: the second difference', () => {
    const n = 12;
    const a = Array.from({ length: n * n }, (_, at) => {
      const distance = Math.abs(Math.floor(at / n) - (at % n));
      return distance === 0 ? 2 : distance === 1 ? -1 : 0;
    });
    const values = checkSystem(a, n);
    for (let k = 0; k < n; k++)
      expect(Math.abs(values[k] - 4 * Math.sin(((k + 1) * Math.PI) / (2 * (n + 1))) ** 2)).toBeLessThan(1e-14);
  });

  test('equal eigenvalues, missing rank, blocks, tiny and huge numbers', () => {
    const g = draw(9, 10);
    const rank2 = product(g, g, 5, 2, 5, true);
    const blocks = [2, 1, 0, 0, 1, 2, 0, 0, 0, 0, 2, 1, 0, 0, 1, 2];
    for (const size of [1, 1e-300, 1e150])
      for (const [a, n] of [
        [identity(4), 4],
        [new Array(9).fill(0), 3],
        [rank2, 5],
        [blocks, 4],
      ] as const)
        checkSystem(
          a.map((x: number) => x * size),
          n,
        );
  });

  test('only the lower triangle is read; what is not finite makes all NaN', () => {
    const [values] = system([1, 99, 2, 3], 2);
    expect(worst(values, [2 - Math.sqrt(5), 2 + Math.sqrt(5)])).toBeLessThan(1e-14);
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      const [first, second] = system([1, 0, bad, 1], 2);
      expect([...first, ...second].every(Number.isNaN)).toBe(true);
    }
  });
});

test('what they do not do is said', async () => {
  expect(() => qr(input('x', [3]))).toThrow(/qr: \[3\] is not a matrix/);
  expect(() => qr(input('x', [3, 3], 'int32'))).toThrow(/qr: got int32/);
  expect(() => eigh(input('x', [3, 4]))).toThrow(/eigh: \[3, 4\] is not square/);
  const x = input('x', [3, 3]);
  const device = ortDevice(ort, { provider: 'cpu', threads: 1 });
  for (const [name, result] of [
    ['qr', qr(x).q],
    ['eigh', eigh(x).vectors],
  ] as const) {
    await expect(device.compile([x], [result])).rejects.toThrow(
      `op '${name}' exists in the reference interpreter only`,
    );
    expect(() => vjp([result], [x], [result])).toThrow(/has no derivative/);
  }
  await device.dispose();
});
