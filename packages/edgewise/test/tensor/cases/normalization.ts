import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import { at, axisOf, between, type Given, indicesOf, normal, type OpCase, shapes } from './case.ts';

const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
const spread = (list: readonly number[]) => mean(list.map((v) => (v - mean(list)) ** 2));
const positive = between(0.5, 1.5);

/** All elements of x whose index agrees with `index` where `keep` says so. */
const peers = (x: Given, index: readonly number[], keep: (axis: number) => boolean) =>
  indicesOf(x.shape)
    .filter((other) => other.every((k, axis) => !keep(axis) || k === index[axis]))
    .map((other) => at(x, other));

const lines = (
  name: string,
  build: (x: t.Tensor, axis: number) => t.Tensor,
  formula: (v: number, line: number[]) => number,
): OpCase => ({
  name,
  samples: shapes(1, 4)
    .chain((shape) => fc.tuple(fc.constant(shape), axisOf(shape.length)))
    .map(([shape, axis]) => {
      const on = (axis + shape.length) % shape.length;
      return {
        inputs: [{ shape }],
        build: ([x]) => build(x, axis),
        reference: ([x]) => [
          indicesOf(shape).map((index) =>
            formula(
              at(x, index),
              peers(x, index, (a) => a !== on),
            ),
          ),
        ],
      };
    }),
});

const eps = fc.constantFrom(1e-5, 1e-3, 0.1);

/** Enough elements a channel that a variance near 0, where everything is steep, is out of reach. */
const images = fc
  .record({ n: fc.integer({ min: 5, max: 8 }), c: fc.integer({ min: 1, max: 3 }), space: shapes(0, 2, 3) })
  .map(({ n, c, space }) => [n, c, ...space]);

