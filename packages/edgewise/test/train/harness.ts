/** Small training runs, begun, interrupted and resumed in memory. */
import { Key, uniform } from '../../src/base/random.ts';
import type { Augmentation } from '../../src/data/augmentation.ts';
import { Batches, type Dataset, normalizationOf, type TrainTest, twoMoons } from '../../src/data/index.ts';
import { subset } from '../../src/data/transforms.ts';
import { buildModel } from '../../src/models/index.ts';
import type { Model } from '../../src/nn/index.ts';
import { openDevice } from '../../src/node/device.ts';
import {
  createOptimizer,
  findOptimizer,
  type Optimizer,
  type OptimizerDefinition,
  stateBytes,
} from '../../src/optim/index.ts';
import type { ParamVector } from '../../src/params/vector.ts';
import { sharpness } from '../../src/probes/sharpness.ts';
import type { Device } from '../../src/runtime/device.ts';
import {
  type LoadedCheckpoint,
  loadCheckpoint,
  type MemoryRunStore,
  Network,
  objectiveFor,
  type Probe,
  Trainer,
  type TrainerOptions,
  type TrainResult,
} from '../../src/train/index.ts';

/** Everything a run's numbers depend on. */
export interface Spec {
  readonly data: TrainTest<Dataset>;
  readonly model: (problem: { inputShape: readonly number[]; classes: number }) => Model;
  readonly optimizer: OptimizerDefinition;
  readonly values: Readonly<Record<string, unknown>>;
  readonly schedule: (t: number) => number;
  readonly batchSize: number;
  readonly steps: number;
  readonly seed: number;
  readonly dtype: 'float32' | 'float64';
  readonly labelSmoothing: number;
  readonly augmentation?: Augmentation;
  readonly shuffle: boolean;
  readonly normalize: boolean;
  /** Steps between measurements of the sharpness; 0 for never. */
  readonly sharpnessEvery: number;
  readonly trainer: Partial<TrainerOptions>;
}

let opened: Promise<Device> | undefined;
/** One CPU device for all tests. */
export const cpu = (): Promise<Device> => {
  opened ??= openDevice('cpu');
  return opened;
};

const halves = <D extends Dataset>(all: D): TrainTest<D> => {
  const half = all.count / 2;
  return { train: subset(all, half), test: subset(all, half, half) };
};

export const moons = (count = 96): TrainTest<Dataset> => halves(twoMoons({ key: Key.fromSeed(5), count: 2 * count }));

/** Byte images of 3 classes: noise, brighter in rows 2 k and 2 k + 1. */
export function images(count = 48, channels = 1): TrainTest<Dataset> {
  const noise = uniform(Key.fromSeed(6), new Float64Array(2 * count * channels * 64));
  const labels = Int32Array.from({ length: 2 * count }, (_, i) => (7 * i) % 3);
  const inputs = Uint8Array.from(noise, (x, at) => {
    const row = Math.floor(at / 8) % 8;
    return Math.floor(120 * x) + (row >> 1 === labels[Math.floor(at / (64 * channels))] ? 100 : 0);
  });
  return halves({
    kind: 'classification',
    name: 'stripes',
    count: 2 * count,
    shape: [channels, 8, 8],
    inputs,
    labels,
    classes: 3,
  });
}

/** Batch norm, dropout, convolutions. */
export const convnet = (problem: Parameters<Spec['model']>[0]): Model =>
  buildModel('convnet', problem, { channels: [3, 4], widths: [6], batchNorm: true, dropout: 0.2 });

export const mlp =
  (options: Readonly<Record<string, unknown>> = {}) =>
  (problem: Parameters<Spec['model']>[0]): Model =>
    buildModel('mlp', problem, { widths: [8], activation: 'tanh', ...options });

/** A plain run on two moons, changed as asked. */
export function spec(changes: Partial<Spec> = {}): Spec {
  return {
    data: moons(),
    model: mlp(),
    optimizer: findOptimizer('sgd'),
    values: {},
    schedule: () => 0.05,
    batchSize: 16,
    steps: 24,
    seed: 0,
    dtype: 'float32',
    labelSmoothing: 0,
    shuffle: true,
    normalize: true,
    sharpnessEvery: 0,
    trainer: {},
    ...changes,
  };
}

