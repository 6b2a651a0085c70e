/** @file What `edgewise train` can be asked for: the library's models, optimizers and schedules, and the data sets of `data.ts`. */
import { models } from 'edgewise/models';
import { optimizers, schedules, wrappers } from 'edgewise/optim';
import { type Catalog, optimizerVariants, scheduleVariants, type Variant } from '../config/catalog.ts';
import { dataSources } from './data.ts';

/** Settings of `npm start`: the default network on MNIST with Adan, above 99 % in a few minutes on two cores. */
const recipe = {
  model: 'convnet',
  data: 'mnist',
  optimizer: { name: 'adan', lr: 0.005, weightDecay: 0.02 },
  schedule: 'warmupCosine',
  batchSize: 128,
  epochs: 5,
} as const;

/** Share of a run that the learning rate rises over where nothing is said about it. */
export const WARMUP_SHARE = 0.05;

/** Schedules are short or long with their run, and so is their warm-up. */
function withAutomaticWarmup(variant: Variant): Variant {
  const { warmup } = variant.settings;
  if (warmup?.kind !== 'integer') return variant;
  return {
    ...variant,
    settings: { ...variant.settings, warmup: { ...warmup, default: null, auto: `${100 * WARMUP_SHARE} % of the run` } },
  };
}

export const catalog: Catalog = {
  models: models.map(({ name, aliases, doc, options }) => ({ name, aliases, doc, settings: options })),
  data: dataSources,
  optimizers: optimizerVariants(optimizers),
  schedules: scheduleVariants(schedules).map(withAutomaticWarmup),
  wrappers: optimizerVariants(wrappers),
  devices: [
    { name: 'cpu', doc: "ONNX Runtime's CPU provider.", precisions: ['float32', 'float64'] },
    { name: 'webgpu', doc: 'A GPU through WebGPU (Vulkan, Metal or Direct3D).', precisions: ['float32'] },
    { name: 'cuda', doc: "An NVIDIA GPU; needs ONNX Runtime's CUDA files.", precisions: ['float32'] },
    { name: 'interpreter', doc: 'The reference interpreter in float64; slow.', precisions: ['float32', 'float64'] },
  ],
  recipe,
};
