import { describe, expect, it } from 'vitest';
import { ConfigError, ShapeError } from '../../src/base/errors.ts';
import { Key } from '../../src/base/random.ts';
import * as init from '../../src/params/initializers.ts';
import { orthonormalRows } from '../../src/params/orthogonal.ts';

const key = Key.fromSeed(11);

function draw(initializer: init.Initializer, shape: readonly number[], seedKey = key): Float64Array {
  const out = new Float64Array(shape.reduce((a, b) => a * b, 1)).fill(Number.NaN);
  initializer.fill(seedKey, out, shape);
  return out;
}

function stats(values: Float64Array) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
  return { mean, variance, max: values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) };
}

it('fans of linear, grouped and plain convolution weights are those of torch.nn.init', () => {
  expect(init.fans([10, 784])).toEqual({ fanIn: 784, fanOut: 10 });
  expect(init.fans([64, 32, 3, 3])).toEqual({ fanIn: 288, fanOut: 576 });
  expect(init.fans([64, 1, 5])).toEqual({ fanIn: 5, fanOut: 320 });
  expect(() => init.fans([10])).toThrow(ShapeError);
  expect(() => init.fans([])).toThrow(ShapeError);
});

it('gains are those of torch.nn.init.calculate_gain', () => {
  expect(init.gain('linear')).toBe(1);
  expect(init.gain('conv')).toBe(1);
  expect(init.gain('sigmoid')).toBe(1);
  expect(init.gain('tanh')).toBeCloseTo(5 / 3, 15);
  expect(init.gain('relu')).toBe(Math.sqrt(2));
  expect(init.gain('leakyRelu')).toBeCloseTo(1.4141428569978354, 15);
  expect(init.gain('leakyRelu', 0.2)).toBeCloseTo(1.3867504905630728, 15);
  expect(init.gain('selu')).toBe(0.75);
  expect(() => init.gain('rleu' as 'relu')).toThrow(/did you mean/);
});

describe('variance and range', () => {
  // fanIn 500, fanOut 400; 20 x 25 x ... conv: fanIn 45, fanOut 900.
  const linear = [400, 500];
  const conv = [100, 5, 3, 3];
  const cut = 0.8796256610342398;
  const cases: [string, init.Initializer, number[], variance: number, bound: number][] = [
    ['uniform', init.uniform({ lo: -3, hi: 3 }), linear, 3, 3],
    ['normal', init.normal({ std: 2 }), linear, 4, 16],
    ['truncatedNormal', init.truncatedNormal({ std: 2 }), linear, 4 * cut ** 2, 4],
    ['xavierUniform', init.xavierUniform(), linear, 2 / 900, Math.sqrt(6 / 900)],
    [
      'xavierUniform gain',
      init.xavierUniform({ gain: 5 / 3 }),
      linear,
      (25 / 9) * (2 / 900),
      (5 / 3) * Math.sqrt(6 / 900),
    ],
    ['xavierNormal conv', init.xavierNormal(), conv, 2 / 945, 1],
    ['kaimingUniform', init.kaimingUniform(), linear, 2 / 500, Math.sqrt(6 / 500)],
    ['kaimingUniform a', init.kaimingUniform({ a: Math.sqrt(5) }), linear, 1 / 3 / 500, 1 / Math.sqrt(500)],
    ['kaimingNormal fanOut', init.kaimingNormal({ mode: 'fanOut', nonlinearity: 'relu' }), conv, 2 / 900, 1],
    ['kaimingNormal tanh', init.kaimingNormal({ nonlinearity: 'tanh' }), conv, 25 / 9 / 45, 3],
    ['lecunNormal', init.lecunNormal(), linear, 1 / 500, 2 / cut / Math.sqrt(500)],
    ['lecunUniform', init.lecunUniform(), conv, 1 / 45, Math.sqrt(3 / 45)],
    ['torchDefault', init.torchDefault(), conv, 1 / 3 / 45, 1 / Math.sqrt(45)],
    ['torchDefault bias', init.torchDefault({ fanIn: 100 }), [9000], 1 / 300, 0.1],
    ['varianceScaling', init.varianceScaling({ scale: 3, mode: 'fanOut', distribution: 'normal' }), linear, 3 / 400, 1],
  ];
  it.each(cases)('%s', (_, initializer, shape, variance, bound) => {
    const values = draw(initializer, shape);
    const got = stats(values);
    // Five standard errors of the sample variance, of the heaviest-tailed (normal) case.
    expect(Math.abs(got.variance / variance - 1)).toBeLessThan(5 * Math.sqrt(2 / values.length));
    expect(Math.abs(got.mean)).toBeLessThan(5 * Math.sqrt(variance / values.length));
    expect(got.max).toBeLessThanOrEqual(bound);
    expect(values.every(Number.isFinite)).toBe(true);
  });

  it('uniform families reach close to their bound', () => {
    expect(stats(draw(init.torchDefault(), linear)).max).toBeGreaterThan(0.999 / Math.sqrt(500));
    expect(stats(draw(init.kaimingUniform(), linear)).max).toBeGreaterThan(0.999 * Math.sqrt(6 / 500));
  });

  it('the same key gives the same values, another key others', () => {
    expect(draw(init.kaimingNormal(), [3, 4])).toEqual(draw(init.kaimingNormal(), [3, 4]));
    expect(draw(init.kaimingNormal(), [3, 4], key.split(1))).not.toEqual(draw(init.kaimingNormal(), [3, 4]));
  });
});

