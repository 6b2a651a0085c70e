/** @file Activation functions that elementwise.ts does not have (relu, tanh, sigmoid and softplus are there). */
import { ConfigError, ShapeError } from '../../base/errors.ts';
import { float, type Lowering, string } from '../lowering.ts';
import { normalizeAxis, showShape } from '../shape.ts';
import { type Attrs, constant, erase, expectFloat, make, type OpDef, type Tensor } from '../tensor.ts';
import {
  abs,
  add,
  clip,
  div,
  erf,
  exp,
  expm1,
  greater,
  less,
  logicalAnd,
  minimum,
  mul,
  neg,
  reciprocal,
  sigmoid,
  softplus,
  square,
  sub,
  where,
} from './elementwise.ts';
import { erf as erfValue } from './erf.ts';
import { split } from './layout.ts';

interface Rule<A extends Attrs> {
  readonly name: string;
  /** The function on one number, and how to emit it; or the function in terms of other ops. */
  readonly evaluate?: (x: number, attrs: A) => number;
  readonly lower?: (to: Lowering, x: string, node: Tensor<A>) => string;
  readonly decompose?: (x: Tensor, attrs: A) => Tensor;
  readonly decomposeOn?: readonly string[];
  /** The derivative at x, given the result y, times `t`. */
  readonly pull: (t: Tensor, x: Tensor, y: Tensor, attrs: A) => Tensor;
}

/** A function of one number, element by element. */
function activation<A extends Attrs>({
  name,
  evaluate,
  lower,
  decompose,
  decomposeOn,
  pull,
}: Rule<A>): (x: Tensor, attrs: A) => Tensor {
  const op: OpDef<A> = {
    name,
    infer: ([x]) => {
      expectFloat(name, x);
      return { dtype: x.dtype, shape: x.shape };
    },
    evaluate: evaluate && (([x], attrs) => x.data.map((v) => evaluate(v, attrs))),
    lower: lower && ((to, [x], node) => lower(to, x, node)),
    decompose: decompose && (([x], attrs) => decompose(x, attrs)),
    decomposeOn,
    vjp: (node, g) => [pull(g, node.inputs[0], erase(node), node.attrs)],
    jvp: (node, [t]) => t && pull(t, node.inputs[0], erase(node), node.attrs),
  };
  return (x, attrs) => make(op, [x], attrs);
}

type NoAttrs = Readonly<Record<string, never>>;
const noAttrs: NoAttrs = {};

/** ONNX Runtime has these kernels on the CPU for float32 only. */
const decomposeOn = ['float64'];

const rootHalf = Math.SQRT1_2;
const gaussFactor = 1 / Math.sqrt(2 * Math.PI);

/** exp(-x²/2), which the first and second derivative of GELU share. */
const bell = (x: Tensor): Tensor => exp(mul(square(x), -0.5));

/** Φ(x) + x φ(x), the derivative of GELU. Its own derivative is φ(x) (2 - x²). */
const geluSlope = activation<NoAttrs>({
  name: 'geluSlope',
  decompose: (x) => add(mul(erf(mul(x, rootHalf)), 0.5), add(mul(mul(x, bell(x)), gaussFactor), 0.5)),
  pull: (t, x) => mul(t, mul(bell(x), sub(2 * gaussFactor, mul(square(x), gaussFactor)))),
});

const exactGelu = activation<NoAttrs>({
  name: 'gelu',
  evaluate: (x) => 0.5 * x * (1 + erfValue(x * rootHalf)),
  lower: (to, x) => to.node('Gelu', [x]),
  pull: (t, x) => mul(t, geluSlope(x, noAttrs)),
});

// ½ (1 + tanh u) = σ(2u): the tanh form is x σ(v) with v = x (k + c x²).
const tanhGeluK = 2 * Math.sqrt(2 / Math.PI);
const tanhGeluC = 0.044715 * tanhGeluK;

function tanhGeluParts(x: Tensor): { v: Tensor; s: Tensor; v1: Tensor } {
  const cx2 = mul(square(x), tanhGeluC);
  const v = mul(x, add(cx2, tanhGeluK));
  return { v, s: sigmoid(v), v1: add(mul(cx2, 3), tanhGeluK) };
}

/** s + x s (1 - s) v', whose own derivative is s (1 - s) (2 v' + x (v'² (1 - 2 s) + v'')). */
const tanhGeluSlope = activation<NoAttrs>({
  name: 'tanhGeluSlope',
  decompose: (x) => {
    const { s, v1 } = tanhGeluParts(x);
    return mul(s, add(mul(mul(x, v1), sub(1, s)), 1));
  },
  pull: (t, x) => {
    const { v, s, v1 } = tanhGeluParts(x);
    const bend = add(mul(square(v1), sub(1, mul(s, 2))), mul(x, 6 * tanhGeluC));
    // s (1 - s) without cancellation: where it is small, what it is multiplied by is large.
    const e = exp(v);
    const hump = reciprocal(add(add(e, 2), reciprocal(e)));
    return mul(t, mul(hump, add(mul(v1, 2), mul(x, bend))));
  },
});

