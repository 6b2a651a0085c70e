/**
 * @file First values of parameters, under the names PyTorch, JAX and Keras use.
 *
 * Weights are stored as in PyTorch and ONNX: linear `[out, in]`, convolution `[out, in / groups, ...kernel]`.
 */
import { ConfigError, nearest, ShapeError } from '../base/errors.ts';
import type { FloatArray, Key } from '../base/random.ts';
import * as random from '../base/random.ts';
import { type Shape, showShape } from '../tensor/shape.ts';
import { orthonormalRows } from './orthogonal.ts';

/** How a parameter's first values are made; `name` and `options` say it again in a run's configuration. */
export interface Initializer {
  readonly name: string;
  readonly options: Readonly<Record<string, number | string>>;
  /** Writes all of `out`, the row-major elements of a parameter of `shape`, from `key` alone. */
  fill(key: Key, out: FloatArray, shape: Shape): void;
}

/** Which fan divides the variance. */
export type FanMode = 'fanIn' | 'fanOut' | 'fanAvg';
/** Distribution of {@link varianceScaling}. */
export type Distribution = 'uniform' | 'normal' | 'truncatedNormal';

const GAINS = { linear: 1, conv: 1, sigmoid: 1, tanh: 5 / 3, relu: Math.SQRT2, selu: 3 / 4 } as const;
/** Activation after the layer, for {@link gain}. */
export type Nonlinearity = keyof typeof GAINS | 'leakyRelu';

/** Standard deviation of a standard normal cut at two standard deviations. */
const TRUNCATED_STD = 0.8796256610342398;

/**
 * Inputs that reach one output element, and outputs that one input element reaches: `[out, in]` gives (in, out),
 * `[out, in / groups, ...k]` gives (in / groups * prod k, out * prod k), as `torch.nn.init` counts them.
 * ShapeError for fewer than two axes.
 */
export function fans(shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2) {
    throw new ShapeError(
      `Fan-in and fan-out need a weight of two axes or more ([out, in] or [out, in, ...kernel]), got shape ${showShape(shape)}; use zeros, constant or torchDefault({ fanIn }) for it.`,
    );
  }
  const kernel = shape.slice(2).reduce((a, b) => a * b, 1);
  return { fanIn: shape[1] * kernel, fanOut: shape[0] * kernel };
}

/**
 * Factor on the standard deviation that keeps the variance of activations through a nonlinearity
 * (`torch.nn.init.calculate_gain`): 1 linear, conv and sigmoid, 5/3 tanh, sqrt 2 relu, 3/4 selu,
 * sqrt(2 / (1 + a^2)) leakyRelu with negative slope `a` (default 0.01).
 */
export function gain(nonlinearity: Nonlinearity, a = 0.01): number {
  if (nonlinearity === 'leakyRelu') return Math.sqrt(2 / (1 + a * a));
  const value = GAINS[nonlinearity];
  if (value !== undefined) return value;
  const known = [...Object.keys(GAINS), 'leakyRelu'];
  const near = nearest(nonlinearity, known);
  throw new ConfigError(
    `No gain is known for the nonlinearity '${nonlinearity}'; ${near ? `did you mean '${near}'?` : `take one of ${known.join(', ')}.`}`,
  );
}

/** Every element `value`. */
export function constant(value: number): Initializer {
  return { name: 'constant', options: { value }, fill: (_, out) => void out.fill(value) };
}

export function zeros(): Initializer {
  return { name: 'zeros', options: {}, fill: (_, out) => void out.fill(0) };
}

export function ones(): Initializer {
  return { name: 'ones', options: {}, fill: (_, out) => void out.fill(1) };
}

/** U(lo, hi); default U(0, 1). */
export function uniform(options: { lo?: number; hi?: number } = {}): Initializer {
  const { lo = 0, hi = 1 } = options;
  return { name: 'uniform', options: { lo, hi }, fill: (key, out) => void random.uniform(key, out, lo, hi) };
}

