import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { integers, Key } from '../../src/base/random.ts';
import { Batches } from '../../src/data/batches.ts';
import type { ClassificationData, RegressionData } from '../../src/data/dataset.ts';
import { type LabelNoise, labelNoiseEntropy } from '../../src/data/index.ts';

const key = Key.fromSeed(11);
const classes = 5;

/** The input of an example is its number. */
const data = (count: number): ClassificationData => ({
  kind: 'classification',
  name: 'numbers',
  count,
  shape: [],
  inputs: Float32Array.from({ length: count }, (_, i) => i),
  labels: integers(key.split('true'), new Int32Array(count), 0, classes),
  classes,
});

const real: RegressionData = {
  kind: 'regression',
  name: 'real',
  count: 400,
  shape: [],
  inputs: Float32Array.from({ length: 400 }, (_, i) => i),
  targets: Float32Array.from({ length: 1200 }, (_, i) => 10 * i),
  targetShape: [3],
};

function labelsAt(batches: Batches, step: number): { examples: number[]; labels: Int32Array } {
  const { size } = batches.locate(step);
  const x = new Float32Array(size);
  const labels = new Int32Array(size);
  batches.fill(step, x, labels);
  return { examples: Array.from(x), labels };
}

describe('classes', () => {
  it('are replaced with the probability given, by each other class alike', () => {
    const count = 20_000;
    const set = data(count);
    const p = 0.3;
    const { examples, labels } = labelsAt(
      new Batches(set, { batchSize: count, key, labelNoise: { probability: p } }),
      0,
    );
    const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
    for (const [i, example] of examples.entries()) counts[set.labels[example]][labels[i]]++;
    let chi = 0;
    for (const [label, row] of counts.entries()) {
      const all = row.reduce((a, b) => a + b, 0);
      for (const [drawn, seen] of row.entries()) {
        const expected = all * (drawn === label ? 1 - p : p / (classes - 1));
        chi += (seen - expected) ** 2 / expected;
      }
    }
    // One row of 5 outcomes for each class: 20 degrees of freedom.
    expect(chi).toBeLessThan(20 + 4.5 * Math.sqrt(40));
  });

  it('are drawn anew in every epoch, independently of the one before', () => {
    const count = 10_000;
    const set = data(count);
    const batches = new Batches(set, { batchSize: count, key, labelNoise: { probability: 0.5 } });
    const wrong = [0, 1].map((epoch) => {
      const { examples, labels } = labelsAt(batches, epoch);
      return new Set(examples.filter((example, i) => labels[i] !== set.labels[example]));
    });
    const both = [...wrong[0]].filter((example) => wrong[1].has(example)).length;
    expect(Math.abs(both / count - 0.25)).toBeLessThan(4.5 * Math.sqrt((0.25 * 0.75) / count));
    expect(
      labelsAt(new Batches(set, { batchSize: count, key: key.split(1), labelNoise: { probability: 0.5 } }), 0),
    ).not.toEqual(labelsAt(batches, 0));
  });

  it('stay with probability 0 and all change with 1', () => {
    const set = data(600);
    for (const [probability, changed] of [
      [0, 0],
      [1, 600],
    ]) {
      const { examples, labels } = labelsAt(new Batches(set, { batchSize: 600, key, labelNoise: { probability } }), 3);
      expect(examples.filter((example, i) => labels[i] !== set.labels[example])).toHaveLength(changed);
      expect(Math.min(...labels)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...labels)).toBeLessThan(classes);
    }
    const two = { ...set, classes: 2, labels: set.labels.map((label) => label % 2) };
    const { examples, labels } = labelsAt(new Batches(two, { batchSize: 600, key, labelNoise: { probability: 1 } }), 0);
    for (const [i, example] of examples.entries()) expect(labels[i]).toBe(1 - two.labels[example]);
  });

  it('leave order, inputs and the data set alone', () => {
    const set = data(50);
    const before = set.labels.slice();
    const clean = labelsAt(new Batches(set, { batchSize: 50, key }), 2);
    const noisy = labelsAt(new Batches(set, { batchSize: 50, key, labelNoise: { probability: 0.9 } }), 2);
    expect(noisy.examples).toEqual(clean.examples);
    expect(noisy.labels).not.toEqual(clean.labels);
    expect(set.labels).toEqual(before);
  });

  it('are the true ones for evaluation', () => {
    const set = data(50);
    const batches = new Batches(set, { batchSize: 50, key, labelNoise: { probability: 1 } });
    const labels = new Int32Array(50);
    batches.fillExamples(
      Array.from({ length: 50 }, (_, i) => i),
      new Float32Array(50),
      labels,
    );
    expect(labels).toEqual(set.labels);
  });
});

