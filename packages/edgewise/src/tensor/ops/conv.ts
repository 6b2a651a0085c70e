import { ShapeError } from '../../base/errors.ts';
import { type Shape, showShape, sizeOf, stridesOf } from '../shape.ts';
import { commonDtype, expectFloat, make, type OpDef, type Tensor, type Values } from '../tensor.ts';
import { lowerConvKernel } from './conv-kernel-lowering.ts';
import { lowerConv, lowerConvInput } from './conv-lowering.ts';
import { convByTaps, convInputByTaps, convKernelByTaps } from './conv-taps.ts';
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
  lower: lowerConv,
  decompose: ([x, w], attrs) => convByTaps(x, w, attrs),
  decomposeOn: ['float64'],
  vjp: ({ inputs: [x, w], attrs }, g, needed) => [
    needed[0] ? make(convInputOp, [g, w], attrs) : undefined,
    needed[1] ? make(convKernelOp, [x, g], attrs) : undefined,
  ],
  jvp: ({ inputs: [x, w], attrs }, [tx, tw]) =>
    addAll(tx && make(convOp, [tx, w], attrs), tw && make(convOp, [x, tw], attrs)),
};

/** Gradient of a convolution in its input: inputs (y, w). The transposed convolution. */
export const convInputOp: OpDef<ConvAttrs> = {
  name: 'convInput',
  infer: ([y], { x }) => ({ dtype: y.dtype, shape: x }),
  evaluate: ([y, w], attrs) => contract(attrs, 'x', { y, w }),
  lower: lowerConvInput,
  decompose: ([y, w], attrs) => convInputByTaps(y, w, attrs),
  decomposeOn: ['float64'],
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
  decompose: ([x, y], attrs) => convKernelByTaps(x, y, attrs),
  // GPU providers multiply matrices faster than they slide filters as large as images.
  decomposeOn: ['float64', 'webgpu', 'cuda'],
  vjp: ({ inputs: [x, y], attrs }, u, needed) => [
    needed[0] ? make(convInputOp, [y, u], attrs) : undefined,
    needed[1] ? make(convOp, [x, u], attrs) : undefined,
  ],
  jvp: ({ inputs: [x, y], attrs }, [tx, ty]) =>
    addAll(tx && make(convKernelOp, [tx, y], attrs), ty && make(convKernelOp, [x, ty], attrs)),
};

/** Visits every product of the form: flat positions in x, w and y that meet. */
function contract(
  attrs: ConvAttrs,
  into: 'x' | 'w' | 'y',
  given: Partial<Record<'x' | 'w' | 'y', Values>>,
): Float64Array {
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
            const at = {
              x: xAt + n * xs[0] + (firstChannel + c) * xs[1],
              w: wAt + o * ws[0] + c * ws[1],
              y: yAt + n * ys[0] + o * ys[1],
            };
            out[at[into]] += a[at[from]] * b[at[other]];
          }
        }
      }
    }
  }
  return out;
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
      throw new ShapeError(
        `conv: the kernel ${showShape(w.shape)} reaches over ${reach} elements of spatial axis ${axis}, but x ${showShape(x.shape)} has ${size} with padding.`,
      );
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
  if (options.padding === 'same')
    throw new ShapeError("convTranspose: padding 'same' is ambiguous here; give numbers.");
  const geometry = readGeometry('convTranspose', x.shape.slice(2), w.shape.slice(2), options);
  const { groups, strides, low, high, dilations } = geometry;
  const extra = perAxis('convTranspose', 'outputPadding', options.outputPadding ?? 0, strides.length, 0);
  if (x.shape[1] !== w.shape[0] || x.shape[1] % groups !== 0) {
    throw new ShapeError(
      `convTranspose: x ${showShape(x.shape)} has ${x.shape[1]} channels, but w ${showShape(w.shape)} with ${groups} groups wants ${w.shape[0]}, a multiple of the groups.`,
    );
  }
  const out = strides.map((s, axis) => {
    if (extra[axis] >= s)
      throw new ShapeError(`convTranspose: outputPadding ${extra[axis]} must be below the stride ${s}.`);
    return (
      (x.shape[axis + 2] - 1) * s - low[axis] - high[axis] + dilations[axis] * (w.shape[axis + 2] - 1) + 1 + extra[axis]
    );
  });
  if (out.some((extent) => extent < 1))
    throw new ShapeError(
      `convTranspose: x ${showShape(x.shape)} with w ${showShape(w.shape)} leaves a result of extents ${showShape(out)}.`,
    );
  const mirrored = { ...geometry, x: [x.shape[0], w.shape[1] * groups, ...out], w: w.shape, y: x.shape };
  return make(convInputOp, [x, w], mirrored);
}

function checkOperands(op: string, x: Tensor, w: Tensor): void {
  commonDtype(op, [x, w]);
  expectFloat(op, x);
  if (x.rank !== w.rank || x.rank < 3 || x.rank > 4) {
    throw new ShapeError(
      `${op}: x ${showShape(x.shape)} and w ${showShape(w.shape)} must both be [_, _, length] or [_, _, height, width].`,
    );
  }
}

/** One whole number (at least `least`) per spatial axis. */
function perAxis(
  op: string,
  what: string,
  value: number | readonly number[],
  spatial: number,
  least: number,
): number[] {
  const list = typeof value === 'number' ? new Array<number>(spatial).fill(value) : [...value];
  if (list.length !== spatial || list.some((n) => !Number.isInteger(n) || n < least)) {
    throw new ShapeError(
      `${op}: ${what} ${JSON.stringify(value)} wants one whole number of at least ${least}, or one for each of ${spatial} spatial axes.`,
    );
  }
  return list;
}

/** Options → geometry; also used by pooling, whose `kernel` is its window. */
export function readGeometry(op: string, size: Shape, kernel: Shape, options: ConvOptions): ConvGeometry {
  const strides = perAxis(op, 'stride', options.stride ?? 1, size.length, 1);
  const dilations = perAxis(op, 'dilation', options.dilation ?? 1, size.length, 1);
  const groups = options.groups ?? 1;
  if (!Number.isInteger(groups) || groups < 1)
    throw new ShapeError(`${op}: groups is ${groups}; a whole number of at least 1 is wanted.`);
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
  const pairs =
    typeof list === 'number'
      ? size.map(() => [list, list] as const)
      : list.map((p) => (typeof p === 'number' ? ([p, p] as const) : p));
  const low = perAxis(
    op,
    'padding',
    pairs.map(([before]) => before),
    size.length,
    0,
  );
  const high = perAxis(
    op,
    'padding',
    pairs.map(([, after]) => after),
    size.length,
    0,
  );
  return { strides, dilations, groups, low, high };
}