describe('orthogonal', () => {
  it.each([[[40, 40]], [[16, 50]], [[50, 16]], [[1, 7]], [[7, 1]], [[24, 4, 3, 3]]])(
    'shape %j has orthonormal rows or columns',
    (shape) => {
      const rows = shape[0];
      const columns = shape.slice(1).reduce((a, b) => a * b, 1);
      const out = new Float32Array(rows * columns);
      init.orthogonal({ gain: 3 }).fill(key, out, shape);
      const at = (i: number, k: number) => (rows <= columns ? out[i * columns + k] : out[k * columns + i]);
      for (let i = 0; i < Math.min(rows, columns); i++) {
        for (let j = 0; j <= i; j++) {
          let dot = 0;
          for (let k = 0; k < Math.max(rows, columns); k++) dot += at(i, k) * at(j, k);
          expect(Math.abs(dot / 9 - (i === j ? 1 : 0))).toBeLessThan(1e-6);
        }
      }
    },
  );

  it('is uniform: entries and traces of many 3 x 3 draws have the moments of the Haar measure', () => {
    const trials = 20_000;
    let [trace, trace2, entry, entry2, det] = [0, 0, 0, 0, 0];
    for (let t = 0; t < trials; t++) {
      const [a, b, c, d, e, f, g, h, i] = draw(init.orthogonal(), [3, 3], key.split(t));
      trace += (a + e + i) / trials;
      trace2 += (a + e + i) ** 2 / trials;
      entry += d / trials;
      entry2 += (d * d) / trials;
      det += (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) / trials;
    }
    const error = 4.5 / Math.sqrt(trials);
    expect(Math.abs(trace)).toBeLessThan(error);
    expect(Math.abs(trace2 - 1)).toBeLessThan(error * Math.sqrt(2)); // Var of trace^2 is 2 over O(3).
    expect(Math.abs(entry)).toBeLessThan(error);
    expect(Math.abs(entry2 - 1 / 3)).toBeLessThan(error);
    expect(Math.abs(det)).toBeLessThan(error);
  });

  it('stays orthonormal for rows that nearly point along an axis', () => {
    for (const sign of [1, -1]) {
      const rows = Float64Array.of(sign, 1e-9, -2e-9, 1e-10, 3e-9, sign, 1e-9, 2e-10, 0, 1e-12, sign, -1e-9);
      const q = orthonormalRows(rows.slice(), 3, 4);
      // Gram and Schmidt leave the first row's direction alone; its length is 1 to the last bit.
      for (let k = 0; k < 4; k++) expect(Math.abs(q[k] - rows[k])).toBeLessThan(1e-16);
      for (let i = 0; i < 3; i++) {
        for (let j = 0; j < 3; j++) {
          const dot = [0, 1, 2, 3].reduce((sum, k) => sum + q[4 * i + k] * q[4 * j + k], 0);
          expect(Math.abs(dot - (i === j ? 1 : 0))).toBeLessThan(1e-15);
        }
        expect(q[5 * i]).toBeCloseTo(sign, 15);
      }
    }
  });

  it('needs a matrix', () => {
    expect(() => draw(init.orthogonal(), [5])).toThrow(ShapeError);
    expect(draw(init.orthogonal(), [0, 5]).length).toBe(0);
  });
});

describe('constants and copies', () => {
  it('zeros, ones, constant', () => {
    expect(Array.from(draw(init.zeros(), [2]))).toEqual([0, 0]);
    expect(Array.from(draw(init.ones(), [2]))).toEqual([1, 1]);
    expect(Array.from(draw(init.constant(-2.5), [2]))).toEqual([-2.5, -2.5]);
  });

  it('identity', () => {
    expect(Array.from(draw(init.identity({ gain: 2 }), [2, 3]))).toEqual([2, 0, 0, 0, 2, 0]);
    expect(() => draw(init.identity(), [2, 3, 1])).toThrow(ShapeError);
  });

  it('dirac kernels copy their input channels', () => {
    const groups = 2;
    const shape = [6, 2, 3, 3];
    const w = draw(init.dirac({ groups }), shape);
    const x = Array.from({ length: 4 }, (_, c) => Array.from({ length: 25 }, (_, p) => c * 100 + p));
    for (let o = 0; o < 6; o++) {
      const group = Math.floor(o / 3);
      const index = o % 3;
      for (let row = 1; row < 4; row++) {
        for (let column = 1; column < 4; column++) {
          let sum = 0;
          for (let c = 0; c < 2; c++) {
            for (let i = 0; i < 3; i++) {
              for (let j = 0; j < 3; j++) {
                sum += w[((o * 2 + c) * 3 + i) * 3 + j] * x[group * 2 + c][(row + i - 1) * 5 + column + j - 1];
              }
            }
          }
          expect(sum).toBe(index < 2 ? x[group * 2 + index][row * 5 + column] : 0);
        }
      }
    }
    expect(() => draw(init.dirac({ groups: 4 }), shape)).toThrow(ShapeError);
    expect(() => draw(init.dirac(), [3, 3])).toThrow(ShapeError);
  });

  it('says in plain data what it is', () => {
    expect(JSON.stringify(init.kaimingNormal({ mode: 'fanOut' }))).toBe(
      '{"name":"kaimingNormal","options":{"a":0,"mode":"fanOut","nonlinearity":"leakyRelu"}}',
    );
  });

  it('refuses options without a meaning', () => {
    expect(() => init.torchDefault({ fanIn: 0 })).toThrow(ConfigError);
    expect(() => init.varianceScaling({ scale: -1 })).toThrow(ConfigError);
    expect(() => draw(init.torchDefault(), [4])).toThrow(/torchDefault\(\{ fanIn \}\)/);
    expect(() => draw(init.xavierUniform(), [4])).toThrow(ShapeError);
  });
});
