import { ShapeError } from '../../base/errors.ts';
import { int, ints, type Lowering } from '../lowering.ts';
import { type Shape, showShape, sizeOf, stridesOf } from '../shape.ts';
import { commonDtype, expectFloat, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { addAll } from './elementwise.ts';

/** Zeros around each spatial axis: one number for all, one per axis, or [before, after] per axis. */
export type ConvPadding = number | readonly (number | readonly [number, number])[] | 'same' | 'valid';

export interface ConvOptions {
  /** Step of the kernel, 1 by default; one number for all spatial axes or one each. */
  readonly stride?: number | readonly number[];
  /** Zeros around the input, 0 by default. `same` keeps ceil(size / stride), the odd zero at the end. */
  readonly padding?: ConvPadding;
  /** Distance between kernel taps, 1 by default. */
  readonly dilation?: number | readonly number[];
  /** Input and output channels are split into this many independent groups, 1 by default. */
  readonly groups?: number;
}

/** Geometry of a convolution, one entry per spatial axis. */
export interface ConvGeometry {
  readonly strides: readonly number[];
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly dilations: readonly number[];
  readonly groups: number;
}

/** Sizes of a convolution: x [N, C, ...in], w [O, C / groups, ...kernel], y [N, O, ...out]. */
export interface ConvAttrs extends ConvGeometry {
  readonly x: Shape;
  readonly w: Shape;
  readonly y: Shape;
}

// A convolution is one trilinear form T(x, w, y) = <conv(x, w), y>. The three ops below are its partial
// gradients, so the derivative of each is written with the other two, to any order.

export const convOp: OpDef<ConvAttrs> = {
  name: 'conv',
  infer: ([x], { y }) => ({ dtype: x.dtype, shape: y }),
  evaluate: ([x, w], attrs) => contract(attrs, 'y', { x, w }),
  lower: (to, [x, w], node) => to.node('Conv', [x, w], convNode(node.attrs)),
  vjp: ({ inputs: [x, w], attrs }, g, needed) => [
    needed[0] ? make(convInputOp, [g, w], attrs) : undefined,
    needed[1] ? make(convKernelOp, [x, g], attrs) : undefined,
  ],
  jvp: ({ inputs: [x, w], attrs }, [tx, tw]) => addAll(tx && make(convOp, [tx, w], attrs), tw && make(convOp, [x, tw], attrs)),
};

/** Gradient of a convolution in its input: inputs (y, w). The transposed convolution. */
export const convInputOp: OpDef<ConvAttrs> = {
  name: 'convInput',
  infer: ([y], { x }) => ({ dtype: y.dtype, shape: x }),
  evaluate: ([y, w], attrs) => contract(attrs, 'x', { y, w }),
  lower: lowerConvInput,
  vjp: ({ inputs: [y, w], attrs }, u, needed) => [
    needed[0] ? make(convOp, [u, w], attrs) : undefined,
    needed[1] ? make(convKernelOp, [u, y], attrs) : undefined,
  ],
  jvp: ({ inputs: [y, w], attrs }, [ty, tw]) =>
    addAll(ty && make(convInputOp, [ty, w], attrs), tw && make(convInputOp, [y, tw], attrs)),
};

/** Gradient of a convolution in its kernel: inputs (x, y). */
export const convKernelOp: OpDef<ConvAttrs> = {
  name: 'convKernel',
  infer: ([x], { w }) => ({ dtype: x.dtype, shape: w }),
  evaluate: ([x, y], attrs) => contract(attrs, 'w', { x, y }),
  lower: lowerConvKernel,
  vjp: ({ inputs: [x, y], attrs }, u, needed) => [
    needed[0] ? make(convInputOp, [y, u], attrs) : undefined,
    needed[1] ? make(convOp, [x, u], attrs) : undefined,
  ],
  jvp: ({ inputs: [x, y], attrs }, [tx, ty]) =>
    addAll(tx && make(convKernelOp, [tx, y], attrs), ty && make(convKernelOp, [x, ty], attrs)),
};

/** Visits every product of the form: flat positions in x, w and y that meet. */
function contract(attrs: ConvAttrs, into: 'x' | 'w' | 'y', given: Partial<Record<'x' | 'w' | 'y', Values>>): Float64Array {
  const { x, w, y, strides, low, dilations, groups } = attrs;
  const out = new Float64Array(sizeOf(attrs[into]));
  const [xs, ws, ys] = [x, w, y].map(stridesOf);
  const [from, other] = (['x', 'w', 'y'] as const).filter((key) => key !== into);
  const [a, b] = [given[from]!.data, given[other]!.data];
  const taps = sizeOf(w.slice(2));
  const pixels = sizeOf(y.slice(2));
  const outPerGroup = y[1] / groups;
  for (let tap = 0; tap < taps; tap++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      let [xAt, wAt, yAt, inside] = [0, 0, 0, true];
      for (let axis = y.length - 3, restTap = tap, restPixel = pixel; axis >= 0; axis--) {
        const k = restTap % w[axis + 2];
        const p = restPixel % y[axis + 2];
        restTap = Math.floor(restTap / w[axis + 2]);
        restPixel = Math.floor(restPixel / y[axis + 2]);
        const i = p * strides[axis] + k * dilations[axis] - low[axis];
        inside &&= i >= 0 && i < x[axis + 2];
        xAt += i * xs[axis + 2];
        wAt += k * ws[axis + 2];
        yAt += p * ys[axis + 2];
      }
      if (!inside) continue;
      for (let n = 0; n < x[0]; n++) {
        for (let o = 0; o < y[1]; o++) {
          const firstChannel = Math.floor(o / outPerGroup) * w[1];
          for (let c = 0; c < w[1]; c++) {
            const at = { x: xAt + n * xs[0] + (firstChannel + c) * xs[1], w: wAt + o * ws[0] + c * ws[1], y: yAt + n * ys[0] + o * ys[1] };
            out[at[into]] += a[at[from]] * b[at[other]];
          }
        }
      }
    }
  }
  return out;
}

