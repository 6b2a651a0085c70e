import { afterAll, describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import { openDevice } from '../../src/node/device.ts';
import { ParamLayout } from '../../src/params/layout.ts';
import type { LinearOperator } from '../../src/probes/lanczos.ts';
import { Landscape } from '../../src/probes/landscape.ts';
import { block, combination, preconditioned, product, scaled, shifted } from '../../src/probes/operators.ts';
import type { Vector } from '../../src/probes/vectors.ts';
import { add, crossEntropy, input, matmul, reshape, type Tensor, tanh } from '../../src/tensor/index.ts';

/** 3 → 4 tanh → 3 classes on batches of 5 examples, 7 of which count in all. */
const [BATCH, IN, WIDTH, CLASSES, EXAMPLES] = [5, 3, 4, 3, 7];
const layout = new ParamLayout([
  { name: 'w1', shape: [IN, WIDTH] },
  { name: 'b1', shape: [WIDTH] },
  { name: 'w2', shape: [WIDTH, CLASSES] },
]);
const params = layout.segments.map(({ name, shape }) => input(name, shape, 'float64'));

function logits(x: Tensor): Tensor {
  const [w1, b1, w2] = params;
  return matmul(tanh(add(matmul(x, w1), b1)), w2);
}

const draw = (name: string, length: number): Float64Array =>
  normal(Key.fromSeed(2).split(name), new Float64Array(length)) as Float64Array;
const inputs = draw('x', EXAMPLES * IN);
const labels = Int32Array.from({ length: EXAMPLES }, (_, i) => (2 * i) % CLASSES);

const device = await openDevice('cpu');
afterAll(() => device.dispose());

function landscape(counts: readonly number[]): Landscape {
  const x = input('x', [BATCH, IN], 'float64');
  const y = input('y', [BATCH], 'int32');
  const outputs = logits(x);
  const [one, label] = [input('example', [IN], 'float64'), input('label', [], 'int32')];
  let at = 0;
  const batches = counts.map((count) => {
    const pick = Array.from({ length: BATCH }, (_, i) => at + Math.min(i, count - 1));
    at += count;
    return {
      count,
      feeds: new Map<Tensor, Float64Array | Int32Array>([
        [x, Float64Array.from(pick.flatMap((i) => [...inputs.subarray(i * IN, (i + 1) * IN)]))],
        [y, Int32Array.from(pick, (i) => labels[i])],
      ]),
    };
  });
  return new Landscape({
    device,
    params,
    layout,
    losses: crossEntropy(outputs, y, { reduction: 'none' }),
    outputs,
    example: {
      loss: reshape(crossEntropy(logits(reshape(one, [1, IN])), reshape(label, [1]), { reduction: 'none' }), []),
      symbols: new Map([
        [one, x],
        [label, y],
      ]),
    },
    batches,
  });
}

/** A point of the layout's size with zero padding. */
function point(name: string): Float64Array {
  const all = new Float64Array(layout.size);
  for (const { name: param, offset, length } of layout.segments) all.set(draw(`${name}/${param}`, length), offset);
  return all;
}
const theta = point('theta');

/** Loss of one example by plain loops. */
function lossOf(at: Vector, example: number): number {
  const [w1, b1, w2] = layout.segments.map(({ offset, length }) => at.subarray(offset, offset + length));
  const hidden = Array.from({ length: WIDTH }, (_, j) => {
    let sum = b1[j];
    for (let i = 0; i < IN; i++) sum += inputs[example * IN + i] * w1[i * WIDTH + j];
    return Math.tanh(sum);
  });
  const z = Array.from({ length: CLASSES }, (_, k) => hidden.reduce((sum, h, j) => sum + h * w2[j * CLASSES + k], 0));
  return Math.log(z.reduce((sum, x) => sum + Math.exp(x), 0)) - z[labels[example]];
}
const meanLoss = (at: Vector): number =>
  Array.from({ length: EXAMPLES }, (_, i) => lossOf(at, i)).reduce((a, b) => a + b) / EXAMPLES;

const real = layout.segments.flatMap(({ offset, length }) => Array.from({ length }, (_, i) => offset + i));

function numericGradient(f: (at: Vector) => number, at: Vector, h = 1e-5): Float64Array {
  const out = new Float64Array(at.length);
  for (const i of real) {
    const moved = at.slice();
    moved[i] = at[i] + h;
    const up = f(moved);
    moved[i] = at[i] - h;
    out[i] = (up - f(moved)) / (2 * h);
  }
  return out;
}

async function dense(operator: LinearOperator): Promise<Float64Array[]> {
  const columns: Float64Array[] = [];
  for (const i of real) {
    const [e, column] = [new Float64Array(operator.size), new Float64Array(operator.size)];
    e[i] = 1;
    await operator.apply(e, column);
    columns.push(Float64Array.from(real, (j) => column[j]));
  }
  return columns;
}

const close = (a: ArrayLike<number>, b: ArrayLike<number>, tolerance: number): void => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i] - b[i]), `entry ${i}`).toBeLessThan(tolerance);
};

