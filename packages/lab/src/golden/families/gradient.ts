/** @file Recorded names of gradient descent, its clipped forms, and rules that accumulate squares. */
import { clipGlobalNorm, clipValue, type OptimizerDefinition, sgd } from 'edgewise/optim';
import { renamed, type Subject, type Translation } from '../subjects.ts';

const wrapped =
  (definition: OptimizerDefinition, names: Readonly<Record<string, string>>): Translation =>
  (hyperparameters): Subject => ({ definition, settings: { values: renamed(hyperparameters, names) } });

export const translations: Readonly<Record<string, Translation>> = {
  sgd_clip_global_norm: wrapped(clipGlobalNorm(sgd), { max_norm: 'clipNorm' }),
  sgd_clip_value: wrapped(clipValue(sgd), {}),
};
