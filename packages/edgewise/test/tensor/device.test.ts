import * as ort from 'onnxruntime-node';
import { afterAll, expect, test } from 'vitest';
import { ortDevice } from '../../src/runtime/index.ts';
import * as t from '../../src/tensor/index.ts';

/** Two threads, whatever the machine: races do not show with one. */
const device = ortDevice(ort, { provider: 'cpu', threads: 2 });
afterAll(() => device.dispose());

test.each([
  ['by a product with a one-hot table', 3],
  ['by ScatterElements', 3000],
])('updates for one index add up with two threads, %s', async (_, extent) => {
  const [count, width] = [4096, 64];
  const updates = t.input('updates', [count, width]);
  const indices = t.input('indices', [count], 'int64');
  const program = await device.compile([updates, indices], [t.scatterAdd(updates, indices, extent)]);
  const feeds = new Map<t.Tensor, t.TypedArray>([
    [updates, new Float32Array(count * width).fill(1)],
    [indices, BigInt64Array.from({ length: count }, (__, i) => BigInt(i % 3))],
  ]);
  for (let run = 0; run < 20; run++) {
    const [sums] = await program.run(feeds);
    for (const row of [0, 1, 2]) {
      const wanted = Math.ceil((count - row) / 3);
      expect(new Set(sums.subarray(row * width, (row + 1) * width) as Float32Array)).toEqual(new Set([wanted]));
    }
  }
  await program.dispose();
});

test.each([
  ['gather', (x: t.Tensor, i: t.Tensor) => t.gather(x, i)],
  ['takeAlong', (x: t.Tensor, i: t.Tensor) => t.takeAlong(x, t.reshape(i, [2, 1]))],
  ['scatterAlong', (x: t.Tensor, i: t.Tensor) => t.scatterAlong(t.sliceAxis(x, 1, 0, 1), t.reshape(i, [2, 1]), 3)],
  ['crossEntropy', (x: t.Tensor, i: t.Tensor) => t.crossEntropy(x, i)],
])('%s with an index outside the axis fails instead of reading other memory', async (_, build) => {
  const x = t.input('x', [2, 3]);
  const i = t.input('i', [2], 'int64');
  const program = await device.compile([x, i], [build(x, i)]);
  const run = (bad: bigint) =>
    program.run(
      new Map<t.Tensor, t.TypedArray>([
        [x, new Float32Array(6)],
        [i, BigInt64Array.of(0n, bad)],
      ]),
    );
  await expect(run(1n)).resolves.toBeDefined();
  for (const bad of [3n, -4n]) await expect(run(bad)).rejects.toThrow(/out of|bounds|range|-4|3/);
  await program.dispose();
});

test('layers of batch norm keep their own statistics, run after run', async () => {
  const x = t.input('x', [8, 4, 3, 3]);
  const [scale, bias] = [t.input('scale', [4]), t.input('bias', [4])];
  const first = t.batchNorm(x, scale, bias);
  const second = t.batchNorm(t.mul(first.y, 3), scale, bias);
  const third = t.batchNorm(t.add(second.y, x), t.constant(1, [4]), t.constant(0, [4]));
  // Each statistic is read by a later op, so the memory it lies in must still be its own.
  const outputs = [first, second, third].flatMap(({ mean, variance }) => [t.mul(mean, 1.5), t.mul(variance, 1.5)]);
  const values = new Map(
    [x, scale, bias].map((symbol, k) => [
      symbol,
      Float64Array.from({ length: symbol.size }, (_, i) => Math.fround(Math.sin(1.7 * i + k) + 2)),
    ]),
  );
  const memory = new Map([...values].map(([symbol, data]) => [symbol, t.encode(data, symbol.dtype)]));
  const program = await device.compile([x, scale, bias], outputs);
  const wanted = t.evaluate(outputs, values);
  for (let run = 0; run < 3; run++) {
    const results = await program.run(memory);
    results.forEach((got, k) => {
      wanted[k].forEach((value, i) => {
        expect(Math.abs(Number(got[i]) - value), `run ${run}, output ${k}`).toBeLessThan(
          1e-5 * Math.max(1, Math.abs(value)),
        );
      });
    });
  }
  // What was fed is as it was.
  for (const [symbol, data] of values) expect(memory.get(symbol)).toEqual(t.encode(data, symbol.dtype));
  await program.dispose();
});