describe.each([{ counts: [5, 2] }, { counts: [4, 3] }])('batches that count $counts examples', ({ counts }) => {
  const land = landscape(counts);
  afterAll(() => land.dispose());

  test('losses and their mean are those of plain loops', async () => {
    close(
      await land.losses(theta),
      Array.from({ length: EXAMPLES }, (_, i) => lossOf(theta, i)),
      1e-14,
    );
    expect(await land.loss(theta)).toBeCloseTo(meanLoss(theta), 14);
    expect(land.examples).toBe(EXAMPLES);
  });

  test('the gradient is that of the mean, padding of batches and of the vector left out', async () => {
    const out = land.vector().fill(7);
    const loss = await land.gradient(theta, out);
    expect(loss).toBeCloseTo(meanLoss(theta), 14);
    close(out, numericGradient(meanLoss, theta), 1e-9);
  });

  test('gradients of batches and of examples average to the gradient', async () => {
    const whole = land.vector();
    await land.gradient(theta, whole);
    const sum = new Float64Array(layout.size);
    await land.batchGradients(theta, (gradient, batch) => {
      gradient.forEach((g, i) => {
        sum[i] += (g * counts[batch]) / EXAMPLES;
      });
    });
    close(sum, whole, 1e-14);
    const rows: number[][] = [];
    await land.exampleGradients(theta, (gradients, count) => {
      for (let i = 0; i < count; i++) rows.push([...gradients.subarray(i * layout.count, (i + 1) * layout.count)]);
    });
    expect(rows.length).toBe(EXAMPLES);
    rows.forEach((row, example) => {
      const numeric = numericGradient((at) => lossOf(at, example), theta);
      close(
        row,
        real.map((i) => numeric[i]),
        1e-9,
      );
    });
  });

  test('Hessian, Gauss-Newton and Fisher are the matrices of their definitions', async () => {
    const h = await dense(land.hessian(theta));
    const step = 1e-5;
    for (const [c, i] of real.entries()) {
      const [up, down] = [land.vector(), land.vector()];
      for (const [out, sign] of [
        [up, 1],
        [down, -1],
      ] as const) {
        const moved = theta.slice();
        moved[i] += sign * step;
        await land.gradient(moved, out);
      }
      close(
        h[c],
        real.map((j) => (up[j] - down[j]) / (2 * step)),
        1e-8,
      );
    }
    // Gauss-Newton: mean of Jᵀ (diag(p) - p pᵀ) J, with J by differences of the logits.
    const z = async (at: Vector): Promise<number[][]> => {
      const rows: number[][] = [];
      await land.outputs(at, (outputs, count) => {
        for (let i = 0; i < count; i++)
          rows.push(Array.from({ length: CLASSES }, (_, k) => Number(outputs[i * CLASSES + k])));
      });
      return rows;
    };
    const base = await z(theta);
    const jacobian: number[][][] = [];
    for (const i of real) {
      const moved = theta.slice();
      moved[i] += step;
      const up = await z(moved);
      moved[i] -= 2 * step;
      const down = await z(moved);
      jacobian.push(up.map((row, e) => row.map((x, k) => (x - down[e][k]) / (2 * step))));
    }
    const g = await dense(land.gaussNewton(theta));
    const f = await dense(land.fisher(theta));
    const gradients = Array.from({ length: EXAMPLES }, (_, e) => numericGradient((at) => lossOf(at, e), theta));
    for (const [a, i] of real.entries()) {
      for (const [b, j] of real.entries()) {
        let [gn, fisher] = [0, 0];
        for (let e = 0; e < EXAMPLES; e++) {
          const total = base[e].reduce((sum, x) => sum + Math.exp(x), 0);
          const p = base[e].map((x) => Math.exp(x) / total);
          const mean = (c: number) => p.reduce((sum, q, k) => sum + q * jacobian[c][e][k], 0);
          gn +=
            (p.reduce((sum, q, k) => sum + q * jacobian[a][e][k] * jacobian[b][e][k], 0) - mean(a) * mean(b)) /
            EXAMPLES;
          fisher += (gradients[e][i] * gradients[e][j]) / EXAMPLES;
        }
        expect(Math.abs(g[a][b] - gn)).toBeLessThan(1e-8);
        expect(Math.abs(f[a][b] - fisher)).toBeLessThan(1e-8);
      }
    }
  });
});

