import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { integers, Key, normal } from '../../src/base/random.ts';
import type { Augmentation } from '../../src/data/augmentation.ts';
import { Batches, type BatchOptions } from '../../src/data/batches.ts';
import type { ClassificationData, RegressionData } from '../../src/data/dataset.ts';
import { type Normalization, normalizationOf } from '../../src/data/normalization.ts';

const key = Key.fromSeed(5);

function images(count: number, shape: readonly number[], bytes = true): ClassificationData {
  const length = count * shape.reduce((a, b) => a * b, 1);
  const inputs = bytes
    ? integers(key.split('pixels'), new Uint8Array(length), 0, 256)
    : normal(key.split('pixels'), new Float32Array(length), 3, 2);
  const labels = integers(key.split('labels'), new Int32Array(count), 0, 7);
  return { kind: 'classification', name: 'random', count, shape, inputs, labels, classes: 7 };
}

function fillAt(batches: Batches, step: number) {
  const { size } = batches.locate(step);
  const x = new Float32Array(size * batches.inputSize).fill(Number.NaN);
  const y = new Int32Array(size * batches.targetSize).fill(-1);
  expect(batches.fill(step, x, y)).toBe(size);
  return { x, y };
}

describe('order', () => {
  const data = images(23, [2]);

  it('every epoch takes every example once, in an order of its own', () => {
    const batches = new Batches(data, { batchSize: 5, key, dropLast: false });
    expect(batches.stepsPerEpoch).toBe(5);
    const orders = [0, 1, 2].map((epoch) => [0, 1, 2, 3, 4].flatMap((i) => Array.from(batches.indices(epoch * 5 + i))));
    for (const order of orders)
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 23 }, (_, i) => i));
    expect(orders[0]).not.toEqual(orders[1]);
    expect(orders[1]).not.toEqual(orders[2]);
    expect(batches.locate(9)).toEqual({ epoch: 1, position: 20, size: 3 });
  });

  it('dropLast leaves out the rest of an epoch', () => {
    const batches = new Batches(data, { batchSize: 5, key });
    expect(batches.stepsPerEpoch).toBe(4);
    expect(batches.locate(4)).toEqual({ epoch: 1, position: 0, size: 5 });
    const kept = new Batches(data, { batchSize: 5, key, dropLast: false });
    expect(batches.indices(4)).toEqual(kept.indices(5));
  });

  it('without shuffling the order is that of the data', () => {
    const batches = new Batches(data, { batchSize: 10, key, shuffle: false, dropLast: false });
    expect([3, 4, 5].flatMap((step) => Array.from(batches.indices(step)))).toEqual(
      Array.from({ length: 23 }, (_, i) => i),
    );
  });

  it('shuffling is uniform: every example is in the first batch equally often', () => {
    const batches = new Batches(data, { batchSize: 5, key });
    const counts = new Array(23).fill(0);
    const epochs = 2300;
    for (let epoch = 0; epoch < epochs; epoch++) for (const i of batches.indices(4 * epoch)) counts[i]++;
    const expected = (epochs * 5) / 23;
    const chi = counts.reduce((sum, c) => sum + (c - expected) ** 2 / expected, 0);
    expect(chi).toBeLessThan(22 + 4.5 * Math.sqrt(44));
  });
});

