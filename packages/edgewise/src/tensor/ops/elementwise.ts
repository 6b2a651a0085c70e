import { ShapeError } from '../../base/errors.ts';
import { type DType, isFloat } from '../dtype.ts';
import { float, int, type Lowering } from '../lowering.ts';
import { broadcastShapes, broadcastStrides, sameShape, showShape, sizeOf } from '../shape.ts';
import {
  commonDtype,
  constant,
  erase,
  expectFloat,
  type MaybeTensor,
  make,
  type OpDef,
  type Tensor,
  uniformValue,
  type Values,
} from '../tensor.ts';
import { erf as erfValue } from './erf.ts';
import { sumTo } from './reduce.ts';

/** A tensor, or a number standing for a constant of its partner's dtype. */
export type Operand = Tensor | number;

type NoAttrs = Readonly<Record<string, never>>;
const noAttrs: NoAttrs = {};

/** Sum of derivative contributions, of which any may be absent. */
export function addAll(...terms: readonly MaybeTensor[]): MaybeTensor {
  const present = terms.filter((term) => term !== undefined);
  return present.length === 0 ? undefined : present.reduce((total, term) => add(total, term));
}

function operands(op: string, a: Operand, b: Operand): [Tensor, Tensor] {
  if (typeof a === 'number') {
    if (typeof b === 'number')
      throw new ShapeError(`${op}: both operands are plain numbers; at least one must be a tensor.`);
    return [constant(a, [], b.dtype), b];
  }
  return [a, typeof b === 'number' ? constant(b, [], a.dtype) : b];
}

