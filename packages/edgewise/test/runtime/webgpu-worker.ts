/**
 * Computes loss and gradient of models on the CPU and through WebGPU, and prints both, one JSON object a line. Runs in a process of its own: which Vulkan
 * driver is used is decided by the environment a process starts with. Usage: webgpu-worker.ts NAME...
 */
import { Key, normal } from '../../src/base/random.ts';
import { buildModel } from '../../src/models/index.ts';
import { batchNorm, conv, linear, type Model } from '../../src/nn/index.ts';
import { openDevice } from '../../src/node/device.ts';
import type { Device } from '../../src/runtime/device.ts';
import { add, relu } from '../../src/tensor/ops/elementwise.ts';
import { globalAveragePool } from '../../src/tensor/ops/pool.ts';
import { Network } from '../../src/train/network.ts';
import { crossEntropyObjective } from '../../src/train/objective.ts';

const CLASSES = 5;
const BATCH = 8;

/** Two residual blocks, the second one with a stride and a projection. */
const residual: Model = {
  name: 'residual',
  inputShape: [3, 8, 8],
  forward: (scope, x) => {
    const convolve = (name: string, h: typeof x, outChannels: number, stride: number, kernelSize = 3) =>
      batchNorm(
        scope.at(`${name}.norm`),
        conv(scope.at(name), h, { outChannels, kernelSize, stride, padding: (kernelSize - 1) / 2, bias: false }),
      );
    const stem = relu(convolve('stem', x, 4, 1));
    const first = relu(add(stem, convolve('b', relu(convolve('a', stem, 4, 1)), 4, 1)));
    const second = add(convolve('shortcut', first, 8, 2, 1), convolve('d', relu(convolve('c', first, 8, 2)), 8, 1));
    return linear(scope.at('head'), globalAveragePool(relu(second)), { outFeatures: CLASSES });
  },
};

const models: Readonly<Record<string, () => Model>> = {
  mlp: () => buildModel('mlp', { inputShape: [20], classes: CLASSES }, { widths: [32, 32], activation: 'tanh' }),
  convnet: () =>
    buildModel('convnet', { inputShape: [3, 8, 8], classes: CLASSES }, { channels: [4], widths: [16], dropout: 0.25 }),
  residual: () => residual,
  transformer: () =>
    buildModel('transformer', { inputShape: [6, 5], classes: CLASSES }, { width: 16, heads: 2, layers: 1 }),
};

async function gradientOn(device: Device, name: string) {
  const key = Key.fromSeed(7);
  const network = new Network({
    model: models[name](),
    objective: crossEntropyObjective({ labelSmoothing: 0.1 }),
    device,
    key: key.split('init'),
  });
  const graph = await network.trainingGraph(BATCH);
  const { x } = graph;
  normal(key.split('inputs'), x);
  for (let i = 0; i < BATCH; i++) graph.y[i] = i % CLASSES;
  const { loss, correct } = await graph.run(key.split('draws'));
  const gradients = Object.fromEntries(
    [...network.gradient.entries()].map(([segment, view]) => [segment.name, Array.from(view)]),
  );
  return { loss, correct, gradients, buffers: Array.from(network.buffers.data) };
}

const [cpu, gpu] = [await openDevice('cpu'), await openDevice('webgpu')];
for (const name of process.argv.slice(2)) {
  console.log(JSON.stringify({ name, cpu: await gradientOn(cpu, name), gpu: await gradientOn(gpu, name) }));
}
