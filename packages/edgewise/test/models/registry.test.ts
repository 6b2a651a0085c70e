import { expect, test } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { buildModel, findModel, models, type Problem, parameterCount } from '../../src/models/index.ts';
import { type Model, trace } from '../../src/nn/scope.ts';
import { runLayer } from '../nn/harness.ts';

const cifar: Problem = { inputShape: [3, 32, 32], classes: 10 };
const small: Problem = { inputShape: [3, 8, 8], classes: 10 };

/** Options that make each architecture small, and a problem for it. */
const tiny: Readonly<Record<string, [Problem, Readonly<Record<string, unknown>>]>> = {
  mlp: [{ inputShape: [5], classes: 3 }, { widths: [4, 4] }],
  convnet: [small, { channels: [2, 2], widths: [3] }],
  resnet: [small, { width: 2 }],
  vgg: [cifar, {}],
  transformer: [
    { inputShape: [4, 3], classes: 3 },
    { width: 8, heads: 2, layers: 1 },
  ],
  lstm: [{ inputShape: [4, 3], classes: 3 }, { hiddenSize: 3 }],
};
const tinyOf = (name: string) => tiny[name.replace(/\d.*$/, '')];

test.each([
  // He et al. 2015, as counted by github.com/akamaster/pytorch_resnet_cifar10 (option A).
  ['resnet20', 269_722],
  ['resnet32', 464_154],
  ['resnet44', 658_586],
  ['resnet56', 853_018],
  ['resnet110', 1_727_962],
  // github.com/kuangliu/pytorch-cifar: the convolutions of the paper with bias, and one linear layer.
  ['vgg11_bn', 9_231_114],
  ['vgg13_bn', 9_416_010],
  ['vgg16_bn', 14_728_266],
  ['vgg19_bn', 20_040_522],
])('%s has %i parameters', (name, count) => {
  expect(parameterCount(buildModel(name, cifar))).toBe(count);
});

test('VGG without batch norm has two parameters less a channel, and the head of the paper its 119 million', () => {
  const channels = { 11: 2752, 13: 2944, 16: 4224, 19: 5504 };
  for (const [depth, count] of Object.entries(channels)) {
    const [plain, normalized] = ['', '_bn'].map((suffix) => parameterCount(buildModel(`vgg${depth}${suffix}`, cifar)));
    expect(normalized - plain).toBe(2 * count);
  }
  // torchvision's vgg16 for 1000 classes at 224 by 224 pixels.
  const imagenet: Problem = { inputShape: [3, 224, 224], classes: 1000 };
  expect(parameterCount(buildModel('vgg16', imagenet, { widths: [4096, 4096] }))).toBe(138_357_544);
});

test('option B adds a convolution and a batch norm at the two places where the shape changes', () => {
  const added = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64;
  expect(parameterCount(buildModel('resnet20', cifar, { shortcut: 'B' }))).toBe(269_722 + added);
});

test('parameters are named as torchvision names them', () => {
  const names = (model: Model) => trace(model, { batch: 2, training: true }).params.map((p) => p.name);
  expect(names(buildModel('resnet20', cifar, { shortcut: 'B' }))).toEqual(
    expect.arrayContaining([
      'conv1.weight',
      'bn1.bias',
      'layer1.2.conv2.weight',
      'layer2.0.downsample.0.weight',
      'layer2.0.downsample.1.bias',
      'layer3.2.bn2.weight',
      'fc.bias',
    ]),
  );
  // The last convolution of torchvision's vgg11_bn is features.25, of vgg11 features.18.
  expect(names(buildModel('vgg11_bn', cifar)).slice(-6)).toEqual([
    'features.25.weight',
    'features.25.bias',
    'features.26.weight',
    'features.26.bias',
    'classifier.0.weight',
    'classifier.0.bias',
  ]);
  expect(names(buildModel('vgg11', cifar))).toContain('features.18.weight');
});

test.each(models)('$name: examples go in, one number a class comes out, in training and in evaluation', (info) => {
  const [problem, options] = tinyOf(info.name);
  const model = info.build(options, problem);
  expect(model.name).toBe(info.name);
  for (const training of [true, false]) {
    const traced = trace(model, { batch: 3, training });
    expect(traced.input.shape).toEqual([3, ...problem.inputShape]);
    expect(traced.output.shape).toEqual([3, problem.classes]);
    expect(new Set(traced.params.map((p) => p.name)).size).toBe(traced.params.length);
    expect(traced.params.filter((p) => p.tags?.includes('head')).map((p) => p.shape[0])).toEqual([
      problem.classes,
      problem.classes,
    ]);
    expect(traced.buffers.every((b) => (b.next !== undefined) === training)).toBe(true);
    expect(traced.params.every((p) => (p.tags?.length ?? 0) > 0)).toBe(true);
  }
});

const changes: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  mlp: { widths: [3], activation: 'tanh', init: 'orthogonal', dropout: 0.5 },
  convnet: { channels: [2], kernelSize: 5, widths: [], activation: 'tanh', batchNorm: true, dropout: 0.5 },
  resnet: { shortcut: 'B', width: 3, zeroInitResidual: true },
  vgg: { widths: [7], dropout: 0.5 },
  transformer: {
    task: 'predict',
    vocabulary: 3,
    width: 6,
    heads: 1,
    layers: 2,
    feedForward: 5,
    activation: 'relu',
    order: 'post',
    norm: 'rms',
    positions: 'sinusoidal',
    fused: false,
    dropout: 0.5,
  },
  lstm: { hiddenSize: 4, layers: 2, bidirectional: true, vocabulary: 3, embedding: 5 },
};

