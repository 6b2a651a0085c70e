import { expect, test } from 'vitest';
import { grad, hvp } from '../../src/autodiff/index.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { add, mul, tanh } from '../../src/tensor/ops/elementwise.ts';
import { matmul } from '../../src/tensor/ops/matmul.ts';
import { mean, sum } from '../../src/tensor/ops/reduce.ts';
import { input } from '../../src/tensor/tensor.ts';

test('gradient and Hessian-vector product of a small network equal central differences', () => {
  const x = input('x', [3, 2], 'float64');
  const w = input('w', [2, 4], 'float64');
  const b = input('b', [4], 'float64');
  const v = input('v', [2, 4], 'float64');
  const y = tanh(add(matmul(x, w), b));
  const loss = mean(mul(y, mul(y, y)));
  const values = (n: number, phase: number) => Float64Array.from({ length: n }, (_, i) => Math.sin(1.3 * i + phase));
  const given = new Map([
    [x, values(6, 1)],
    [w, values(8, 2)],
    [b, values(4, 3)],
    [v, values(8, 4)],
  ]);
  const [dw] = evaluate(grad(loss, [w]), given);
  const [hv] = evaluate(hvp(loss, [w], [v]), given);
  const shifted = (h: number, d: ArrayLike<number>) =>
    new Map(given).set(
      w,
      values(8, 2).map((q, i) => q + h * d[i]),
    );
  const h = 1e-5;
  const along =
    (evaluate([loss], shifted(h, values(8, 4)))[0][0] - evaluate([loss], shifted(-h, values(8, 4)))[0][0]) / (2 * h);
  expect(dw.reduce((t, g, i) => t + g * values(8, 4)[i], 0)).toBeCloseTo(along, 8);
  const [up] = evaluate(grad(loss, [w]), shifted(h, values(8, 4)));
  const [down] = evaluate(grad(loss, [w]), shifted(-h, values(8, 4)));
  hv.forEach((value, i) => expect(value).toBeCloseTo((up[i] - down[i]) / (2 * h), 7));
  expect(sum(x).shape).toEqual([]);
});