describe('targets', () => {
  it('go up or down by the deviation, half of them each', () => {
    const batches = new Batches(real, { batchSize: 400, key, labelNoise: { deviation: 0.5 } });
    let up = 0;
    let both = 0;
    const x = new Float32Array(400);
    const y = new Float64Array(1200);
    const epochs = 10;
    for (let epoch = 0; epoch < epochs; epoch++) {
      batches.fill(epoch, x, y);
      const noise = y.map((value, i) => value - 10 * (3 * x[Math.floor(i / 3)] + (i % 3)));
      expect(new Set(noise)).toEqual(new Set([0.5, -0.5]));
      up += noise.filter((value) => value > 0).length;
      for (let i = 0; i < 400; i++) if (noise[3 * i] === noise[3 * i + 1]) both++;
    }
    const n = 1200 * epochs;
    expect(Math.abs(up / n - 0.5)).toBeLessThan(4.5 * Math.sqrt(0.25 / n));
    // Elements of one target are independent.
    expect(Math.abs((3 * both) / n - 0.5)).toBeLessThan(4.5 * Math.sqrt((3 * 0.25) / n));
  });
});

it.each([
  ['classes', data(30), { probability: 0.5 }],
  [
    'targets',
    { ...real, count: 30, inputs: real.inputs.subarray(0, 30), targets: real.targets.subarray(0, 90) },
    { deviation: 2 },
  ],
] as const)(
  'noise on %s depends on the step alone, not on the batch size or what was filled before',
  (_, set, labelNoise) => {
    const fillAt = (batches: Batches, step: number) => {
      const { size } = batches.locate(step);
      const y = set.kind === 'classification' ? new Int32Array(size) : new Float64Array(3 * size);
      batches.fill(step, new Float32Array(size), y);
      return Array.from(y);
    };
    const options = { batchSize: 6, key, labelNoise };
    const run = new Batches(set, options);
    const straight = Array.from({ length: 20 }, (_, step) => fillAt(run, step));
    fc.assert(
      fc.property(fc.array(fc.nat(19), { minLength: 1, maxLength: 10 }), (steps) => {
        const resumed = new Batches(set, options);
        for (const step of steps) expect(fillAt(resumed, step)).toEqual(straight[step]);
      }),
      { numRuns: 30 },
    );
    const large = new Batches(set, { ...options, batchSize: 30 });
    for (let epoch = 0; epoch < 4; epoch++)
      expect(straight.slice(5 * epoch, 5 * epoch + 5).flat()).toEqual(fillAt(large, epoch));
  },
);

describe('the entropy of a label with noise', () => {
  it('is that of its distribution', () => {
    for (const [p, c] of [
      [0.1, 2],
      [0.3, 10],
      [0.9, 10],
    ]) {
      const distribution = [1 - p, ...new Array<number>(c - 1).fill(p / (c - 1))];
      expect(labelNoiseEntropy(p, c)).toBeCloseTo(-distribution.reduce((sum, q) => sum + q * Math.log(q), 0), 14);
    }
    expect(labelNoiseEntropy(0.5, 2)).toBeCloseTo(Math.LN2, 15);
    expect(labelNoiseEntropy(0.9, 10)).toBeCloseTo(Math.log(10), 14);
  });
  it('is 0 where a label is certain', () => {
    expect(labelNoiseEntropy(0, 7)).toBe(0);
    expect(labelNoiseEntropy(1, 2)).toBe(0);
    expect(labelNoiseEntropy(1, 5)).toBeCloseTo(Math.log(4), 15);
  });
  it('is no smaller for any prediction that a model could make', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 0.99, noNaN: true }),
        fc.array(fc.double({ min: 0.01, max: 1, noNaN: true }), { minLength: 2, maxLength: 8 }),
        (p, weights) => {
          const total = weights.reduce((a, b) => a + b, 0);
          const [right, ...others] = weights.map((weight) => -Math.log(weight / total));
          const loss = (1 - p) * right + (p / others.length) * others.reduce((a, b) => a + b, 0);
          expect(loss).toBeGreaterThanOrEqual(labelNoiseEntropy(p, weights.length) - 1e-12);
        },
      ),
    );
  });
  it('refuses what is no probability or no choice', () => {
    expect(() => labelNoiseEntropy(1.1, 3)).toThrow(/between 0 and 1, got 1.1/);
    expect(() => labelNoiseEntropy(0.1, 1)).toThrow(/2 classes or more, got 1/);
  });
});

it('noise that does not fit the answers is refused', () => {
  const make = (labelNoise: LabelNoise, set: ClassificationData | RegressionData) => () =>
    new Batches(set, { batchSize: 2, key, labelNoise });
  expect(make({ probability: 0.1 }, real)).toThrow(/'real' has real targets; give a deviation instead/);
  expect(make({ deviation: 0.1 }, data(9))).toThrow(/'numbers' has classes; give a probability instead/);
  expect(make({ probability: 0.1 }, { ...data(9), classes: 1, labels: new Int32Array(9) })).toThrow(/has one class/);
  for (const probability of [-0.1, 1.5, Number.NaN]) expect(make({ probability }, data(9))).toThrow(ConfigError);
  for (const deviation of [-1, Number.POSITIVE_INFINITY, Number.NaN])
    expect(make({ deviation }, real)).toThrow(/finite number >= 0/);
});
