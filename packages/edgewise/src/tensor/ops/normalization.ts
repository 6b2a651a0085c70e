/** @file Layer, group, instance and RMS normalisation: rows to mean 0 and variance 1, with derivatives derived by hand. */
import { ShapeError } from '../../base/errors.ts';
import { float, int } from '../lowering.ts';
import { sameShape, showShape, sizeOf } from '../shape.ts';
import {
  apply,
  commonDtype,
  constant,
  erase,
  expectFloat,
  type MaybeTensor,
  make,
  type OpDef,
  type Tensor,
  type Values,
} from '../tensor.ts';
import { channelAffine, checkEps, type EpsAttrs, type EpsOptions } from './batch-norm.ts';
import { add, addAll, mul, neg, reciprocal, sqrt, square, sub } from './elementwise.ts';
import { expand, reshape } from './layout.ts';
import { mean, sumTo } from './reduce.ts';

interface LayerAttrs extends EpsAttrs {
  /** First of the axes that are normalised together; all after it are too. */
  readonly axis: number;
}

const normalizedAxes = (x: Tensor, { axis }: LayerAttrs) => Array.from({ length: x.rank - axis }, (_, i) => axis + i);

function inferLayer(name: string, x: Tensor, { axis }: LayerAttrs): void {
  expectFloat(name, x);
  if (sizeOf(x.shape.slice(axis)) === 0)
    throw new ShapeError(`${name}: ${showShape(x.shape)} is empty from axis ${axis} on and has no mean.`);
}

function rowStats(
  x: Values,
  { axis, eps }: LayerAttrs,
): { length: number; means: Float64Array; inverses: Float64Array } {
  const length = sizeOf(x.shape.slice(axis));
  const rows = Array.from({ length: x.data.length / length }, (_, i) => x.data.subarray(i * length, (i + 1) * length));
  const means = Float64Array.from(rows, (row) => row.reduce((a, b) => a + b, 0) / length);
  const inverses = Float64Array.from(
    rows,
    (row, i) => 1 / Math.sqrt(row.reduce((a, b) => a + (b - means[i]) ** 2, 0) / length + eps),
  );
  return { length, means, inverses };
}

// LayerNormalization gives its deviations in float32 whatever x is, and on the GPUs not at all.
const decomposeOn = ['webgpu', 'cuda', 'float64'];

/** x̂ of inputs (x, ones): the ones are what the kernel takes as its scale. */
const standardizeOp: OpDef<LayerAttrs> = {
  name: 'standardize',
  infer: ([x, scale], attrs) => {
    inferLayer('standardize', x, attrs);
    if (!sameShape(scale.shape, x.shape.slice(attrs.axis)))
      throw new ShapeError(`standardize: ${showShape(scale.shape)} is not the normalised shape.`);
    return { dtype: x.dtype, shape: x.shape };
  },
  evaluate: ([x], attrs) => {
    const { length, means, inverses } = rowStats(x, attrs);
    return x.data.map((v, i) => (v - means[Math.floor(i / length)]) * inverses[Math.floor(i / length)]);
  },
  lower: (to, inputs, { attrs }) => to.nodes('LayerNormalization', inputs, layerSettings(attrs), { outputs: 3 })[0],
  decompose: ([x], attrs) => {
    const centred = sub(x, mean(x, { axes: normalizedAxes(x, attrs), keepDims: true }));
    return mul(centred, inverseOfRows(centred, attrs));
  },
  decomposeOn,
  vjp: (node, g) => [throughStandardize(node, g), undefined],
  jvp: (node, [t]) => t && throughStandardize(node, t),
};

const layerSettings = ({ axis, eps }: LayerAttrs) => ({ axis: int(axis), epsilon: float(eps), stash_type: int(1) });

const inverseOfRows = (centred: Tensor, attrs: LayerAttrs) =>
  reciprocal(sqrt(add(mean(square(centred), { axes: normalizedAxes(centred, attrs), keepDims: true }), attrs.eps)));

