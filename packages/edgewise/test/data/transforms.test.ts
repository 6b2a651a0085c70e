import { describe, expect, it } from 'vitest';
import { ConfigError, ShapeError } from '../../src/base/errors.ts';
import { integers, Key } from '../../src/base/random.ts';
import { type ClassificationData, checkDataset, type Dataset, type RegressionData } from '../../src/data/dataset.ts';
import { normalizationOf } from '../../src/data/normalization.ts';
import { chebyshevRegression, gaussianBlobs, spirals, teacherRegression, twoMoons } from '../../src/data/synthetic.ts';
import { meanPool, select, subset, withLabelNoise } from '../../src/data/transforms.ts';

const key = Key.fromSeed(9);
const data: ClassificationData = {
  kind: 'classification',
  name: 'toy',
  count: 5,
  shape: [2, 2, 4],
  inputs: integers(key, new Uint8Array(80), 0, 256),
  labels: Int32Array.of(0, 1, 2, 0, 1),
  classes: 3,
};
const real: RegressionData = {
  kind: 'regression',
  name: 'real',
  count: 3,
  shape: [1],
  inputs: Float32Array.of(1, 2, 3),
  targets: Float32Array.of(1, 10, 2, 20, 3, 30),
  targetShape: [2],
};

describe('parts', () => {
  it('subset is a window', () => {
    const part = subset(data, 2, 1);
    expect(part.inputs.buffer).toBe(data.inputs.buffer);
    expect(part.inputs).toEqual(data.inputs.subarray(16, 48));
    expect([part.count, ...part.labels]).toEqual([2, 1, 2]);
    checkDataset(part);
    expect(Array.from(subset(real, 1, 2).targets)).toEqual([3, 30]);
    for (const [n, start] of [
      [6, 0],
      [0, 0],
      [5, 1],
      [1.5, 0],
      [1, -1],
    ]) {
      expect(() => subset(data, n, start)).toThrow(ConfigError);
    }
  });

  it('select is a copy in the order asked for', () => {
    const part = select(data, [4, 0, 4]);
    checkDataset(part);
    expect(Array.from(part.labels)).toEqual([1, 0, 1]);
    expect(part.inputs.subarray(0, 16)).toEqual(data.inputs.subarray(64, 80));
    expect(part.inputs.subarray(16, 32)).toEqual(data.inputs.subarray(0, 16));
    expect(part.inputs.buffer).not.toBe(data.inputs.buffer);
    const floats = select(real, Uint32Array.of(2, 1));
    expect([...floats.inputs, ...floats.targets]).toEqual([3, 2, 3, 30, 2, 20]);
    expect(() => select(data, [5])).toThrow(/none with number 5/);
  });
});

describe('meanPool', () => {
  it('averages blocks on the scale of 0 to 1', () => {
    const pooled = meanPool(data, 2);
    checkDataset(pooled);
    expect(pooled.shape).toEqual([2, 1, 2]);
    const b = data.inputs;
    expect(pooled.inputs[1]).toBeCloseTo((b[2] + b[3] + b[6] + b[7]) / 4 / 255, 6);
    expect(pooled.inputs[4 * 4 + 2]).toBeCloseTo((b[72] + b[73] + b[76] + b[77]) / 4 / 255, 6);
    expect(meanPool(pooled, 1).inputs).toEqual(pooled.inputs);
    expect(() => meanPool(data, 3)).toThrow(ShapeError);
    expect(() => meanPool(real)).toThrow(ShapeError);
  });

  it('keeps the mean of the data set', () => {
    const mean = (d: Dataset) => normalizationOf(d, 'dataset').mean[0];
    expect(mean(meanPool(data))).toBeCloseTo(mean(data), 6);
  });
});

