/** @file Second derivatives of whole models: symmetric, equal to a dense Hessian, and the same on ONNX Runtime. */
import { afterAll, describe, expect, test } from 'vitest';
import { ggnvp, grad, hvp } from '../../src/autodiff/index.ts';
import { Key, normal } from '../../src/base/random.ts';
import { buildModel } from '../../src/models/index.ts';
import * as nn from '../../src/nn/index.ts';
import { openDevice } from '../../src/node/device.ts';
import { encode, type TypedArray } from '../../src/tensor/dtype.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { flatten } from '../../src/tensor/ops/layout.ts';
import { crossEntropy } from '../../src/tensor/ops/losses.ts';
import { constant, input, type Tensor } from '../../src/tensor/tensor.ts';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

const classes = 3;
const head = (scope: nn.Scope, y: Tensor) => nn.linear(scope.at('head'), flatten(y), { outFeatures: classes });

/** One block of attention and its feed-forward network, with a linear layer on what comes out. */
const attention = (width: number, steps: number): nn.Model => ({
  name: 'attention',
  inputShape: [steps, width],
  forward: (s, x) => head(s, nn.transformerBlock(s.at('block'), x, { heads: 2, feedForward: width, causal: true })),
});

/** One step of an LSTM from a state that is not zero. */
const lstmCell = (width: number, hiddenSize: number): nn.Model => ({
  name: 'lstmCell',
  inputShape: [width],
  forward: (s, x) => {
    const state = (phase: number) =>
      constant(
        Float64Array.from({ length: x.shape[0] * hiddenSize }, (_, i) => Math.sin(i + phase)),
        [x.shape[0], hiddenSize],
        x.dtype,
      );
    return head(s, nn.lstmCell(s.at('cell'), x, { hiddenSize, state: { h: state(1), c: state(2) } }).h);
  },
});

/** Cross-entropy of a model on a batch of noise, with everything that its graph reads. */
function problem(model: nn.Model, { batch, training, dtype }: nn.TraceOptions) {
  const traced = nn.trace(model, { batch, training, dtype });
  const labels = constant(
    Int32Array.from({ length: batch }, (_, i) => i % classes),
    [batch],
    'int32',
  );
  const loss = crossEntropy(traced.output, labels);
  const params = traced.params.map((p) => p.symbol);
  const key = Key.fromSeed(5);
  const given = new Map<Tensor, Float64Array>([
    [traced.input, normal(key.split('x'), new Float64Array(traced.input.size))],
  ]);
  for (const { name, symbol, init } of [...traced.params, ...traced.buffers]) {
    const values = new Float64Array(symbol.size);
    init.fill(key.split(name), values, symbol.shape);
    given.set(symbol, values);
  }
  const vector = (name: string) => {
    const symbols = params.map((p, i) => input(`${name}.${i}`, p.shape, p.dtype));
    const values = params.map((p, i) => normal(key.split(name, i), new Float64Array(p.size)));
    return { symbols, values, feeds: symbols.map((s, i) => [s, values[i]] as const) };
  };
  return { traced, loss, params, given, vector };
}

const tiny: readonly [name: string, model: nn.Model, batch: number][] = [
  ['mlp', buildModel('mlp', { inputShape: [3], classes }, { widths: [4, 3], activation: 'tanh' }), 5],
  ['mlp with ReLU', buildModel('mlp', { inputShape: [3], classes }, { widths: [4, 3] }), 5],
  ['convnet', buildModel('convnet', { inputShape: [2, 5, 5], classes }, { channels: [2], widths: [3] }), 3],
  [
    'convnet with batch norm',
    buildModel('convnet', { inputShape: [1, 5, 5], classes }, { channels: [3], widths: [], batchNorm: true }),
    3,
  ],
  ['attention block', attention(4, 3), 2],
  ['LSTM cell', lstmCell(2, 3), 3],
];

const models: readonly [name: string, model: nn.Model, batch: number][] = [
  ['mlp', buildModel('mlp', { inputShape: [1, 28, 28], classes }), 32],
  ['convnet', buildModel('convnet', { inputShape: [1, 28, 28], classes }), 16],
  ['resnet20', buildModel('resnet20', { inputShape: [3, 16, 16], classes }), 8],
  ['attention block', attention(32, 10), 8],
  ['LSTM cell', lstmCell(20, 32), 16],
];

const flat = (parts: readonly ArrayLike<number>[]) => Float64Array.from(parts.flatMap((part) => Array.from(part)));
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
};
const norm = (a: ArrayLike<number>) => Math.sqrt(dot(a, a));
const distance = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  norm(Float64Array.from(a, (x, i) => x - b[i])) / norm(b);

/** Central differences of `outputs` in each parameter, one column after the other; no derivative of a derivative is taken. */
function columns({ params, given }: ReturnType<typeof problem>, outputs: readonly Tensor[], h = 1e-5): Float64Array[] {
  return params.flatMap((p) =>
    Array.from({ length: p.size }, (_, i) => {
      const at = (step: number) =>
        flat(
          evaluate(
            outputs,
            new Map(given).set(
              p,
              given.get(p)!.map((x, k) => (k === i ? x + step : x)),
            ),
          ),
        );
      const [up, down] = [at(h), at(-h)];
      return up.map((x, k) => (x - down[k]) / (2 * h));
    }),
  );
}

