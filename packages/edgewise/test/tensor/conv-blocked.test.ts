/** @file Convolutions large enough for the CPU provider's own layout, value and both gradients, against the interpreter. */
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { vjp } from '../../src/autodiff/index.ts';
import { Key, normal } from '../../src/base/random.ts';
import { lowerToOnnx } from '../../src/compile/index.ts';
import { channelBlockOf } from '../../src/runtime/channel-block.ts';
import { ortDevice } from '../../src/runtime/index.ts';
import { type ConvOptions, conv, evaluate, input } from '../../src/tensor/index.ts';

const block = await channelBlockOf(ort);

interface Problem {
  readonly name: string;
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly options: ConvOptions;
  /** How many of y and its two gradients are computed in the blocked layout, with blocks of 8. */
  readonly blocked: number;
}

const problems: readonly Problem[] = [
  { name: 'full blocks', x: [4, 16, 9, 8], w: [24, 16, 3, 3], options: { padding: 1 }, blocked: 2 },
  { name: 'one axis', x: [4, 16, 90], w: [16, 16, 7], options: { padding: 3 }, blocked: 2 },
  { name: 'blocks partly filled', x: [4, 20, 10, 10], w: [12, 20, 3, 3], options: { padding: 1 }, blocked: 2 },
  { name: 'few input channels', x: [4, 3, 20, 20], w: [20, 3, 3, 3], options: { padding: 1 }, blocked: 2 },
  { name: 'odd channels', x: [4, 9, 14, 14], w: [9, 9, 3, 3], options: { padding: 1 }, blocked: 0 },
  { name: 'few output channels', x: [8, 16, 12, 12], w: [6, 16, 3, 3], options: { padding: 1 }, blocked: 2 },
  { name: 'pointwise', x: [4, 32, 12, 12], w: [48, 32, 1, 1], options: {}, blocked: 2 },
  { name: 'pointwise with stride', x: [4, 32, 24, 24], w: [48, 32, 1, 1], options: { stride: 2 }, blocked: 1 },
  { name: 'stride 2', x: [4, 16, 20, 20], w: [16, 16, 3, 3], options: { stride: 2, padding: 1 }, blocked: 1 },
  { name: 'small images, several a group', x: [32, 16, 5, 5], w: [16, 16, 3, 3], options: { padding: 1 }, blocked: 2 },
  {
    name: 'small images, dilated',
    x: [48, 8, 12, 12],
    w: [16, 8, 3, 3],
    options: { padding: 2, dilation: 2, stride: 2 },
    blocked: 1,
  },
  { name: 'stride 2, last row unread', x: [4, 16, 40, 42], w: [16, 16, 2, 4], options: { stride: [2, 3] }, blocked: 1 },
  {
    name: 'dilation',
    x: [4, 16, 12, 12],
    w: [16, 16, 3, 3],
    options: { dilation: [2, 3], padding: [2, 3] },
    blocked: 2,
  },
  {
    name: 'uneven padding',
    x: [4, 16, 10, 10],
    w: [16, 16, 4, 2],
    options: {
      padding: [
        [0, 3],
        [1, 0],
      ],
    },
    blocked: 2,
  },
  {
    name: 'padding beyond the kernel',
    x: [4, 16, 8, 8],
    w: [16, 16, 3, 3],
    options: {
      padding: [
        [4, 3],
        [3, 5],
      ],
    },
    blocked: 2,
  },
  {
    name: 'groups of whole blocks',
    x: [4, 32, 12, 12],
    w: [32, 16, 3, 3],
    options: { padding: 1, groups: 2 },
    blocked: 2,
  },
  { name: 'groups of odd size', x: [4, 24, 14, 14], w: [24, 12, 3, 3], options: { padding: 1, groups: 2 }, blocked: 0 },
  { name: 'depthwise', x: [4, 32, 16, 16], w: [32, 1, 5, 5], options: { padding: 2, groups: 32 }, blocked: 3 },
  {
    name: 'depthwise, blocks partly filled',
    x: [4, 20, 20, 20],
    w: [20, 1, 5, 5],
    options: { padding: 2, groups: 20 },
    blocked: 3,
  },
  {
    name: 'depthwise with stride, last columns unread',
    x: [8, 16, 40, 42],
    w: [16, 1, 3, 6],
    options: {
      stride: [2, 3],
      padding: [
        [1, 0],
        [1, 1],
      ],
      groups: 16,
    },
    blocked: 2,
  },
  {
    name: 'depthwise, dilated',
    x: [6, 16, 30, 30],
    w: [16, 1, 3, 3],
    options: { dilation: [2, 3], padding: [1, 3], groups: 16 },
    blocked: 3,
  },
  {
    name: 'depthwise over one axis',
    x: [4, 32, 700],
    w: [32, 1, 9],
    options: { padding: 4, groups: 32 },
    blocked: 3,
  },
];

const device = ortDevice(ort, { provider: 'cpu', threads: 2 });
afterAll(() => device.dispose());

describe('convolutions in the blocked layout', () => {
  test.each(problems)('$name', async ({ name, x: xShape, w: wShape, options, blocked }) => {
    const [x, w] = [input('x', xShape), input('w', wShape)];
    const y = conv(x, w, options);
    const g = input('g', y.shape);
    const outputs = [y, ...vjp([y], [x, w], [g])];
    if (block === 8) {
      const { nodes } = lowerToOnnx([x, w, g], outputs, { channelBlock: block }).graph;
      expect(nodes.filter((node) => node.opType === 'Conv' && node.domain !== '').length).toBe(blocked);
    }
    const key = Key.fromSeed(7);
    const data = [x, w, g].map((t, i) => normal(key.split(name, i), new Float32Array(t.size)));
    const program = await device.compile([x, w, g], outputs);
    const got = await program.run(new Map([x, w, g].map((t, i) => [t, data[i]])));
    const wanted = evaluate(outputs, new Map([x, w, g].map((t, i) => [t, data[i]])));
    wanted.forEach((reference, k) => {
      const top = reference.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      const worst = reference.reduce((m, v, i) => Math.max(m, Math.abs(v - Number(got[k][i]))), 0);
      expect(worst / top, `output ${k}`).toBeLessThan(1e-5);
    });
  });
});

test('the kernel gradient of large images is summed over bands of rows', async () => {
  const [x, w] = [input('x', [1, 2, 7000]), input('w', [1, 2, 650])];
  const y = conv(x, w, { stride: 1, padding: [[30, 700]] });
  const g = input('g', y.shape);
  const [gradient] = vjp([y], [w], [g]);
  const { nodes } = lowerToOnnx([x, g], [gradient]).graph;
  expect(nodes.filter((node) => node.opType === 'Conv').length).toBeGreaterThan(1);
  const feeds = new Map([x, g].map((t, i) => [t, normal(Key.fromSeed(i), new Float32Array(t.size))]));
  const program = await device.compile([x, g], [gradient]);
  const [got] = await program.run(feeds);
  const [wanted] = evaluate([gradient], feeds);
  const top = wanted.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  expect(wanted.reduce((m, v, i) => Math.max(m, Math.abs(v - Number(got[i]))), 0) / top).toBeLessThan(1e-5);
});