describe('resuming', () => {
  const augmentation: Augmentation = { crop: { padding: 2 }, flip: true, cutout: { size: 3 } };
  const data = images(30, [3, 6, 5]);
  const options: BatchOptions = {
    batchSize: 7,
    key,
    dropLast: false,
    augmentation,
    normalization: normalizationOf(data),
  };

  it('a batch depends on the step alone, whatever was filled before', () => {
    const run = new Batches(data, options);
    const straight = Array.from({ length: 20 }, (_, step) => fillAt(run, step));
    fc.assert(
      fc.property(fc.array(fc.nat(19), { minLength: 1, maxLength: 10 }), (steps) => {
        const resumed = new Batches(data, options);
        for (const step of steps) expect(fillAt(resumed, step)).toEqual(straight[step]);
      }),
      { numRuns: 30 },
    );
  });

  it('an example is augmented alike whatever the batch size, and anew each epoch', () => {
    const small = new Batches(data, { ...options, batchSize: 3 });
    const large = new Batches(data, { ...options, batchSize: 30 });
    const epoch = 2;
    const whole = fillAt(large, epoch);
    const pieces = Array.from({ length: 10 }, (_, i) => fillAt(small, epoch * 10 + i));
    expect(pieces.flatMap(({ x }) => Array.from(x))).toEqual(Array.from(whole.x));
    const by = (step: number) => {
      const order = large.indices(step);
      const { x } = fillAt(large, step);
      return new Map(Array.from(order, (example, i) => [example, x.slice(i * 90, i * 90 + 90).join()]));
    };
    const [first, second] = [by(0), by(1)];
    const same = [...first].filter(([example, pixels]) => second.get(example) === pixels).length;
    expect(same).toBeLessThan(5);
  });

  it('another key gives another run', () => {
    const other = new Batches(data, { ...options, key: Key.fromSeed(6) });
    expect(fillAt(other, 0).x).not.toEqual(fillAt(new Batches(data, options), 0).x);
  });

  it('describes itself in plain data', () => {
    expect(JSON.parse(JSON.stringify(new Batches(data, options)))).toEqual({
      dataset: 'random',
      count: 30,
      batchSize: 7,
      key: key.toString(),
      shuffle: true,
      dropLast: false,
      augmentation: { crop: { padding: 2 }, flip: true, cutout: { size: 3 } },
      labelNoise: null,
    });
  });
});

/** (b / 255 - mean) / std of the inputs of one example, element by element. */
function normalizedNaively(data: ClassificationData, example: number, { mean, std }: Normalization): number[] {
  const width = data.shape.reduce((a, b) => a * b, 1);
  const unit = data.inputs instanceof Uint8Array ? 255 : 1;
  return Array.from({ length: width }, (_, i) => {
    const group = Math.floor((i * mean.length) / width);
    return (data.inputs[example * width + i] / unit - mean[group]) / std[group];
  });
}

const groupings: [string, (d: ClassificationData) => Normalization][] = [
  ['none', () => ({ mean: [0], std: [1] })],
  ['dataset', (d) => normalizationOf(d, 'dataset')],
  ['channel', (d) => normalizationOf(d, 'channel')],
  ['feature', (d) => normalizationOf(d, 'feature', 0.01)],
];

describe.each(groupings)('normalization by %s', (name, of) => {
  it.each([
    ['byte images', images(11, [3, 5, 4])],
    ['float images', images(11, [3, 5, 4], false)],
    ['byte vectors', images(11, [7])],
    ['float vectors', images(11, [7], false)],
    ['scalars', images(11, [])],
  ])('%s', (_, data) => {
    const normalization = of(data);
    const options: BatchOptions = { batchSize: 4, key, ...(name === 'none' ? {} : { normalization }) };
    const batches = new Batches(data, options);
    const indices = batches.indices(1);
    const x = new Float64Array(4 * batches.inputSize);
    const y = new Int32Array(4);
    batches.fill(1, x, y);
    for (let i = 0; i < 4; i++) {
      const wanted = normalizedNaively(data, indices[i], normalization);
      wanted.forEach((value, j) => {
        expect(x[i * batches.inputSize + j]).toBeCloseTo(value, 10);
      });
      expect(y[i]).toBe(data.labels[indices[i]]);
    }
    const single = new Float32Array(x.length);
    batches.fill(1, single, y);
    expect(single).toEqual(Float32Array.from(x));
    const again = new Float32Array(x.length);
    batches.fillExamples(indices, again, y);
    expect(again).toEqual(single);
  });

  it('gives zero mean and unit variance over the data set', () => {
    if (name === 'none') return;
    const data = images(40, [2, 4, 4]);
    const batches = new Batches(data, { batchSize: 40, key, normalization: of(data) });
    const x = new Float64Array(40 * 32);
    batches.fill(0, x, new Int32Array(40));
    const mean = x.reduce((a, b) => a + b, 0) / x.length;
    const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
    expect(mean).toBeCloseTo(0, 10);
    // Epsilon 0.01 on deviations of about 0.29 by feature.
    expect(variance).toBeCloseTo(1, name === 'feature' ? 0 : 10);
  });
});

