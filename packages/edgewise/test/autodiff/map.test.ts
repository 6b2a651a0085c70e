import { afterAll, expect, test } from 'vitest';
import { grad, hvp, perExampleGrad } from '../../src/autodiff/index.ts';
import { openDevice } from '../../src/node/device.ts';
import { encode } from '../../src/tensor/dtype.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { add, mul, sub, tanh } from '../../src/tensor/ops/elementwise.ts';
import { reshape } from '../../src/tensor/ops/layout.ts';
import { matmul } from '../../src/tensor/ops/matmul.ts';
import { sum } from '../../src/tensor/ops/reduce.ts';
import { input } from '../../src/tensor/tensor.ts';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

const w = input('w', [2, 3], 'float64');
const b = input('b', [3], 'float64');
const [x, y] = [input('x', [2], 'float64'), input('y', [3], 'float64')];
const [xs, ys] = [input('xs', [4, 2], 'float64'), input('ys', [4, 3], 'float64')];
const residual = sub(tanh(add(matmul(reshape(x, [1, 2]), w), b)), y);
const loss = sum(mul(residual, residual));
const symbols = [w, b, xs, ys];
const values = symbols.map((symbol, k) => Float64Array.from({ length: symbol.size }, (_, i) => Math.sin(1.7 * i + k)));
const given = new Map(symbols.map((symbol, k) => [symbol, values[k]]));
const gradients = perExampleGrad(
  loss,
  [w, b],
  new Map([
    [x, xs],
    [y, ys],
  ]),
);

test('each row is the gradient of that example alone', () => {
  const [rows] = evaluate([gradients], given);
  for (let i = 0; i < 4; i++) {
    const one = new Map(given)
      .set(x, values[2].subarray(2 * i, 2 * i + 2))
      .set(y, values[3].subarray(3 * i, 3 * i + 3));
    const [dw, db] = evaluate(grad(loss, [w, b]), one);
    expect([...rows.subarray(9 * i, 9 * i + 9)]).toEqual([...dw, ...db]);
  }
});

test('per-example gradients can be differentiated again, in shared and in mapped inputs', () => {
  const scale = sum(mul(gradients, gradients));
  const v = input('v', [2, 3], 'float64');
  const u = input('u', [4, 2], 'float64');
  const [along, across] = [
    Float64Array.from([1, -2, 0.5, 3, 1, -1]),
    Float64Array.from([1, 2, -1, 0.5, 0.3, -0.7, 1, 1]),
  ];
  const all = new Map(given).set(v, along).set(u, across);
  const [dw, dx] = evaluate(grad(scale, [w, xs]), all);
  const [hw, hx] = evaluate(hvp(scale, [w, xs], [v, u]), all);
  const h = 1e-5;
  const moved = (t: number) =>
    new Map(all)
      .set(
        w,
        values[0].map((q, i) => q + t * along[i]),
      )
      .set(
        xs,
        values[2].map((q, i) => q + t * across[i]),
      );
  const slope = (evaluate([scale], moved(h))[0][0] - evaluate([scale], moved(-h))[0][0]) / (2 * h);
  const dot = (a: Float64Array, c: Float64Array) => a.reduce((t, q, i) => t + q * c[i], 0);
  expect(dot(dw, along) + dot(dx, across)).toBeCloseTo(slope, 6);
  const [up, down] = [evaluate(grad(scale, [w, xs]), moved(h)), evaluate(grad(scale, [w, xs]), moved(-h))];
  [hw, hx].forEach((part, k) => {
    part.forEach((q, i) => expect(q).toBeCloseTo((up[k][i] - down[k][i]) / (2 * h), 5));
  });
});

test('ONNX Runtime runs the map as a Scan with the same result', async () => {
  const scale = sum(mul(gradients, gradients));
  const outputs = [gradients, ...grad(scale, [w, xs])];
  const program = await device.compile(symbols, outputs);
  const results = await program.run(new Map(symbols.map((symbol, k) => [symbol, encode(values[k], 'float64')])));
  evaluate(outputs, given).forEach((expected, k) => {
    expected.forEach((q, i) => expect(Number(results[k][i])).toBeCloseTo(q, 12));
  });
});
