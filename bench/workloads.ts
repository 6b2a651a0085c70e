/**
 * What is measured. Every implementation, ours and the peers', is handed the same description, fills the same numbers in from the
 * same seeds (`data.ts`) and must return the same check values, so that a ratio always compares equal work.
 */

/** One parameter tensor, in PyTorch's layout: linear weights `[out, in]`, convolution weights `[out, in, height, width]`. */
export interface ParameterSpec {
  name: string;
  shape: number[];
  /** `uniform` means uniform in [-scale, scale). */
  init: 'uniform' | 'ones' | 'zeros';
  scale: number;
}

/** What one iteration computes. All of them include the forward pass; `hvp` includes forward and first backward pass too. */
export type Kind = 'step' | 'grad' | 'hvp' | 'update';

/** Names of the models; the implementations switch on it. */
export type ModelName = 'resnet20' | 'mlp' | 'transformer' | 'mlp-small' | 'convnet' | 'adan';

/** Name of a workload: the filter of `npm run bench` is matched against it. */
export type WorkloadName = `${ModelName}-${Kind}`;

/** Largest ratio ours / peer that the project aims for. */
export interface Aim {
  peer: string;
  ratio: number;
}

/** One row of the benchmark before thread counts and peers multiply it. */
export interface Workload {
  name: WorkloadName;
  model: ModelName;
  kind: Kind;
  /** One line for the report: what an iteration does. */
  description: string;
  parameters: ParameterSpec[];
  /** Batch and layer sizes the implementations need beyond the parameter shapes. */
  sizes: Record<string, number>;
  /** Learning rate and the like for `step` and `update`. */
  hyper: Record<string, number>;
  aims: Aim[];
}

const linear = (name: string, inputs: number, outputs: number): ParameterSpec[] => [
  { name: `${name}.weight`, shape: [outputs, inputs], init: 'uniform', scale: 1 / Math.sqrt(inputs) },
  { name: `${name}.bias`, shape: [outputs], init: 'uniform', scale: 1 / Math.sqrt(inputs) },
];

const norm = (name: string, width: number): ParameterSpec[] => [
  { name: `${name}.weight`, shape: [width], init: 'ones', scale: 1 },
  { name: `${name}.bias`, shape: [width], init: 'zeros', scale: 0 },
];

const conv = (name: string, inputs: number, outputs: number, kernel: number): ParameterSpec => ({
  name: `${name}.weight`,
  shape: [outputs, inputs, kernel, kernel],
  init: 'uniform',
  scale: Math.sqrt(6 / (inputs * kernel * kernel)),
});

const chain = (widths: number[]): ParameterSpec[] =>
  widths.slice(1).flatMap((outputs, i) => linear(`layer${i}`, widths[i], outputs));

/** He et al. 2016, section 4.2: 3x3 convolutions, widths 16-32-64, three blocks a stage, identity shortcuts (option A). */
function resnet20(): ParameterSpec[] {
  const out = [conv('stem', 3, 16, 3), ...norm('stem.norm', 16)];
  for (const [stage, width] of [16, 32, 64].entries()) {
    for (let block = 0; block < 3; block++) {
      const name = `stage${stage}.block${block}`;
      const inputs = block === 0 && stage > 0 ? width / 2 : width;
      out.push(conv(`${name}.conv0`, inputs, width, 3), ...norm(`${name}.norm0`, width));
      out.push(conv(`${name}.conv1`, width, width, 3), ...norm(`${name}.norm1`, width));
    }
  }
  return [...out, ...linear('head', 64, 10)];
}

function transformer(width: number, layers: number, sequence: number, vocabulary: number): ParameterSpec[] {
  const out: ParameterSpec[] = [
    { name: 'token', shape: [vocabulary, width], init: 'uniform', scale: 1 },
    { name: 'position', shape: [sequence, width], init: 'uniform', scale: 0.1 },
  ];
  for (let i = 0; i < layers; i++) {
    out.push(...norm(`block${i}.norm0`, width), ...linear(`block${i}.qkv`, width, 3 * width));
    out.push(...linear(`block${i}.proj`, width, width), ...norm(`block${i}.norm1`, width));
    out.push(...linear(`block${i}.up`, width, 4 * width), ...linear(`block${i}.down`, 4 * width, width));
  }
  return [...out, ...norm('norm', width), ...linear('head', width, vocabulary)];
}