describe('against dense matrices, in float64', () => {
  test.each(tiny)('%s: Hessian-vector products are those of the matrix of second differences', (_, model, batch) => {
    const p = problem(model, { batch, training: true, dtype: 'float64' });
    const dense = columns(p, grad(p.loss, p.params));
    const scale = Math.max(...dense.map(norm));
    dense.forEach((column, j) => {
      column.forEach((value, i) => {
        expect(Math.abs(value - dense[i][j])).toBeLessThan(1e-7 * scale);
      });
    });
    for (const name of ['v', 'w']) {
      const v = p.vector(name);
      const product = flat(evaluate(hvp(p.loss, p.params, v.symbols), new Map([...p.given, ...v.feeds])));
      const wanted = new Float64Array(product.length);
      flat(v.values).forEach((factor, j) => {
        dense[j].forEach((x, i) => {
          wanted[i] += factor * x;
        });
      });
      expect(distance(product, wanted)).toBeLessThan(1e-8);
    }
  });

  test.each(tiny)('%s: Gauss-Newton products are those of JᵀHJ', (_, model, batch) => {
    const p = problem(model, { batch, training: true, dtype: 'float64' });
    const { output } = p.traced;
    const jacobian = columns(p, [output]);
    const [logits] = evaluate([output], p.given);
    const v = p.vector('v');
    const product = flat(evaluate(ggnvp(p.loss, [output], p.params, v.symbols), new Map([...p.given, ...v.feeds])));
    // H of the mean cross-entropy in the logits of one example: (diag(p) - p pᵀ) / N.
    const pushed = new Float64Array(logits.length);
    flat(v.values).forEach((factor, j) => {
      jacobian[j].forEach((x, i) => {
        pushed[i] += factor * x;
      });
    });
    const curved = new Float64Array(logits.length);
    for (let n = 0; n < batch; n++) {
      const row = logits.subarray(classes * n, classes * (n + 1)).map(Math.exp);
      const total = row.reduce((a, b) => a + b);
      const q = row.map((x) => x / total);
      const u = pushed.subarray(classes * n, classes * (n + 1));
      curved.set(
        q.map((share, k) => (share * (u[k] - dot(q, u))) / batch),
        classes * n,
      );
    }
    const wanted = jacobian.map((column) => dot(column, curved));
    expect(distance(product, wanted)).toBeLessThan(1e-8);
  });
});

test('resnet20: a Hessian-vector product is the difference of gradients along the vector', () => {
  const model = buildModel('resnet20', { inputShape: [2, 8, 8], classes }, { width: 2 });
  for (const training of [true, false]) {
    const p = problem(model, { batch: 3, training, dtype: 'float64' });
    const v = p.vector('v');
    const product = flat(evaluate(hvp(p.loss, p.params, v.symbols), new Map([...p.given, ...v.feeds])));
    const gradient = (t: number) => {
      const moved = p.params.map((s, k) => [s, p.given.get(s)!.map((x, i) => x + t * v.values[k][i])] as const);
      return flat(evaluate(grad(p.loss, p.params), new Map([...p.given, ...moved])));
    };
    const h = 1e-7;
    const [up, down] = [gradient(h), gradient(-h)];
    expect(
      distance(
        up.map((x, i) => (x - down[i]) / (2 * h)),
        product,
      ),
    ).toBeLessThan(1e-6);
  }
});

describe('on ONNX Runtime, in float32', () => {
  const cases = [
    ...models.map(([name, model, batch]) => ({ name, model, batch, training: true })),
    // Running statistics in place of the batch's make another graph.
    ...models
      .filter(([name]) => name === 'resnet20')
      .map(([name, model, batch]) => ({ name, model, batch, training: false })),
  ];

  test.each(cases)('$name, training $training: uᵀHv = vᵀHu', async ({ model, batch, training }) => {
    const p = problem(model, { batch, training, dtype: 'float32' });
    const v = p.vector('v');
    const program = await device.compile([...p.given.keys(), ...v.symbols], hvp(p.loss, p.params, v.symbols));
    const along = async (values: readonly Float64Array[]) => {
      const pairs = v.symbols.map((s, i) => [s, values[i]] as const);
      const feeds = [...p.given, ...pairs].map(([s, data]) => [s, encode(data, 'float32')] as [Tensor, TypedArray]);
      return flat((await program.run(new Map(feeds))).map((part) => Float64Array.from(part, Number)));
    };
    const w = p.vector('w').values;
    const [hv, hw] = [await along(v.values), await along(w)];
    await program.dispose();
    expect(norm(hv)).toBeGreaterThan(0);
    const [a, b] = [dot(flat(w), hv), dot(flat(v.values), hw)];
    expect(Math.abs(a - b)).toBeLessThan(1e-5 * Math.abs(a));
  });

  test.each(tiny)('%s: the product is that of the interpreter', async (_, model, batch) => {
    const p = problem(model, { batch, training: true, dtype: 'float32' });
    const v = p.vector('v');
    const outputs = hvp(p.loss, p.params, v.symbols);
    const rounded = [...p.given, ...v.feeds].map(([s, data]) => [s, Float64Array.from(data, Math.fround)] as const);
    const program = await device.compile(
      rounded.map(([s]) => s),
      outputs,
    );
    const results = await program.run(new Map(rounded.map(([s, data]) => [s, encode(data, 'float32')])));
    expect(
      distance(flat(results.map((r) => Float64Array.from(r, Number))), flat(evaluate(outputs, new Map(rounded)))),
    ).toBeLessThan(1e-5);
    await program.dispose();
  });
});