/** 1 / √(variance + eps) of each row, with the normalised axes kept as extents of 1. */
const inverseDeviationOp: OpDef<LayerAttrs> = {
  name: 'inverseDeviation',
  infer: ([x], attrs) => {
    inferLayer('inverseDeviation', x, attrs);
    return { dtype: x.dtype, shape: x.shape.map((extent, axis) => (axis < attrs.axis ? extent : 1)) };
  },
  evaluate: ([x], attrs) => rowStats(x, attrs).inverses,
  lower: (to, inputs, { attrs }) => to.nodes('LayerNormalization', inputs, layerSettings(attrs), { outputs: 3 })[2],
  decompose: ([x], attrs) => inverseOfRows(sub(x, mean(x, { axes: normalizedAxes(x, attrs), keepDims: true })), attrs),
  decomposeOn,
  // d(1/σ) = -x̂ · dx / (n σ²).
  vjp: (node, g) => {
    const [x] = node.inputs;
    const r = erase(node);
    return [
      mul(
        make(standardizeOp, node.inputs, node.attrs),
        mul(mul(g, square(r)), -1 / sizeOf(x.shape.slice(node.attrs.axis))),
      ),
      undefined,
    ];
  },
  jvp: (node, [t]) => {
    if (t === undefined) return undefined;
    const hat = make(standardizeOp, node.inputs, node.attrs);
    return neg(mul(mean(mul(hat, t), { axes: normalizedAxes(t, node.attrs), keepDims: true }), square(erase(node))));
  },
};

/** The Jacobian of x̂, which is symmetric, applied to u: (u - mean u - x̂ mean(x̂ u)) / σ. */
function throughStandardize(node: Tensor<LayerAttrs>, u: Tensor): Tensor {
  const hat = erase(node);
  const over = { axes: normalizedAxes(u, node.attrs), keepDims: true };
  return mul(
    sub(sub(u, mul(hat, mean(mul(hat, u), over))), mean(u, over)),
    make(inverseDeviationOp, node.inputs, node.attrs),
  );
}

/** x to mean 0 and variance 1 over axis `axis` and all after it, without scale and bias. */
function standardize(x: Tensor, attrs: LayerAttrs): Tensor<LayerAttrs> {
  return apply(standardizeOp, [x, constant(1, x.shape.slice(attrs.axis), x.dtype)], attrs);
}

const layerNormOp: OpDef<LayerAttrs> = {
  name: 'layerNorm',
  infer: ([x, scale, bias], attrs) => {
    inferLayer('layerNorm', x, attrs);
    const shape = x.shape.slice(attrs.axis);
    commonDtype('layerNorm', [x, scale, ...(bias ? [bias] : [])]);
    for (const v of [scale, bias]) {
      if (v && !sameShape(v.shape, shape)) {
        throw new ShapeError(
          `layerNorm: x ${showShape(x.shape)} normalised over its last ${shape.length} axes wants scale and bias of shape ${showShape(shape)}, but got ${showShape(v.shape)}.`,
        );
      }
    }
    return { dtype: x.dtype, shape: x.shape };
  },
  evaluate: ([x, scale, bias], attrs) => {
    const { length, means, inverses } = rowStats(x, attrs);
    return x.data.map((v, i) => {
      const [row, at] = [Math.floor(i / length), i % length];
      return (v - means[row]) * inverses[row] * scale.data[at] + (bias ? bias.data[at] : 0);
    });
  },
  lower: (to, inputs, { attrs }) => to.node('LayerNormalization', inputs, layerSettings(attrs)),
  decomposeOn: ['float64'],
  decompose: ([x, scale, bias], attrs) => {
    const scaled = mul(erase(standardize(x, attrs)), scale);
    return bias ? add(scaled, bias) : scaled;
  },
  vjp: ({ inputs: [x, scale, bias], attrs }, g, needed) => {
    const hat = standardize(x, attrs);
    return [
      needed[0] ? throughStandardize(hat, mul(g, scale)) : undefined,
      needed[1] ? sumTo(mul(g, erase(hat)), scale.shape) : undefined,
      ...(bias ? [needed[2] ? sumTo(g, bias.shape) : undefined] : []),
    ];
  },
  jvp: ({ inputs: [x, scale], attrs, shape }, [tx, tScale, tBias]): MaybeTensor => {
    const hat = standardize(x, attrs);
    const total = addAll(tx && mul(throughStandardize(hat, tx), scale), tScale && mul(erase(hat), tScale), tBias);
    return total && expand(total, shape);
  },
};

export interface LayerNormOptions extends EpsOptions {
  /** How many of the last axes are normalised together; as many as `scale` has, 1 without. */
  readonly axes?: number;
}

function layerAttrs(
  op: string,
  x: Tensor,
  like: Tensor | undefined,
  { axes = like?.rank ?? 1, eps = 1e-5 }: LayerNormOptions,
): LayerAttrs {
  if (!Number.isInteger(axes) || axes < 1 || axes > x.rank) {
    throw new ShapeError(
      `${op}: ${axes} axes of x ${showShape(x.shape)} cannot be normalised; give a number from 1 to ${x.rank}.`,
    );
  }
  return { axis: x.rank - axes, eps: checkEps(op, eps) };
}

/**
 * Layer normalisation (Ba, Kiros and Hinton 2016): x to mean 0 and variance 1 over its last axes, then scale · x̂ + bias.
 *
 * @param scale shape of the normalised axes; 1 without.
 * @param bias shape of the normalised axes; 0 without.
 */