describe('augmentation', () => {
  /** Pads, crops, flips, normalizes and cuts out, one pixel at a time. */
  function naive(
    data: ClassificationData,
    example: number,
    n: Normalization,
    { oy, ox, flip, cut }: { oy: number; ox: number; flip: boolean; cut?: { y: number; x: number; size: number } },
    padding: number,
  ): number[] {
    const [c, h, w] = data.shape;
    const unit = data.inputs instanceof Uint8Array ? 255 : 1;
    const out: number[] = [];
    for (let k = 0; k < c; k++) {
      for (let y = 0; y < h; y++) {
        for (let x = 0; x < w; x++) {
          const column = flip ? w - 1 - x : x;
          const [sy, sx] = [y + oy - padding, column + ox - padding];
          const inside = sy >= 0 && sy < h && sx >= 0 && sx < w;
          const raw = inside ? data.inputs[((example * c + k) * h + sy) * w + sx] / unit : 0;
          const feature = (k * h + y) * w + x;
          const group = Math.floor((feature * n.mean.length) / (c * h * w));
          const half = cut ? Math.floor(cut.size / 2) : 0;
          const isCut =
            cut && y >= cut.y - half && y < cut.y - half + cut.size && x >= cut.x - half && x < cut.x - half + cut.size;
          out.push(isCut ? 0 : (raw - n.mean[group]) / n.std[group]);
        }
      }
    }
    return out;
  }

  it.each(groupings)('crop, flip and cutout are each one of the allowed choices, and all occur (%s)', (_, of) => {
    for (const bytes of [true, false]) {
      // Padding 5 exceeds the height: windows wholly outside the image occur.
      for (const [shape, padding] of [
        [[2, 4, 6], 1],
        [[1, 3, 4], 5],
      ] as const) {
        const data = images(6, shape, bytes);
        const normalization = of(data);
        const batches = new Batches(data, {
          batchSize: 6,
          key,
          normalization,
          augmentation: { crop: { padding }, flip: true },
        });
        const x = new Float64Array(6 * batches.inputSize);
        const seen = new Set<string>();
        for (let epoch = 0; epoch < 100; epoch++) {
          const order = batches.indices(epoch);
          batches.fill(epoch, x, new Int32Array(6));
          for (let i = 0; i < 6; i++) {
            const got = x.subarray(i * batches.inputSize, (i + 1) * batches.inputSize);
            let matched = false;
            for (let choice = 0; choice < 2 * (2 * padding + 1) ** 2 && !matched; choice++) {
              const side = 2 * padding + 1;
              const pick = { oy: (choice >> 1) % side, ox: Math.floor((choice >> 1) / side), flip: choice % 2 === 1 };
              const wanted = naive(data, order[i], normalization, pick, padding);
              matched = wanted.every((value, j) => Math.abs(value - got[j]) < 1e-9);
              if (matched) seen.add(JSON.stringify(pick));
            }
            expect(matched).toBe(true);
          }
        }
        if (padding === 1) expect(seen.size).toBe(18);
      }
    }
  });

  it('cutout clears a square around a random centre after normalization', () => {
    const data = images(5, [2, 6, 6]);
    const normalization = normalizationOf(data);
    for (const size of [1, 2, 3, 4, 20]) {
      const batches = new Batches(data, { batchSize: 5, key, normalization, augmentation: { cutout: { size } } });
      const x = new Float64Array(5 * 72);
      const centres = new Set<string>();
      for (let epoch = 0; epoch < 60; epoch++) {
        const order = batches.indices(epoch);
        batches.fill(epoch, x, new Int32Array(5));
        for (let i = 0; i < 5; i++) {
          const matches: string[] = [];
          for (let centre = 0; centre < 36; centre++) {
            const cut = { y: Math.floor(centre / 6), x: centre % 6, size };
            const wanted = naive(data, order[i], normalization, { oy: 0, ox: 0, flip: false, cut }, 0);
            if (wanted.every((value, j) => Math.abs(value - x[i * 72 + j]) < 1e-9)) matches.push(String(centre));
          }
          expect(matches.length).toBeGreaterThan(0);
          if (matches.length === 1) centres.add(matches[0]);
        }
      }
      if (size === 1 || size === 3) expect(centres.size).toBe(36);
    }
  });

  it('choices of one example do not return in another', () => {
    // Every example has one bright pixel in the middle, which tells where its window lies.
    const inputs = new Uint8Array(9 * 49);
    for (let i = 0; i < 9; i++) inputs[49 * i + 24] = 255;
    const data: ClassificationData = { ...images(9, [1, 7, 7]), inputs };
    const batches = new Batches(data, { batchSize: 9, key, shuffle: false, augmentation: { crop: { padding: 2 } } });
    const x = new Float32Array(9 * 49);
    const choices: number[][] = Array.from({ length: 18 }, () => []);
    for (let epoch = 0; epoch < 1000; epoch++) {
      batches.fill(epoch, x, new Int32Array(9));
      for (let i = 0; i < 9; i++) {
        const at = x.subarray(49 * i, 49 * i + 49).indexOf(1);
        choices[2 * i].push(Math.floor(at / 7) - 3);
        choices[2 * i + 1].push((at % 7) - 3);
      }
    }
    for (let a = 0; a < 18; a++) {
      for (let b = 0; b < a; b++) {
        // Uniform on -2 ... 2: variance 2.
        const correlation = choices[a].reduce((sum, value, t) => sum + value * choices[b][t], 0) / 2000;
        expect(Math.abs(correlation)).toBeLessThan(4.5 / Math.sqrt(1000));
      }
    }
  });

  it('choices are uniform and independent of each other', () => {
    // One bright pixel tells where the window lies: column and row of the pixel in the output.
    const inputs = new Uint8Array(7 * 7);
    inputs[3 * 7 + 3] = 255;
    const data: ClassificationData = {
      kind: 'classification',
      name: 'dot',
      count: 1,
      shape: [1, 7, 7],
      inputs,
      labels: Int32Array.of(0),
      classes: 1,
    };
    const batches = new Batches(data, { batchSize: 1, key, augmentation: { crop: { padding: 1 } } });
    const counts = new Map<number, number>();
    const trials = 9000;
    const x = new Float32Array(49);
    for (let epoch = 0; epoch < trials; epoch++) {
      batches.fill(epoch, x, new Int32Array(1));
      const at = x.indexOf(1);
      counts.set(at, (counts.get(at) ?? 0) + 1);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual([16, 17, 18, 23, 24, 25, 30, 31, 32]);
    const chi = [...counts.values()].reduce((sum, c) => sum + (c - trials / 9) ** 2 / (trials / 9), 0);
    expect(chi).toBeLessThan(8 + 4.5 * 4);
    const flips = new Batches(
      { ...data, inputs: inputs.map((_, i) => i) },
      { batchSize: 1, key, augmentation: { flip: { probability: 0.2 } } },
    );
    let flipped = 0;
    for (let epoch = 0; epoch < trials; epoch++) {
      flips.fill(epoch, x, new Int32Array(1));
      if (x[0] > 0) flipped++;
    }
    expect(Math.abs(flipped / trials - 0.2)).toBeLessThan(4.5 * Math.sqrt(0.16 / trials));
  });
});

describe('targets', () => {
  it('regression targets are copied with their shape', () => {
    const data: RegressionData = {
      kind: 'regression',
      name: 'r',
      count: 4,
      shape: [1],
      inputs: Float32Array.of(0, 1, 2, 3),
      targets: Float32Array.of(0, 10, 1, 11, 2, 12, 3, 13),
      targetShape: [2],
    };
    const batches = new Batches(data, { batchSize: 3, key });
    const x = new Float32Array(3);
    const y = new Float64Array(6);
    batches.fill(7, x, y);
    for (let i = 0; i < 3; i++) expect([y[2 * i], y[2 * i + 1]]).toEqual([x[i], x[i] + 10]);
    expect(() => batches.fill(0, x, new Int32Array(6))).toThrow(/real targets/);
  });
});

describe('refuses', () => {
  const data = images(10, [2, 3, 3]);
  const x = new Float32Array(4 * 18);
  const y = new Int32Array(4);

  it('batch sizes that cannot be', () => {
    expect(() => new Batches(data, { batchSize: 11, key })).toThrow(
      "The batch size 11 is larger than data set 'random' with its 10 examples; choose at most 10.",
    );
    for (const batchSize of [0, -1, 2.5, Number.NaN])
      expect(() => new Batches(data, { batchSize, key })).toThrow(ConfigError);
    expect(() => new Batches(images(0, [2]), { batchSize: 1, key })).toThrow(ConfigError);
    expect(new Batches(data, { batchSize: 10, key }).stepsPerEpoch).toBe(1);
  });

  it('data sets whose parts do not fit', () => {
    const short = { ...data, labels: data.labels.subarray(1) };
    expect(() => new Batches(short, { batchSize: 2, key })).toThrow(/10 examples but 9 labels/);
  });

  it('arrays of another size or type, and steps that are no steps', () => {
    const batches = new Batches(data, { batchSize: 4, key });
    expect(() => batches.fill(0, new Float32Array(71), y)).toThrow(
      /takes 72 numbers in x \(4 examples of 18\), got an array of 71/,
    );
    expect(() => batches.fill(0, x, new Int32Array(5))).toThrow(/takes 4 numbers in y/);
    expect(() => batches.fill(0, x, new Float32Array(4))).toThrow(/must be an Int32Array/);
    for (const step of [-1, 0.5, Number.NaN]) expect(() => batches.fill(step, x, y)).toThrow(ConfigError);
    expect(() => batches.fillExamples([0, 1, 2, 10], x, y)).toThrow(/examples 0 to 9, none with number 10/);
  });

  it('takes full-size arrays for a smaller last batch and leaves their rest alone', () => {
    const batches = new Batches(data, { batchSize: 4, key, dropLast: false });
    y.fill(-5);
    expect(batches.fill(2, x.fill(9), y)).toBe(2);
    expect(Array.from(x.subarray(36))).toEqual(new Array(36).fill(9));
    expect(Array.from(y.subarray(2))).toEqual([-5, -5]);
    expect(batches.fill(2, new Float32Array(36), new Int32Array(2))).toBe(2);
  });

  it('normalizations and augmentations that do not fit', () => {
    const make = (options: Partial<BatchOptions>) => () => new Batches(data, { batchSize: 2, key, ...options });
    expect(make({ normalization: { mean: [0, 0, 0], std: [1, 1, 1] } })).toThrow(
      /1, 2 \(channels\) or 18 \(features\)/,
    );
    expect(make({ normalization: { mean: [0], std: [0] } })).toThrow(/epsilon/);
    expect(make({ normalization: { mean: [Number.NaN], std: [1] } })).toThrow(ConfigError);
    expect(make({ augmentation: { crop: { padding: -1 } } })).toThrow(ConfigError);
    expect(make({ augmentation: { flip: { probability: 2 } } })).toThrow(ConfigError);
    expect(make({ augmentation: { cutout: { size: 0 } } })).toThrow(ConfigError);
    expect(() => new Batches(images(3, [4]), { batchSize: 2, key, augmentation: { flip: true } })).toThrow(
      /needs images/,
    );
  });
});
