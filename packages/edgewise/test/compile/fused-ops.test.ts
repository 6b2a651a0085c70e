/** @file What is joined into one kernel, that it stays what it was, and what ONNX Runtime makes of it. */
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { vjp } from '../../src/autodiff/index.ts';
import { Key, normal } from '../../src/base/random.ts';
import { countOps, fuse } from '../../src/compile/index.ts';
import { channelBlockOf } from '../../src/runtime/channel-block.ts';
import { ortDevice } from '../../src/runtime/index.ts';
import {
  add,
  channelAffine,
  conv,
  evaluate,
  input,
  inputsOf,
  mul,
  neg,
  relu,
  reshape,
  sub,
  sum,
  type Tensor,
} from '../../src/tensor/index.ts';

const block = await channelBlockOf(ort);
const device = ortDevice(ort, { provider: 'cpu', threads: 2 });
afterAll(() => device.dispose());

/** Fuses, compares op counts with what is wanted, and the values with those of the graph as it was, to 1e-5. */
async function check(outputs: readonly Tensor[], ops: Record<string, number>): Promise<void> {
  // Where the machine has no blocked layout the passes must still be right, and are tried as if it had.
  const fused = fuse(outputs, { channelBlock: block === 1 ? 8 : block });
  const counts = Object.fromEntries(countOps(fused));
  for (const [op, count] of Object.entries(ops))
    expect(counts[op] ?? 0, `${op} in ${JSON.stringify(counts)}`).toBe(count);
  const inputs = inputsOf(outputs);
  const values = new Map(inputs.map((x, i) => [x, normal(Key.fromSeed(i), new Float32Array(x.size))]));
  const wanted = evaluate(outputs, values);
  const program = await device.compile(inputs, outputs);
  const results = await program.run(values);
  await program.dispose();
  for (const [what, got] of [
    ['fused, by the interpreter', evaluate(fused, values)],
    ['on ONNX Runtime', results],
  ] as const) {
    wanted.forEach((reference, k) => {
      const top = reference.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      const worst = reference.reduce((m, v, i) => Math.max(m, Math.abs(v - Number(got[k][i]))), 0);
      expect(worst / top, `output ${k} ${what}`).toBeLessThan(1e-5);
    });
  }
}

describe('two convolutions that are added', () => {
  const [x, x2] = [input('x', [4, 16, 9, 9]), input('x2', [4, 16, 9, 9])];
  const [w, w2] = [input('w', [16, 16, 3, 3]), input('w2', [16, 16, 3, 3])];
  const options = { padding: 1 };

  test('are one', () => check([add(conv(x, w, options), conv(x2, w2, options))], { convPair: 1, conv: 0, add: 0 }));

  test('with odd channels, where there is no blocked layout', () => {
    const [a, b] = [input('a', [4, 9, 9, 9]), input('b', [9, 9, 3, 3])];
    return check([add(conv(a, b, options), conv(input('a2', a.shape), b, options))], { convPair: 1 });
  });

  test('stay two where they differ in geometry, or one is wanted elsewhere', async () => {
    const dilated = conv(x2, w2, { padding: 2, dilation: 2 });
    await check([add(conv(x, w, options), dilated)], { convPair: 0, conv: 2 });
    await check([add(conv(x, w, options), conv(x2, w2, options)), conv(x, w, options)], { convPair: 0, conv: 2 });
  });

  test.each([1, 2])('input gradients with stride %i', async (stride) => {
    const y = conv(x, w, { ...options, stride });
    const [g, g2] = [input('g', y.shape), input('g2', y.shape)];
    const gradient = (kernel: Tensor, cotangent: Tensor) =>
      vjp([conv(x, kernel, { ...options, stride })], [x], [cotangent])[0];
    await check([add(gradient(w, g), gradient(w2, g2))], { convPair: 1, convInput: 0 });
  });

  test('input gradients that see only part of the output', async () => {
    const far = { padding: 4 };
    const g = input('g', conv(x, w, far).shape);
    const gradient = (kernel: Tensor) => vjp([conv(x, kernel, far)], [x], [g])[0];
    await check([add(gradient(w), gradient(w2))], { convPair: 1 });
  });
});

