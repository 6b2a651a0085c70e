/** @file From a configuration to everything that trains: device, data, network, optimizer, probes, trainer. */
import { ConfigError, type Device, Key } from 'edgewise';
import { Batches, type Dataset, type Normalization, normalizationOf, type TrainTest } from 'edgewise/data';
import { openDevice } from 'edgewise/node';
import { createOptimizer, deviceTensors, type Optimizer, type Schedule, stateBytes } from 'edgewise/optim';
import { sharpness } from 'edgewise/probes';
import {
  checkFit,
  type LoadedCheckpoint,
  Network,
  objectiveFor,
  type RunStore,
  Trainer,
  type TrainReport,
} from 'edgewise/train';
import type { TrainConfig } from '../config/settings.ts';
import { type BatchScaling, rateInUse } from './batch-scaling.ts';
import { cardOf, type ModelCard, modelOf } from './card.ts';
import { labelNoiseOf, loadData } from './data.ts';
import { augmentationOf, layoutOf, optimizerOf, scheduleOf } from './recipe.ts';

/** A run, ready to go. */
export interface Session {
  readonly config: TrainConfig;
  readonly data: TrainTest;
  /** What the network takes and gives. */
  readonly card: ModelCard;
  readonly network: Network;
  readonly optimizer: Optimizer;
  readonly batches: Batches;
  readonly steps: number;
  /** What was rescaled because values were chosen for another batch size. */
  readonly scaling: BatchScaling | undefined;
  readonly trainer: Trainer;
  dispose(): Promise<void>;
}

export interface SessionOptions {
  readonly config: TrainConfig;
  /** Where the run is kept; nothing is written without one. */
  readonly store?: RunStore;
  /** What to go on from. */
  readonly checkpoint?: LoadedCheckpoint;
  readonly now: () => number;
  readonly onStep?: (report: TrainReport) => void;
}

/** Statistics that inputs are normalised with; always those of the training set. */
export function normalizationFor({ data: { normalize } }: TrainConfig, train: Dataset): Normalization | undefined {
  return normalize === 'none' ? undefined : normalizationOf(train, normalize, normalize === 'feature' ? 0.01 : 0);
}

/** Largest batch evaluations are computed in: enough to keep a device busy, little enough for its memory. */
const EVALUATION_BATCH = 500;

/** Opens the device a configuration names. */
export function deviceFor({ device, threads }: TrainConfig): Promise<Device> {
  return openDevice(device, threads === 0 ? {} : { threads });
}

/** Loads, allocates and compiles everything. @throws ConfigError for settings that do not fit the data or the model. */
export async function openSession({ config, store, checkpoint, now, onStep }: SessionOptions): Promise<Session> {
  const data = await loadData(config);
  const { train, test } = data;
  const root = Key.fromSeed(config.seed);
  const normalization = normalizationFor(config, train);
  const augmentation = augmentationOf(config);
  const batches = new Batches(train, {
    batchSize: config.batchSize,
    key: root.split('data'),
    normalization,
    augmentation,
    labelNoise: labelNoiseOf(config, train),
  });
  const evaluation = new Batches(test, {
    batchSize: Math.min(EVALUATION_BATCH, test.count),
    key: root.split('test'),
    normalization,
    shuffle: false,
  });
  const steps = config.steps ?? Math.max(1, Math.round(config.epochs * batches.stepsPerEpoch));
  const card = cardOf(config, train, normalization);
  const model = modelOf(card);
  const objective = objectiveFor(train, { labelSmoothing: config.labelSmoothing });
  const { definition, settings, scaling } = optimizerOf(config, layoutOf(model, config.precision));
  const device = await deviceFor(config);
  try {
    const network = new Network({
      model,
      objective,
      device,
      key: root.split('init'),
      dtype: config.precision,
      state: (layout) => stateBytes(definition, settings, layout, config.precision),
    });
    for (const part of [train, test]) checkFit(network, part);
    const { params: theta, gradient: grad, space } = network;
    const tensors = deviceTensors(device, config.precision);
    const optimizer = createOptimizer(definition, settings, { theta, grad, space, tensors });
    const { every, examples, products, tolerance } = config.probes.sharpness;
    const probes =
      every === 0
        ? []
        : [
            await sharpness({
              network,
              batches,
              optimizer,
              examples: Math.min(examples, train.count),
              every,
              products,
              tolerance,
              key: root.split('probe', 'sharpness'),
            }),
          ];
    const { patience, minDelta } = config.earlyStopping;
    const trainer = await Trainer.create(
      {
        network,
        optimizer,
        schedule: fallingScheduleOf(config, optimizer.lr, steps),
        batches,
        test: evaluation,
        steps,
        key: root.split('draws'),
        microBatch: config.microBatchSize ?? undefined,
        evalEvery: config.evalEvery ?? undefined,
        checkpointEvery: config.checkpointEvery ?? undefined,
        keep: config.keepCheckpoints,
        earlyStopping: patience > 0 ? { patience, minDelta } : undefined,
        probes,
        onNonFinite: config.onNonFinite,
        store,
        now,
        onStep,
      },
      checkpoint,
    );
    const dispose = async () => {
      await trainer.dispose();
      await device.dispose();
    };
    return { config, data, card, network, optimizer, batches, steps, scaling, trainer, dispose };
  } catch (error) {
    await device.dispose();
    throw error;
  }
}

/** The schedule of a run, which must not end above where it starts. */
function fallingScheduleOf(config: TrainConfig, lr: number, total: number): Schedule {
  const { schedule } = config;
  const min = 'min' in schedule ? rateInUse(config, Number(schedule.min)) : 0;
  if (min > lr) {
    throw new ConfigError(
      `schedule.min is ${min}, above the learning rate ${lr} it should fall from; choose a smaller one.`,
    );
  }
  return scheduleOf(config, lr, total);
}