const convNode = ({ strides, low, high, dilations, groups, w }: ConvAttrs) => ({
  strides: ints(strides),
  pads: ints([...low, ...high]),
  dilations: ints(dilations),
  group: int(groups),
  kernel_shape: ints(w.slice(2)),
});

function lowerConvInput(to: Lowering, [y, w]: readonly string[], { attrs }: Tensor<ConvAttrs>): string {
  const { strides, low, dilations, groups, x } = attrs;
  const spatial = strides.length;
  const reach = dilations.map((d, axis) => d * (attrs.w[axis + 2] - 1));
  const unit = strides.every((s) => s === 1);
  const padsLow = reach.map((r, axis) => r - low[axis]);
  const padsHigh = reach.map((r, axis) => x[axis + 2] - attrs.y[axis + 2] + low[axis]);
  if (unit && [...padsLow, ...padsHigh].every((p) => p >= 0)) {
    // With stride 1 it is a convolution with the kernel turned around; the CPU's Conv uses every thread, ConvTranspose does not.
    return to.node('Conv', [y, turned(to, w, attrs)], {
      ...convNode(attrs),
      strides: ints(strides.map(() => 1)),
      pads: ints([...padsLow, ...padsHigh]),
    });
  }
  // ConvTranspose yields what the kernel reaches; rows of x beyond that have zero gradient (output_padding).
  const reached = strides.map((s, axis) => (attrs.y[axis + 2] - 1) * s + reach[axis] + 1);
  const rest = strides.map((_, axis) => x[axis + 2] + low[axis] - reached[axis]);
  const full = to.node('ConvTranspose', [y, w], {
    strides: ints(strides),
    dilations: ints(dilations),
    group: int(groups),
    kernel_shape: ints(attrs.w.slice(2)),
    pads: ints([...low, ...rest.map((r) => Math.max(0, -r))]),
  });
  if (rest.every((r) => r <= 0)) return full;
  return to.node('Pad', [full, to.ints([...new Array(2 + spatial).fill(0), 0, 0, ...rest.map((r) => Math.max(0, r))])]);
}

/** Kernel [O, C/g, ...k] → [C, O/g, ...k] with every spatial axis reversed. */
function turned(to: Lowering, w: string, { groups, w: shape }: ConvAttrs): string {
  const [o, c, ...kernel] = shape;
  const axes = kernel.map((_, axis) => axis);
  let swapped: string;
  if (groups === 1) swapped = to.node('Transpose', [w], { perm: ints([1, 0, ...axes.map((axis) => axis + 2)]) });
  else {
    const split = to.node('Reshape', [w, to.ints([groups, o / groups, c, ...kernel])]);
    const moved = to.node('Transpose', [split], { perm: ints([0, 2, 1, ...axes.map((axis) => axis + 3)]) });
    swapped = to.node('Reshape', [moved, to.ints([groups * c, o / groups, ...kernel])]);
  }
  if (kernel.every((extent) => extent === 1)) return swapped;
  const minus = to.ints(axes.map(() => -1));
  return to.node('Slice', [swapped, minus, to.ints(axes.map(() => Number.MIN_SAFE_INTEGER)), to.ints(axes.map((axis) => axis + 2)), minus]);
}

