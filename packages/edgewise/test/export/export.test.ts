import * as ort from 'onnxruntime-node';
import { afterAll, describe, expect, test } from 'vitest';
import { mapExamples } from '../../src/autodiff/index.ts';
import { Key } from '../../src/base/random.ts';
import { buildModel } from '../../src/models/index.ts';
import * as nn from '../../src/nn/index.ts';
import { openDevice } from '../../src/node/device.ts';
import type { OnnxModel } from '../../src/onnx/model.ts';
import { readOnnx } from '../../src/onnx/read.ts';
import { normal, uniform } from '../../src/params/initializers.ts';
import { ParamLayout } from '../../src/params/layout.ts';
import { ParamVector } from '../../src/params/vector.ts';
import { encode, type TypedArray } from '../../src/tensor/dtype.ts';
import { add, mul, relu, sub } from '../../src/tensor/ops/elementwise.ts';
import { concat, expand, reshape, select, sliceAxis } from '../../src/tensor/ops/layout.ts';
import { matmul } from '../../src/tensor/ops/matmul.ts';
import { max, mean } from '../../src/tensor/ops/reduce.ts';
import { constant, input, type Tensor } from '../../src/tensor/tensor.ts';
import { type ExportOptions, exportOnnx } from '../../src/train/export.ts';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

/** Weights and statistics as training leaves them: none is zero, one, or what it started from. */
async function trained(model: nn.Model) {
  const traced = nn.trace(model, { batch: 8, training: true });
  const params = new ParamVector(new ParamLayout(traced.params), 'float32');
  const buffers = new ParamVector(new ParamLayout(traced.buffers), 'float32');
  const key = Key.fromSeed(3);
  for (const { name, shape, init, tags = [] } of traced.params) {
    init.fill(key.split(name), params.view(name), shape);
    const noise = new Float32Array(params.view(name).length);
    (tags.includes('norm') ? uniform({ lo: 0.1, hi: 0.6 }) : normal({ std: 0.02 })).fill(
      key.split('noise', name),
      noise,
      shape,
    );
    noise.forEach((value, i) => {
      params.view(name)[i] += value;
    });
  }
  for (const { name, shape, init } of traced.buffers) init.fill(key.split(name), buffers.view(name), shape);
  // A batch's statistics, where a step would have moved the buffers a tenth of the way.
  const moving = traced.buffers.flatMap((buffer) => (buffer.next ? [{ ...buffer, next: buffer.next }] : []));
  if (moving.length > 0) {
    const randoms = traced.randoms.map(({ name, symbol }) => {
      const u = new Float32Array(symbol.size);
      uniform().fill(key.split(name), u, symbol.shape);
      return [symbol, u] as const;
    });
    const feeds = new Map<Tensor, TypedArray>([
      [traced.input, example(traced.input)],
      ...weightFeeds(traced, params, buffers),
      ...randoms,
    ]);
    const program = await device.compile(
      [...feeds.keys()],
      moving.map(({ next }) => next),
    );
    const results = await program.run(feeds);
    moving.forEach(({ name }, k) => {
      const view = buffers.view(name);
      results[k].forEach((value, i) => {
        view[i] += 10 * (Number(value) - view[i]);
      });
    });
    await program.dispose();
  }
  return { params, buffers };
}

const weightFeeds = (traced: nn.Traced, params: ParamVector, buffers: ParamVector): [Tensor, TypedArray][] => [
  ...traced.params.map((p): [Tensor, TypedArray] => [p.symbol, params.view(p.name)]),
  ...traced.buffers.map((b): [Tensor, TypedArray] => [b.symbol, buffers.view(b.name)]),
];

function example(x: Tensor): TypedArray {
  const values = Float64Array.from({ length: x.size }, (_, i) => Math.sin(1.7 * i) + 0.3 * Math.cos(0.01 * i * i));
  return encode(x.dtype === 'int32' ? values.map((v) => Math.floor(Math.abs(7 * v))) : values, x.dtype);
}

