/** @file Recorded names of Adan and the Adam family. */
import { plain, type Translation } from '../subjects.ts';

export const translations: Readonly<Record<string, Translation>> = {
  adan: (hyperparameters) =>
    plain('adan', { no_prox: undefined }, { proximal: hyperparameters.no_prox !== true })(hyperparameters),
};