/** Applies `f` to broadcast elements of any number of inputs. */
function mapElements(inputs: readonly Values[], shape: readonly number[], f: (...x: number[]) => number): Float64Array {
  const size = sizeOf(shape);
  const out = new Float64Array(size);
  if (inputs.every((x) => sameShape(x.shape, shape))) {
    const [a, b, c] = inputs.map((x) => x.data);
    if (inputs.length === 1) for (let i = 0; i < size; i++) out[i] = f(a[i]);
    else if (inputs.length === 2) for (let i = 0; i < size; i++) out[i] = f(a[i], b[i]);
    else for (let i = 0; i < size; i++) out[i] = f(a[i], b[i], c[i]);
    return out;
  }
  const strides = inputs.map((x) => broadcastStrides(x.shape, shape));
  const index = new Array<number>(shape.length).fill(0);
  const at = new Array<number>(inputs.length).fill(0);
  const args = new Array<number>(inputs.length);
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < inputs.length; k++) args[k] = inputs[k].data[at[k]];
    out[i] = f(...args);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]++;
      for (let k = 0; k < inputs.length; k++) at[k] += strides[k][axis];
      if (index[axis] < shape[axis]) break;
      for (let k = 0; k < inputs.length; k++) at[k] -= strides[k][axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

interface UnaryRule {
  /** The function on one number. */
  readonly f: (x: number) => number;
  /** ONNX op type, or how to emit it. */
  readonly onnx: string | ((to: Lowering, x: string, node: Tensor) => string);
  /** Derivative at x, given the result y; absent for piecewise constant functions. */
  readonly slope?: (x: Tensor, y: Tensor) => Tensor;
  /** Which inputs are allowed, floating point by default. */
  readonly accepts?: 'float' | 'number' | 'bool';
  readonly result?: DType;
}

function unary(name: string, rule: UnaryRule): (x: Tensor) => Tensor {
  const accepts = rule.accepts ?? 'float';
  const op: OpDef<NoAttrs> = {
    name,
    infer: ([x]) => {
      if (accepts === 'float') expectFloat(name, x);
      else if ((accepts === 'bool') !== (x.dtype === 'bool')) {
        throw new ShapeError(
          `${name}: got ${x.dtype}${showShape(x.shape)}, but ${accepts === 'bool' ? 'booleans' : 'numbers'} are wanted.`,
        );
      }
      return { shape: x.shape, dtype: rule.result ?? x.dtype };
    },
    evaluate: (inputs, _, type) => mapElements(inputs, type.shape, rule.f),
    lower: (to, [x], node) => (typeof rule.onnx === 'string' ? to.node(rule.onnx, [x]) : rule.onnx(to, x, erase(node))),
    flat: rule.slope === undefined,
    vjp: rule.slope && ((node, g) => [mul(g, rule.slope!(node.inputs[0], erase(node)))]),
    jvp: rule.slope && ((node, [t]) => t && mul(t, rule.slope!(node.inputs[0], erase(node)))),
  };
  return (x) => make(op, [x], noAttrs);
}

interface BinaryRule {
  readonly f: (a: number, b: number) => number;
  readonly onnx: string | ((to: Lowering, a: string, b: string, node: Tensor) => string);
  /** Contribution of input a (index 0) and b (index 1) to a change `t` of the result, before any reduction; absent where flat. */
  readonly pull?: readonly [
    (t: Tensor, a: Tensor, b: Tensor, y: Tensor) => Tensor,
    (t: Tensor, a: Tensor, b: Tensor, y: Tensor) => Tensor,
  ];
  readonly accepts?: 'number' | 'bool' | 'any';
  readonly result?: DType;
}

function binary(name: string, rule: BinaryRule): (a: Operand, b: Operand) => Tensor {
  const accepts = rule.accepts ?? 'number';
  const op: OpDef<NoAttrs> = {
    name,
    infer: (inputs) => {
      const dtype = commonDtype(name, inputs);
      if (accepts !== 'any' && (accepts === 'bool') !== (dtype === 'bool')) {
        throw new ShapeError(
          `${name}: got ${dtype} operands of shapes ${inputs.map((x) => showShape(x.shape)).join(' and ')}, but ${accepts === 'bool' ? 'booleans' : 'numbers'} are wanted.`,
        );
      }
      return { shape: broadcastShapes(name, ...inputs.map((x) => x.shape)), dtype: rule.result ?? dtype };
    },
    evaluate: (inputs, _, type) => {
      const out = mapElements(inputs, type.shape, rule.f);
      return type.dtype.startsWith('int') && inputs.length === 2 ? out.map(Math.trunc) : out;
    },
    lower: (to, [a, b], node) =>
      typeof rule.onnx === 'string' ? to.node(rule.onnx, [a, b]) : rule.onnx(to, a, b, erase(node)),
    flat: rule.pull === undefined,
    vjp:
      rule.pull &&
      ((node, g, needed) => {
        const [a, b] = node.inputs;
        return [a, b].map((x, i) => (needed[i] ? sumTo(rule.pull![i](g, a, b, erase(node)), x.shape) : undefined));
      }),
    jvp:
      rule.pull &&
      ((node, tangents) => {
        const [a, b] = node.inputs;
        const total = addAll(...tangents.map((t, i) => t && rule.pull![i](t, a, b, erase(node))));
        return total && broadcastLike(total, node.shape);
      }),
  };
  return (a, b) => make(op, operands(name, a, b), noAttrs);
}

/** Expands a tangent to the result's shape where the other operand's broadcasting made it larger. */
function broadcastLike(x: Tensor, shape: readonly number[]): Tensor {
  return sameShape(x.shape, shape) ? x : add(x, constant(0, shape, x.dtype));
}

/** a + b, broadcasting. */
export const add = binary('add', { f: (a, b) => a + b, onnx: 'Add', pull: [(t) => t, (t) => t] });
/** a - b, broadcasting. */
export const sub = binary('sub', { f: (a, b) => a - b, onnx: 'Sub', pull: [(t) => t, (t) => neg(t)] });
/** a · b, broadcasting. */
export const mul = binary('mul', {
  f: (a, b) => a * b,
  onnx: 'Mul',
  pull: [(t, _, b) => mul(t, b), (t, a) => mul(t, a)],
});
/** a / b, broadcasting; integers truncate towards zero. */
export const div = binary('div', {
  f: (a, b) => a / b,
  onnx: 'Div',
  pull: [(t, _, b) => div(t, b), (t, _, b, y) => neg(mul(t, div(y, b)))],
});
const powOp = binary('pow', {
  f: (a, b) => a ** b,
  onnx: 'Pow',
  pull: [
    (t, a, b) => {
      const exponent = uniformValue(b);
      return mul(t, exponent === undefined ? mul(b, pow(a, sub(b, 1))) : mul(pow(a, exponent - 1), exponent));
    },
    (t, a, _, y) => mul(t, mul(y, log(a))),
  ],
});

/** a to the power b, broadcasting. Its derivative in b needs a > 0. */
export function pow(a: Operand, b: Operand): Tensor {
  const [base, power] = operands('pow', a, b);
  const exponent =
    base.dtype === power.dtype && isFloat(base.dtype) && power.rank === 0 ? uniformValue(power) : undefined;
  // 0, 1 and x² stay apart, or the higher derivatives of whole powers would be 0 · ∞ at 0.
  if (exponent === 0) return constant(1, base.shape, base.dtype);
  if (exponent === 1) return base;
  return exponent === 2 ? square(base) : powOp(base, power);
}

/** Larger of a and b; where equal, each gets half the derivative. */
export const maximum = binary('maximum', {
  f: (a, b) => (a !== a || b !== b ? Number.NaN : Math.max(a, b)),
  onnx: 'Max',
  pull: [(t, a, b) => mul(t, share(greater(a, b), a, b)), (t, a, b) => mul(t, share(greater(b, a), a, b))],
});
/** Smaller of a and b; where equal, each gets half the derivative. */
export const minimum = binary('minimum', {
  f: (a, b) => (a !== a || b !== b ? Number.NaN : Math.min(a, b)),
  onnx: 'Min',
  pull: [(t, a, b) => mul(t, share(less(a, b), a, b)), (t, a, b) => mul(t, share(less(b, a), a, b))],
});

/** 1 where `wins`, ½ where a = b, 0 elsewhere. */
function share(wins: Tensor, a: Tensor, b: Tensor): Tensor {
  const { dtype } = a;
  return where(wins, constant(1, [], dtype), where(equal(a, b), constant(0.5, [], dtype), constant(0, [], dtype)));
}

/** Remainder of a / b with the sign of b (NumPy's mod); flat in b is not assumed: d/db = -floor(a/b). */
export const mod = binary('mod', {
  f: (a, b) => a - b * Math.floor(a / b),
  onnx: (to, a, b, node) => {
    if (!isFloat(node.dtype)) return to.node('Mod', [a, b]);
    return to.node('Sub', [a, to.node('Mul', [b, to.node('Floor', [to.node('Div', [a, b])])])]);
  },
  pull: [(t) => t, (t, a, b) => neg(mul(t, floor(div(a, b))))],
});

const comparison = (
  name: string,
  onnx: string,
  f: (a: number, b: number) => boolean,
  accepts: 'number' | 'any' = 'number',
) => binary(name, { f: (a, b) => (f(a, b) ? 1 : 0), onnx, result: 'bool', accepts });

export const equal = comparison('equal', 'Equal', (a, b) => a === b, 'any');
export const greater = comparison('greater', 'Greater', (a, b) => a > b);
export const greaterEqual = comparison('greaterEqual', 'GreaterOrEqual', (a, b) => a >= b);
export const less = comparison('less', 'Less', (a, b) => a < b);
export const lessEqual = comparison('lessEqual', 'LessOrEqual', (a, b) => a <= b);

const logical = (name: string, onnx: string, f: (a: boolean, b: boolean) => boolean) =>
  binary(name, { f: (a, b) => (f(a !== 0, b !== 0) ? 1 : 0), onnx, accepts: 'bool' });

export const logicalAnd = logical('logicalAnd', 'And', (a, b) => a && b);
export const logicalOr = logical('logicalOr', 'Or', (a, b) => a || b);
export const logicalXor = logical('logicalXor', 'Xor', (a, b) => a !== b);
export const logicalNot = unary('logicalNot', { f: (x) => (x === 0 ? 1 : 0), onnx: 'Not', accepts: 'bool' });

/** -x. */
export const neg = unary('neg', {
  f: (x) => -x,
  onnx: 'Neg',
  accepts: 'number',
  slope: (x) => constant(-1, [], x.dtype),
});
/** |x|, with derivative sign(x). */
export const abs = unary('abs', { f: Math.abs, onnx: 'Abs', accepts: 'number', slope: (x) => sign(x) });
/** -1, 0 or 1; flat. */
export const sign = unary('sign', { f: Math.sign, onnx: 'Sign', accepts: 'number' });
export const exp = unary('exp', { f: Math.exp, onnx: 'Exp', slope: (_, y) => y });
/** Natural logarithm. */
export const log = unary('log', { f: Math.log, onnx: 'Log', slope: (x) => reciprocal(x) });
/** log(1 + x), accurate near 0 also where the device has only a logarithm (Kahan's correction). */
export const log1p = unary('log1p', {
  f: Math.log1p,
  onnx: (to, x, node) => {
    const one = to.scalar(1, node.dtype);
    const u = to.node('Add', [x, one]);
    const rounding = to.node('Sub', [u, one]);
    const exact = to.node('Equal', [rounding, to.scalar(0, node.dtype)]);
    const safe = to.node('Where', [exact, one, rounding]);
    return to.node('Where', [exact, x, to.node('Mul', [to.node('Log', [u]), to.node('Div', [x, safe])])]);
  },
  slope: (x) => reciprocal(add(x, 1)),
});
/** exp(x) - 1, accurate near 0 also where the device has only an exponential: 2 sinh(x/2) exp(x/2). */
export const expm1 = unary('expm1', {
  f: Math.expm1,
  onnx: (to, x, node) => {
    const t = to.node('Tanh', [to.node('Mul', [x, to.scalar(0.5, node.dtype)])]);
    const one = to.scalar(1, node.dtype);
    // tanh(x/2) (e^x + 1) = e^x - 1 without cancellation near 0.
    return to.node('Mul', [t, to.node('Add', [to.node('Exp', [x]), one])]);
  },
  slope: (x) => exp(x),
});
export const sqrt = unary('sqrt', { f: Math.sqrt, onnx: 'Sqrt', slope: (_, y) => div(0.5, y) });
/** 1 / √x. */
export const rsqrt = (x: Tensor): Tensor => reciprocal(sqrt(x));
/** x². */
export const square = unary('square', {
  f: (x) => x * x,
  onnx: (to, x) => to.node('Mul', [x, x]),
  accepts: 'number',
  slope: (x) => mul(x, 2),
});
/** 1 / x. */
export const reciprocal = unary('reciprocal', { f: (x) => 1 / x, onnx: 'Reciprocal', slope: (_, y) => neg(mul(y, y)) });
export const sin = unary('sin', { f: Math.sin, onnx: 'Sin', slope: (x) => cos(x) });
export const cos = unary('cos', { f: Math.cos, onnx: 'Cos', slope: (x) => neg(sin(x)) });
export const tan = (x: Tensor): Tensor => div(sin(x), cos(x));
export const atan = unary('atan', { f: Math.atan, onnx: 'Atan', slope: (x) => reciprocal(add(mul(x, x), 1)) });
export const sinh = (x: Tensor): Tensor => mul(sub(exp(x), exp(neg(x))), 0.5);
export const cosh = (x: Tensor): Tensor => mul(add(exp(x), exp(neg(x))), 0.5);
export const tanh = unary('tanh', { f: Math.tanh, onnx: 'Tanh', slope: (_, y) => sub(1, mul(y, y)) });
/** 1 / (1 + e^-x). */
export const sigmoid = unary('sigmoid', {
  f: (x) => 1 / (1 + Math.exp(-x)),
  onnx: 'Sigmoid',
  slope: (_, y) => mul(y, sub(1, y)),
});
/** log(1 + e^x), without overflow. */
export const softplus = unary('softplus', {
  f: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  // The provider's Softplus takes three times as long, and knows no float64.
  onnx: (to, x, node) =>
    to.node('Add', [
      to.node('Relu', [x]),
      to.node('Log', [
        to.node('Add', [to.node('Exp', [to.node('Neg', [to.node('Abs', [x])])]), to.scalar(1, node.dtype)]),
      ]),
    ]),
  slope: (x) => sigmoid(x),
});
/** The error function. */
export const erf = unary('erf', {
  f: erfValue,
  onnx: 'Erf',
  slope: (x) => mul(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI)),
});
export const floor = unary('floor', { f: Math.floor, onnx: 'Floor' });
export const ceil = unary('ceil', { f: Math.ceil, onnx: 'Ceil' });
/** To the nearest whole number, halves to even. */
export const round = unary('round', {
  f: (x) => {
    const low = Math.floor(x);
    return x - low === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(x);
  },
  onnx: 'Round',
});
export const isNaN = unary('isNaN', { f: (x) => (x !== x ? 1 : 0), onnx: 'IsNaN', result: 'bool' });
/** Neither NaN nor infinite. */
export const isFinite = unary('isFinite', {
  f: (x) => (Number.isFinite(x) ? 1 : 0),
  // x - x is 0 for finite x and NaN otherwise; IsInf is missing for some dtypes and providers.
  onnx: (to, x) => to.node('Not', [to.node('IsNaN', [to.node('Sub', [x, x])])]),
  result: 'bool',
});