/** One batched product per kernel tap, summed over the batch: three times faster than a Conv with swapped axes. */
function lowerConvKernel(to: Lowering, [x, y]: readonly string[], { attrs, dtype }: Tensor<ConvAttrs>): string {
  const { strides, low, high, dilations, groups } = attrs;
  const [n, channels, ...extent] = attrs.x;
  const [o, c, ...kernel] = attrs.w;
  const out = attrs.y.slice(2);
  const axes = to.ints(kernel.map((_, axis) => axis + 2));
  const zero = to.scalar(0, dtype);
  const padded = [...low, ...high].some((p) => p > 0) ? to.node('Pad', [x, to.ints([0, 0, ...low, 0, 0, ...high]), zero]) : x;
  const pixels = sizeOf(out);
  const rows = to.node('Reshape', [y, to.ints([n, groups, o / groups, pixels])]);
  const taps = Array.from({ length: sizeOf(kernel) }, (_, tap) => {
    const at = kernel.map((_, axis) => (Math.floor(tap / sizeOf(kernel.slice(axis + 1))) % kernel[axis]) * dilations[axis]);
    const ends = at.map((start, axis) => start + (out[axis] - 1) * strides[axis] + 1);
    const whole = at.every((start, axis) => start === 0 && strides[axis] === 1 && out[axis] === extent[axis] + low[axis] + high[axis]);
    const seen = whole ? padded : to.node('Slice', [padded, to.ints(at), to.ints(ends), axes, to.ints(strides)]);
    const columns = to.node('Reshape', [seen, to.ints([n, groups, channels / groups, pixels])]);
    const product = timesTransposed(to, rows, columns, dtype);
    return to.node('ReduceSum', [product, to.ints([0])], { keepdims: int(0) });
  });
  // Each tap is [g, O/g, C/g]; they become the trailing (spatial) axes of the kernel.
  const last = to.ints([-1]);
  const joined = taps.length === 1 ? taps[0] : to.node('Concat', taps.map((tap) => to.node('Unsqueeze', [tap, last])), { axis: int(-1) });
  return to.node('Reshape', [joined, to.ints([o, c, ...kernel])]);
}

/** a · bᵀ over the last two axes of batches [N, g, rows, k]. */
function timesTransposed(to: Lowering, a: string, b: string, dtype: string): string {
  if (dtype === 'float32' && to.provider !== 'webgpu') {
    return to.node('FusedMatMul', [a, b], { transB: int(1) }, { domain: 'com.microsoft' });
  }
  return to.node('MatMul', [a, to.node('Transpose', [b], { perm: ints([0, 1, 3, 2]) })]);
}

/**
 * Convolution (cross-correlation, as everywhere in the field) over 1 or 2 spatial axes.
 *
 * @param x [N, C, ...spatial]
 * @param w [O, C / groups, ...kernel]
 * @returns [N, O, ...spatial'] with spatial' = floor((size + padding - dilation (kernel - 1) - 1) / stride) + 1
 * @throws ShapeError where ranks, channels or groups do not fit, or the kernel reaches beyond the padded input.
 */
export function conv(x: Tensor, w: Tensor, options: ConvOptions = {}): Tensor {
  checkOperands('conv', x, w);
  const geometry = readGeometry('conv', x.shape.slice(2), w.shape.slice(2), options);
  const { groups, strides, low, high, dilations } = geometry;
  const [o, c] = w.shape;
  if (x.shape[1] !== c * groups || o % groups !== 0) {
    throw new ShapeError(
      `conv: x ${showShape(x.shape)} has ${x.shape[1]} channels, but w ${showShape(w.shape)} with ${groups} groups wants ${c * groups}, and its ${o} outputs must divide by ${groups}.`,
    );
  }
  const out = strides.map((s, axis) => {
    const reach = dilations[axis] * (w.shape[axis + 2] - 1) + 1;
    const size = x.shape[axis + 2] + low[axis] + high[axis];
    if (reach > size) {
      throw new ShapeError(`conv: the kernel ${showShape(w.shape)} reaches over ${reach} elements of spatial axis ${axis}, but x ${showShape(x.shape)} has ${size} with padding.`);
    }
    return Math.floor((size - reach) / s) + 1;
  });
  return make(convOp, [x, w], { ...geometry, x: x.shape, w: w.shape, y: [x.shape[0], o, ...out] });
}