export const normalizationCases: readonly OpCase[] = [
  lines('softmax', t.softmax, (v, line) => Math.exp(v) / line.reduce((a, b) => a + Math.exp(b), 0)),
  lines('logSoftmax', t.logSoftmax, (v, line) => v - Math.log(line.reduce((a, b) => a + Math.exp(b), 0))),
  {
    name: 'softmax of large numbers and -Infinity',
    runs: 1,
    samples: fc.constant({
      inputs: [
        { shape: [2, 2], draw: () => Float64Array.of(1000, 1000, Number.NEGATIVE_INFINITY, -1000), fixed: true },
      ],
      build: ([x]) => [t.softmax(x), t.logSoftmax(x)],
      reference: () => [
        [0.5, 0.5, 0, 1],
        [-Math.LN2, -Math.LN2, Number.NEGATIVE_INFINITY, 0],
      ],
    }),
  },
  {
    name: 'layerNorm',
    runs: 16,
    samples: fc
      .record({ lead: shapes(0, 2), last: shapes(1, 2, 3), scaled: fc.boolean(), shifted: fc.boolean(), eps })
      .map(({ lead, last, scaled, shifted, eps }) => {
        // At least 3 numbers a row.
        const row = [...last.slice(0, -1), last[last.length - 1] + 2];
        const shape = [...lead, ...row];
        return {
          inputs: [{ shape }, ...(scaled ? [{ shape: row }] : []), ...(shifted ? [{ shape: row }] : [])],
          build: ([x, ...rest]) =>
            t.layerNorm(x, scaled ? rest[0] : undefined, shifted ? rest[rest.length - 1] : undefined, {
              axes: row.length,
              eps,
            }),
          reference: ([x, ...rest]) => [
            indicesOf(shape).map((index) => {
              const line = peers(x, index, (axis) => axis < lead.length);
              const hat = (at(x, index) - mean(line)) / Math.sqrt(spread(line) + eps);
              const place = index.slice(lead.length);
              return hat * (scaled ? at(rest[0], place) : 1) + (shifted ? at(rest[rest.length - 1], place) : 0);
            }),
          ],
        };
      }),
  },
  {
    name: 'rmsNorm',
    samples: fc
      .record({ lead: shapes(0, 2), last: shapes(1, 2, 3), scaled: fc.boolean(), eps })
      .map(({ lead, last, scaled, eps }) => {
        const shape = [...lead, ...last];
        return {
          inputs: [{ shape }, ...(scaled ? [{ shape: last }] : [])],
          build: ([x, scale]) => t.rmsNorm(x, scale, { axes: last.length, eps }),
          reference: ([x, scale]) => [
            indicesOf(shape).map((index) => {
              const line = peers(x, index, (axis) => axis < lead.length);
              const hat = at(x, index) / Math.sqrt(mean(line.map((v) => v * v)) + eps);
              return hat * (scale ? at(scale, index.slice(lead.length)) : 1);
            }),
          ],
        };
      }),
  },
  {
    name: 'groupNorm',
    samples: fc
      .record({
        n: fc.integer({ min: 1, max: 3 }),
        groups: fc.integer({ min: 1, max: 3 }),
        each: fc.integer({ min: 1, max: 2 }),
        space: shapes(1, 2, 3),
        affine: fc.boolean(),
        eps,
      })
      .map(({ n, groups, each, space, affine, eps }) => {
        const shape = [n, groups * each, space[0] + 2, ...space.slice(1)];
        const channels = { shape: [shape[1]] };
        return {
          inputs: [{ shape }, ...(affine ? [channels, channels] : [])],
          build: ([x, scale, bias]) => t.groupNorm(x, groups, { scale, bias, eps }),
          reference: ([x, scale, bias]) => [
            indicesOf(shape).map((index) => {
              const group = Math.floor(index[1] / each);
              const line = indicesOf(shape)
                .filter((other) => other[0] === index[0] && Math.floor(other[1] / each) === group)
                .map((other) => at(x, other));
              const hat = (at(x, index) - mean(line)) / Math.sqrt(spread(line) + eps);
              return affine ? hat * scale.data[index[1]] + bias.data[index[1]] : hat;
            }),
          ],
        };
      }),
  },
  {
    name: 'instanceNorm',
    samples: shapes(1, 2, 3).map((space) => {
      const shape = [2, 3, space[0] + 2, ...space.slice(1)];
      return {
        inputs: [{ shape }, { shape: [3] }],
        build: ([x, scale]) => t.instanceNorm(x, { scale }),
        reference: ([x, scale]) => [
          indicesOf(shape).map((index) => {
            const line = peers(x, index, (axis) => axis < 2);
            return ((at(x, index) - mean(line)) / Math.sqrt(spread(line) + 1e-5)) * scale.data[index[1]];
          }),
        ],
      };
    }),
  },
  {
    name: 'batchNorm',
    runs: 16,
    samples: fc.tuple(images, eps).map(([shape, eps]) => {
      const channels = { shape: [shape[1]] };
      return {
        inputs: [{ shape, draw: (key, n) => normal(key, n).map((v) => v + 2) }, channels, channels],
        build: ([x, scale, bias]) => Object.values(t.batchNorm(x, scale, bias, { eps })),
        reference: ([x, scale, bias]) => {
          const channel = (c: number) => peers(x, [0, c], (axis) => axis === 1);
          return [
            indicesOf(shape).map((index) => {
              const [v, c] = [at(x, index), index[1]];
              return ((v - mean(channel(c))) / Math.sqrt(spread(channel(c)) + eps)) * scale.data[c] + bias.data[c];
            }),
            Array.from({ length: shape[1] }, (_, c) => mean(channel(c))),
            Array.from({ length: shape[1] }, (_, c) => spread(channel(c))),
          ];
        },
      };
    }),
  },
  {
    // ONNX Runtime's kernel writes statistics in place; two layers must not share the place.
    name: 'two batchNorms with one scale and bias',
    runs: 4,
    samples: images.map((shape) => {
      const channels = { shape: [shape[1]] };
      return {
        // A scale near 0 would leave the second layer a variance near 0.
        inputs: [{ shape }, { ...channels, draw: positive }, { ...channels, draw: between(-0.5, 0.5) }],
        build: ([x, scale, bias]) => {
          const once = t.batchNorm(x, scale, bias).y;
          return t.add(once, t.batchNorm(t.tanh(t.channelAffine(once, scale, bias)), scale, bias).y);
        },
      };
    }),
  },
  ...([0, 1, 2] as const).map(
    (held): OpCase => ({
      name: `batchNorm with input ${held} held fixed`,
      runs: 3,
      samples: images.map((shape) => {
        const channels = { shape: [shape[1]] };
        return {
          inputs: [{ shape }, channels, channels].map((spec, i) => ({ ...spec, fixed: i === held })),
          build: ([x, scale, bias]) => t.batchNorm(x, scale, bias).y,
        };
      }),
    }),
  ),
  {
    name: 'batchNormInference',
    samples: fc.tuple(shapes(2, 4), eps).map(([shape, eps]) => {
      const channels = { shape: [shape[1]] };
      return {
        inputs: [{ shape }, channels, channels, channels, { ...channels, draw: positive }],
        build: ([x, scale, bias, mean, variance]) => t.batchNormInference(x, { mean, variance, scale, bias }, { eps }),
        reference: ([x, scale, bias, means, variances]) => [
          indicesOf(shape).map((index) => {
            const c = index[1];
            return ((at(x, index) - means.data[c]) / Math.sqrt(variances.data[c] + eps)) * scale.data[c] + bias.data[c];
          }),
        ],
      };
    }),
  },
  ...([0, 1, 2] as const).map(
    (held): OpCase => ({
      name: `channelAffine with input ${held} held fixed`,
      runs: 4,
      samples: shapes(2, 4).map((shape) => {
        const channels = { shape: [shape[1]] };
        return {
          inputs: [{ shape }, channels, channels].map((spec, i) => ({ ...spec, fixed: i === held })),
          build: ([x, a, b]) => t.channelAffine(x, a, b),
          reference: ([x, a, b]) => [
            indicesOf(shape).map((index) => at(x, index) * a.data[index[1]] + b.data[index[1]]),
          ],
        };
      }),
    }),
  ),
];