test('what is missing or does not fit is said', async () => {
  const x = input('x', [BATCH, IN], 'float64');
  const bare = new Landscape({
    device,
    params,
    layout,
    losses: reshape(matmul(logits(x), input('c', [CLASSES, 1], 'float64')), [BATCH]),
    batches: [{ feeds: new Map<Tensor, Float64Array>([[x, new Float64Array(BATCH * IN)]]) }],
  });
  await expect(bare.gaussNewton(theta).apply(theta, theta.slice())).rejects.toThrow(/made without `outputs`/);
  await expect(bare.exampleGradients(theta, () => {})).rejects.toThrow(/made without `example`/);
  await expect(bare.loss(new Float64Array(3))).rejects.toThrow(/a point of 3 elements/);
  const wrong = (change: object) => () =>
    new Landscape({
      device,
      params,
      layout,
      losses: reshape(matmul(logits(x), input('c', [CLASSES, 1], 'float64')), [BATCH]),
      batches: [{ feeds: new Map() }],
      ...change,
    });
  expect(wrong({ batches: [] })).toThrow(/no batches/);
  expect(wrong({ batches: [{ feeds: new Map(), count: 9 }] })).toThrow(/counts 9 examples; give 1 to 5/);
  expect(wrong({ losses: logits(x) })).toThrow(/one for each example/);
  expect(wrong({ params: params.slice(1) })).toThrow(/2 parameter symbols were given for 3/);
});

describe('operators of operators', () => {
  const matrix = (rows: readonly (readonly number[])[]): LinearOperator => ({
    size: rows.length,
    apply: async (v, out) => {
      rows.forEach((row, i) => {
        out[i] = row.reduce((sum, a, j) => sum + a * v[j], 0);
      });
    },
  });
  const [a, b] = [
    matrix([
      [2, 1],
      [1, 3],
    ]),
    matrix([
      [0, 1],
      [1, 0],
    ]),
  ];
  const apply = async (operator: LinearOperator, v: number[]): Promise<number[]> => {
    const out = new Float64Array(2);
    await operator.apply(Float64Array.from(v), out);
    return [...out];
  };

  test('act as the matrices they stand for', async () => {
    expect(await apply(combination([a, b], [2, -1]), [1, 2])).toEqual([6, 13]);
    expect(await apply(scaled(a, 3), [1, 0])).toEqual([6, 3]);
    expect(await apply(shifted(a, 10), [1, 1])).toEqual([13, 14]);
    expect(await apply(product(a, b), [1, 2])).toEqual([5, 5]);
    expect(await apply(block(a, 1, 1), [5, 2])).toEqual([0, 6]);
    expect(await apply(preconditioned(a, { data: Float64Array.of(4, 0) }), [2, 5])).toEqual([1, 0]);
  });

  test('of different sizes are refused', () => {
    const big = matrix([
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]);
    expect(() => combination([a, big])).toThrow(/sizes 2 and 3/);
    expect(() => product(a, big)).toThrow(/sizes 2 and 3/);
    expect(() => combination([])).toThrow(/0 operators/);
    expect(() => block(a, 1, 2)).toThrow(/1 to 3/);
  });
});
