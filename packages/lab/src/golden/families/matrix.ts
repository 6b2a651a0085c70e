/** @file Recorded names of methods that treat a weight matrix as a matrix. */
import { findOptimizer } from 'edgewise/optim';
import { type Recorded, renamed, type Translation } from '../subjects.ts';

const isRecorded = (value: unknown): value is Recorded => typeof value === 'object' && value !== null;
const recordedIn = (value: unknown): Recorded => (isRecorded(value) ? value : {});

export const translations: Readonly<Record<string, Translation>> = {
  muon: ({ muon, aux_adam }) => ({
    definition: findOptimizer('muon'),
    settings: {
      values: {
        ...renamed(recordedIn(muon)),
        ...renamed(recordedIn(aux_adam), {
          lr: 'otherLr',
          betas: 'otherBetas',
          eps: 'otherEps',
          weight_decay: 'otherWeightDecay',
        }),
      },
    },
  }),
};
