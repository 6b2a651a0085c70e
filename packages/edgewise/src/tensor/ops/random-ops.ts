/** @file Ops with randomness, which comes in as a tensor of uniform numbers: the graph itself is deterministic. */
import { ConfigError, ShapeError } from '../../base/errors.ts';
import { broadcastShapes, sameShape, showShape } from '../shape.ts';
import { expectFloat, type Tensor } from '../tensor.ts';
import { cast, greaterEqual, mul } from './elementwise.ts';
import { reshape } from './layout.ts';

function checkRate(op: string, p: number): void {
  if (!(p >= 0 && p < 1))
    throw new ConfigError(`${op}: p is ${p}, but a probability of at least 0 and below 1 is wanted.`);
}

/** 1 / (1 - p) where kept, 0 where dropped: one number to multiply by in every derivative. */
const keepScale = (u: Tensor, p: number, x: Tensor): Tensor => mul(cast(greaterEqual(u, p), x.dtype), 1 / (1 - p));

/**
 * Dropout (Srivastava et al. 2014): each element is 0 with probability p, otherwise divided by 1 - p.
 *
 * @param u independent uniform numbers in [0, 1): an element is dropped where its number is below p. Of x's shape, or one
 *   that broadcasts to it, so that [N, C, 1, 1] drops whole channels.
 * @throws ConfigError where p is not in [0, 1), ShapeError where u does not fit x.
 */
export function dropout(x: Tensor, u: Tensor, p: number): Tensor {
  checkRate('dropout', p);
  expectFloat('dropout', x);
  expectFloat('dropout', u);
  if (!sameShape(broadcastShapes('dropout', x.shape, u.shape), x.shape)) {
    throw new ShapeError(
      `dropout: the uniform numbers ${showShape(u.shape)} do not broadcast to x ${showShape(x.shape)}.`,
    );
  }
  return p === 0 ? x : mul(x, keepScale(u, p, x));
}

/**
 * Stochastic depth (Huang et al. 2016), also called drop path: whole examples of a residual branch are 0 with probability
 * p, otherwise divided by 1 - p.
 *
 * @param x [N, ...]
 * @param u [N] independent uniform numbers in [0, 1)
 * @throws ConfigError where p is not in [0, 1), ShapeError where u is not [N].
 */
export function stochasticDepth(x: Tensor, u: Tensor, p: number): Tensor {
  checkRate('stochasticDepth', p);
  if (x.rank < 1 || !sameShape(u.shape, [x.shape[0]])) {
    throw new ShapeError(
      `stochasticDepth: x ${showShape(x.shape)} wants one uniform number for each example, but got ${showShape(u.shape)}.`,
    );
  }
  return dropout(x, reshape(u, [u.size, ...new Array<number>(x.rank - 1).fill(1)]), p);
}