describe('a convolution', () => {
  const x = input('x', [8, 16, 10, 10]);
  const over = (b: Tensor) => reshape(b, [b.size, 1, 1]);

  test.each([16, 20, 6])('takes the bias of its %i channels and ReLU along', async (channels) => {
    const [w, b] = [input('w', [channels, 16, 3, 3]), input('b', [channels])];
    const y = conv(x, w, { padding: 1 });
    await check([add(y, over(b))], { convEnding: 1, conv: 0, add: 0 });
    await check([relu(add(over(b), y))], { convEnding: 1, conv: 0, add: 0, relu: 0 });
    await check([relu(y)], { convEnding: 1, conv: 0, relu: 0 });
  });

  test('of one axis, of odd channels, and too small for blocks', async () => {
    const [line, w1, b1] = [input('line', [8, 16, 90]), input('w1', [16, 16, 3]), input('b1', [16])];
    await check([relu(add(conv(line, w1), reshape(b1, [16, 1])))], { convEnding: 1 });
    const [odd, w2, b2] = [input('odd', [4, 9, 12, 12]), input('w2', [9, 9, 3, 3]), input('b2', [9])];
    await check([relu(add(conv(odd, w2), over(b2)))], { convEnding: 1 });
    const [small, w3, b3] = [input('small', [1, 2, 4, 4]), input('w3', [3, 2, 3, 3]), input('b3', [3])];
    await check([relu(add(conv(small, w3), over(b3)))], { convEnding: 1 });
  });

  test('does not where somebody wants it without', async () => {
    const [w, b] = [input('w', [16, 16, 3, 3]), input('b', [16])];
    const y = conv(x, w);
    await check([add(y, over(b)), y], { convEnding: 0, conv: 1 });
    await check([add(y, input('whole', y.shape))], { convEnding: 0, conv: 1 });
  });
});

describe('a sum of products', () => {
  const [a, b] = [input('a', [3, 4, 32, 32]), input('b', [3, 4, 32, 32])];

  test.each([
    { axes: [2, 3], keepDims: false },
    { axes: [2, 3], keepDims: true },
    { axes: [0, 2, 3], keepDims: false },
    { axes: [0, 1, 2, 3], keepDims: true },
    { axes: [1, 2, 3], keepDims: false },
  ])('over axes $axes is one product where rows are long ($keepDims)', (options) =>
    check([sum(mul(a, b), options), sum(mul(a, a), options)], { dot: 2, mul: 0, sum: 0 }),
  );

  test('over short rows, over other axes, or wanted elsewhere stays as it is', async () => {
    await check([sum(mul(a, b), { axes: 3 })], { dot: 0 });
    await check([sum(mul(a, b), { axes: [0, 1] })], { dot: 0 });
    await check([sum(mul(a, b), { axes: [2, 3] }), mul(a, b)], { dot: 0 });
    await check([sum(mul(a, input('row', [32])), { axes: [2, 3] })], { dot: 0 });
  });
});

describe('tensors scaled channel by channel', () => {
  const shape = [8, 12, 20, 20];
  const [x, y, z] = ['x', 'y', 'z'].map((name) => input(name, shape));
  const [a, b, c] = ['a', 'b', 'c'].map((name) => input(name, [12]));
  const over = (v: Tensor) => reshape(v, [12, 1, 1]);
  const scalar = input('scalar', []);
  const sums: [string, Tensor, number][] = [
    ['a x + y', add(mul(x, over(a)), y), 1],
    ['(a x + y) b + c', channelAffine(add(mul(x, over(a)), y), b, c), 1],
    ['a x + b y + c z', add(add(mul(x, over(a)), mul(over(b), y)), mul(z, over(c))), 1],
    ['ReLU of a x + b', relu(channelAffine(x, a, b)), 1],
    ['ReLU of x + y + b', relu(add(add(x, y), over(b))), 1],
    ['y - a x', sub(y, mul(x, over(a))), 1],
    ['b - a x', sub(over(b), mul(x, over(a))), 1],
    ['-(a x - y)', neg(sub(mul(x, over(a)), y)), 1],
    ['a x + b + x', add(channelAffine(x, a, b), x), 1],
    ['s (a x + y)', mul(add(mul(x, over(a)), y), scalar), 1],
    ['x + y, which is as fast by itself', add(x, y), 0],
    ['ReLU of x + y, too', relu(add(x, y)), 0],
    ['a x alone', mul(x, over(a)), 0],
    ['a x + y with a along columns', add(mul(x, input('columns', [20])), y), 0],
  ];
  test.each(sums)('%s', (_, tensor, joined) => check([tensor], { channelSum: joined }));

  test('of one axis', () => {
    const [line, other] = [input('line', [64, 8, 128]), input('other', [64, 8, 128])];
    const v = reshape(input('v', [8]), [8, 1]);
    return check([add(mul(line, v), other)], { channelSum: 1 });
  });

  test('stay apart where a part is wanted elsewhere, is small, or its positions do not fill blocks', async () => {
    const scaled = mul(x, over(a));
    await check([add(scaled, y), scaled], { channelSum: 0 });
    const [small, odd] = [input('small', [2, 12, 4, 4]), input('odd', [64, 12, 7, 7])];
    await check([add(mul(small, over(a)), small)], { channelSum: 0 });
    await check([add(mul(odd, over(a)), odd)], { channelSum: 0 });
  });
});
