import { ConfigError } from 'edgewise';
import { choice, flag, integer, number, numbers } from 'edgewise/optim';
import type { Catalog } from '../../src/config/index.ts';

/** A small catalog with every kind of setting; what it names exists only here. */
export const CATALOG: Catalog = {
  models: [
    {
      name: 'mlp',
      doc: 'Fully connected layers.',
      settings: {
        hidden: numbers({
          default: [256, 128],
          min: 1,
          anyLength: true,
          unit: 'neurons',
          doc: 'Widths of the hidden layers.',
        }),
      },
    },
    {
      name: 'convnet',
      aliases: ['cnn'],
      doc: 'A small convolutional net.',
      settings: {
        width: integer({ default: 32, min: 1, max: 4096, unit: 'channels', doc: 'Channels of the first layer.' }),
      },
    },
  ],
  data: [
    { name: 'digits', doc: 'Handwritten digits.', settings: {} },
    {
      name: 'folder',
      doc: 'Files of your own.',
      settings: {
        path: { kind: 'text', doc: 'Folder with the files.' },
        labels: choice({ choices: ['fine', 'coarse'], default: 'fine', doc: 'Which labels.' }),
      },
    },
  ],
  optimizers: [
    {
      name: 'adan',
      doc: 'Adan.',
      settings: {
        lr: number({ default: 1e-3, above: 0, doc: 'Learning rate.' }),
        betas: numbers({ default: [0.98, 0.92, 0.99], min: 0, below: 1, doc: 'Decay rates.' }),
        weightDecay: number({ default: 0, min: 0, doc: 'Weight decay.' }),
        maxGradNorm: number({ default: 0, min: 0, doc: 'Clipping.' }),
        proximal: flag({ default: true, doc: 'Proximal decay.' }),
      },
    },
    {
      name: 'sgd',
      aliases: ['momentum'],
      doc: 'Gradient descent.',
      settings: {
        lr: number({ default: 0.1, above: 0, doc: 'Learning rate.' }),
        momentum: number({ default: 0, min: 0, below: 1, doc: 'Momentum.' }),
        nesterov: flag({ default: false, doc: 'Look ahead.' }),
      },
      check({ nesterov, momentum }) {
        if (nesterov && momentum === 0) throw new ConfigError('sgd: nesterov needs momentum above 0.');
      },
    },
  ],
  schedules: [
    { name: 'constant', doc: 'The same at every step.', settings: {} },
    {
      name: 'cosine',
      doc: 'Falls to min.',
      followsLength: true,
      settings: {
        min: number({ default: 0, min: 0, doc: 'Where it ends.' }),
        warmup: { kind: 'integer', default: null, auto: 'a twentieth', min: 0, unit: 'steps', doc: 'Rise.' },
      },
    },
  ],
  wrappers: [
    {
      name: 'average',
      doc: 'Average of iterates.',
      settings: {
        averageKind: choice({ choices: ['mean', 'ema'], default: 'mean', doc: 'Which mean.' }),
        averageDecay: number({ default: 0.999, min: 0, below: 1, doc: 'Decay rate.' }),
      },
    },
    { name: 'sam', doc: 'Sharpness-aware.', settings: { samRho: number({ default: 0.05, above: 0, doc: 'Radius.' }) } },
    {
      name: 'clipNorm',
      doc: 'Clipping.',
      settings: { clipNorm: number({ default: 0, min: 0, doc: 'Largest norm.' }) },
    },
  ],
  devices: [
    { name: 'cpu', doc: 'This processor.', precisions: ['float32', 'float64'] },
    { name: 'webgpu', doc: 'A GPU.', precisions: ['float32'] },
    { name: 'cuda', doc: 'Another GPU.', precisions: ['float32'] },
    { name: 'interpreter', doc: 'Slow.', precisions: ['float32', 'float64'] },
  ],
  recipe: {
    model: 'convnet',
    data: 'digits',
    optimizer: { name: 'adan', lr: 0.004 },
    schedule: { name: 'cosine', min: 1e-5 },
    epochs: 5,
  },
};
