import { ShapeError } from '../base/errors.ts';

/** Extents by axis, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

export const sizeOf = (shape: Shape): number => shape.reduce((product, extent) => product * extent, 1);

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((extent, i) => extent === b[i]);

export const showShape = (shape: Shape): string => `[${shape.join(', ')}]`;

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/** Numbers of elements before, in and after `axes` axes from `axis` on: any tensor is [before, in, after]. */
export const around = (shape: Shape, axis: number, axes = 1): [number, number, number] => [
  sizeOf(shape.slice(0, axis)),
  sizeOf(shape.slice(axis, axis + axes)),
  sizeOf(shape.slice(axis + axes)),
];

/** NumPy broadcasting of any number of shapes; throws naming `op` and the shapes that do not fit. */
export function broadcastShapes(op: string, ...shapes: readonly Shape[]): number[] {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  const result = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let axis = 0; axis < shape.length; axis++) {
      const target = rank - shape.length + axis;
      const extent = shape[axis];
      if (result[target] === 1) result[target] = extent;
      else if (extent !== 1 && extent !== result[target]) {
        throw new ShapeError(
          `${op}: shapes ${shapes.map(showShape).join(' and ')} do not broadcast: axis ${target} is ${result[target]} in one and ${extent} in another; each must be equal or 1.`,
        );
      }
    }
  }
  return result;
}

/** Strides that walk `shape` as if broadcast to `target` (0 along repeated axes). */
export function broadcastStrides(shape: Shape, target: Shape): number[] {
  const strides = stridesOf(shape);
  const lead = target.length - shape.length;
  return target.map((_, axis) => (axis < lead || shape[axis - lead] === 1 ? 0 : strides[axis - lead]));
}

/** `axis` counted from the end where negative; throws where outside the rank. */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const normal = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normal < 0 || normal >= rank) {
    throw new ShapeError(
      `${op}: axis ${axis} is outside a tensor of rank ${rank}; give one from ${-rank} to ${rank - 1}.`,
    );
  }
  return normal;
}

/** Sorted, distinct, non-negative axes; all axes where undefined. */
export function normalizeAxes(op: string, axes: number | readonly number[] | undefined, rank: number): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, axis) => axis);
  const list = (typeof axes === 'number' ? [axes] : axes).map((axis) => normalizeAxis(op, axis, rank));
  const distinct = [...new Set(list)].sort((a, b) => a - b);
  if (distinct.length !== list.length)
    throw new ShapeError(`${op}: axes ${showShape(list)} name an axis twice; name each once.`);
  return distinct;
}

/** Shape after reducing `axes` (already normalised). */
export function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): number[] {
  if (keepDims) return shape.map((extent, axis) => (axes.includes(axis) ? 1 : extent));
  return shape.filter((_, axis) => !axes.includes(axis));
}

/** Throws unless every extent is a non-negative integer. */
export function checkShape(op: string, shape: Shape): void {
  for (const extent of shape) {
    if (!Number.isInteger(extent) || extent < 0) {
      throw new ShapeError(
        `${op}: ${showShape(shape)} is not a shape; every extent must be a whole number, 0 or more.`,
      );
    }
  }
}