/** N(mean, std^2); default N(0, 1). */
export function normal(options: { mean?: number; std?: number } = {}): Initializer {
  const { mean = 0, std = 1 } = options;
  return { name: 'normal', options: { mean, std }, fill: (key, out) => void random.normal(key, out, mean, std) };
}

/**
 * mean + std z with z standard normal, cut to [lo, hi] in standard deviations; default [-2, 2]. The variance is that of
 * the cut distribution: 0.774 std^2 by default.
 */
export function truncatedNormal(options: { mean?: number; std?: number; lo?: number; hi?: number } = {}): Initializer {
  const { mean = 0, std = 1, lo = -2, hi = 2 } = options;
  return {
    name: 'truncatedNormal',
    options: { mean, std, lo, hi },
    fill: (key, out) => void random.truncatedNormal(key, out, mean, std, lo, hi),
  };
}

/**
 * Zero mean and variance `scale / fan`, the family that xavier, kaiming and lecun belong to (`VarianceScaling` in Keras
 * and JAX). The truncated normal is cut at two standard deviations and widened so that the variance is still
 * `scale / fan`.
 */
export function varianceScaling(
  options: { scale?: number; mode?: FanMode; distribution?: Distribution } = {},
): Initializer {
  const { scale = 1, mode = 'fanIn', distribution = 'truncatedNormal' } = options;
  return scaled('varianceScaling', { scale, mode, distribution }, scale, mode, distribution);
}

/** U(-b, b), b = gain sqrt(6 / (fanIn + fanOut)) (Glorot and Bengio 2010). */
export function xavierUniform(options: { gain?: number } = {}): Initializer {
  const { gain = 1 } = options;
  return scaled('xavierUniform', { gain }, gain * gain, 'fanAvg', 'uniform');
}

/** N(0, gain^2 2 / (fanIn + fanOut)) (Glorot and Bengio 2010). */
export function xavierNormal(options: { gain?: number } = {}): Initializer {
  const { gain = 1 } = options;
  return scaled('xavierNormal', { gain }, gain * gain, 'fanAvg', 'normal');
}

/** Options of {@link kaimingUniform} and {@link kaimingNormal}; the defaults are those of `torch.nn.init`. */
export interface KaimingOptions {
  /** Negative slope of the leaky ReLU that follows; used by `leakyRelu` only, default 0, which is ReLU. */
  readonly a?: number;
  /** `fanIn` (default) keeps the variance of activations, `fanOut` that of gradients. */
  readonly mode?: FanMode;
  /** Default `leakyRelu`. */
  readonly nonlinearity?: Nonlinearity;
}

/** U(-b, b), b = gain sqrt(3 / fan) (He et al. 2015). */
export function kaimingUniform(options: KaimingOptions = {}): Initializer {
  return kaiming('kaimingUniform', options, 'uniform');
}

/** N(0, gain^2 / fan) (He et al. 2015). */
export function kaimingNormal(options: KaimingOptions = {}): Initializer {
  return kaiming('kaimingNormal', options, 'normal');
}

/** Truncated normal of variance 1 / fanIn (LeCun et al. 1998), as Keras and JAX draw it. */
export function lecunNormal(): Initializer {
  return scaled('lecunNormal', {}, 1, 'fanIn', 'truncatedNormal');
}

/** U(-b, b), b = sqrt(3 / fanIn) (LeCun et al. 1998). */
export function lecunUniform(): Initializer {
  return scaled('lecunUniform', {}, 1, 'fanIn', 'uniform');
}

/**
 * U(-1 / sqrt(fanIn), 1 / sqrt(fanIn)), what `torch.nn.Linear` and `torch.nn.Conv2d` start from. `fanIn` is that of the
 * layer and must be given for a bias; a weight knows its own.
 */
export function torchDefault(options: { fanIn?: number } = {}): Initializer {
  const { fanIn } = options;
  if (fanIn !== undefined && !(fanIn > 0)) throw new ConfigError(`torchDefault needs a positive fanIn, got ${fanIn}.`);
  return {
    name: 'torchDefault',
    options: fanIn === undefined ? {} : { fanIn },
    fill(key, out, shape) {
      if (out.length === 0) return;
      const bound = 1 / Math.sqrt(fanIn ?? fans(shape).fanIn);
      random.uniform(key, out, -bound, bound);
    },
  };
}