/** What our own evaluation gives for a batch. */
async function evaluated(model: nn.Model, { params, buffers }: Awaited<ReturnType<typeof trained>>, batch: number) {
  const traced = nn.trace(model, { batch, training: false });
  const x = example(traced.input);
  const feeds = new Map<Tensor, TypedArray>([[traced.input, x], ...weightFeeds(traced, params, buffers)]);
  const program = await device.compile([...feeds.keys()], [traced.output]);
  const [y] = await program.run(feeds);
  await program.dispose();
  return { x, y, shape: traced.output.shape };
}

/** Runs a file with onnxruntime-node and nothing else. */
async function plainRun(bytes: Uint8Array, x: TypedArray, shape: readonly number[]) {
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3, intraOpNumThreads: 1 });
  const [input] = session.inputNames;
  const type = x instanceof Int32Array ? 'int32' : 'float32';
  const result = await session.run({ [input]: new ort.Tensor(type, x as Float32Array, shape) });
  const output = result[session.outputNames[0]];
  await session.release();
  return { values: Array.from(output.data as Float32Array), dims: [...output.dims] };
}

async function expectSame(
  model: nn.Model,
  batches: readonly number[],
  options: ExportOptions = {},
): Promise<OnnxModel> {
  const weights = await trained(model);
  const bytes = exportOnnx(model, weights.params, weights.buffers, options);
  for (const batch of batches) {
    const { x, y, shape } = await evaluated(model, weights, batch);
    const { values, dims } = await plainRun(bytes, x, [batch, ...model.inputShape]);
    expect(dims).toEqual(shape);
    values.forEach((value, i) => {
      const wanted = Number(y[i]);
      expect(Math.abs(value - wanted), `batch ${batch}, element ${i}: ${value} for ${wanted}`).toBeLessThan(
        1e-5 * (1 + Math.abs(wanted)),
      );
    });
  }
  return readOnnx(bytes);
}

const opTypes = ({ graph }: OnnxModel) => graph.nodes.map((node) => node.opType);
const names = ({ graph }: OnnxModel) => graph.initializers.map(({ name }) => name);
const custom = (forward: nn.Forward, inputShape: readonly number[]): nn.Model => ({
  name: 'custom',
  inputShape,
  forward,
});

describe('models run in plain ONNX Runtime at any batch size', () => {
  const images = { inputShape: [1, 28, 28], classes: 10 };
  const cifar = { inputShape: [3, 32, 32], classes: 10 };
  test.each<[string, nn.Model]>([
    ['mlp', buildModel('mlp', images)],
    ['mlp, linear', buildModel('mlp', images, { widths: [] })],
    ['convnet', buildModel('convnet', images, { dropout: 0.5 })],
    ['convnet with batch norm', buildModel('convnet', images, { batchNorm: true })],
    ['resnet20', buildModel('resnet20', cifar)],
    ['resnet20, option B', buildModel('resnet20', { ...cifar, inputShape: [3, 16, 16] }, { shortcut: 'B' })],
    ['vgg11_bn', buildModel('vgg11_bn', cifar, { widths: [16] })],
    ['transformer', buildModel('transformer', { inputShape: [9], classes: 5 })],
    [
      'transformer that predicts',
      buildModel('transformer', { inputShape: [9], classes: 5 }, { task: 'predict', order: 'post' }),
    ],
    [
      'transformer on rows of images',
      buildModel('transformer', images, { width: 32, norm: 'rms', positions: 'sinusoidal', fused: false }),
    ],
    ['lstm', buildModel('lstm', { inputShape: [6], classes: 3 }, { layers: 2, bidirectional: true })],
  ])('%s', async (_, model) => {
    const exported = await expectSame(model, [1, 3, 17]);
    expect(exported.graph.inputs).toEqual([
      { name: 'input', dtype: model.inputDtype ?? 'float32', dims: ['batch', ...model.inputShape] },
    ]);
    expect(exported.graph.outputs.map(({ name, dims }) => [name, dims?.[0]])).toEqual([['output', 'batch']]);
    expect(exported.opsets.map(({ domain }) => domain)).toEqual(['']);
    expect(opTypes(exported)).not.toContain('BatchNormalization');
  });
});