export function layerNorm(x: Tensor, scale?: Tensor, bias?: Tensor, options: LayerNormOptions = {}): Tensor {
  const attrs = layerAttrs('layerNorm', x, scale ?? bias, options);
  if (scale === undefined && bias === undefined) return erase(standardize(x, attrs));
  const factor = scale ?? constant(1, x.shape.slice(attrs.axis), x.dtype);
  return make(layerNormOp, bias ? [x, factor, bias] : [x, factor], attrs);
}

/** Scale and bias of a normalisation over channels, each [C]. */
export interface ChannelParameters {
  /** 1 without. */
  readonly scale?: Tensor;
  /** 0 without. */
  readonly bias?: Tensor;
}

/**
 * Group normalisation (Wu and He 2018): channels in `groups` equal runs, each group of each example to mean 0 and variance 1,
 * then scale · x̂ + bias by channel.
 *
 * @param x [N, C, ...]
 */
export function groupNorm(
  x: Tensor,
  groups: number,
  { scale, bias, eps = 1e-5 }: ChannelParameters & EpsOptions = {},
): Tensor {
  if (x.rank < 2 || !Number.isInteger(groups) || groups < 1 || x.shape[1] % groups !== 0) {
    throw new ShapeError(
      `groupNorm: the channels of x ${showShape(x.shape)} (axis 1) do not split into ${groups} equal groups.`,
    );
  }
  const rows = reshape(x, [x.shape[0], groups, sizeOf(x.shape.slice(1)) / groups]);
  const hat = reshape(layerNorm(rows, undefined, undefined, { eps }), x.shape);
  if (scale === undefined && bias === undefined) return hat;
  const fill = (value: number) => constant(value, [x.shape[1]], x.dtype);
  return channelAffine(hat, scale ?? fill(1), bias ?? fill(0));
}

/** Instance normalisation (Ulyanov, Vedaldi and Lempitsky 2016): each channel of each example by itself. x is [N, C, ...]. */
export function instanceNorm(x: Tensor, options: ChannelParameters & EpsOptions = {}): Tensor {
  if (x.rank < 3)
    throw new ShapeError(`instanceNorm: x ${showShape(x.shape)} has no positions after [N, C] to normalise over.`);
  return groupNorm(x, x.shape[1], options);
}

const rmsNormOp: OpDef<LayerAttrs> = {
  name: 'rmsNorm',
  infer: ([x, scale], attrs) => {
    inferLayer('rmsNorm', x, attrs);
    const shape = x.shape.slice(attrs.axis);
    commonDtype('rmsNorm', [x, scale]);
    if (!sameShape(scale.shape, shape)) {
      throw new ShapeError(
        `rmsNorm: x ${showShape(x.shape)} normalised over its last ${shape.length} axes wants a scale of shape ${showShape(shape)}, but got ${showShape(scale.shape)}.`,
      );
    }
    return { dtype: x.dtype, shape: x.shape };
  },
  decompose: ([x, scale], attrs) => mul(mul(x, inverseRms(x, attrs)), scale),
  vjp: ({ inputs: [x, scale], attrs }, g, needed) => [
    needed[0] ? throughRms(x, mul(g, scale), attrs) : undefined,
    needed[1] ? sumTo(mul(g, mul(x, inverseRms(x, attrs))), scale.shape) : undefined,
  ],
  jvp: ({ inputs: [x, scale], attrs }, [tx, tScale]) =>
    addAll(tx && mul(throughRms(x, tx, attrs), scale), tScale && mul(mul(x, inverseRms(x, attrs)), tScale)),
};

const inverseRms = inverseOfRows;

/** The Jacobian of x / rms, which is symmetric, applied to u: (u - x̂ mean(x̂ u)) / rms. */
function throughRms(x: Tensor, u: Tensor, attrs: LayerAttrs): Tensor {
  const inverse = inverseRms(x, attrs);
  const hat = mul(x, inverse);
  return mul(sub(u, mul(hat, mean(mul(hat, u), { axes: normalizedAxes(x, attrs), keepDims: true }))), inverse);
}

/**
 * Root-mean-square normalisation (Zhang and Sennrich 2019): scale · x / √(mean x² + eps) over the last axes.
 *
 * @param scale shape of the normalised axes; 1 without.
 */
export function rmsNorm(x: Tensor, scale?: Tensor, options: LayerNormOptions = {}): Tensor {
  const attrs = layerAttrs('rmsNorm', x, scale, options);
  return make(rmsNormOp, [x, scale ?? constant(1, x.shape.slice(attrs.axis), x.dtype)], attrs);
}