/**
 * `gain` times a random matrix with orthonormal rows, or columns where it is taller than wide (Saxe et al. 2014),
 * uniform over all such matrices. Axes after the first are flattened. Costs O(rows^2 columns) time.
 */
export function orthogonal(options: { gain?: number } = {}): Initializer {
  const { gain = 1 } = options;
  return {
    name: 'orthogonal',
    options: { gain },
    fill(key, out, shape) {
      fans(shape);
      const rows = shape[0];
      const columns = rows === 0 ? 0 : out.length / rows;
      const short = Math.min(rows, columns);
      const long = Math.max(rows, columns);
      const q = orthonormalRows(random.normal(key, new Float64Array(out.length)), short, long);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          out[i * columns + j] = gain * (rows <= columns ? q[i * long + j] : q[j * long + i]);
        }
      }
    },
  };
}

/** `gain` on the diagonal of a matrix `[out, in]` and zero elsewhere: as many inputs as possible pass unchanged. */
export function identity(options: { gain?: number } = {}): Initializer {
  const { gain = 1 } = options;
  return {
    name: 'identity',
    options: { gain },
    fill(_, out, shape) {
      if (shape.length !== 2) {
        throw new ShapeError(
          `identity fills a matrix [out, in], got shape ${showShape(shape)}; for a kernel use dirac.`,
        );
      }
      out.fill(0);
      for (let i = 0; i < Math.min(shape[0], shape[1]); i++) out[i * shape[1] + i] = gain;
    },
  };
}

/**
 * The convolution that copies: a one in the middle of the kernel from input channel i to output channel i, in each of
 * `groups` groups, and zero elsewhere.
 */
export function dirac(options: { groups?: number } = {}): Initializer {
  const { groups = 1 } = options;
  return {
    name: 'dirac',
    options: { groups },
    fill(_, out, shape) {
      if (shape.length < 3 || !(groups >= 1) || shape[0] % groups !== 0) {
        throw new ShapeError(
          `dirac fills a kernel [out, in / groups, ...k] whose out is a multiple of groups, got shape ${showShape(shape)} and groups ${groups}.`,
        );
      }
      out.fill(0);
      const kernel = shape.slice(2).reduce((a, b) => a * b, 1);
      const middle = shape.slice(2).reduce((at, extent) => at * extent + (extent >> 1), 0);
      const perGroup = shape[0] / groups;
      if (kernel === 0) return;
      for (let group = 0; group < groups; group++) {
        for (let i = 0; i < Math.min(perGroup, shape[1]); i++) {
          out[((group * perGroup + i) * shape[1] + i) * kernel + middle] = 1;
        }
      }
    },
  };
}

function kaiming(name: string, options: KaimingOptions, distribution: Distribution): Initializer {
  const { a = 0, mode = 'fanIn', nonlinearity = 'leakyRelu' } = options;
  const factor = gain(nonlinearity, a);
  return scaled(name, { a, mode, nonlinearity }, factor * factor, mode, distribution);
}

function scaled(
  name: string,
  options: Initializer['options'],
  scale: number,
  mode: FanMode,
  distribution: Distribution,
): Initializer {
  if (!(Number.isFinite(scale) && scale >= 0)) {
    throw new ConfigError(`${name}: the variance must be finite and not negative, got the factor ${scale}.`);
  }
  return {
    name,
    options,
    fill(key, out, shape) {
      const { fanIn, fanOut } = fans(shape);
      if (out.length === 0) return;
      const fan = mode === 'fanIn' ? fanIn : mode === 'fanOut' ? fanOut : (fanIn + fanOut) / 2;
      const std = Math.sqrt(scale / fan);
      if (distribution === 'uniform') random.uniform(key, out, -Math.sqrt(3) * std, Math.sqrt(3) * std);
      else if (distribution === 'normal') random.normal(key, out, 0, std);
      else random.truncatedNormal(key, out, 0, std / TRUNCATED_STD);
    },
  };
}
