/** @file Data sets made from data sets: parts, pooled images, corrupted labels. */
import { ConfigError, ShapeError } from '../base/errors.ts';
import { integers, type Key, permutation } from '../base/random.ts';
import { showShape, sizeOf } from '../tensor/shape.ts';
import type { ClassificationData, Dataset } from './dataset.ts';

/**
 * `n` examples from number `start` (default 0) on, over the same memory. ConfigError where there are not that many.
 */
export function subset<D extends Dataset>(dataset: D, n: number, start = 0): D {
  const { name, count, shape, inputs } = dataset;
  const end = start + n;
  if (!(Number.isInteger(n) && Number.isInteger(start) && n >= 1 && start >= 0 && end <= count)) {
    throw new ConfigError(`Data set '${name}' has ${count} examples; ${n} from number ${start} on cannot be taken.`);
  }
  const width = sizeOf(shape);
  const part = { name: `${name}[${start}:${end}]`, count: n, inputs: inputs.subarray(start * width, end * width) };
  if (dataset.kind === 'classification') return { ...dataset, ...part, labels: dataset.labels.subarray(start, end) };
  const size = sizeOf(dataset.targetShape);
  return { ...dataset, ...part, targets: dataset.targets.subarray(start * size, end * size) };
}

/** A copy of the examples numbered by `indices`, in that order; a number may occur more than once. */
export function select<D extends Dataset>(dataset: D, indices: ArrayLike<number>): D {
  const { name, count, shape, inputs } = dataset;
  for (let i = 0; i < indices.length; i++) {
    if (!(Number.isInteger(indices[i]) && indices[i] >= 0 && indices[i] < count)) {
      throw new ConfigError(`Data set '${name}' has examples 0 to ${count - 1}, none with number ${indices[i]}.`);
    }
  }
  const width = sizeOf(shape);
  const total = indices.length * width;
  const part = {
    name: `${name}[${indices.length} selected]`,
    count: indices.length,
    inputs: rowsOf(
      inputs,
      indices,
      width,
      inputs instanceof Uint8Array ? new Uint8Array(total) : new Float32Array(total),
    ),
  };
  if (dataset.kind === 'classification') {
    return { ...dataset, ...part, labels: rowsOf(dataset.labels, indices, 1, new Int32Array(indices.length)) };
  }
  const size = sizeOf(dataset.targetShape);
  const targets = rowsOf(dataset.targets, indices, size, new Float32Array(indices.length * size));
  return { ...dataset, ...part, targets };
}

/**
 * Images with every `size` x `size` block replaced by its mean: byte images become float images in [0, 1]. ShapeError
 * where the height or width is not a multiple of `size`.
 */
export function meanPool<D extends Dataset>(dataset: D, size = 2): D {
  const { name, count, shape, inputs } = dataset;
  const [channels, height, width] = shape;
  if (shape.length !== 3 || !(size >= 1) || height % size !== 0 || width % size !== 0) {
    throw new ShapeError(
      `meanPool by ${size} needs images [channels, height, width] whose sides are multiples of ${size}; data set '${name}' has shape ${showShape(shape)}.`,
    );
  }
  const [h, w] = [height / size, width / size];
  const unit = (inputs instanceof Uint8Array ? 1 / 255 : 1) / (size * size);
  const out = new Float32Array(count * channels * h * w);
  let at = 0;
  for (let plane = 0; plane < count * channels; plane++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        let sum = 0;
        for (let i = 0; i < size; i++) {
          const row = (plane * height + y * size + i) * width + x * size;
          for (let j = 0; j < size; j++) sum += inputs[row + j];
        }
        out[at++] = sum * unit;
      }
    }
  }
  return { ...dataset, name: `${name}/pool${size}`, shape: [channels, h, w], inputs: out };
}

/**
 * The labels of round(fraction * count) examples, chosen by `key`, replaced by classes drawn uniformly from all (Zhang et
 * al. 2017): on average a share fraction * (1 - 1 / classes) of the labels is wrong.
 */
export function withLabelNoise(dataset: ClassificationData, fraction: number, key: Key): ClassificationData {
  if (!(fraction >= 0 && fraction <= 1)) {
    throw new ConfigError(`The fraction of noisy labels must be between 0 and 1, got ${fraction}.`);
  }
  const { name, count, classes } = dataset;
  const labels = dataset.labels.slice();
  const chosen = permutation(key.split('examples'), count).subarray(0, Math.round(fraction * count));
  const drawn = integers(key.split('labels'), new Int32Array(chosen.length), 0, classes);
  for (let i = 0; i < chosen.length; i++) labels[chosen[i]] = drawn[i];
  return { ...dataset, name: `${name}/noise${fraction}`, labels };
}

function rowsOf<A extends Uint8Array | Float32Array | Int32Array>(
  from: A,
  indices: ArrayLike<number>,
  width: number,
  out: A,
): A {
  for (let i = 0; i < indices.length; i++)
    out.set(from.subarray(indices[i] * width, (indices[i] + 1) * width), i * width);
  return out;
}
