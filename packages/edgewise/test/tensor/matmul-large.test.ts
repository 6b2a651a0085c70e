/** @file Products large enough that the CPU is given their operands in another order, against the interpreter. */
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import { lowerToOnnx } from '../../src/compile/index.ts';
import { ortDevice } from '../../src/runtime/index.ts';
import { evaluate, input, matmul } from '../../src/tensor/index.ts';

describe('large products', () => {
  const device = ortDevice(ort, { provider: 'cpu', threads: 1 });
  afterAll(() => device.dispose());
  test.each([
    { name: 'tall factor, second one transposed', a: [4200, 1030], b: [9, 1030], transposeB: true, turned: true },
    { name: 'tall factor', a: [4200, 1030], b: [1030, 9], turned: true },
    { name: 'first factor transposed and smaller', a: [600, 20], b: [600, 1100], transposeA: true, turned: true },
    { name: 'first factor transposed and larger', a: [600, 1100], b: [600, 20], transposeA: true, turned: true },
    { name: 'both transposed', a: [700, 80], b: [90, 700], transposeA: true, transposeB: true, turned: false },
    { name: 'square', a: [200, 200], b: [200, 200], transposeB: true, turned: false },
  ])('$name', async ({ a: aShape, b: bShape, turned, ...options }) => {
    const [a, b] = [input('a', aShape), input('b', bShape)];
    const y = matmul(a, b, options);
    const { nodes } = lowerToOnnx([a, b], [y]).graph;
    expect(nodes.some((node) => node.opType === 'Transpose')).toBe(turned);
    const feeds = new Map([a, b].map((t, i) => [t, normal(Key.fromSeed(i), new Float32Array(t.size))]));
    const program = await device.compile([a, b], [y]);
    const [got] = await program.run(feeds);
    const [wanted] = evaluate([y], feeds);
    const top = wanted.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    expect(wanted.reduce((m, v, i) => Math.max(m, Math.abs(v - Number(got[i]))), 0) / top).toBeLessThan(1e-5);
  });
});
