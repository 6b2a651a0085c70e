/** @file Recorded names of gradient descent, its clipped forms, and rules that accumulate squares. */
import { clipGlobalNorm, clipValue, type OptimizerDefinition, sgd } from 'edgewise/optim';
import { plain, renamed, type Subject, type Translation } from '../subjects.ts';

const wrapped =
  (definition: OptimizerDefinition, names: Readonly<Record<string, string>>): Translation =>
  (hyperparameters): Subject => ({ definition, settings: { values: renamed(hyperparameters, names) } });

export const translations: Readonly<Record<string, Translation>> = {
  sgd_clip_global_norm: wrapped(clipGlobalNorm(sgd), { max_norm: 'clipNorm' }),
  sgd_clip_value: wrapped(clipValue(sgd), {}),
  normalized_gd: plain('sgdNormalized', {}, { eps: 0 }),
  rmsprop_tf: plain('rmsprop', {}, { tfStyle: true }),
  delayed_adagrad_coordinate: plain('delayedAdagrad', { alpha: 'lr' }),
  agd_extrapolation: plain('agd', { beta: 'momentum' }),
  si_sgd_relative_clip: plain('siSgd', { C: 'clipFactor' }),
};
