import { afterAll, expect, test } from 'vitest';
import { grad, hvp } from '../../src/autodiff/index.ts';
import { openDevice } from '../../src/node/device.ts';
import { encode } from '../../src/tensor/dtype.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { add, relu, tanh } from '../../src/tensor/ops/elementwise.ts';
import { transpose } from '../../src/tensor/ops/layout.ts';
import { matmul } from '../../src/tensor/ops/matmul.ts';
import { mean } from '../../src/tensor/ops/reduce.ts';
import { input, make, type OpDef } from '../../src/tensor/tensor.ts';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

test.each(['float32', 'float64'] as const)(
  'ONNX Runtime and the interpreter agree on a network, its gradient and Hessian-vector product in %s',
  async (dtype) => {
    const x = input('x', [3, 2], dtype);
    const w = input('w', [4, 2], dtype);
    const b = input('b', [4], dtype);
    const v = input('v', [4, 2], dtype);
    const y = relu(add(tanh(add(matmul(x, transpose(w)), b)), 0.1));
    const loss = mean(matmul(y, y, { transposeB: true }));
    const outputs = [loss, y, ...grad(loss, [w, b]), ...hvp(loss, [w, b], [v, undefined]), w];
    const inputs = [x, w, b, v];
    const values = inputs.map((symbol, k) =>
      Float64Array.from({ length: symbol.size }, (_, i) => Math.fround(Math.sin(1.3 * i + k))),
    );
    const program = await device.compile(inputs, outputs);
    const results = await program.run(new Map(inputs.map((symbol, i) => [symbol, encode(values[i], dtype)])));
    const expected = evaluate(outputs, new Map(inputs.map((symbol, i) => [symbol, values[i]])));
    const tolerance = dtype === 'float32' ? 1e-5 : 1e-13;
    results.forEach((result, i) => {
      expected[i].forEach((value, k) =>
        expect(Math.abs(Number(result[k]) - value)).toBeLessThan(tolerance * (1 + Math.abs(value))),
      );
    });
  },
);

test('bound memory is read and written in place', async () => {
  const x = input('x', [2]);
  const program = await device.compile([x], [add(x, 1)]);
  const memory = new WebAssembly.Memory({ initial: 1 });
  const from = new Float32Array(memory.buffer, 0, 2);
  const to = new Float32Array(memory.buffer, 64, 2);
  const call = program.bind(new Map([[x, from]]), [to]);
  from.set([1, 2]);
  await call.run();
  expect([...to]).toEqual([2, 3]);
  from.set([5, 6]);
  await call.run();
  expect([...to]).toEqual([6, 7]);
});

test('a call whose memory grew away says so instead of reading what is no longer there', async () => {
  const x = input('x', [2]);
  const program = await device.compile([x], [add(x, 1)]);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
  const call = program.bind(new Map([[x, new Float32Array(memory.buffer, 0, 2)]]));
  memory.grow(1);
  await expect(call.run()).rejects.toThrow(/memory bound to this call is gone/);
});

test('an op without a kernel for the element type is named, and what has one', async () => {
  const op: OpDef = {
    name: 'sigmoidOfPieces',
    infer: ([x]) => x,
    lower: (to, [x]) => to.node('HardSigmoid', [x]),
  };
  const [x, single] = [input('x', [2], 'float64'), input('x', [2])];
  await expect(device.compile([x], [make(op, [x], {})])).rejects.toThrow(
    "Device 'cpu' cannot run this graph: it has no kernel for ONNX op HardSigmoid in float64; use float32, or device 'interpreter' for tiny problems.",
  );
  const program = await device.compile([single], [make(op, [single], {})]);
  expect([...(await program.run(new Map([[single, Float32Array.of(0, 3)]])))[0]]).toEqual([0.5, 1]);
});
