/** @file Every layer against PyTorch's: output, gradients in parameters and input, and running statistics. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { vjp } from '../../src/autodiff/index.ts';
import * as nn from '../../src/nn/index.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { concat, reshape, stack } from '../../src/tensor/ops/layout.ts';
import { causalMask } from '../../src/tensor/ops/ranges.ts';
import { constant, input, type Tensor } from '../../src/tensor/tensor.ts';
import { traceLayer } from './harness.ts';

interface Plain {
  readonly shape: readonly number[];
  readonly values: readonly number[];
}

interface Run {
  readonly mode: 'train' | 'eval';
  readonly y: Plain;
  readonly direction: Plain;
  readonly gradients: Readonly<Record<string, Plain>>;
  readonly xGradient: Plain | null;
  readonly buffers: Readonly<Record<string, Plain>>;
}

interface Case {
  readonly name: string;
  readonly x: Plain;
  readonly params: Readonly<Record<string, Plain>>;
  readonly buffers: Readonly<Record<string, Plain>>;
  readonly runs: readonly Run[];
}

interface Fixture {
  readonly given: { readonly context: Plain; readonly states: readonly Plain[] };
  readonly cases: readonly Case[];
}

const fixture: Fixture = JSON.parse(readFileSync(new URL('../fixtures/nn/torch.json', import.meta.url), 'utf8'));

const table = ({ values, shape }: Plain) => constant(values, shape, 'float64');
const state = (h: number, c: number) => ({ h: table(fixture.given.states[h]), c: table(fixture.given.states[c]) });
const flat = (tensors: readonly Tensor[]) => concat(tensors.map((t) => reshape(t, [t.size])));

const layers: Readonly<Record<string, nn.Forward>> = {
  linear: (s, x) => nn.linear(s, x, { outFeatures: 4 }),
  conv2d: (s, x) =>
    nn.conv(s, x, { outChannels: 6, kernelSize: [3, 2], stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 }),
  conv1d: (s, x) => nn.conv(s, x, { outChannels: 2, kernelSize: 3, padding: 2, bias: false }),
  convTranspose2d: (s, x) =>
    nn.convTranspose(s, x, { outChannels: 6, kernelSize: 3, stride: 2, padding: 1, outputPadding: 1, groups: 2 }),
  batchNorm2d: (s, x) => nn.batchNorm(s, x, { eps: 1e-3, momentum: 0.3 }),
  batchNorm1d: (s, x) => nn.batchNorm(s, x),
  layerNorm: (s, x) => nn.layerNorm(s, x, { axes: 2, eps: 1e-4 }),
  groupNorm: (s, x) => nn.groupNorm(s, x, { groups: 2, eps: 1e-4 }),
  embedding: (s, x) => nn.embedding(s, x, { vocabulary: 5, width: 3 }),
  attention: (s, x) => nn.multiHeadAttention(s, x, { heads: 2, causal: true }),
  attentionWithoutBias: (s, x) => nn.multiHeadAttention(s, x, { heads: 3, bias: false }),
  crossAttention: (s, x) =>
    nn.multiHeadAttention(s, x, {
      heads: 2,
      bias: false,
      projection: 'separate',
      context: table(fixture.given.context),
    }),
  transformerPre: (s, x) => nn.transformerBlock(s, x, { heads: 2, feedForward: 5 }),
  transformerPost: (s, x) =>
    nn.transformerBlock(s, x, { heads: 2, feedForward: 5, order: 'post', eps: 1e-3, mask: causalMask(4) }),
  lstm: (s, x) => nn.lstm(s, x, { hiddenSize: 4 }).output,
  lstmDeep: (s, x) => {
    const states = [0, 1, 2, 3].map((i) => state(i, i + 4));
    const result = nn.lstm(s, x, { hiddenSize: 3, layers: 2, bidirectional: true, states });
    return flat([result.output, ...result.states.map((r) => r.h), ...result.states.map((r) => r.c)]);
  },
  lstmCell: (s, x) => {
    const { h, c } = nn.lstmCell(s, x, { hiddenSize: 3, state: state(0, 1) });
    return stack([h, c]);
  },
};

function expectClose(actual: ArrayLike<number>, wanted: Plain, what: string): void {
  expect(actual.length, what).toBe(wanted.values.length);
  wanted.values.forEach((value, i) => {
    expect(Math.abs(actual[i] - value), `${what}[${i}]`).toBeLessThan(1e-11 * (1 + Math.abs(value)));
  });
}

test('the fixture and this list name the same layers', () => {
  expect(fixture.cases.map(({ name }) => name)).toEqual(Object.keys(layers));
});

test.each(fixture.cases)('$name computes what PyTorch computes', ({ name, x, params, buffers, runs }) => {
  let before = buffers;
  for (const run of runs) {
    const traced = traceLayer(layers[name], x.shape, run.mode === 'train', run.xGradient ? undefined : 'int64');
    expect(traced.params.map((p) => [p.name, [...p.shape]])).toEqual(
      expect.arrayContaining(Object.entries(params).map(([n, p]) => [n, p.shape])),
    );
    expect(traced.params.length).toBe(Object.keys(params).length);
    expect(traced.buffers.map((b) => b.name).sort()).toEqual(Object.keys(buffers).sort());
    const given = new Map<Tensor, ArrayLike<number>>([[traced.input, x.values]]);
    for (const p of traced.params) given.set(p.symbol, params[p.name].values);
    for (const b of traced.buffers) given.set(b.symbol, before[b.name].values);
    const direction = input('direction', traced.output.shape, 'float64');
    given.set(direction, run.direction.values);
    const wrt = [...traced.params.map((p) => p.symbol), ...(run.xGradient ? [traced.input] : [])];
    const updated = traced.buffers.filter((b) => b.next);
    const results = evaluate(
      [traced.output, ...updated.map((b) => b.next!), ...vjp([traced.output], wrt, [direction])],
      given,
    );
    expectClose(results[0], run.y, `${run.mode} output`);
    expect(updated.length > 0).toBe(run.mode === 'train' && traced.buffers.length > 0);
    for (const [i, b] of updated.entries()) expectClose(results[1 + i], run.buffers[b.name], b.name);
    const gradients = results.slice(1 + updated.length);
    for (const [i, p] of traced.params.entries()) {
      expectClose(gradients[i], run.gradients[p.name], `${run.mode} gradient of ${p.name}`);
    }
    if (run.xGradient) expectClose(gradients[traced.params.length], run.xGradient, `${run.mode} gradient of x`);
    before = run.buffers;
  }
});
