/** @file Number ranges, triangles and the masks made of them. */
import { ShapeError } from '../../base/errors.ts';
import { type DType, encode, isInteger } from '../dtype.ts';
import { int } from '../lowering.ts';
import { showShape } from '../shape.ts';
import { make, type OpDef, type Tensor } from '../tensor.ts';
import { greaterEqual } from './elementwise.ts';
import { reshape } from './layout.ts';

interface TriluAttrs {
  readonly upper: boolean;
  readonly diagonal: number;
}

const triluOp: OpDef<TriluAttrs> = {
  name: 'trilu',
  infer: ([x]) => {
    if (x.rank < 2)
      throw new ShapeError(
        `trilu: ${showShape(x.shape)} is not a matrix or a batch of them; reshape it to rank 2 or more.`,
      );
    return { dtype: x.dtype, shape: x.shape };
  },
  evaluate: ([x], { upper, diagonal }) => {
    const [rows, columns] = x.shape.slice(-2);
    return x.data.map((value, i) => {
      const above = (i % columns) - (Math.floor(i / columns) % rows);
      return (upper ? above >= diagonal : above <= diagonal) ? value : 0;
    });
  },
  lower: (to, [x], { attrs }) =>
    to.node('Trilu', [x, to.scalar(attrs.diagonal, 'int64')], { upper: int(attrs.upper ? 1 : 0) }),
  vjp: ({ attrs }, g) => [make(triluOp, [g], attrs)],
  jvp: ({ attrs }, [t]) => t && make(triluOp, [t], attrs),
};

/** Lower triangle of the last two axes up to `diagonal` (above the main one where positive), zeros elsewhere. */
export const tril = (x: Tensor, diagonal = 0): Tensor => make(triluOp, [x], { upper: false, diagonal });
/** Upper triangle of the last two axes from `diagonal` on (above the main one where positive), zeros elsewhere. */
export const triu = (x: Tensor, diagonal = 0): Tensor => make(triluOp, [x], { upper: true, diagonal });

interface RangeAttrs {
  readonly start: number;
  readonly step: number;
  readonly count: number;
  readonly dtype: DType;
}

const rangeValues = ({ start, step, count }: RangeAttrs) =>
  Float64Array.from({ length: count }, (_, i) => start + i * step);

const rangeOp: OpDef<RangeAttrs> = {
  name: 'range',
  infer: (_, { count, dtype }) => ({ dtype, shape: [count] }),
  evaluate: (_, attrs) => rangeValues(attrs),
  lower: (to, _, { attrs }) => to.tensor(encode(rangeValues(attrs), attrs.dtype), attrs.dtype, [attrs.count]),
  flat: true,
};

/** start, start + step, ... up to but without `end`. */
export function range(start: number, end: number, step = 1, dtype: DType = 'int64'): Tensor {
  const count = Math.max(0, Math.ceil((end - start) / step));
  if (
    !Number.isFinite(count) ||
    (isInteger(dtype) && !(Number.isInteger(start) && Number.isInteger(step))) ||
    dtype === 'bool'
  ) {
    throw new ShapeError(`range: from ${start} to ${end} by ${step} is not a finite list of ${dtype} numbers.`);
  }
  return make(rangeOp, [], { start, step, count, dtype });
}

/** 0, 1, ..., n - 1. */
export const iota = (n: number, dtype: DType = 'int64'): Tensor => range(0, n, 1, dtype);

/**
 * Booleans [queries, keys], true where a query may look at a key: not later than itself, the last query being at the last key.
 * Use as `where(causalMask(T), scores, -Infinity)`.
 */
export function causalMask(queries: number, keys = queries): Tensor {
  return greaterEqual(reshape(range(keys - queries, keys), [queries, 1]), reshape(iota(keys), [1, keys]));
}
