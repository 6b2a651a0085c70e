/** @file Phases over tensors on ONNX Runtime beside the interpreter, from the same float32 state. */
import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import { VectorSpace } from '../../src/kernels/index.ts';
import {
  createOptimizer,
  deviceTensors,
  muon,
  type OptimizerDefinition,
  type OptimizerSettings,
  parameterVector,
  soap,
  type TensorEvaluator,
} from '../../src/optim/index.ts';
import { ParamLayout } from '../../src/params/layout.ts';
import { type Device, interpreter, ortDevice } from '../../src/runtime/index.ts';
import { evaluate, input } from '../../src/tensor/index.ts';
import { add, equal, mul, pow, sub, where } from '../../src/tensor/ops/elementwise.ts';
import { eigh } from '../../src/tensor/ops/linalg.ts';

const device = ortDevice(ort, { provider: 'cpu', threads: 1 });
afterAll(() => device.dispose());

const PARAMS = [
  { name: 'tall', shape: [24, 6] },
  { name: 'twin', shape: [24, 6] },
  { name: 'square', shape: [8, 8] },
  { name: 'kernel', shape: [6, 3, 3, 3] },
  { name: 'bias', shape: [8] },
];

function make(definition: OptimizerDefinition, values: OptimizerSettings['values'], tensors?: TensorEvaluator) {
  const layout = new ParamLayout(PARAMS);
  const space = new VectorSpace();
  const [theta, grad] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
  normal(Key.fromSeed(1), theta.data);
  theta.zeroPadding();
  return { theta, grad, layout, optimizer: createOptimizer(definition, { values }, { theta, grad, space, tensors }) };
}

/** Largest difference from the interpreter after `steps`, relative to the distance travelled. */
async function difference(
  on: Device,
  definition: OptimizerDefinition,
  values: OptimizerSettings['values'],
  steps: number,
): Promise<number> {
  const start = make(definition, values).theta.data.slice();
  const both = [make(definition, values), make(definition, values, deviceTensors(on))];
  for (let step = 0; step < steps; step++) {
    for (const { grad, layout, optimizer } of both) {
      for (const { name, length } of layout.segments) {
        const g = new Float32Array(length);
        normal(Key.fromSeed(2).split(name, step + 1), g);
        grad.set(name, g);
      }
      await optimizer.stepWith(() => 0, { lr: 0.02 / (step + 1) });
    }
  }
  const [one, other] = both.map(({ theta }) => theta.data);
  const travelled = Math.max(...one.map((x, i) => Math.abs(x - start[i])));
  return Math.max(...one.map((x, i) => Math.abs(x - other[i]))) / travelled;
}

describe.each([
  ['ONNX Runtime', device],
  ['the interpreter as a device', interpreter()],
] as const)('%s', (_, on) => {
  test.each([{}, { nesterov: false, steps: 3, scale: 'rmsToRms', weightDecay: 0.1 }])('Muon %o', async (values) => {
    expect(await difference(on, muon, values, 5)).toBeLessThan(1e-4);
  });

  test('SOAP, whose eigenbases stay on the host', async () => {
    // One gradient of rank 6 leaves the bases of 24 rows open, but both start from the same.
    expect(await difference(on, soap, { preconditionFrequency: 3 }, 6)).toBeLessThan(1e-3);
  });
});

test('numbers are computed in float64 and conditions on them hold', async () => {
  const x = input('x', [2], 'float64');
  const [t, beta] = [input('t', [], 'float64'), input('beta', [], 'float64')];
  // In float32 beta would be 1, and the correction 0.
  const correction = sub(1, pow(beta, t));
  const outputs = [where(equal(t, 3), mul(x, correction), x), add(x, 1)];
  const compute = deviceTensors(device);
  for (const step of [3, 4]) {
    const given = new Map([
      [x, [1, 2]],
      [t, [step]],
      [beta, [1 - 1e-10]],
    ]);
    const [expected] = evaluate(outputs, given);
    const [actual, moved] = await compute(outputs, given);
    for (const i of [0, 1]) expect(Math.abs(actual[i] / expected[i] - 1)).toBeLessThan(1e-7);
    expect([...Array.from(moved)]).toEqual([2, 3]);
  }
});

test('float64 parameters keep their precision', async () => {
  const x = input('x', [2], 'float64');
  const given = new Map([[x, [1, 1 / 3]]]);
  const [result] = await deviceTensors(device, 'float64')([mul(x, 1 / 7)], given);
  expect([...Array.from(result)]).toEqual([1 / 7, (1 / 3) * (1 / 7)]);
});

test('outputs that are numbers, and ops the device lacks', async () => {
  const t = input('t', [], 'float64');
  expect(await deviceTensors(device)([mul(t, 1e-50)], new Map([[t, [1]]]))).toEqual([new Float64Array([1e-50])]);
  const m = input('m', [2, 2], 'float64');
  const failing = deviceTensors(device)([eigh(m).vectors], new Map([[m, [1, 0, 0, 1]]]));
  await expect(failing).rejects.toThrow("op 'eigh' exists in the reference interpreter only");
});
