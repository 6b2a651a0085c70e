/** @file Each option of each layer changes what is declared or computed, and bad ones are refused with their place named. */
import { expect, test } from 'vitest';
import { ConfigError, ShapeError } from '../../src/base/errors.ts';
import * as nn from '../../src/nn/index.ts';
import type { Scope } from '../../src/nn/scope.ts';
import { constant as constantInit, dirac, identity, orthogonal } from '../../src/params/initializers.ts';
import { cast, greater, sin } from '../../src/tensor/ops/elementwise.ts';
import { reshape, stack } from '../../src/tensor/ops/layout.ts';
import { constant, type Tensor } from '../../src/tensor/tensor.ts';
import { numbers, runLayer } from './harness.ts';

const seven = constantInit(7);
const half = (shape: readonly number[]) => constant(0.5, shape, 'float64');
const indices = (x: Tensor) => cast(greater(x, 0), 'int32');
const hideFirst = constant([0, 1, 1, 1], [4], 'bool');

/** Layer, shape of x, base options, and for each option another value. */
const layers: readonly [
  name: string,
  layer: (scope: Scope, x: Tensor, options: never) => Tensor,
  shape: readonly number[],
  base: object,
  changes: Readonly<Record<string, unknown>>,
][] = [
  [
    'linear',
    nn.linear,
    [2, 3],
    { outFeatures: 3 },
    { outFeatures: 4, bias: false, init: orthogonal(), biasInit: seven, tags: ['head'] },
  ],
  [
    'conv',
    nn.conv,
    [2, 4, 5, 5],
    { outChannels: 4, kernelSize: 2 },
    {
      outChannels: 6,
      kernelSize: [2, 3],
      stride: 2,
      padding: 1,
      dilation: 2,
      groups: 2,
      bias: false,
      init: dirac(),
      biasInit: seven,
      tags: ['stem'],
    },
  ],
  [
    'convTranspose',
    nn.convTranspose,
    [2, 4, 3, 3],
    { outChannels: 4, kernelSize: 3, stride: 2 },
    {
      outChannels: 6,
      kernelSize: 2,
      stride: 3,
      padding: 1,
      dilation: 2,
      groups: 2,
      outputPadding: 1,
      bias: false,
      init: seven,
      biasInit: seven,
      tags: ['stem'],
    },
  ],
  ['batchNorm', nn.batchNorm, [4, 3, 2], {}, { eps: 0.1, momentum: 0.5, affine: false, init: seven }],
  ['layerNorm', nn.layerNorm, [4, 3, 2], {}, { eps: 0.1, axes: 2, affine: false, bias: false, init: seven }],
  ['rmsNorm', nn.rmsNorm, [4, 3, 2], {}, { eps: 0.1, axes: 2, affine: false, init: seven }],
  ['groupNorm', nn.groupNorm, [2, 4, 3], { groups: 2 }, { groups: 4, eps: 0.1, affine: false, init: seven }],
  [
    'embedding',
    (scope, x, options) => nn.embedding(scope, indices(x), options),
    [2, 3],
    { vocabulary: 2, width: 3 },
    { vocabulary: 4, width: 2, init: identity() },
  ],
  ['positionalEmbedding', nn.positionalEmbedding, [2, 4, 6], {}, { kind: 'sinusoidal', init: seven }],
  ['dropout', nn.dropout, [2, 4, 6], { p: 0.5 }, { p: 0.1, unit: 'channel' }],
  ['stochasticDepth', nn.stochasticDepth, [8, 2], { p: 0.5 }, { p: 0.1 }],
  [
    'multiHeadAttention',
    nn.multiHeadAttention,
    [2, 4, 6],
    { heads: 2 },
    {
      heads: 3,
      causal: true,
      mask: hideFirst,
      projection: 'separate',
      bias: false,
      dropout: 0.5,
      init: orthogonal(),
      outInit: orthogonal(),
    },
  ],
  [
    'multiHeadAttention to a context',
    nn.multiHeadAttention,
    [2, 4, 6],
    { heads: 2, projection: 'separate' },
    { context: half([2, 3, 5]) },
  ],
  [
    'transformerBlock',
    nn.transformerBlock,
    [2, 4, 6],
    { heads: 2 },
    {
      heads: 3,
      feedForward: 5,
      activation: 'relu',
      causal: true,
      mask: hideFirst,
      order: 'post',
      norm: 'rms',
      eps: 0.1,
      projection: 'separate',
      bias: false,
      dropout: 0.5,
      attentionDropout: 0.5,
      stochasticDepth: 0.5,
    },
  ],
  [
    'lstmCell',
    (scope, x, options: never) => {
      const { h, c } = nn.lstmCell(scope, x, options);
      return stack([h, c]);
    },
    [2, 3],
    { hiddenSize: 4 },
    { hiddenSize: 5, bias: false, state: { h: half([2, 4]), c: half([2, 4]) } },
  ],
  [
    'lstm',
    (scope, x, options: never) => nn.lstm(scope, x, options).output,
    [2, 4, 3],
    { hiddenSize: 4 },
    { hiddenSize: 5, layers: 2, bidirectional: true, bias: false, states: [{ h: half([2, 4]), c: half([2, 4]) }] },
  ],
  [
    'lstm of two layers',
    (scope, x, options: never) => nn.lstm(scope, x, options).output,
    [2, 4, 3],
    { hiddenSize: 4, layers: 2 },
    { dropout: 0.5 },
  ],
];