const whereOp: OpDef<NoAttrs> = {
  name: 'where',
  infer: ([condition, a, b]) => {
    if (condition.dtype !== 'bool') {
      throw new ShapeError(
        `where: the condition is ${condition.dtype}${showShape(condition.shape)}, but booleans are wanted; compare first.`,
      );
    }
    return { dtype: commonDtype('where', [a, b]), shape: broadcastShapes('where', condition.shape, a.shape, b.shape) };
  },
  evaluate: (inputs, _, type) => mapElements(inputs, type.shape, (c, a, b) => (c !== 0 ? a : b)),
  lower: (to, [condition, a, b], node) => {
    if (node.dtype !== 'bool') return to.node('Where', [condition, a, b]);
    return to.node('Or', [to.node('And', [condition, a]), to.node('And', [to.node('Not', [condition]), b])]);
  },
  vjp: (node, g, needed) => {
    const [condition, a, b] = node.inputs;
    const zero = constant(0, [], g.dtype);
    return [
      undefined,
      needed[1] ? sumTo(where(condition, g, zero), a.shape) : undefined,
      needed[2] ? sumTo(where(condition, zero, g), b.shape) : undefined,
    ];
  },
  jvp: (node, [, ta, tb]) => {
    const zero = constant(0, [], node.dtype);
    return (ta || tb) && broadcastLike(where(node.inputs[0], ta ?? zero, tb ?? zero), node.shape);
  },
};