test('a residual network becomes convolutions with bias, under the names of its layers', async () => {
  const exported = await expectSame(buildModel('resnet20', { inputShape: [3, 8, 8], classes: 10 }, { width: 4 }), [2]);
  const counts = new Map<string, number>();
  for (const type of opTypes(exported)) counts.set(type, (counts.get(type) ?? 0) + 1);
  expect(Object.fromEntries(counts)).toEqual({
    Conv: 19,
    Relu: 19,
    Add: 9,
    Slice: 2,
    Pad: 2,
    Reshape: 1,
    ReduceSum: 1,
    Mul: 1,
    Gemm: 1,
  });
  const weights = names(exported).filter((name) => !/^v\d/.test(name));
  expect(weights).toEqual(
    expect.arrayContaining([
      'conv1.weight',
      'conv1.bias',
      'layer3.2.conv2.weight',
      'layer3.2.conv2.bias',
      'fc.weight',
      'fc.bias',
    ]),
  );
  expect(weights).toHaveLength(2 * 20);
});

test('unfolded parameters keep names, shapes and values', async () => {
  const model = buildModel('convnet', { inputShape: [1, 8, 8], classes: 3 }, { channels: [2], widths: [4] });
  const { params } = await trained(model);
  const { graph } = await expectSame(model, [2]);
  for (const { name, shape } of params.layout.segments) {
    const found = graph.initializers.find((tensor) => tensor.name === name);
    expect(found?.dims).toEqual(shape);
    expect(new Float32Array(found!.data.slice().buffer)).toEqual(params.view(name));
  }
  expect(graph.nodes.find((node) => node.opType === 'Conv')?.inputs.slice(1)).toEqual(['conv1.weight', 'conv1.bias']);
  expect(graph.nodes.filter((node) => node.opType === 'Gemm').map((node) => node.inputs.slice(1))).toEqual([
    ['fc1.weight', 'fc1.bias'],
    ['fc2.weight', 'fc2.bias'],
  ]);
});

describe('batch norm', () => {
  test('after a linear layer, a convolution in one dimension, a transposed convolution: inside the layer', async () => {
    const forward: nn.Forward = (s, x) => {
      const a = nn.batchNorm(s.at('bn1'), nn.conv(s.at('a'), x, { outChannels: 4, kernelSize: 3, groups: 2 }));
      const b = nn.batchNorm(
        s.at('bn2'),
        nn.convTranspose(s.at('b'), relu(a), { outChannels: 3, kernelSize: 2, stride: 2 }),
      );
      return nn.batchNorm(s.at('bn3'), nn.linear(s.at('c'), reshape(b, [b.shape[0], -1]), { outFeatures: 5 }));
    };
    const exported = await expectSame(custom(forward, [2, 7]), [1, 3, 17]);
    expect(opTypes(exported)).toEqual(['Conv', 'Relu', 'ConvTranspose', 'Reshape', 'Gemm']);
    const inputs = exported.graph.nodes.flatMap((node) => node.inputs).filter((name) => /^[abc]\./.test(name));
    expect(inputs).toEqual(['a.weight', 'a.bias', 'b.weight', 'b.bias', 'c.weight', 'c.bias']);
  });

  test('before a layer, or after one that somebody else reads too: a product and a sum', async () => {
    const before: nn.Forward = (s, x) =>
      nn.conv(s.at('conv'), relu(nn.batchNorm(s.at('bn'), x)), { outChannels: 2, kernelSize: 3 });
    expect(opTypes(await expectSame(custom(before, [3, 5, 5]), [1, 3]))).toEqual(['Mul', 'Add', 'Relu', 'Conv']);
    const twice: nn.Forward = (s, x) => {
      const y = nn.conv(s.at('conv'), x, { outChannels: 3, kernelSize: 3, padding: 1 });
      return add(relu(nn.batchNorm(s.at('bn'), y)), y);
    };
    const exported = await expectSame(custom(twice, [3, 5, 5]), [1, 3]);
    expect(opTypes(exported)).toEqual(['Conv', 'Mul', 'Add', 'Relu', 'Add']);
    expect(names(exported)).toEqual(expect.arrayContaining(['conv.weight', 'conv.bias', 'bn.weight', 'bn.bias']));
  });

  test('twice in a row, without parameters, in groups of a transposed convolution', async () => {
    const forward: nn.Forward = (s, x) => {
      const y = nn.conv(s.at('conv'), x, { outChannels: 4, kernelSize: 1, bias: false });
      const z = nn.batchNorm(s.at('bn2'), nn.batchNorm(s.at('bn1'), y, { affine: false }));
      return nn.batchNorm(
        s.at('bn3'),
        nn.convTranspose(s.at('up'), z, { outChannels: 2, kernelSize: 2, stride: 2, groups: 2 }),
      );
    };
    const exported = await expectSame(custom(forward, [3, 4, 4]), [1, 3]);
    expect(opTypes(exported)).toEqual(['Conv', 'ConvTranspose', 'Mul', 'Add']);
  });
});