/** Everything about a model that an option could change, without running it. */
function signature(name: string, problem: Problem, options: object): string {
  const traced = trace(buildModel(name, problem, { ...options }), { batch: 2, training: true });
  const declared = traced.params.map(({ name: n, shape, init, tags }) => [n, shape, init.name, init.options, tags]);
  return JSON.stringify([declared, traced.randoms.map((r) => r.name), traced.output.toString()]);
}

const everyOption = models
  .filter((model) => !/\d/.test(model.name) || ['resnet20', 'vgg11', 'vgg11_bn'].includes(model.name))
  .flatMap((model) => Object.keys(model.options).map((option) => ({ name: model.name, option })));

test.each(everyOption)('$name: $option changes something', ({ name, option }) => {
  let [problem, options] = tinyOf(name);
  // These say something about sequences of tokens only, and dropout between layers about more than one of them.
  if (option === 'vocabulary' || option === 'embedding') problem = { ...problem, inputShape: [4] };
  if (name === 'lstm' && option === 'dropout') options = { ...options, layers: 2 };
  const value = changes[name.replace(/\d.*$/, '')][option] ?? 0.5;
  expect(signature(name, problem, { ...options, [option]: value })).not.toBe(signature(name, problem, options));
});

test('sequences come as tokens, as vectors, or as the rows of an image', () => {
  for (const name of ['transformer', 'lstm']) {
    const shapeOf = (inputShape: number[]) => {
      const traced = trace(buildModel(name, { inputShape, classes: 5 }), { batch: 2, training: false });
      return [traced.input.dtype, ...traced.output.shape];
    };
    expect(shapeOf([7])).toEqual(['int32', 2, 5]);
    expect(shapeOf([7, 3])).toEqual(['float32', 2, 5]);
    expect(shapeOf([3, 7, 4])).toEqual(['float32', 2, 5]);
  }
  const predicted = trace(buildModel('transformer', { inputShape: [7], classes: 9 }, { task: 'predict' }), {
    batch: 2,
    training: false,
  });
  expect(predicted.output.shape).toEqual([2, 7, 9]);
});

test('an image read row by row is the same sequence as its rows', () => {
  const image = Float64Array.from({ length: 2 * 2 * 3 * 4 }, (_, i) => Math.sin(i));
  // [N, C, H, W] to [N, H, C W] by hand.
  const rows = Float64Array.from({ length: image.length }, (_, i) => {
    const [w, c, h, n] = [i % 4, Math.floor(i / 4) % 2, Math.floor(i / 8) % 3, Math.floor(i / 24)];
    return image[((n * 2 + c) * 3 + h) * 4 + w];
  });
  const run = (inputShape: number[], x: Float64Array) =>
    runLayer(buildModel('lstm', { inputShape, classes: 3 }, { hiddenSize: 4 }).forward, [2, ...inputShape], { x }).y;
  expect(run([2, 3, 4], image)).toEqual(run([3, 8], rows));
});

test('models are found by name and alias, in any spelling, and near misses are named', () => {
  const names = models.flatMap((model) => [model.name, ...model.aliases]);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(findModel(name.toUpperCase()).name).toBe(findModel(name).name);
  expect(findModel('VGG16-BN').name).toBe('vgg16_bn');
  expect(findModel('cnn').name).toBe('convnet');
  expect(() => findModel('resnt20')).toThrow("There is no model 'resnt20'; did you mean 'resnet20'?");
  expect(() => findModel('unet3d-xyz')).toThrow(ConfigError);
});

test.each<[string, string, Problem, object]>([
  ["mlp has no hyper-parameter 'width'; did you mean 'widths'?", 'mlp', small, { width: [3] }],
  ['mlp: widths has 2.5 in it; give whole numbers.', 'mlp', small, { widths: [2.5] }],
  ['mlp: activation is "rleu"; choose one of', 'mlp', small, { activation: 'rleu' }],
  ['mlp: classes is 0', 'mlp', { inputShape: [3], classes: 0 }, {}],
  ['mlp: the input shape [3, 0]', 'mlp', { inputShape: [3, 0], classes: 2 }, {}],
  ['convnet takes images [channels, height, width]', 'convnet', { inputShape: [784], classes: 10 }, {}],
  ['convnet: 4 convolutions halve images of 8 by 8 pixels to nothing', 'convnet', small, { channels: [2, 2, 2, 2] }],
  ['vgg11 takes images [channels, height, width] of at least 32 by 32 pixels', 'vgg11', small, {}],
  ['transformer: 5 heads do not divide the width 64', 'transformer', small, { heads: 5 }],
  ['lstm takes sequences', 'lstm', { inputShape: [1, 2, 3, 4], classes: 2 }, {}],
])('refused: %s', (message, name, problem, options) => {
  const build = () => buildModel(name, problem, { ...options });
  expect(build).toThrow(ConfigError);
  expect(build).toThrow(message);
});