const cases = layers.flatMap(([name, layer, shape, base, changes]) =>
  Object.entries(changes).map(([option, value]) => ({ name, layer, shape, base, option, value })),
);

function signature(
  layer: (scope: Scope, x: Tensor, options: never) => Tensor,
  shape: readonly number[],
  options: object,
) {
  const { traced, given, y } = runLayer((scope, x) => layer(scope, x, options as never), shape);
  return JSON.stringify({
    params: traced.params.map(({ name, shape, tags, symbol }) => [name, shape, tags, Array.from(given.get(symbol)!)]),
    buffers: traced.buffers.map(({ name, next }) => [name, next?.toString()]),
    randoms: traced.randoms.map(({ name, symbol }) => [name, symbol.shape]),
    output: [traced.output.shape, ...y],
  });
}

test.each(cases)('$name: $option changes something', ({ layer, shape, base, option, value }) => {
  expect(signature(layer, shape, { ...base, [option]: value })).not.toBe(signature(layer, shape, base));
});

test.each(cases.filter(({ option }) => /^(init|biasInit|outInit)$/.test(option)))(
  '$name: $option decides the first values and nothing else',
  ({ layer, shape, base, option, value }) => {
    const names = (options: object) =>
      runLayer((scope, x) => layer(scope, x, options as never), shape).traced.params.map((p) => [p.name, p.init.name]);
    const [before, after] = [names(base), names({ ...base, [option]: value })];
    const changed = after.filter(([, init], i) => init !== before[i][1]);
    expect(before.map(([name]) => name)).toEqual(after.map(([name]) => name));
    expect(changed).toHaveLength(1);
    expect(changed[0][0]).toMatch({ init: /weight/, biasInit: /bias/, outInit: /out_proj.weight/ }[option]!);
  },
);

test('tags say what a parameter is', () => {
  const { traced } = runLayer(
    (scope, x) => {
      const y = nn.batchNorm(scope.at('bn'), nn.conv(scope.at('conv'), x, { outChannels: 2, kernelSize: 1 }));
      return nn.linear(scope.at('fc'), y, { outFeatures: 2, tags: ['head'] });
    },
    [2, 3, 4],
  );
  expect(Object.fromEntries(traced.params.map(({ name, tags }) => [name, tags]))).toEqual({
    'conv.weight': ['weight'],
    'conv.bias': ['bias'],
    'bn.weight': ['norm'],
    'bn.bias': ['norm', 'bias'],
    'fc.weight': ['weight', 'head'],
    'fc.bias': ['bias', 'head'],
  });
});