describe('the batch dimension', () => {
  test('reaches shapes of constants and repeats that are computed when the model runs', async () => {
    const forward: nn.Forward = (s, x) => {
      const [batch, , width] = x.shape;
      const token = expand(s.param('token', [1, 1, width], normal()), [batch, 1, width]);
      const joined = concat([token, x, constant(0.5, [batch, 2, width])], 1);
      // The last axis of the batch's own extent: its shape differs in two places, which no Reshape can infer.
      const repeated = expand(reshape(joined, [batch, 1, -1]), [batch, batch, joined.shape[1] * width]);
      return max(repeated, { axes: 1 });
    };
    const exported = await expectSame(custom(forward, [2, 3]), [1, 3, 17]);
    expect(opTypes(exported)).toEqual(expect.arrayContaining(['Shape', 'Expand']));
  });

  test('may be looped over', async () => {
    const forward: nn.Forward = (s, x) => {
      const [row, weight] = [input('row', [3], x.dtype), s.param('weight', [4, 3], normal())];
      const y = matmul(reshape(row, [1, 3]), weight, { transposeB: true });
      const each = mapExamples(reshape(y, [4]), new Map([[row, reshape(x, [x.shape[0], 3])]]));
      return add(nn.linear(s.at('fc'), each, { outFeatures: 2 }), s.param('shift', [1], normal()));
    };
    expect(opTypes(await expectSame(custom(forward, [1, 3]), [1, 3, 17]))).toContain('Scan');
  });

  test('may be multiplied and cut', async () => {
    const forward: nn.Forward = (s, x) => {
      const steps = nn.linear(s.at('fc'), x, { outFeatures: 2 });
      return sliceAxis(reshape(steps, [-1, 2]), 0, 0, x.shape[0] * 3 - 2);
    };
    const exported = await expectSame(custom(forward, [3, 4]), [1, 3, 17]);
    expect(exported.graph.outputs[0].dims).toEqual(['3*batch-2', 2]);
  });

  test('may be fixed', async () => {
    const model = buildModel('convnet', { inputShape: [1, 8, 8], classes: 3 }, { batchNorm: true });
    const exported = await expectSame(model, [3], { batch: 3 });
    expect(exported.graph.inputs[0].dims).toEqual([3, 1, 8, 8]);
    expect(opTypes(exported)).not.toContain('BatchNormalization');
    await expectSame(model, [1], { batch: 1 });
  });

  test.each<[string, string, nn.Forward]>([
    ['a mean over the batch', 'a constant of the Mul node', (_, x) => sub(x, mean(x, { axes: 0, keepDims: true }))],
    [
      'one node an example',
      'it has',
      (_, x) => concat(Array.from({ length: x.shape[0] % 10 }, (_, i) => sliceAxis(x, 0, i, i + 1))),
    ],
    [
      'a square',
      'which no linear formula gives',
      (_, x) => expand(reshape(mul(x, 2), [1, -1]), [x.shape[0] ** 2, x.size]),
    ],
  ])('is refused where the result depends on it: %s', async (_, message, forward) => {
    const model = custom((s, x) => mul(forward(s, x), s.param('w', [], normal())), [2]);
    const { params, buffers } = await trained(model);
    expect(() => exportOnnx(model, params, buffers)).toThrow(/cannot be exported with a free batch dimension/);
    expect(() => exportOnnx(model, params, buffers)).toThrow(message);
    expect(() => exportOnnx(model, params, buffers, { batch: 5 })).not.toThrow();
  });
});