/** a where `condition` holds, b elsewhere; all three broadcast. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  return make(whereOp, [condition, ...operands('where', a, b)], noAttrs);
}

interface CastAttrs {
  readonly to: DType;
}

const castOp: OpDef<CastAttrs> = {
  name: 'cast',
  infer: ([x], { to }) => ({ shape: x.shape, dtype: to }),
  evaluate: ([x], { to }) => {
    if (to === 'bool') return x.data.map((v) => (v === 0 ? 0 : 1));
    return to.startsWith('int') ? x.data.map(Math.trunc) : x.data.slice();
  },
  lower: (to, [x], node) => to.node('Cast', [x], { to: { type: 'int', value: onnxDtype[node.dtype] } }),
  vjp: (node, g) => [isFloat(node.dtype) && isFloat(node.inputs[0].dtype) ? cast(g, node.inputs[0].dtype) : undefined],
  jvp: (node, [t]) => (t && isFloat(node.dtype) && isFloat(node.inputs[0].dtype) ? cast(t, node.dtype) : undefined),
};

/** Numbers ONNX gives to element types (`TensorProto.DataType`). */
export const onnxDtype: Readonly<Record<DType, number>> = {
  float32: 1,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};

/** x as another dtype: to integers towards zero, to bool as x ≠ 0. */
export function cast(x: Tensor, to: DType): Tensor {
  return x.dtype === to ? x : make(castOp, [x], { to });
}