const tanhGelu = activation<NoAttrs>({
  name: 'tanhGelu',
  evaluate: (x) => x / (1 + Math.exp(-x * (tanhGeluK + tanhGeluC * x * x))),
  lower: (to, x) => to.node('Gelu', [x], { approximate: string('tanh') }),
  decompose: (x) => mul(x, tanhGeluParts(x).s),
  decomposeOn,
  pull: (t, x) => mul(t, tanhGeluSlope(x, noAttrs)),
});

export interface GeluOptions {
  /** `none` (default): x Φ(x) with the normal distribution function Φ; `tanh`: its approximation, as in GPT-2. */
  readonly approximate?: 'none' | 'tanh';
}

/**
 * Gaussian error linear unit (Hendrycks and Gimpel 2016): x Φ(x), or with `approximate: 'tanh'`
 * ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))). ONNX Runtime has no float64 kernel for the exact form.
 */
export function gelu(x: Tensor, { approximate = 'none' }: GeluOptions = {}): Tensor {
  return approximate === 'tanh' ? tanhGelu(x, noAttrs) : exactGelu(x, noAttrs);
}

interface SwishAttrs {
  readonly beta: number;
}

// The sigmoid of the forward pass serves the derivative too, so it stays a node of its own.
const swishSigmoid = (x: Tensor, beta: number) => sigmoid(beta === 1 ? x : mul(x, beta));

const swishOp = activation<SwishAttrs>({
  name: 'swish',
  decompose: (x, { beta }) => mul(x, swishSigmoid(x, beta)),
  pull: (t, x, y, { beta }) => {
    const s = swishSigmoid(x, beta);
    return mul(t, add(s, mul(beta === 1 ? y : mul(y, beta), sub(1, s))));
  },
});

/** x σ(βx) (Ramachandran, Zoph and Le 2017); β = 1 is {@link silu}. */
export function swish(x: Tensor, beta = 1): Tensor {
  return swishOp(x, { beta: finite('swish', 'beta', beta) });
}

/** Sigmoid linear unit x σ(x), also called swish. */
export const silu = (x: Tensor): Tensor => swish(x);

/** x σ(1.702 x), the sigmoid approximation of GELU (CLIP uses it). */
export const quickGelu = (x: Tensor): Tensor => swish(x, 1.702);

interface EluAttrs {
  /** γ x where x > 0, γ α (e^{x/β} - 1) elsewhere. */
  readonly alpha: number;
  readonly beta: number;
  readonly gamma: number;
  /** The ONNX op that is this case. */
  readonly kernel: 'Elu' | 'Celu' | 'Selu';
}

const eluOp = activation<EluAttrs>({
  name: 'elu',
  evaluate: (x, { alpha, beta, gamma }) => gamma * (x > 0 ? x : alpha * Math.expm1(x / beta)),
  lower: (to, x, { attrs: { alpha, gamma, kernel } }) =>
    to.node(kernel, [x], { alpha: float(alpha), ...(kernel === 'Selu' ? { gamma: float(gamma) } : {}) }),
  decompose: (x, { alpha, beta, gamma }) =>
    mul(where(greater(x, 0), x, mul(expm1(mul(minimum(x, 0), 1 / beta)), alpha)), gamma),
  decomposeOn,
  pull: (t, x, y, { alpha, beta, gamma }) =>
    where(greater(x, 0), gamma === 1 ? t : mul(t, gamma), mul(t, mul(add(y, gamma * alpha), 1 / beta))),
});

/** Exponential linear unit (Clevert, Unterthiner and Hochreiter 2015): x where x > 0, α (eˣ - 1) elsewhere. */
export function elu(x: Tensor, alpha = 1): Tensor {
  return eluOp(x, { alpha: finite('elu', 'alpha', alpha), beta: 1, gamma: 1, kernel: 'Elu' });
}

/** Continuously differentiable ELU (Barron 2017): x where x > 0, α (e^{x/α} - 1) elsewhere; α is not 0. */
export function celu(x: Tensor, alpha = 1): Tensor {
  if (alpha === 0) throw new ConfigError('celu: alpha is 0, by which x would be divided; give another number.');
  return eluOp(x, { alpha: finite('celu', 'alpha', alpha), beta: alpha, gamma: 1, kernel: 'Celu' });
}

/** Scaled ELU with the self-normalising constants of Klambauer et al. 2017. */
export function selu(x: Tensor): Tensor {
  return eluOp(x, { alpha: 1.6732632423543772, beta: 1, gamma: 1.0507009873554805, kernel: 'Selu' });
}

interface AlphaAttrs {
  readonly alpha: number;
}

const leakyReluOp = activation<AlphaAttrs>({
  name: 'leakyRelu',
  evaluate: (x, { alpha }) => (x >= 0 ? x : alpha * x),
  lower: (to, x, { attrs }) => to.node('LeakyRelu', [x], { alpha: float(attrs.alpha) }),
  decompose: (x, { alpha }) => where(greater(x, 0), x, mul(x, alpha)),
  decomposeOn,
  pull: (t, x, _, { alpha }) => where(greater(x, 0), t, mul(t, alpha)),
});