/** The 161 tensors (25,557,032 numbers) of ResNet-50, so that the list PyTorch updates is that of a real model. */
function resnet50Shapes(): ParameterSpec[] {
  const out = [conv('stem', 3, 64, 7), ...norm('stem.norm', 64)];
  let inputs = 64;
  for (const [stage, [width, blocks]] of [
    [64, 3],
    [128, 4],
    [256, 6],
    [512, 3],
  ].entries()) {
    for (let block = 0; block < blocks; block++) {
      const name = `stage${stage}.block${block}`;
      out.push(conv(`${name}.conv0`, inputs, width, 1), ...norm(`${name}.norm0`, width));
      out.push(conv(`${name}.conv1`, width, width, 3), ...norm(`${name}.norm1`, width));
      out.push(conv(`${name}.conv2`, width, 4 * width, 1), ...norm(`${name}.norm2`, 4 * width));
      if (block === 0)
        out.push(conv(`${name}.shortcut`, inputs, 4 * width, 1), ...norm(`${name}.shortcut.norm`, 4 * width));
      inputs = 4 * width;
    }
  }
  return [...out, ...linear('head', 2048, 1000)];
}

const sgd = { lr: 1e-3, momentum: 0.9 };
const adamw = { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01 };

const resnetText = 'ResNet-20 (CIFAR, option A shortcuts, batch norm in training mode), batch 128, 3x32x32';
const mlpText = 'MLP 3072-200-200-10, ReLU, cross-entropy, 5,000 examples in one batch';
const transformerText =
  '2 pre-norm transformer blocks, width 256, 4 heads, MLP 4x with exact GELU, sequence 128, batch 16, no mask, ' +
  'learned positions, vocabulary 256, cross-entropy at every position';

const models: Record<Exclude<ModelName, 'adan'>, Pick<Workload, 'parameters' | 'sizes'>> = {
  resnet20: { parameters: resnet20(), sizes: { batch: 128, channels: 3, side: 32, classes: 10 } },
  mlp: { parameters: chain([3072, 200, 200, 10]), sizes: { batch: 5000, inputs: 3072, classes: 10 } },
  transformer: {
    parameters: transformer(256, 2, 128, 256),
    sizes: { batch: 16, sequence: 128, width: 256, heads: 4, layers: 2, classes: 256 },
  },
  'mlp-small': { parameters: chain([20, 32, 32, 1]), sizes: { batch: 64, inputs: 20, outputs: 1 } },
  convnet: {
    parameters: [conv('conv0', 1, 8, 3), conv('conv1', 8, 16, 3), ...linear('head', 16 * 7 * 7, 10)],
    sizes: { batch: 32, channels: 1, side: 28, classes: 10 },
  },
};

function workload(
  model: Exclude<ModelName, 'adan'>,
  kind: Kind,
  description: string,
  aims: Aim[] = [],
  hyper: Record<string, number> = {},
): Workload {
  return { name: `${model}-${kind}`, model, kind, description, hyper, aims, ...models[model] };
}

const torch = (ratio: number): Aim[] => [{ peer: 'pytorch', ratio }];

/** All workloads, in the order in which they are reported. Those of one model run in one interleaved group. */
export const workloads: Workload[] = [
  workload('resnet20', 'step', `${resnetText}: gradient and SGD-momentum update`, torch(1.3), sgd),
  workload('resnet20', 'grad', `${resnetText}: loss and gradient`),
  workload('resnet20', 'hvp', `${resnetText}: Hessian-vector product`, torch(0.8)),
  workload('mlp', 'grad', `${mlpText}: loss and gradient`, torch(1.0)),
  workload('mlp', 'hvp', `${mlpText}: Hessian-vector product`, torch(0.7)),
  workload('transformer', 'step', `${transformerText}: gradient and AdamW update`, torch(1.2), adamw),
  workload('transformer', 'grad', `${transformerText}: loss and gradient`),
  workload('transformer', 'hvp', `${transformerText}: Hessian-vector product`),
  workload('mlp-small', 'grad', 'MLP 20-32-32-1, tanh, mean squared error, batch 64: loss and gradient', torch(0.4)),
  workload('mlp-small', 'hvp', 'MLP 20-32-32-1, tanh, mean squared error, batch 64: Hessian-vector product'),
  workload(
    'convnet',
    'grad',
    'two 3x3 stride-2 convolutions (1-8-16) with ReLU and a linear layer, batch 32, 1x28x28: loss and gradient',
  ),
  {
    name: 'adan-update',
    model: 'adan',
    kind: 'update',
    description: 'Adan (proximal decay, no clipping) over the 25,557,032 parameters of ResNet-50',
    parameters: resnet50Shapes(),
    sizes: {},
    hyper: { lr: 1e-3, beta1: 0.98, beta2: 0.92, beta3: 0.99, eps: 1e-8, weightDecay: 0.02 },
    // 85 % of the copy bandwidth, with 44 bytes a parameter on both sides.
    aims: [...torch(0.4), { peer: 'memcpy', ratio: 1 / 0.85 }],
  },
];

/** Aim for the time of ours for `hvp` over the time of ours for `grad`, on each model that has both. */
export const hvpOverGradAim = 2.2;