describe('normalizationOf', () => {
  it('agrees with the definition, by data set, channel and feature, for bytes and floats', () => {
    const floats: Dataset = { ...data, inputs: Float32Array.from(data.inputs, (b) => b / 255) };
    for (const [per, groups] of [
      ['dataset', 1],
      ['channel', 2],
      ['feature', 16],
    ] as const) {
      for (const set of [data, floats]) {
        const { mean, std } = normalizationOf(set, per, 0.25);
        expect([mean.length, std.length]).toEqual([groups, groups]);
        for (let g = 0; g < groups; g++) {
          const values = Array.from(floats.inputs).filter((_, i) => Math.floor(((i % 16) * groups) / 16) === g);
          const m = values.reduce((a, v) => a + v, 0) / values.length;
          const s = Math.sqrt(values.reduce((a, v) => a + (v - m) ** 2, 0) / values.length);
          expect(mean[g]).toBeCloseTo(m, 7);
          expect(std[g]).toBeCloseTo(s + 0.25, 7);
        }
      }
    }
    expect(() => normalizationOf({ ...real, count: 0, inputs: new Float32Array(0) })).toThrow(ConfigError);
  });
});

describe('withLabelNoise', () => {
  const many: ClassificationData = {
    ...data,
    count: 10_000,
    shape: [],
    inputs: new Uint8Array(10_000),
    labels: integers(key.split('l'), new Int32Array(10_000), 0, 4),
    classes: 4,
  };
  it('changes the announced share, the same one for the same key, and not the original', () => {
    const before = many.labels.slice();
    const noisy = withLabelNoise(many, 0.4, key);
    checkDataset(noisy);
    expect(many.labels).toEqual(before);
    const changed = noisy.labels.reduce((n, label, i) => n + (label === before[i] ? 0 : 1), 0) / many.count;
    expect(Math.abs(changed - 0.4 * 0.75)).toBeLessThan(4.5 * Math.sqrt((0.4 * 0.75 * 0.25) / many.count));
    const late = noisy.labels.subarray(5000).reduce((n, label, i) => n + (label === before[5000 + i] ? 0 : 1), 0);
    expect(Math.abs(late / 5000 - 0.3)).toBeLessThan(0.03);
    expect(withLabelNoise(many, 0.4, key).labels).toEqual(noisy.labels);
    expect(withLabelNoise(many, 0, key).labels).toEqual(before);
    expect(withLabelNoise(many, 0.4, key.split(1)).labels).not.toEqual(noisy.labels);
    expect(() => withLabelNoise(many, 1.1, key)).toThrow(ConfigError);
  });
});

describe('checkDataset', () => {
  it.each<[Dataset, RegExp]>([
    [{ ...data, count: 6 }, /6 examples of shape \[2, 2, 4\] are 96 numbers, but inputs has 80/],
    [{ ...data, labels: Int32Array.of(0) }, /5 examples but 1 labels/],
    [{ ...data, labels: Int32Array.of(0, 1, 3, 0, 0) }, /example 2 has label 3, outside \[0, 3\)/],
    [{ ...data, labels: Int32Array.of(0, 1, -1, 0, 0) }, /label -1/],
    [{ ...data, classNames: ['a'] }, /3 classes but 1 class names/],
    [{ ...real, targets: Float32Array.of(1) }, /are 6 numbers, but targets has 1/],
    [{ ...real, inputs: Float32Array.of(1, Number.NaN, 3) }, /element 1 of inputs is NaN/],
    [{ ...real, targets: Float32Array.of(1, 2, 3, 4, Number.POSITIVE_INFINITY, 6) }, /element 4 of targets/],
  ])('case %#', (bad, message) => {
    expect(() => checkDataset(bad)).toThrow(message);
    expect(() => checkDataset(bad)).toThrow(ConfigError);
  });
});

