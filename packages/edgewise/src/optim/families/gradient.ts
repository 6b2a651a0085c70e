/** @file Gradient descent, accelerated and clipped, and rules that accumulate squares. */
import type { OptimizerDefinition } from '../definition.ts';
import { adagrad, adagradNorm, delayedAdagrad } from '../rules/adagrad.ts';
import { sgdClip, sgdNormalized, siSgd, sqrtLossGd } from '../rules/clipped.ts';
import { agd, nme } from '../rules/nesterov.ts';
import { adadelta, rmsprop } from '../rules/rmsprop.ts';
import { sgd } from '../rules/sgd.ts';

export {
  adadelta,
  adagrad,
  adagradNorm,
  agd,
  delayedAdagrad,
  nme,
  rmsprop,
  sgd,
  sgdClip,
  sgdNormalized,
  siSgd,
  sqrtLossGd,
};

export const gradientFamily: readonly OptimizerDefinition[] = [
  sgd,
  nme,
  agd,
  sgdClip,
  sgdNormalized,
  sqrtLossGd,
  siSgd,
  adagrad,
  adagradNorm,
  delayedAdagrad,
  rmsprop,
  adadelta,
];
