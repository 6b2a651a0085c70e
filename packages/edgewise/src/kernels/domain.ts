/**
 * @file What an update is traced on: a nominal shape [tensors, rows, columns] whose extents are distinct primes.
 *
 * A symbol's shape then says what the quantity belongs to, and NumPy broadcasting combines quantities as papers do:
 * `[]` or `[1, 1, 1]` is one number for all, `[T, 1, 1]` one number a tensor, `[T, R, 1]` one a row, `[T, R, C]` one an
 * element. A row of a tensor of rank 2 or more is everything under one index of its first axis; a tensor of lower rank
 * is one row.
 */
import { ShapeError } from '../base/errors.ts';
import { type Shape, sameShape, showShape } from '../tensor/shape.ts';
import { input, type Tensor } from '../tensor/tensor.ts';

/** What a quantity belongs to, from one for all to one an element. */
export type Level = 'global' | 'tensor' | 'row' | 'element';

export const LEVELS: readonly Level[] = ['global', 'tensor', 'row', 'element'];

/** Nominal extents [tensors, rows, columns]. */
export type Nominal = readonly [number, number, number];

/** Two sets of extents: an update that differs between them has built a nominal extent into a constant. */
export const NOMINALS: readonly [Nominal, Nominal] = [
  [2, 3, 5],
  [7, 11, 13],
];

export function nominalShape(level: Level, [tensors, rows, columns]: Nominal): Shape {
  return { global: [], tensor: [tensors, 1, 1], row: [tensors, rows, 1], element: [tensors, rows, columns] }[level];
}

/** A named real number, of which there is one for each thing of `level`. */
export const symbolAt = (level: Level, name: string, nominal: Nominal): Tensor =>
  input(name, nominalShape(level, nominal), 'float64');

/** What `tensor` belongs to. @throws ShapeError where its shape is not one of the nominal ones. */
export function levelOf(tensor: Tensor, nominal: Nominal): Level {
  if (tensor.shape.every((extent) => extent === 1)) return 'global';
  const level = LEVELS.find((candidate) => sameShape(tensor.shape, nominalShape(candidate, nominal)));
  if (level) return level;
  throw new ShapeError(
    `Update rule: ${tensor} has shape ${showShape(tensor.shape)}; with [tensors, rows, columns] = ${showShape(nominal)} a quantity must be one per element, row, tensor or optimizer. Reduce with keepDims over axis 2, axes 1 and 2, or all.`,
  );
}

/** A stretch of the parameter vector that is one tensor. */
export interface Segment {
  /** First element. */
  readonly offset: number;
  readonly length: number;
  /** Extent of the first axis of a tensor of rank 2 or more, else 1. */
  readonly rows: number;
}

/** The symbolic form of one update: what is read, what is written. */
export interface UpdateGraph {
  readonly nominal: Nominal;
  /** Elements read, by name of the vector. */
  readonly vectors: Readonly<Record<string, Tensor>>;
  /** Numbers read, by name. */
  readonly scalars: Readonly<Record<string, ScalarInput>>;
  /** New elements, by name of the vector; all are computed from what was there before. */
  readonly writes: Readonly<Record<string, Tensor>>;
  /** Numbers to hand out, one for all or one a tensor; computed from what was there before. */
  readonly results: Readonly<Record<string, Tensor>>;
  /** Where one of these (one boolean for all) holds, nothing is written and no result handed out. */
  readonly guards: readonly Tensor[];
}

export interface ScalarInput {
  readonly symbol: Tensor;
  /**
   * Of moderate size whatever the data: a hyper-parameter or a step counter. Only such factors are regrouped, so that
   * no product of them leaves the range of float32 where the formula as written does not.
   */
  readonly tame: boolean;
}