test('what the weights alone decide is computed in advance', async () => {
  const forward: nn.Forward = (s, x) => {
    const [down, up] = [s.param('down', [2, 6], normal()), s.param('up', [5, 2], normal())];
    return matmul(x, add(matmul(up, down), s.param('base.weight', [5, 6], normal())), { transposeB: true });
  };
  const exported = await expectSame(custom(forward, [6]), [1, 3]);
  expect(opTypes(exported)).toEqual(['Gemm']);
  expect(names(exported)).toEqual(['base.weight']);
});

test('one shift for all channels stays a sum', async () => {
  const forward: nn.Forward = (s, x) =>
    add(
      nn.conv(s.at('conv'), x, { outChannels: 2, kernelSize: 3, bias: false }),
      s.param('shift', [1, 1, 1], normal()),
    );
  expect(opTypes(await expectSame(custom(forward, [1, 4, 4]), [1, 3]))).toEqual(['Conv', 'Add']);
});

test('shared weights stay shared', async () => {
  const forward: nn.Forward = (s, x) => {
    const once = nn.linear(s.at('fc'), x, { outFeatures: 4 });
    return nn.linear(s.at('fc'), relu(once), { outFeatures: 4 });
  };
  expect(names(await expectSame(custom(forward, [4]), [1, 3]))).toEqual(['fc.weight', 'fc.bias']);
  const tied: nn.Forward = (s, x) => {
    const table = s.param('token.weight', [5, 5], normal());
    return matmul(relu(matmul(x, table)), mul(table, 2), { transposeB: true });
  };
  expect(names(await expectSame(custom(tied, [5]), [1, 3]))).toEqual(
    expect.arrayContaining(['token.weight', 'token.weight.folded']),
  );
});

test('softmax, names, version and metadata go into the file', async () => {
  const model = buildModel('mlp', { inputShape: [3], classes: 4 });
  const { params, buffers } = await trained(model);
  const options: ExportOptions = {
    softmax: true,
    names: { input: 'image', output: 'probabilities' },
    version: '1.2.3',
    metadata: { source: 'runs/7' },
  };
  const bytes = exportOnnx(model, params, buffers, options);
  const exported = readOnnx(bytes);
  expect(exported).toMatchObject({
    producerName: 'edgewise',
    producerVersion: '1.2.3',
    metadata: { model: 'mlp', source: 'runs/7' },
    graph: { name: 'mlp', inputs: [{ name: 'image' }], outputs: [{ name: 'probabilities' }] },
  });
  const { x, y } = await evaluated(model, { params, buffers }, 2);
  const { values } = await plainRun(bytes, x, [2, 3]);
  for (const row of [0, 1]) {
    const logits = Array.from(y as Float32Array).slice(4 * row, 4 * row + 4);
    const total = logits.reduce((sum, v) => sum + Math.exp(v), 0);
    expect(values.slice(4 * row, 4 * row + 4)).toEqual(logits.map((v) => expect.closeTo(Math.exp(v) / total, 5)));
  }
  expect(exportOnnx(model, params, buffers, options)).toEqual(bytes);
});

test('refused: other models, taken names, bad batches, random evaluation', async () => {
  const model = buildModel('mlp', { inputShape: [3], classes: 4 });
  const { params, buffers } = await trained(model);
  const other = await trained(buildModel('mlp', { inputShape: [4], classes: 4 }));
  expect(() => exportOnnx(model, other.params, buffers)).toThrow('The parameter vector belongs to another model');
  expect(() => exportOnnx(model, params, params)).toThrow('The buffer vector belongs to another model');
  expect(() => exportOnnx(model, params, buffers, { names: { output: 'fc1.weight' } })).toThrow(
    "the name 'fc1.weight' is taken",
  );
  expect(() => exportOnnx(model, params, buffers, { names: { output: 'input' } })).toThrow("the name 'input' is taken");
  expect(() => exportOnnx(model, params, buffers, { batch: 0 })).toThrow('batch is 0');
  const random = custom((s, x) => mul(x, mul(s.param('w', [3], normal()), select(s.uniform('u', [1, 3]), 0, 0))), [3]);
  const weights = await trained(random);
  expect(() => exportOnnx(random, weights.params, weights.buffers)).toThrow("draws random numbers ('u')");
});
