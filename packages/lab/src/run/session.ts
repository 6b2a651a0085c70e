/** @file From a configuration to everything that trains: device, data, network, optimizer, probes, trainer. */
import { ConfigError, type Device, Key } from 'edgewise';
import {
  type Augmentation,
  Batches,
  type Dataset,
  type Normalization,
  normalizationOf,
  type TrainTest,
} from 'edgewise/data';
import { openDevice } from 'edgewise/node';
import {
  clipGlobalNorm,
  clipValue,
  createOptimizer,
  findOptimizer,
  findSchedule,
  type Match,
  type Optimizer,
  type OptimizerDefinition,
  type Schedule,
  stateBytes,
} from 'edgewise/optim';
import type { ParamLayout } from 'edgewise/params';
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
import { cardOf, type ModelCard, modelOf } from './card.ts';
import { WARMUP_SHARE } from './catalog.ts';
import { loadData } from './data.ts';

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
  const device = await deviceFor(config);
  try {
    const { definition, values } = optimizerOf(config);
    const network = new Network({
      model,
      objective,
      device,
      key: root.split('init'),
      dtype: config.precision,
      state: (layout) =>
        stateBytes(definition, { values, groups: groupsOf(config, definition, layout) }, layout, config.precision),
    });
    for (const part of [train, test]) checkFit(network, part);
    const optimizer = createOptimizer(
      definition,
      { values, groups: groupsOf(config, definition, network.layout) },
      { theta: network.params, grad: network.gradient, space: network.space },
    );
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
        schedule: scheduleOf(config, optimizer.lr, steps),
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
    return { config, data, card, network, optimizer, batches, steps, trainer, dispose };
  } catch (error) {
    await device.dispose();
    throw error;
  }
}

function augmentationOf({ augment: { crop, flip, cutout } }: TrainConfig): Augmentation | undefined {
  if (crop === 0 && flip === 0 && cutout === 0) return undefined;
  return {
    ...(crop > 0 ? { crop: { padding: crop } } : {}),
    ...(flip > 0 ? { flip: { probability: flip } } : {}),
    ...(cutout > 0 ? { cutout: { size: cutout } } : {}),
  };
}

/** The optimizer with its clipping, and its hyper-parameters. */
function optimizerOf({ optimizer: { name, ...values }, clipNorm, clipValue: limit }: TrainConfig): {
  definition: OptimizerDefinition;
  values: Record<string, never>;
} {
  const plain = findOptimizer(name);
  // Values were checked against the optimizer's own schema when the configuration was read.
  const checked = values as Record<string, never>;
  if (clipNorm > 0)
    return {
      definition: clipGlobalNorm(plain) as OptimizerDefinition,
      values: Object.assign({}, checked, { clipNorm }),
    };
  if (limit > 0)
    return {
      definition: clipValue(plain) as OptimizerDefinition,
      values: Object.assign({}, checked, { clipValue: limit }),
    };
  return { definition: plain, values: checked };
}

/** Biases and the parameters of normalisation layers do not decay, unless asked for. */
function groupsOf(
  { decayBiasAndNorm }: TrainConfig,
  definition: OptimizerDefinition,
  layout: ParamLayout,
): { match: Match; values: { weightDecay: number } }[] {
  if (decayBiasAndNorm || !('weightDecay' in definition.hyperparameters)) return [];
  const tag = ['bias', 'norm'].filter((name) => layout.tagged(name).length > 0);
  return tag.length === 0 ? [] : [{ match: { tag }, values: { weightDecay: 0 } }];
}

function scheduleOf({ schedule: { name, ...values } }: TrainConfig, lr: number, total: number): Schedule {
  const definition = findSchedule(name);
  if ('min' in values && Number(values.min) > lr) {
    throw new ConfigError(
      `schedule.min is ${Number(values.min)}, above the learning rate ${lr} it should fall from; choose a smaller one.`,
    );
  }
  const own = Object.fromEntries(Object.entries(values).filter(([key]) => Object.hasOwn(definition.parameters, key)));
  if (own.warmup === null) own.warmup = Math.round(WARMUP_SHARE * total);
  return definition.make({ ...own, lr, ...(Object.hasOwn(definition.parameters, 'total') ? { total } : {}) });
}