export interface ConvTransposeOptions extends ConvOptions {
  /** Extra rows at the end of each spatial axis, which several input sizes of the mirrored convolution allow; 0 by default. */
  readonly outputPadding?: number | readonly number[];
}

/**
 * Transposed convolution: the gradient of {@link conv} in its input, as a layer.
 *
 * @param x [N, C, ...spatial]
 * @param w [C, O / groups, ...kernel]
 * @returns [N, O, ...spatial'] with spatial' = (size - 1) stride - padding + dilation (kernel - 1) + 1 + outputPadding
 */
export function convTranspose(x: Tensor, w: Tensor, options: ConvTransposeOptions = {}): Tensor {
  checkOperands('convTranspose', x, w);
  if (options.padding === 'same') throw new ShapeError("convTranspose: padding 'same' is ambiguous here; give numbers.");
  const geometry = readGeometry('convTranspose', x.shape.slice(2), w.shape.slice(2), options);
  const { groups, strides, low, high, dilations } = geometry;
  const extra = perAxis('convTranspose', 'outputPadding', options.outputPadding ?? 0, strides.length, 0);
  if (x.shape[1] !== w.shape[0] || x.shape[1] % groups !== 0) {
    throw new ShapeError(`convTranspose: x ${showShape(x.shape)} has ${x.shape[1]} channels, but w ${showShape(w.shape)} with ${groups} groups wants ${w.shape[0]}, a multiple of the groups.`);
  }
  const out = strides.map((s, axis) => {
    if (extra[axis] >= s) throw new ShapeError(`convTranspose: outputPadding ${extra[axis]} must be below the stride ${s}.`);
    return (x.shape[axis + 2] - 1) * s - low[axis] - high[axis] + dilations[axis] * (w.shape[axis + 2] - 1) + 1 + extra[axis];
  });
  if (out.some((extent) => extent < 1)) throw new ShapeError(`convTranspose: x ${showShape(x.shape)} with w ${showShape(w.shape)} leaves a result of extents ${showShape(out)}.`);
  const mirrored = { ...geometry, x: [x.shape[0], w.shape[1] * groups, ...out], w: w.shape, y: x.shape };
  return make(convInputOp, [x, w], mirrored);
}

function checkOperands(op: string, x: Tensor, w: Tensor): void {
  commonDtype(op, [x, w]);
  expectFloat(op, x);
  if (x.rank !== w.rank || x.rank < 3 || x.rank > 4) {
    throw new ShapeError(`${op}: x ${showShape(x.shape)} and w ${showShape(w.shape)} must both be [_, _, length] or [_, _, height, width].`);
  }
}

/** One whole number (at least `least`) per spatial axis. */
function perAxis(op: string, what: string, value: number | readonly number[], spatial: number, least: number): number[] {
  const list = typeof value === 'number' ? new Array<number>(spatial).fill(value) : [...value];
  if (list.length !== spatial || list.some((n) => !Number.isInteger(n) || n < least)) {
    throw new ShapeError(`${op}: ${what} ${JSON.stringify(value)} wants one whole number of at least ${least}, or one for each of ${spatial} spatial axes.`);
  }
  return list;
}

/** Options → geometry; also used by pooling, whose `kernel` is its window. */
export function readGeometry(op: string, size: Shape, kernel: Shape, options: ConvOptions): ConvGeometry {
  const strides = perAxis(op, 'stride', options.stride ?? 1, size.length, 1);
  const dilations = perAxis(op, 'dilation', options.dilation ?? 1, size.length, 1);
  const groups = options.groups ?? 1;
  if (!Number.isInteger(groups) || groups < 1) throw new ShapeError(`${op}: groups is ${groups}; a whole number of at least 1 is wanted.`);
  const { padding = 0 } = options;
  if (padding === 'same') {
    const total = size.map((extent, axis) => {
      const out = Math.ceil(extent / strides[axis]);
      return Math.max(0, (out - 1) * strides[axis] + dilations[axis] * (kernel[axis] - 1) + 1 - extent);
    });
    const low = total.map((t) => Math.floor(t / 2));
    return { strides, dilations, groups, low, high: total.map((t, axis) => t - low[axis]) };
  }
  const list = padding === 'valid' ? 0 : padding;
  const pairs = typeof list === 'number' ? size.map(() => [list, list] as const) : list.map((p) => (typeof p === 'number' ? ([p, p] as const) : p));
  const low = perAxis(op, 'padding', pairs.map(([before]) => before), size.length, 0);
  const high = perAxis(op, 'padding', pairs.map(([, after]) => after), size.length, 0);
  return { strides, dilations, groups, low, high };
}

