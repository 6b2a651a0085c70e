/** @file Gradients of every kind of architecture on ONNX Runtime in float32, against the interpreter in float64. */
import { afterAll, expect, test } from 'vitest';
import { grad } from '../../src/autodiff/index.ts';
import { Key, normal, uniform } from '../../src/base/random.ts';
import { buildModel } from '../../src/models/index.ts';
import { trace } from '../../src/nn/index.ts';
import { openDevice } from '../../src/node/device.ts';
import { encode } from '../../src/tensor/dtype.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { crossEntropy } from '../../src/tensor/ops/losses.ts';
import { constant, type Tensor } from '../../src/tensor/tensor.ts';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

const images = [2, 8, 8];

test.each<[string, readonly number[], Readonly<Record<string, unknown>>]>([
  ['mlp', [7], { widths: [6, 5], activation: 'gelu', dropout: 0.3 }],
  ['convnet', images, { channels: [4, 6], widths: [8], batchNorm: true, dropout: 0.3 }],
  ['resnet20', images, { width: 2, shortcut: 'B' }],
  ['resnet20', images, { width: 2 }],
  ['transformer', [6], { width: 8, heads: 2, vocabulary: 5, dropout: 0.2 }],
  [
    'transformer',
    [6],
    { width: 8, heads: 2, vocabulary: 5, task: 'predict', order: 'post', norm: 'rms', fused: false },
  ],
  ['transformer', images, { width: 8, heads: 2, positions: 'sinusoidal' }],
  ['lstm', [6], { hiddenSize: 5, layers: 2, bidirectional: true, vocabulary: 5, embedding: 4, dropout: 0.3 }],
  ['lstm', images, { hiddenSize: 5 }],
])('%s on examples %j with %j', async (name, inputShape, options) => {
  const batch = 4;
  const traced = trace(buildModel(name, { inputShape, classes: 3 }, options), { batch, training: true });
  const labels = traced.output.shape.slice(0, -1);
  const size = labels.reduce((a, b) => a * b, 1);
  const target = constant(
    Int32Array.from({ length: size }, (_, i) => (7 * i) % 3),
    labels,
    'int32',
  );
  const loss = crossEntropy(traced.output, target);
  const symbols = traced.params.map((p) => p.symbol);
  const updates = traced.buffers.flatMap((b) => b.next ?? []);
  const outputs = [loss, ...updates, ...grad(loss, symbols)];

  const key = Key.fromSeed(11);
  const { input } = traced;
  const x = normal(key.split('x'), new Float32Array(input.size)).map((v) =>
    input.dtype === 'int32' ? Math.floor(Math.abs(10 * v)) % 5 : v,
  );
  const given = new Map<Tensor, Float32Array>([[input, x]]);
  for (const { name: path, symbol, init } of [...traced.params, ...traced.buffers]) {
    const values = new Float32Array(symbol.size);
    init.fill(key.split(path), values, symbol.shape);
    given.set(symbol, values);
  }
  for (const { name: path, symbol } of traced.randoms)
    given.set(symbol, uniform(key.split(path), new Float32Array(symbol.size)));

  const program = await device.compile([...given.keys()], outputs);
  const results = await program.run(
    new Map([...given].map(([symbol, values]) => [symbol, encode(values, symbol.dtype)])),
  );
  await program.dispose();
  const wanted = evaluate(outputs, given);
  const whole = Math.hypot(...wanted.slice(1 + updates.length).map((g) => Math.hypot(...g)));
  expect(whole).toBeGreaterThan(1e-3);
  results.forEach((result, k) => {
    const off = Math.hypot(...wanted[k].map((value, i) => Number(result[i]) - value));
    const scale = k <= updates.length ? Math.hypot(1, ...wanted[k]) : whole;
    expect(off, outputs[k].toString()).toBeLessThan(1e-5 * scale);
  });
});
