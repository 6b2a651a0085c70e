import { afterAll, expect, test } from 'vitest';
import { grad } from '../../src/autodiff/index.ts';
import { fuse } from '../../src/compile/fuse.ts';
import { countOps, simplify } from '../../src/compile/simplify.ts';
import { openDevice } from '../../src/node/device.ts';
import { encode } from '../../src/tensor/dtype.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { add, input, matmul, sum, type Tensor, tanh } from '../../src/tensor/index.ts';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

const [x, w, row, scalar, column, whole] = [
  input('x', [4, 3]),
  input('w', [5, 3]),
  input('row', [5]),
  input('scalar', []),
  input('column', [4, 1]),
  input('whole', [4, 5]),
];
const product = matmul(x, w, { transposeB: true });
const inputs = [x, w, row, scalar, column, whole];
const values = new Map(
  inputs.map((t, k) => [t, Float32Array.from({ length: t.size }, (_, i) => Math.sin(1.3 * i + k))]),
);

const cases: [string, Tensor[], Record<string, number>][] = [
  ['a row', [add(product, row)], { gemm: 1 }],
  ['a number, on the left', [add(scalar, product)], { gemm: 1 }],
  ['a column', [add(product, column)], { gemm: 1 }],
  ['a matrix', [add(product, whole)], { gemm: 1 }],
  ['another product: one of the two', [add(product, matmul(whole, input('square', [5, 5])))], { gemm: 1, matmul: 1 }],
  ['a product that is wanted elsewhere', [add(product, row), tanh(product)], { matmul: 1, add: 1, tanh: 1 }],
  ['a product that is an output', [add(product, row), product], { matmul: 1, add: 1 }],
  ['two layers', [add(matmul(tanh(add(product, row)), input('square', [5, 5])), row)], { gemm: 2, tanh: 1 }],
];

test.each(cases)('a product plus %s', async (_, outputs, ops) => {
  expect(Object.fromEntries(countOps(fuse(outputs)))).toEqual(ops);
  const given = new Map(values).set(
    input('square', [5, 5]),
    Float32Array.from({ length: 25 }, (_, i) => Math.cos(i)),
  );
  const program = await device.compile([...given.keys()], outputs);
  const results = await program.run(new Map([...given].map(([t, v]) => [t, encode(v, t.dtype)])));
  evaluate(outputs, given).forEach((expected, k) => {
    expected.forEach((value, i) => expect(Number(results[k][i])).toBeCloseTo(value, 5));
  });
});

test('the gradient of a bias is one reduction', () => {
  const loss = sum(tanh(add(product, row)));
  expect(Object.fromEntries(countOps(simplify(grad(loss, [row]))))).not.toHaveProperty('reshape');
});