test('dropout keeps the mean, drops what it says, and does nothing in evaluation', () => {
  const shape = [50, 20, 8];
  const ones = new Float64Array(50 * 20 * 8).fill(1);
  for (const [unit, size] of [
    ['element', 1],
    ['channel', 8],
  ] as const) {
    const layer = (scope: Scope, x: Tensor) => nn.dropout(scope.at('drop'), x, { p: 0.25, unit });
    const { y, traced } = runLayer(layer, shape, { x: ones });
    expect(traced.randoms.map((u) => u.name)).toEqual(['drop.mask']);
    expect(new Set(y)).toEqual(new Set([0, 1 / 0.75]));
    for (let i = 0; i < y.length; i += size) expect(new Set(y.subarray(i, i + size)).size).toBe(1);
    // Six standard deviations of the mean of that many Bernoulli variables.
    const mean = y.reduce((a, b) => a + b) / y.length;
    expect(Math.abs(mean - 1)).toBeLessThan(6 * Math.sqrt(((0.25 / 0.75) * size) / y.length));
    const evaluated = runLayer(layer, shape, { x: ones, training: false });
    expect(evaluated.traced.randoms).toEqual([]);
    expect(evaluated.y).toEqual(ones);
  }
});

test('stochastic depth drops whole examples', () => {
  const { y } = runLayer((scope, x) => nn.stochasticDepth(scope, x, { p: 0.5 }), [64, 3], {
    x: new Float64Array(192).fill(1),
  });
  const examples = Array.from({ length: 64 }, (_, i) => [...y.subarray(3 * i, 3 * i + 3)]);
  expect(new Set(examples.map(String))).toEqual(new Set(['0,0,0', '2,2,2']));
});

test('attention without a mask is a mean where all scores are equal; a mask and a causal order leave keys out', () => {
  const [q, v] = [constant(0, [1, 1, 3, 2], 'float64'), constant([1, 2, 6], [1, 1, 3, 1], 'float64')];
  const run = (options: nn.AttentionCoreOptions) => [
    ...runLayer(() => nn.scaledDotProductAttention(q, q, v, options), [1, 1]).y,
  ];
  expect(run({})).toEqual([3, 3, 3].map((x) => expect.closeTo(x, 12)));
  expect(run({ causal: true })).toEqual([1, 1.5, 3].map((x) => expect.closeTo(x, 12)));
  const last = constant([0, 0, 1], [3], 'bool');
  expect(run({ mask: last })).toEqual([6, 6, 6]);
  const first = constant([1, 0, 0, 1, 1, 0, 0, 1, 1], [3, 3], 'bool');
  expect(run({ mask: first, causal: true })).toEqual([1, 1.5, 4].map((x) => expect.closeTo(x, 12)));
});

test('a causal block does not look ahead', () => {
  const layer = (scope: Scope, x: Tensor) => nn.transformerBlock(scope, x, { heads: 2, causal: true });
  const x = numbers(2 * 5 * 4, 3);
  const changed = x.map((v, i) => (i % 20 >= 12 ? v + 1 : v));
  const [a, b] = [x, changed].map((values) => runLayer(layer, [2, 5, 4], { x: values }).y);
  expect(a.map((value, i) => Number(value === b[i]))).toEqual(a.map((_, i) => Number(i % 20 < 12)));
});

