/** @file The convolution ops tap by tap, in terms of other ops: for providers and dtypes without a kernel for them. */
import { type Shape, sizeOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import type { ConvAttrs } from './conv.ts';
import { add } from './elementwise.ts';
import { concat, pad, reshape, slice, unsqueeze } from './layout.ts';
import { matmul } from './matmul.ts';
import { sum } from './reduce.ts';

/** Every index of the kernel, in row-major order. */
function tapsOf({ w }: ConvAttrs): number[][] {
  const kernel = w.slice(2);
  return Array.from({ length: sizeOf(kernel) }, (_, tap) =>
    kernel.map((extent, axis) => Math.floor(tap / sizeOf(kernel.slice(axis + 1))) % extent),
  );
}

/** [N, channels, ...spatial] as [N, groups, channels / groups, pixels]. */
const grouped = (t: Tensor, { groups }: ConvAttrs): Tensor =>
  reshape(t, [t.shape[0], groups, t.shape[1] / groups, sizeOf(t.shape.slice(2))]);

const padded = (x: Tensor, { low, high }: ConvAttrs): Tensor => pad(x, { low: [0, 0, ...low], high: [0, 0, ...high] });

/** What one tap reads of padded x, as [N, groups, C / groups, pixels of y]. */
function seenBy(tap: readonly number[], paddedX: Tensor, attrs: ConvAttrs): Tensor {
  const starts = tap.map((k, axis) => k * attrs.dilations[axis]);
  const shape = [...attrs.x.slice(0, 2), ...attrs.y.slice(2)];
  return grouped(slice(paddedX, [0, 0, ...starts], shape, [1, 1, ...attrs.strides]), attrs);
}

/** One tap of the kernel, as [groups, O / groups, C / groups]. */
function kernelAt(tap: readonly number[], kernel: Tensor, { groups, w: [o, c, ...extent] }: ConvAttrs): Tensor {
  return reshape(slice(kernel, [0, 0, ...tap], [o, c, ...extent.map(() => 1)]), [groups, o / groups, c]);
}

const total = (terms: readonly Tensor[]): Tensor => terms.reduce((a, b) => add(a, b));

export function convByTaps(x: Tensor, w: Tensor, attrs: ConvAttrs): Tensor {
  const source = padded(x, attrs);
  const terms = tapsOf(attrs).map((tap) => matmul(kernelAt(tap, w, attrs), seenBy(tap, source, attrs)));
  return reshape(total(terms), attrs.y);
}

export function convInputByTaps(y: Tensor, w: Tensor, attrs: ConvAttrs): Tensor {
  const { strides, low, dilations, x } = attrs;
  const source = grouped(y, attrs);
  const between: Shape = [...x.slice(0, 2), ...attrs.y.slice(2)];
  const terms = tapsOf(attrs).map((tap) => {
    const products = reshape(matmul(kernelAt(tap, w, attrs), source, { transposeA: true }), between);
    const before = tap.map((k, axis) => k * dilations[axis] - low[axis]);
    const after = before.map((b, axis) => x[axis + 2] - b - (attrs.y[axis + 2] - 1) * strides[axis] - 1);
    return pad(products, {
      low: [0, 0, ...before],
      high: [0, 0, ...after],
      interior: [0, 0, ...strides.map((s) => s - 1)],
    });
  });
  return total(terms);
}

export function convKernelByTaps(x: Tensor, y: Tensor, attrs: ConvAttrs): Tensor {
  const source = padded(x, attrs);
  const rows = grouped(y, attrs);
  const terms = tapsOf(attrs).map((tap) => {
    const products = sum(matmul(rows, seenBy(tap, source, attrs), { transposeB: true }), { axes: 0 });
    return unsqueeze(products, -1);
  });
  return reshape(concat(terms, -1), attrs.w);
}