describe('synthetic data', () => {
  it.each<[string, (k: Key) => Dataset]>([
    ['gaussianBlobs', (k) => gaussianBlobs({ key: k, count: 301, classes: 4, features: 3 })],
    ['twoMoons', (k) => twoMoons({ key: k })],
    ['spirals', (k) => spirals({ key: k, classes: 5 })],
    ['teacherRegression', (k) => teacherRegression({ key: k, outputs: 2, noise: 0.1 })],
  ])('%s fits together and depends on its key', (_, make) => {
    const made = make(key);
    checkDataset(made);
    expect(make(key)).toEqual(made);
    expect(make(key.split(1)).inputs).not.toEqual(made.inputs);
    if (made.kind === 'classification') {
      const counts = new Array(made.classes).fill(0);
      for (const label of made.labels) counts[label]++;
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      // Shuffled: a run of data in order would be 0, 1, 2, ...
      expect(Array.from(made.labels.subarray(0, 50)).every((label, i) => label === i % made.classes)).toBe(false);
    }
  });

  it('twoMoons without noise lie on their half circles', () => {
    const { inputs, labels } = twoMoons({ key, noise: 0, count: 500 });
    labels.forEach((label, i) => {
      const [x, y] = [inputs[2 * i], inputs[2 * i + 1]];
      const [cx, cy, side] = label === 0 ? [0, 0, 1] : [1, 0.5, -1];
      expect((x - cx) ** 2 + (y - cy) ** 2).toBeCloseTo(1, 5);
      expect((y - cy) * side).toBeGreaterThanOrEqual(-1e-6);
    });
  });

  it('spirals without noise turn with the radius', () => {
    const { inputs, labels } = spirals({ key, noise: 0, count: 500, turns: 1.5 });
    labels.forEach((label, i) => {
      const [x, y] = [inputs[2 * i], inputs[2 * i + 1]];
      const r = Math.hypot(x, y);
      const angle = 2 * Math.PI * (label / 3 + 1.5 * r);
      expect(x).toBeCloseTo(r * Math.cos(angle), 4);
      expect(y).toBeCloseTo(r * Math.sin(angle), 4);
    });
  });

  it('gaussianBlobs have the announced spread around their centres', () => {
    const { inputs, labels } = gaussianBlobs({ key, count: 30_000, classes: 3, std: 0.5 });
    for (let label = 0; label < 3; label++) {
      const xs = Array.from(labels.keys())
        .filter((i) => labels[i] === label)
        .map((i) => inputs[2 * i]);
      const mean = xs.reduce((a, b) => a + b, 0) / xs.length;
      const variance = xs.reduce((a, b) => a + (b - mean) ** 2, 0) / xs.length;
      expect(Math.abs(variance / 0.25 - 1)).toBeLessThan(4.5 * Math.sqrt(2 / xs.length));
    }
  });

  it('teacherRegression targets are of order one and noise adds its variance', () => {
    const clean = teacherRegression({ key, count: 20_000 });
    const noisy = teacherRegression({ key, count: 20_000, noise: 0.5 });
    expect(noisy.inputs).toEqual(clean.inputs);
    const difference = noisy.targets.map((t, i) => t - clean.targets[i]);
    const variance = difference.reduce((a, b) => a + b * b, 0) / 20_000;
    expect(Math.abs(variance / 0.25 - 1)).toBeLessThan(4.5 * Math.sqrt(2 / 20_000));
    const square = clean.targets.reduce((a, b) => a + b * b, 0) / 20_000;
    expect(square).toBeGreaterThan(0.05);
    expect(square).toBeLessThan(5);
  });

  it('chebyshevRegression is cos(n arccos x)', () => {
    const made = chebyshevRegression({ degree: 5, count: 20 });
    checkDataset(made);
    expect([made.inputs[0], made.inputs[19]]).toEqual([-1, 1]);
    made.inputs.forEach((x, i) => {
      expect(made.targets[i]).toBeCloseTo(Math.cos(5 * Math.acos(x)), 5);
    });
    expect(Array.from(chebyshevRegression({ degree: 1, count: 2 }).targets)).toEqual([-1, 1]);
  });

  it('refuses counts that are not', () => {
    expect(() => twoMoons({ key, count: 0 })).toThrow(/count must be a whole number >= 1, got 0/);
    expect(() => spirals({ key, classes: 1.5 })).toThrow(ConfigError);
    expect(() => chebyshevRegression({ count: 1 })).toThrow(ConfigError);
    expect(() => twoMoons({ key, noise: -1 })).toThrow(ConfigError);
  });
});