/** x where x > 0, α x elsewhere (0.01 by default); the derivative at 0 is α. */
export function leakyRelu(x: Tensor, alpha = 0.01): Tensor {
  return leakyReluOp(x, { alpha: finite('leakyRelu', 'alpha', alpha) });
}

/**
 * x where x > 0, slope · x elsewhere (He et al. 2015). `slope` broadcasts against x: a scalar, or [C, 1, 1] for one
 * slope a channel of [N, C, H, W].
 */
export function prelu(x: Tensor, slope: Tensor): Tensor {
  expectFloat('prelu', x);
  return where(greater(x, 0), x, mul(x, slope));
}

interface HardSigmoidAttrs {
  readonly alpha: number;
  readonly beta: number;
}

const hardSigmoidOp = activation<HardSigmoidAttrs>({
  name: 'hardSigmoid',
  evaluate: (x, { alpha, beta }) => Math.min(1, Math.max(0, alpha * x + beta)),
  lower: (to, x, { attrs: { alpha, beta } }) => to.node('HardSigmoid', [x], { alpha: float(alpha), beta: float(beta) }),
  decompose: (x, { alpha, beta }) => clip(add(mul(x, alpha), beta), 0, 1),
  decomposeOn,
  pull: (t, _, y, { alpha }) => where(logicalAnd(greater(y, 0), less(y, 1)), mul(t, alpha), constant(0, [], t.dtype)),
});

/** αx + β limited to [0, 1], with α = 1/6 and β = ½ as in PyTorch and MobileNetV3 (ONNX's own default α is 0.2). */
export function hardSigmoid(x: Tensor, alpha = 1 / 6, beta = 0.5): Tensor {
  return hardSigmoidOp(x, { alpha: finite('hardSigmoid', 'alpha', alpha), beta: finite('hardSigmoid', 'beta', beta) });
}

const hardSwishOp = activation<NoAttrs>({
  name: 'hardSwish',
  decompose: (x) => mul(x, hardSigmoid(x)),
  pull: (t, x) => {
    const inner = where(greater(x, -3), mul(t, add(mul(x, 1 / 3), 0.5)), constant(0, [], t.dtype));
    return where(less(x, 3), inner, t);
  },
});

/** x · hardSigmoid(x) (Howard et al. 2019). */
export const hardSwish = (x: Tensor): Tensor => hardSwishOp(x, noAttrs);

const mishOp = activation<NoAttrs>({
  name: 'mish',
  // tanh(log(1 + e)) = w / (w + 2) with w = e (e + 2). Beyond 20 it is 1 to the last bit, and e² would overflow.
  decompose: (x) => {
    const { w, w2 } = mishParts(x);
    return mul(x, div(w, w2));
  },
  pull: (t, x) => {
    const { e, w, w2 } = mishParts(x);
    // d/dx w/(w+2) = 4 e (e + 1) / (w + 2)².
    return mul(t, div(add(w, div(mul(mul(x, 4), mul(e, add(e, 1))), w2)), w2));
  },
});

function mishParts(x: Tensor): { e: Tensor; w: Tensor; w2: Tensor } {
  const e = exp(minimum(x, 20));
  const w = mul(e, add(e, 2));
  return { e, w, w2: add(w, 2) };
}

/** x tanh(log(1 + eˣ)) (Misra 2019). */
export const mish = (x: Tensor): Tensor => mishOp(x, noAttrs);

const softsignOp = activation<NoAttrs>({
  name: 'softsign',
  decompose: (x) => div(x, add(abs(x), 1)),
  pull: (t, _, y) => mul(t, square(sub(1, abs(y)))),
});

/** x / (1 + |x|). */
export const softsign = (x: Tensor): Tensor => softsignOp(x, noAttrs);

/** log σ(x), without overflow. */
export const logSigmoid = (x: Tensor): Tensor => neg(softplus(neg(x)));

/** x limited to [0, 6]. */
export const relu6 = (x: Tensor): Tensor => clip(x, 0, 6);

/** x limited to [low, high], [-1, 1] by default. */
export const hardTanh = (x: Tensor, low = -1, high = 1): Tensor => clip(x, low, high);

/** Gated linear unit (Dauphin et al. 2017): the first half of `axis` times the sigmoid of the second. */
export function glu(x: Tensor, axis = -1): Tensor {
  const at = normalizeAxis('glu', axis, x.rank);
  if (x.shape[at] % 2 !== 0) {
    throw new ShapeError(
      `glu: axis ${axis} of ${showShape(x.shape)} has odd extent ${x.shape[at]}; it must split in two.`,
    );
  }
  const [value, gate] = split(x, 2, at);
  return mul(value, sigmoid(gate));
}

function finite(op: string, what: string, value: number): number {
  if (!Number.isFinite(value)) throw new ConfigError(`${op}: ${what} is ${value}, but a finite number is wanted.`);
  return value;
}
