/** @file Recorded names of Adan and the Adam family. */
import { plain, type Translation } from '../subjects.ts';

export const translations: Readonly<Record<string, Translation>> = {
  adan: (hyperparameters) =>
    plain('adan', { no_prox: undefined }, { proximal: hyperparameters.no_prox !== true })(hyperparameters),
  radam_official: (hyperparameters) =>
    plain(
      'radam',
      { degenerated_to_sgd: undefined },
      { decoupled: true, below: hyperparameters.degenerated_to_sgd === true ? 'momentum' : 'skip' },
    )(hyperparameters),
  adaboundw: plain('adaboundw', {}, { plainDecay: true }),
  adabelief: plain('adabelief', { weight_decouple: 'decoupled' }),
  generalized_signsgd: plain('generalizedSignSgd', { use_bias_correction: 'biasCorrection' }),
};
