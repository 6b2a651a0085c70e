import { ShapeError } from '../../base/errors.ts';
import { int } from '../lowering.ts';
import { normalizeAxis, showShape, sizeOf } from '../shape.ts';
import { erase, expectFloat, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { exp, mul, sub } from './elementwise.ts';
import { sum } from './reduce.ts';

interface AxisAttrs {
  readonly axis: number;
}

/** Calls `f` with the elements of each line along `axis` and writes what it returns in their place. */
function mapLines({ data, shape }: Values, axis: number, f: (line: Float64Array) => Float64Array): Float64Array {
  const extent = shape[axis];
  const inner = sizeOf(shape.slice(axis + 1));
  const out = new Float64Array(data.length);
  for (let i = 0; i < data.length / extent; i++) {
    const base = Math.floor(i / inner) * inner * extent + (i % inner);
    f(Float64Array.from({ length: extent }, (_, k) => data[base + k * inner])).forEach((value, k) => {
      out[base + k * inner] = value;
    });
  }
  return out;
}

const infer =
  (name: string) =>
  ([x]: readonly Tensor[], { axis }: AxisAttrs) => {
    expectFloat(name, x);
    if (x.shape[axis] === 0)
      throw new ShapeError(`${name}: axis ${axis} of ${showShape(x.shape)} is empty; there is nothing to share out.`);
    return { dtype: x.dtype, shape: x.shape };
  };

const total = (line: Float64Array) => line.reduce((a, b) => a + b, 0);

const softmaxOp: OpDef<AxisAttrs> = {
  name: 'softmax',
  infer: infer('softmax'),
  evaluate: ([x], { axis }) =>
    mapLines(x, axis, (line) => {
      const top = line.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
      const e = line.map((v) => Math.exp(v - top));
      const whole = total(e);
      return e.map((v) => v / whole);
    }),
  lower: (to, [x], { attrs }) => to.node('Softmax', [x], { axis: int(attrs.axis) }),
  // The Jacobian diag(y) - y yᵀ is symmetric: forward and reverse are the same.
  vjp: (node, g) => [throughSoftmax(node, g)],
  jvp: (node, [t]) => t && throughSoftmax(node, t),
};

function throughSoftmax(node: Tensor<AxisAttrs>, t: Tensor): Tensor {
  const y = erase(node);
  return mul(y, sub(t, sum(mul(y, t), { axes: node.attrs.axis, keepDims: true })));
}

const logSoftmaxOp: OpDef<AxisAttrs> = {
  name: 'logSoftmax',
  infer: infer('logSoftmax'),
  evaluate: ([x], { axis }) =>
    mapLines(x, axis, (line) => {
      const top = line.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
      const shift = top + Math.log(total(line.map((v) => Math.exp(v - top))));
      return line.map((v) => v - shift);
    }),
  lower: (to, [x], { attrs }) => to.node('LogSoftmax', [x], { axis: int(attrs.axis) }),
  vjp: (node, g) => [sub(g, mul(exp(erase(node)), sum(g, { axes: node.attrs.axis, keepDims: true })))],
  jvp: (node, [t]) => t && sub(t, sum(mul(exp(erase(node)), t), { axes: node.attrs.axis, keepDims: true })),
};

/** e^x / Σ e^x along `axis` (the last by default), without overflow. A line of only -∞ gives NaN. */
export function softmax(x: Tensor, axis = -1): Tensor {
  return make(softmaxOp, [x], { axis: normalizeAxis('softmax', axis, x.rank) });
}

/** x - log Σ e^x along `axis` (the last by default): the logarithm of {@link softmax}, without overflow. */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return make(logSoftmaxOp, [x], { axis: normalizeAxis('logSoftmax', axis, x.rank) });
}
