/** @file Small made-up problems for tests and teaching; the same key gives the same data on every engine. */
import { ConfigError } from '../base/errors.ts';
import { bits, cosTurn, type Key, normal, permutation, sinTurn, uniform } from '../base/random.ts';
import type { ClassificationData, RegressionData } from './dataset.ts';

const TURN = 4294967296;

/**
 * `classes` Gaussian clouds in `features` dimensions, one a class. Their centres are drawn from N(0, separation^2) a
 * coordinate, the points around them from N(0, std^2). Classes are as equal in number as `count` allows.
 */
export function gaussianBlobs(options: {
  key: Key;
  /** Default 300. */
  count?: number;
  /** Default 3. */
  classes?: number;
  /** Default 2. */
  features?: number;
  /** Default 3. */
  separation?: number;
  /** Default 1. */
  std?: number;
}): ClassificationData {
  const { key, count = 300, classes = 3, features = 2, separation = 3, std = 1 } = options;
  checkCounts({ count, classes, features });
  const centres = normal(key.split('centres'), new Float64Array(classes * features), 0, separation);
  const inputs = normal(key.split('points'), new Float32Array(count * features), 0, std);
  const labels = shuffledLabels(key, count, classes);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < features; j++) inputs[i * features + j] += centres[labels[i] * features + j];
  }
  return { kind: 'classification', name: 'gaussian-blobs', count, shape: [features], inputs, labels, classes };
}

/**
 * Two half circles of radius 1 that interlock, with Gaussian noise on both coordinates: class 0 the upper one around
 * (0, 0), class 1 the lower one around (1, 0.5), as in scikit-learn.
 */
export function twoMoons(options: {
  key: Key;
  /** Default 200. */
  count?: number;
  /** Standard deviation of the noise, default 0.1. */
  noise?: number;
}): ClassificationData {
  const { key, count = 200, noise = 0.1 } = options;
  checkCounts({ count });
  const inputs = normal(key.split('noise'), new Float32Array(2 * count), 0, noise);
  const labels = shuffledLabels(key, count, 2);
  const angles = bits(key.split('angles'), new Uint32Array(count));
  for (let i = 0; i < count; i++) {
    const angle = angles[i] >>> 1; // Half a turn.
    inputs[2 * i] += labels[i] === 0 ? cosTurn(angle) : 1 - cosTurn(angle);
    inputs[2 * i + 1] += labels[i] === 0 ? sinTurn(angle) : 0.5 - sinTurn(angle);
  }
  return { kind: 'classification', name: 'two-moons', count, shape: [2], inputs, labels, classes: 2 };
}

/**
 * Interleaved spiral arms, one a class: at radius r in [0, 1] an arm has turned by `turns` * r, with Gaussian noise on both
 * coordinates.
 */
export function spirals(options: {
  key: Key;
  /** Default 300. */
  count?: number;
  /** Number of arms, default 3. */
  classes?: number;
  /** Default 0.75. */
  turns?: number;
  /** Standard deviation of the noise, default 0.02. */
  noise?: number;
}): ClassificationData {
  const { key, count = 300, classes = 3, turns = 0.75, noise = 0.02 } = options;
  checkCounts({ count, classes });
  const inputs = normal(key.split('noise'), new Float32Array(2 * count), 0, noise);
  const labels = shuffledLabels(key, count, classes);
  const radii = uniform(key.split('radii'), new Float64Array(count));
  for (let i = 0; i < count; i++) {
    const turn = labels[i] / classes + turns * radii[i];
    const angle = Math.floor((turn - Math.floor(turn)) * TURN);
    inputs[2 * i] += radii[i] * cosTurn(angle);
    inputs[2 * i + 1] += radii[i] * sinTurn(angle);
  }
  return { kind: 'classification', name: 'spirals', count, shape: [2], inputs, labels, classes };
}

/**
 * Regression onto a random two-layer ReLU network: inputs x from N(0, I), targets
 * A relu(W x) / sqrt(hidden) + noise with W from N(0, 1 / features) and A from N(0, 1).
 */
export function teacherRegression(options: {
  key: Key;
  /** Default 256. */
  count?: number;
  /** Default 10. */
  features?: number;
  /** Default 16. */
  hidden?: number;
  /** Default 1. */
  outputs?: number;
  /** Standard deviation of the noise on targets, default 0. */
  noise?: number;
}): RegressionData {
  const { key, count = 256, features = 10, hidden = 16, outputs = 1, noise = 0 } = options;
  checkCounts({ count, features, hidden, outputs });
  const inputs = normal(key.split('inputs'), new Float32Array(count * features));
  const targets = normal(key.split('noise'), new Float32Array(count * outputs), 0, noise);
  const first = normal(key.split('W'), new Float64Array(hidden * features), 0, 1 / Math.sqrt(features));
  const second = normal(key.split('A'), new Float64Array(outputs * hidden), 0, 1 / Math.sqrt(hidden));
  const active = new Float64Array(hidden);
  for (let i = 0; i < count; i++) {
    for (let h = 0; h < hidden; h++) {
      let sum = 0;
      for (let j = 0; j < features; j++) sum += first[h * features + j] * inputs[i * features + j];
      active[h] = Math.max(0, sum);
    }
    for (let o = 0; o < outputs; o++) {
      let sum = 0;
      for (let h = 0; h < hidden; h++) sum += second[o * hidden + h] * active[h];
      targets[i * outputs + o] += sum;
    }
  }
  const shapes = { shape: [features], targetShape: [outputs] };
  return { kind: 'regression', name: 'teacher-regression', count, inputs, targets, ...shapes };
}

/**
 * The Chebyshev polynomial T of `degree` at `count` evenly spaced points of [-1, 1]: the one-dimensional problem of the
 * edge-of-stability papers (Cohen et al. 2021 use degree 3 to 5 and 20 points). Nothing in it is random.
 */
export function chebyshevRegression(options: { degree?: number; count?: number } = {}): RegressionData {
  const { degree = 5, count = 20 } = options;
  checkCounts({ degree, count });
  if (count < 2) throw new ConfigError(`chebyshevRegression needs at least 2 points, got ${count}.`);
  const inputs = Float32Array.from({ length: count }, (_, i) => (2 * i) / (count - 1) - 1);
  const targets = Float32Array.from({ length: count }, (_, i) => {
    const x = (2 * i) / (count - 1) - 1;
    let [previous, current] = [1, x];
    for (let k = 1; k < degree; k++) [previous, current] = [current, 2 * x * current - previous];
    return current;
  });
  return { kind: 'regression', name: `chebyshev-${degree}`, count, shape: [1], inputs, targets, targetShape: [1] };
}

/** Labels 0 ... classes - 1 in turn, in a random order. */
function shuffledLabels(key: Key, count: number, classes: number): Int32Array {
  return Int32Array.from(permutation(key.split('labels'), count), (i) => i % classes);
}

function checkCounts(counts: Record<string, number>): void {
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isInteger(value) || value < 1) {
      throw new ConfigError(`${name} must be a whole number >= 1, got ${value}.`);
    }
  }
}
