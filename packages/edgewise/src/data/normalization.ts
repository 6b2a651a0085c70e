/** @file Mean and standard deviation of a data set, to bring inputs to zero mean and unit variance. */
import { ConfigError } from '../base/errors.ts';
import { type Shape, showShape, sizeOf } from '../tensor/shape.ts';
import type { Dataset } from './dataset.ts';

/**
 * x becomes (x - mean) / std. One number for all inputs, one a channel (first axis of an example), or one a feature.
 * Bytes count as b / 255.
 */
export interface Normalization {
  readonly mean: ArrayLike<number>;
  readonly std: ArrayLike<number>;
}

/** What shares one mean and one standard deviation. */
export type NormalizationGroup = 'dataset' | 'channel' | 'feature';

/**
 * Mean and (population) standard deviation of `dataset`, for it and for the test set that goes with it.
 *
 * @param per Default `channel`, the first axis of an example.
 * @param epsilon Added to every standard deviation; needed where a feature is constant, such as the border pixels of
 *   MNIST. Default 0.
 */
export function normalizationOf(dataset: Dataset, per: NormalizationGroup = 'channel', epsilon = 0): Normalization {
  const { count, shape, inputs } = dataset;
  if (count === 0) throw new ConfigError(`Data set '${dataset.name}' is empty; it has no mean.`);
  const width = sizeOf(shape);
  const groups = per === 'dataset' ? 1 : per === 'channel' ? (shape[0] ?? 1) : width;
  const run = width / groups;
  const unit = inputs instanceof Uint8Array ? 1 / 255 : 1;
  const { mean, std } =
    inputs instanceof Uint8Array && per !== 'feature' ? byteMoments(inputs, groups, run) : moments(inputs, groups, run);
  for (let g = 0; g < groups; g++) {
    mean[g] *= unit;
    std[g] = std[g] * unit + epsilon;
  }
  return { mean, std };
}

interface Moments {
  readonly mean: Float64Array;
  readonly std: Float64Array;
}

/** Mean and standard deviation per group by two passes; differences of large sums would lose the digits of a small one. */
function moments(inputs: Uint8Array | Float32Array, groups: number, run: number): Moments {
  const mean = new Float64Array(groups);
  const std = new Float64Array(groups);
  const share = groups / inputs.length;
  for (let at = 0; at < inputs.length; ) {
    for (let g = 0; g < groups; g++) {
      let sum = 0;
      for (const end = at + run; at < end; at++) sum += inputs[at];
      mean[g] += sum * share;
    }
  }
  for (let at = 0; at < inputs.length; ) {
    for (let g = 0; g < groups; g++) {
      let sum = 0;
      for (const end = at + run; at < end; at++) sum += (inputs[at] - mean[g]) * (inputs[at] - mean[g]);
      std[g] += sum * share;
    }
  }
  for (let g = 0; g < groups; g++) std[g] = Math.sqrt(std[g]);
  return { mean, std };
}

/** The same of bytes, from their histogram: one pass, and exact sums. */
function byteMoments(inputs: Uint8Array, groups: number, run: number): Moments {
  const mean = new Float64Array(groups);
  const std = new Float64Array(groups);
  const counts = new Float64Array(groups * 256);
  for (let at = 0; at < inputs.length; ) {
    for (let base = 0; base < counts.length; base += 256) {
      for (const end = at + run; at < end; at++) counts[base + inputs[at]]++;
    }
  }
  const share = groups / inputs.length;
  for (let g = 0; g < groups; g++) {
    for (let byte = 0; byte < 256; byte++) mean[g] += counts[g * 256 + byte] * byte;
    mean[g] *= share;
    for (let byte = 0; byte < 256; byte++) std[g] += counts[g * 256 + byte] * (byte - mean[g]) ** 2;
    std[g] = Math.sqrt(std[g] * share);
  }
  return { mean, std };
}

/** Scale and shift per group such that (b - mean) / std = b * scale + shift for stored inputs b. */
export interface Affine {
  readonly scale: Float64Array;
  readonly shift: Float64Array;
}

/** `normalization` checked against examples of `shape` and folded with the unit of bytes; undefined means identity. */
export function affineOf(normalization: Normalization | undefined, shape: Shape, bytes: boolean): Affine {
  const unit = bytes ? 1 / 255 : 1;
  if (!normalization) return { scale: Float64Array.of(unit), shift: Float64Array.of(0) };
  const { mean, std } = normalization;
  const allowed = [1, shape[0] ?? 1, sizeOf(shape)];
  if (mean.length !== std.length || !allowed.includes(mean.length)) {
    throw new ConfigError(
      `A normalization of examples of shape ${showShape(shape)} has 1, ${allowed[1]} (channels) or ${allowed[2]} (features) means and as many standard deviations, got ${mean.length} and ${std.length}.`,
    );
  }
  const scale = new Float64Array(mean.length);
  const shift = new Float64Array(mean.length);
  for (let g = 0; g < mean.length; g++) {
    if (!(Number.isFinite(mean[g]) && Number.isFinite(std[g]) && std[g] > 0)) {
      throw new ConfigError(
        `Normalization group ${g} has mean ${mean[g]} and standard deviation ${std[g]}; the deviation must be positive. A constant feature needs an epsilon.`,
      );
    }
    scale[g] = unit / std[g];
    shift[g] = -mean[g] / std[g];
  }
  return { scale, shift };
}
