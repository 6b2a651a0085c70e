/**
 * @file Batch normalisation. Value, mean and variance come from one kernel, and derivatives of every order are sums over a channel
 * and affine functions of the tensors with a coefficient a channel: as few passes over memory as we know how.
 */
import { ConfigError, ShapeError } from '../../base/errors.ts';
import { float, int } from '../lowering.ts';
import { sameShape, showShape, sizeOf } from '../shape.ts';
import { commonDtype, constant, expectFloat, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { add, addAll, mul, neg, reciprocal, sqrt, square, sub } from './elementwise.ts';
import { expand, reshape } from './layout.ts';
import { mean, sum } from './reduce.ts';

/** Settings of a normalisation. */
export interface EpsAttrs {
  readonly eps: number;
}

export function checkEps(op: string, eps: number): number {
  if (!(eps >= 0 && Number.isFinite(eps)))
    throw new ConfigError(`${op}: eps is ${eps}, but a finite number of at least 0 is wanted.`);
  return eps;
}

/** All axes but the channels', axis 1. */
const allButChannels = (x: Tensor): number[] => [...Array(x.rank).keys()].filter((axis) => axis !== 1);

/** A vector over the channels, shaped to broadcast against x. */
const overChannels = (v: Tensor, x: Tensor): Tensor => reshape(v, [v.size, ...new Array<number>(x.rank - 2).fill(1)]);

function expectChannels(op: string, x: Tensor, vectors: readonly Tensor[]): void {
  expectFloat(op, x);
  if (x.rank < 2) throw new ShapeError(`${op}: x ${showShape(x.shape)} must be [N, C, ...].`);
  commonDtype(op, [x, ...vectors]);
  for (const v of vectors) {
    if (!sameShape(v.shape, [x.shape[1]])) {
      throw new ShapeError(
        `${op}: x ${showShape(x.shape)} wants one number for each of ${x.shape[1]} channels, but got ${showShape(v.shape)}.`,
      );
    }
  }
}

/** a x + b with a and b [C]. One pass over memory where the provider has one. */
export const channelAffineOp: OpDef<object> = {
  name: 'channelAffine',
  infer: ([x, a, b]) => {
    expectChannels('channelAffine', x, [a, b]);
    return { dtype: x.dtype, shape: x.shape };
  },
  evaluate: ([x, a, b]) => {
    const inner = sizeOf(x.shape.slice(2));
    return x.data.map((v, i) => {
      const c = Math.floor(i / inner) % x.shape[1];
      return v * a.data[c] + b.data[c];
    });
  },
  // Inference batch norm with mean 0 and variance 1 is this, in one kernel instead of Mul and Add.
  lower: (to, [x, a, b], node) => {
    const fill = (value: number) => to.scalar(value, node.dtype, node.inputs[1].shape);
    return to.node('BatchNormalization', [x, a, b, fill(0), fill(1)], { epsilon: float(0) });
  },
  decompose: ([x, a, b]) => add(mul(x, overChannels(a, x)), overChannels(b, x)),
  decomposeOn: ['webgpu', 'cuda'],
  vjp: ({ inputs: [x, a] }, g, needed) => [
    needed[0] ? mul(g, overChannels(a, x)) : undefined,
    needed[1] ? channelDot(g, x) : undefined,
    needed[2] ? sum(g, { axes: allButChannels(x) }) : undefined,
  ],
  jvp: ({ inputs: [x, a] }, [tx, ta, tb]) => {
    const shift = tb ?? constant(0, a.shape, a.dtype);
    if (ta === undefined) {
      if (tx === undefined) return tb && expand(overChannels(tb, x), x.shape);
      return tb ? channelAffine(tx, a, tb) : mul(tx, overChannels(a, x));
    }
    return tx ? add(channelAffine(tx, a, shift), mul(x, overChannels(ta, x))) : channelAffine(x, ta, shift);
  },
};

/** a · x + b with one a and one b for each channel: x [N, C, ...], a [C], b [C]. */
export function channelAffine(x: Tensor, a: Tensor, b: Tensor): Tensor {
  return make(channelAffineOp, [x, a, b], {});
}

/** Σ a b for each channel. Its derivative keeps the two products apart: a sum over memory is cheaper than adding tensors first. */
const channelDotOp: OpDef<object> = {
  name: 'channelDot',
  infer: ([a]) => ({ dtype: a.dtype, shape: [a.shape[1]] }),
  decompose: ([a, b]) => sum(mul(a, b), { axes: allButChannels(a) }),
  vjp: ({ inputs: [a, b] }, g, needed) => [
    needed[0] ? mul(b, overChannels(g, b)) : undefined,
    needed[1] ? mul(a, overChannels(g, a)) : undefined,
  ],
  jvp: ({ inputs: [a, b] }, [ta, tb]) => addAll(ta && channelDot(ta, b), tb && channelDot(a, tb)),
};

const channelDot = (a: Tensor, b: Tensor): Tensor => make(channelDotOp, [a, b], {});

const inferBatch =
  (name: string) =>
  ([x, scale, bias]: readonly Tensor[]) => {
    expectChannels(name, x, [scale, bias]);
    if (x.size === 0) throw new ShapeError(`${name}: x ${showShape(x.shape)} is empty and has no mean.`);
  };

const countOf = (x: Tensor): number => x.size / x.shape[1];

function channelStats(x: Values): { means: Float64Array; variances: Float64Array } {
  const channels = x.shape[1];
  const inner = sizeOf(x.shape.slice(2));
  const count = x.data.length / channels;
  const at = (i: number) => Math.floor(i / inner) % channels;
  const means = new Float64Array(channels);
  const variances = new Float64Array(channels);
  x.data.forEach((v, i) => {
    means[at(i)] += v / count;
  });
  x.data.forEach((v, i) => {
    variances[at(i)] += (v - means[at(i)]) ** 2 / count;
  });
  return { means, variances };
}

// Value, mean and variance come from one ONNX node, so all three ops have its inputs, (x, scale, bias).
const batchOutput = (output: 0 | 1 | 2): NonNullable<OpDef<EpsAttrs>['lower']> => {
  return (to, [x, scale, bias], { inputs, attrs, dtype }) => {
    const [{ shape }] = inputs;
    // The kernel writes the new statistics over the memory of the old ones, also where that is a constant or an input of the graph.
    // So they must be intermediate values of their own for each node; their numbers do not matter, since with momentum 0 the
    // "running" statistics are those of this batch.
    const first = shape.map((extent, axis) => (axis === 1 ? extent : 1));
    const corner = to.node('Slice', [x, to.ints(shape.map(() => 0)), to.ints(first)]);
    const own = to.node('Add', [to.node('Reshape', [corner, to.ints([shape[1]])]), to.scalar(attrs.eps, dtype)]);
    const oldMean = to.node('Sub', [to.node('Mul', [own, scale]), bias]);
    const oldVariance = to.node('Neg', [oldMean]);
    const settings = { training_mode: int(1), momentum: float(0), epsilon: float(attrs.eps) };
    return to.nodes('BatchNormalization', [x, scale, bias, oldMean, oldVariance], settings, { outputs: 3 })[output];
  };
};

// The GPUs have batch norm with given statistics only, and the node's eps is a float32.
const decomposeOn = ['webgpu', 'cuda', 'float64'];

const batchMeanOp: OpDef<EpsAttrs> = {
  name: 'batchMean',
  infer: (inputs) => {
    inferBatch('batchNorm')(inputs);
    return { dtype: inputs[0].dtype, shape: inputs[1].shape };
  },
  evaluate: ([x]) => channelStats(x).means,
  lower: batchOutput(1),
  decompose: ([x]) => mean(x, { axes: allButChannels(x) }),
  decomposeOn,
  vjp: ({ inputs: [x] }, g) => [expand(overChannels(mul(g, 1 / countOf(x)), x), x.shape), undefined, undefined],
  jvp: ({ inputs: [x] }, [t]) => t && mul(sum(t, { axes: allButChannels(x) }), 1 / countOf(x)),
};

const batchVarianceOp: OpDef<EpsAttrs> = {
  name: 'batchVariance',
  infer: batchMeanOp.infer,
  evaluate: ([x]) => channelStats(x).variances,
  lower: batchOutput(2),
  decompose: ([x]) =>
    mean(square(sub(x, overChannels(mean(x, { axes: allButChannels(x) }), x))), { axes: allButChannels(x) }),
  decomposeOn,
  vjp: (node, g) => {
    const [x] = node.inputs;
    const slope = mul(g, 2 / countOf(x));
    return [channelAffine(x, slope, neg(mul(slope, batchMeanOf(node)))), undefined, undefined];
  },
  jvp: (node, [t]) => {
    const [x] = node.inputs;
    return t && mul(sumCentred(x, t, batchMeanOf(node)), 2 / countOf(x));
  },
};

const batchMeanOf = (node: Tensor<EpsAttrs>) => make(batchMeanOp, node.inputs, node.attrs);
const batchVarianceOf = (node: Tensor<EpsAttrs>) => make(batchVarianceOp, node.inputs, node.attrs);

/** Σ (x - mean) t for each channel. */
function sumCentred(x: Tensor, t: Tensor, means: Tensor): Tensor {
  return sub(channelDot(t, x), mul(means, sum(t, { axes: allButChannels(x) })));
}

const batchNormOp: OpDef<EpsAttrs> = {
  name: 'batchNorm',
  infer: (inputs) => {
    inferBatch('batchNorm')(inputs);
    return { dtype: inputs[0].dtype, shape: inputs[0].shape };
  },
  evaluate: ([x, scale, bias], { eps }) => {
    const { means, variances } = channelStats(x);
    const inner = sizeOf(x.shape.slice(2));
    return x.data.map((v, i) => {
      const c = Math.floor(i / inner) % x.shape[1];
      return ((v - means[c]) / Math.sqrt(variances[c] + eps)) * scale.data[c] + bias.data[c];
    });
  },
  lower: batchOutput(0),
  decompose: ([x, scale, bias], { eps }) => {
    const axes = allButChannels(x);
    const means = mean(x, { axes });
    const centred = sub(x, overChannels(means, x));
    const factor = mul(scale, reciprocal(sqrt(add(mean(square(centred), { axes }), eps))));
    return add(mul(centred, overChannels(factor, x)), overChannels(bias, x));
  },
  decomposeOn,
  vjp: (node, g, needed) => {
    const [x, scale] = node.inputs;
    const { projection, sumHat, total } = project(node, g);
    const factor = mul(scale, projection.inverse);
    return [
      needed[0]
        ? channelAffine(add(g, mul(x, overChannels(projection.tilt, x))), factor, mul(factor, projection.shift))
        : undefined,
      sumHat,
      total,
    ];
  },
  jvp: (node, [tx, tScale, tBias]) => {
    const [x, scale] = node.inputs;
    const inverse = inverseDeviation(node);
    // Each term of the tangent is affine in x and tx, so the coefficients are added up before anything is multiplied out.
    const hat = tScale && mul(tScale, inverse);
    const hatShift = hat && neg(mul(hat, batchMeanOf(node)));
    if (tx === undefined) {
      if (hat === undefined) return tBias && expand(overChannels(tBias, x), x.shape);
      return channelAffine(x, hat, addAll(hatShift, tBias)!);
    }
    const { projection } = project(node, tx);
    const factor = mul(scale, inverse);
    const shift = addAll(mul(factor, projection.shift), hatShift, tBias)!;
    if (hat === undefined) return channelAffine(add(tx, mul(x, overChannels(projection.tilt, x))), factor, shift);
    const slope = add(mul(factor, projection.tilt), hat);
    return add(channelAffine(tx, factor, shift), mul(x, overChannels(slope, x)));
  },
};

const inverseDeviation = (node: Tensor<EpsAttrs>) => reciprocal(sqrt(add(batchVarianceOf(node), node.attrs.eps)));

/**
 * The Jacobian of x̂ = (x - mean) / deviation, which is symmetric, applied to u: inverse · (u + tilt · x + shift), where the three are
 * numbers for each channel that two sums over u give. Also Σ u x̂ and Σ u.
 */
function project(node: Tensor<EpsAttrs>, u: Tensor) {
  const [x] = node.inputs;
  const means = batchMeanOf(node);
  const inverse = inverseDeviation(node);
  const total = sum(u, { axes: allButChannels(x) });
  const sumHat = mul(inverse, sumCentred(x, u, means));
  const tilt = mul(mul(inverse, sumHat), -1 / countOf(x));
  const shift = sub(mul(total, -1 / countOf(x)), mul(means, tilt));
  return { projection: { inverse, tilt, shift }, sumHat, total };
}

/** What a batch norm gives in training. */
export interface BatchNormResult {
  readonly y: Tensor;
  /** [C], over the batch and all positions. */
  readonly mean: Tensor;
  /** [C], of the batch as a population (divided by the count, not by one less). */
  readonly variance: Tensor;
}

export interface EpsOptions {
  /** Added to the variance, 1e-5 by default. */
  readonly eps?: number;
}

/**
 * Batch normalisation as in training (Ioffe and Szegedy 2015): each channel to mean 0 and variance 1 over the batch and
 * all positions, then scale · x̂ + bias. Running statistics are the caller's: fold `mean` and `variance` into them
 * (PyTorch folds in the variance times count / (count - 1)).
 *
 * @param x [N, C, ...]
 * @param scale [C]
 * @param bias [C]
 */
export function batchNorm(x: Tensor, scale: Tensor, bias: Tensor, { eps = 1e-5 }: EpsOptions = {}): BatchNormResult {
  const inputs = [x, scale, bias];
  const attrs = { eps: checkEps('batchNorm', eps) };
  return {
    y: make(batchNormOp, inputs, attrs),
    mean: make(batchMeanOp, inputs, attrs),
    variance: make(batchVarianceOp, inputs, attrs),
  };
}

const batchNormInferenceOp: OpDef<EpsAttrs> = {
  name: 'batchNormInference',
  infer: ([x, ...vectors]) => {
    expectChannels('batchNormInference', x, vectors);
    return { dtype: x.dtype, shape: x.shape };
  },
  lower: (to, inputs, { attrs }) => to.node('BatchNormalization', inputs, { epsilon: float(attrs.eps) }),
  decomposeOn: ['float64'],
  decompose: ([x, scale, bias, means, variances], { eps }) => {
    const factor = mul(scale, reciprocal(sqrt(add(variances, eps))));
    return channelAffine(x, factor, sub(bias, mul(means, factor)));
  },
};

/** Statistics and parameters of an inference batch norm, each [C]. */
export interface BatchNormState {
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly scale: Tensor;
  readonly bias: Tensor;
}

/** Batch normalisation with given statistics, as in evaluation: scale · (x - mean) / √(variance + eps) + bias for x [N, C, ...]. */
export function batchNormInference(x: Tensor, state: BatchNormState, { eps = 1e-5 }: EpsOptions = {}): Tensor {
  const { mean: means, variance, scale, bias } = state;
  return make(batchNormInferenceOp, [x, scale, bias, means, variance], { eps: checkEps('batchNormInference', eps) });
}