const stopGradientOp: OpDef<NoAttrs> = {
  name: 'stopGradient',
  infer: ([x]) => x,
  evaluate: ([x]) => x.data,
  lower: (_, [x]) => x,
  flat: true,
};

/** x itself, treated as a constant by every derivative. */
export function stopGradient(x: Tensor): Tensor {
  return make(stopGradientOp, [x], noAttrs);
}

/** x limited to [low, high]; the derivative is 1 inside and 0 outside. */
export function clip(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new ShapeError(`clip: low ${low} is above high ${high}.`);
  return make(clipOp, [x], { low, high });
}

interface ClipAttrs {
  readonly low: number;
  readonly high: number;
}

const clipOp: OpDef<ClipAttrs> = {
  name: 'clip',
  infer: ([x]) => {
    expectFloat('clip', x);
    return x;
  },
  evaluate: ([x], { low, high }) => x.data.map((v) => Math.min(high, Math.max(low, v))),
  lower: (to, [x], node) =>
    to.node('Clip', [x, to.scalar(node.attrs.low, node.dtype), to.scalar(node.attrs.high, node.dtype)]),
  vjp: (node, g) => [where(inside(node), g, constant(0, [], g.dtype))],
  jvp: (node, [t]) => t && where(inside(node), t, constant(0, [], t.dtype)),
};

function inside(node: Tensor<ClipAttrs>): Tensor {
  const [x] = node.inputs;
  return logicalAnd(greaterEqual(x, node.attrs.low), lessEqual(x, node.attrs.high));
}

/** 1 where x > 0, 0 elsewhere, in x's dtype; flat. */
export const step = unary('step', {
  f: (x) => (x > 0 ? 1 : 0),
  // One pass, where a comparison and a cast are two: exact but for subnormal numbers.
  onnx: (to, x, { dtype }) =>
    dtype === 'float32'
      ? to.node('HardSigmoid', [x], { alpha: float(3e38), beta: float(0) })
      : to.node('Cast', [to.node('Greater', [x, to.scalar(0, dtype)])], { to: int(onnxDtype[dtype]) }),
});

/** max(x, 0), with derivative 0 at 0. */
export const relu = (x: Tensor): Tensor => make(reluOp, [x], noAttrs);

// The derivative is a product with 0 or 1: a mask that all orders share, and half the time of comparing and selecting each time.
const reluOp: OpDef<NoAttrs> = {
  name: 'relu',
  infer: ([x]) => {
    expectFloat('relu', x);
    return x;
  },
  evaluate: ([x]) => x.data.map((v) => (v > 0 || v !== v ? v : 0)),
  lower: (to, [x]) => to.node('Relu', [x]),
  vjp: (node, g) => [mul(g, step(erase(node)))],
  jvp: (node, [t]) => t && mul(t, step(erase(node))),
};