export interface Run {
  readonly trainer: Trainer;
  readonly network: Network;
  readonly optimizer: Optimizer;
  readonly probes: readonly Probe[];
  readonly batches: Batches;
}

export interface Place {
  readonly store?: MemoryRunStore;
  readonly checkpoint?: LoadedCheckpoint;
}

export async function open(of: Spec, { store, checkpoint }: Place = {}): Promise<Run> {
  const { train, test } = of.data;
  const root = Key.fromSeed(of.seed);
  const normalization = of.normalize ? normalizationOf(train, 'dataset') : undefined;
  const { batchSize, augmentation, shuffle } = of;
  const batches = new Batches(train, { batchSize, key: root.split('data'), normalization, augmentation, shuffle });
  const network = new Network({
    model: of.model({ inputShape: train.shape, classes: train.kind === 'classification' ? train.classes : 1 }),
    objective: objectiveFor(train, { labelSmoothing: of.labelSmoothing }),
    device: await cpu(),
    key: root.split('init'),
    dtype: of.dtype,
    state: (layout) => stateBytes(of.optimizer, { values: of.values as never }, layout, of.dtype),
  });
  const optimizer = createOptimizer(
    of.optimizer,
    { values: of.values as never },
    { theta: network.params, grad: network.gradient, space: network.space },
  );
  const probes =
    of.sharpnessEvery === 0
      ? []
      : [
          await sharpness({
            network,
            batches,
            optimizer,
            examples: 16,
            every: of.sharpnessEvery,
            key: root.split('probe'),
          }),
        ];
  let clock = 0;
  const trainer = await Trainer.create(
    {
      network,
      optimizer,
      schedule: of.schedule,
      batches,
      test: new Batches(test, {
        batchSize: Math.min(20, test.count),
        key: root.split('test'),
        normalization,
        shuffle: false,
      }),
      steps: of.steps,
      key: root.split('draws'),
      probes,
      store,
      now: () => {
        clock += 1000;
        return clock;
      },
      ...of.trainer,
    },
    checkpoint,
  );
  return { trainer, network, optimizer, probes, batches };
}

/** Trains to the end. */
export async function complete(of: Spec, place: Place = {}): Promise<Run & { readonly result: TrainResult }> {
  const run = await open(of, place);
  const result = await run.trainer.run();
  await run.trainer.dispose();
  return { ...run, result };
}

/** Trains until after each of the steps named, and goes on each time in a network of its own from what was saved. */
export async function completeInParts(of: Spec, store: MemoryRunStore, stops: readonly number[]): Promise<Run> {
  for (const stop of [...stops, Number.POSITIVE_INFINITY]) {
    const end = new AbortController();
    const checkpoint = await loadCheckpoint(store);
    const watched = {
      ...of,
      trainer: { ...of.trainer, onStep: ({ step }: { step: number }) => step >= stop && end.abort() },
    };
    const run = await open(watched as Spec, { store, checkpoint });
    const { reason } = await run.trainer.run(end.signal);
    await run.trainer.dispose();
    if (reason !== 'interrupted') return run;
  }
  throw new Error('the run did not end');
}

/** All numbers a run carries from step to step, as bytes and text. */
export function state({ network, optimizer, probes }: Run): Readonly<Record<string, string>> {
  const bytes = ({ data }: ParamVector) =>
    Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
  return {
    params: bytes(network.params),
    buffers: bytes(network.buffers),
    ...Object.fromEntries(Object.entries(optimizer.slots).map(([name, slot]) => [`slot ${name}`, bytes(slot)])),
    scalars: JSON.stringify(optimizer.scalarState()),
    ...Object.fromEntries(
      probes.flatMap(({ memory }) => [...memory].map(([name, vector]) => [`probe ${name}`, bytes(vector)])),
    ),
  };
}

export async function metrics(store: MemoryRunStore): Promise<string> {
  return new TextDecoder().decode(await store.read('metrics.jsonl'));
}
