/**
 * @file Gadam and GadamX: AdamW and Padam with decoupled decay whose iterates are averaged over the last part of training.
 *
 * D. Granziol, X. Wan, S. Albanie, S. Roberts, "Iterative Averaging in the Quest for Best Test Error", 2020, arXiv 2003.01247.
 */
import type { OptimizerDefinition, Source } from '../definition.ts';
import { average } from '../wrappers/averaging.ts';
import { adamw } from './adam.ts';
import { padam } from './padam.ts';

const source: Source = {
  title: 'Iterative Averaging in the Quest for Best Test Error',
  authors: 'Granziol, Wan, Albanie, Roberts',
  year: 2020,
  arxiv: '2003.01247',
  reference: "the authors' repository",
};

export const gadam: OptimizerDefinition = {
  ...average.wrap(adamw as unknown as OptimizerDefinition),
  name: 'gadam',
  title: 'Gadam',
  source,
  family: 'averaging',
  use: 'AdamW whose iterates are averaged from half or three quarters of the run on (averageStart), once an epoch (averageEvery), at a learning rate that stays large.',
};

export const gadamx: OptimizerDefinition = {
  ...average.wrap({
    ...padam,
    hyperparameters: {
      ...padam.hyperparameters,
      partial: { ...padam.hyperparameters.partial, default: 0.125 },
      decoupled: { ...padam.hyperparameters.decoupled, default: true },
    },
  } as unknown as OptimizerDefinition),
  name: 'gadamx',
  title: 'GadamX',
  source,
  family: 'averaging',
  decay: 'decoupled',
  use: 'As Gadam around Padam with p = 1/8: the learning rates of SGD, a decay of a few thousandths, averages over the last part of the run.',
};