test('sinusoidal positions are the formula of the paper', () => {
  const { y, traced } = runLayer((scope, x) => nn.positionalEmbedding(scope, x, { kind: 'sinusoidal' }), [1, 6, 4], {
    x: new Float64Array(24),
  });
  expect(traced.buffers[0].next).toBeUndefined();
  for (let t = 0; t < 6; t++) {
    const wanted = [Math.sin(t), Math.cos(t), Math.sin(t / 100), Math.cos(t / 100)];
    expect([...y.subarray(4 * t, 4 * t + 4)]).toEqual(wanted.map((value) => expect.closeTo(value, 14)));
  }
});

test('batch norm of one value a channel does not divide by zero', () => {
  const { traced, given } = runLayer((scope, x) => nn.batchNorm(scope, x), [1, 2]);
  expect(traced.buffers.map((b) => b.next?.shape)).toEqual([[2], [2]]);
  expect([...given.values()].every((values) => Array.from(values).every(Number.isFinite))).toBe(true);
});

test('activations go by name or as functions', () => {
  const x = constant([-0.5, 2], [2], 'float64');
  for (const name of nn.activationNames) expect(nn.activate(x, name).shape).toEqual([2]);
  expect(nn.activate(x, sin)).toBe(sin(x));
  expect(nn.activate(x, 'identity')).toBe(x);
  expect(() => nn.activate(x, 'rleu' as never)).toThrow("There is no activation 'rleu'; did you mean 'relu'?");
});

test.each<[string, (scope: Scope, x: Tensor) => Tensor, new (message: string) => Error]>([
  [
    "linear 'fc': outFeatures is 0; give a whole number of at least 1.",
    (s, x) => nn.linear(s.at('fc'), x, { outFeatures: 0 }),
    ConfigError,
  ],
  [
    "conv 'a.b': x [2, 3, 4, 1, 1] must be",
    (s, x) => nn.conv(s.at('a').at('b'), reshape(x, [2, 3, 4, 1, 1]), { outChannels: 1, kernelSize: 1 }),
    ShapeError,
  ],
  [
    'conv: kernelSize [2, 2] wants one number for each of the 1 spatial axes',
    (s, x) => nn.conv(s, x, { outChannels: 1, kernelSize: [2, 2] }),
    ShapeError,
  ],
  ['conv: 2 groups divide neither', (s, x) => nn.conv(s, x, { outChannels: 2, kernelSize: 1, groups: 2 }), ShapeError],
  ['batchNorm: momentum is 2; give a number from 0 to 1.', (s, x) => nn.batchNorm(s, x, { momentum: 2 }), ConfigError],
  ['layerNorm: x [2, 3, 4] has no 5 axes', (s, x) => nn.layerNorm(s, x, { axes: 5 }), ShapeError],
  [
    'dropout: p is 1; give a probability from 0 up to, but below, 1.',
    (s, x) => nn.dropout(s, x, { p: 1 }),
    ConfigError,
  ],
  [
    "random input 'mask' is declared twice",
    (s, x) => nn.dropout(s, nn.dropout(s, x, { p: 0.5 }), { p: 0.5 }),
    ConfigError,
  ],
  ['3 heads do not divide the width 4 of x', (s, x) => nn.multiHeadAttention(s, x, { heads: 3 }), ConfigError],
  ["set projection to 'separate'", (s, x) => nn.multiHeadAttention(s, x, { heads: 2, context: sin(x) }), ConfigError],
  ['the mask is float64[4]', (s, x) => nn.multiHeadAttention(s, x, { heads: 2, mask: half([4]) }), ShapeError],
  [
    '1 initial states were given, but 2 layers in 1 directions want 2',
    (s, x) => nn.lstm(s, x, { hiddenSize: 2, layers: 2, states: [{ h: x, c: x }] }).output,
    ShapeError,
  ],
  ['lstmCell: x [2, 3, 4] must be [N, in]', (s, x) => nn.lstmCell(s, x, { hiddenSize: 2 }).h, ShapeError],
])('refused: %s', (message, layer, type) => {
  const run = () => runLayer(layer, [2, 3, 4]);
  expect(run).toThrow(type);
  expect(run).toThrow(message);
});
