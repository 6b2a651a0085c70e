/** @file One training run of a race: the curve it takes, or where it diverges. */
import { EdgewiseError, Key, NonFiniteError } from 'edgewise';
import { Batches } from 'edgewise/data';
import { openDevice } from 'edgewise/node';
import { createOptimizer, deviceTensors, stateBytes } from 'edgewise/optim';
import { checkFit, type Evaluator, evaluator, Network, Trainer, type TrainReport } from 'edgewise/train';
import type { TrainConfig } from '../config/settings.ts';
import { layoutOf, optimizerOf, scheduleOf } from '../run/recipe.ts';
import { type HoldOut, openProblem, type Problem } from './problem.ts';

/** Everything a trial depends on, as plain data, so that it can be run in another process. */
export interface TrialSpec {
  /** Its name within the race, such as `final/adan/4-epochs/seed-1`. */
  readonly id: string;
  /** Complete, with its own length and seed. */
  readonly config: TrainConfig;
  /** Draws data that is made up; the same for the whole race. */
  readonly dataSeed: number;
  /** Judge on a part of the training set, held out of it; on the test set where absent. */
  readonly holdOut?: HoldOut;
  readonly evaluationsPerEpoch: number;
}

/** What is known at an evaluation. */
export interface CurvePoint {
  readonly step: number;
  readonly epoch: number;
  /** Training so far, without evaluations. */
  readonly seconds: number;
  /** Mean over the steps since the last evaluation. */
  readonly trainLoss: number;
  readonly loss: number;
  /** Share classified rightly; null where nothing is classified. */
  readonly accuracy: number | null;
}

export interface TrialResult {
  readonly status: 'finished' | 'diverged';
  /** Of a trial that diverged, what came before. */
  readonly curve: readonly CurvePoint[];
  /** Where and how it diverged. */
  readonly diverged?: { readonly step: number; readonly reason: string };
  readonly parameters: number;
  readonly stepsPerEpoch: number;
  /** Of the training set and of the set it was judged on. */
  readonly examples: { readonly train: number; readonly judged: number };
}

export interface TrialContext {
  /** Milliseconds, from any point. */
  readonly now: () => number;
  /** Fires when the race should end; the trial is then given up. */
  readonly stop?: AbortSignal;
  readonly onStep?: (progress: { readonly step: number; readonly steps: number; readonly loss: number }) => void;
}

/** The race was asked to end while a trial was under way. */
export class TrialInterrupted extends EdgewiseError {
  override readonly name = 'TrialInterrupted';
}

/** Largest batch evaluations are computed in. */
const EVALUATION_BATCH = 500;

/**
 * Trains once. A loss or gradient that is not finite ends the trial as diverged; that is a result, not an error.
 *
 * @throws TrialInterrupted when `stop` fires; ConfigError or ShapeError for settings that do not fit each other.
 */
export async function runTrial(spec: TrialSpec, { now, stop, onStep }: TrialContext): Promise<TrialResult> {
  const { config, evaluationsPerEpoch } = spec;
  const problem = await openProblem(config, spec.dataSeed, spec.holdOut);
  const device = await openDevice(config.device as 'cpu', config.threads === 0 ? {} : { threads: config.threads });
  try {
    const root = Key.fromSeed(config.seed);
    const { definition, settings } = optimizerOf(config, layoutOf(problem.model, config.precision));
    const network = new Network({
      model: problem.model,
      objective: problem.objective,
      device,
      key: root.split('init'),
      dtype: config.precision,
      state: (layout) => stateBytes(definition, settings, layout, config.precision),
    });
    for (const part of [problem.train, problem.test]) checkFit(network, part);
    const { params: theta, gradient: grad, space } = network;
    const tensors = deviceTensors(device, config.precision);
    const optimizer = createOptimizer(definition, settings, { theta, grad, space, tensors });
    const { normalization, augmentation, labelNoise } = problem;
    const batches = new Batches(problem.train, {
      batchSize: config.batchSize,
      key: root.split('data'),
      normalization,
      augmentation,
      labelNoise,
    });
    const { stepsPerEpoch } = batches;
    const steps = config.steps ?? Math.max(1, Math.round(config.epochs * stepsPerEpoch));
    const due = evaluationSteps(steps, stepsPerEpoch, evaluationsPerEpoch);
    const means = new MeanLoss();
    let pause = new AbortController();
    const trainer = await Trainer.create({
      network,
      optimizer,
      schedule: scheduleOf(config, optimizer.lr, steps),
      batches,
      steps,
      key: root.split('draws'),
      microBatch: config.microBatchSize ?? undefined,
      onNonFinite: 'stop',
      now,
      onStep: (report) => {
        means.add(report.loss);
        last = report;
        onStep?.({ step: report.step, steps, loss: report.loss });
        if (due.has(report.step) || stop?.aborted) pause.abort();
      },
    });
    let last: TrainReport | undefined;
    const evaluate = await evaluatorOf(network, problem);
    const about = {
      parameters: network.layout.count,
      stepsPerEpoch,
      examples: { train: problem.train.count, judged: problem.test.count },
    };
    const curve: CurvePoint[] = [];
    const diverged = (step: number, reason: string): TrialResult => ({
      status: 'diverged',
      curve,
      diverged: { step, reason },
      ...about,
    });
    try {
      while (trainer.step < steps) {
        pause = new AbortController();
        try {
          await trainer.run(pause.signal);
        } catch (error) {
          if (error instanceof NonFiniteError) return diverged(trainer.step + 1, error.message);
          throw error;
        }
        if (stop?.aborted) throw new TrialInterrupted(`${spec.id} was given up at step ${trainer.step} of ${steps}.`);
        const { loss, accuracy } = await evaluate.run();
        const step = trainer.step;
        if (!Number.isFinite(loss)) return diverged(step, `The loss is ${loss} on the examples it is judged on.`);
        curve.push({
          step,
          epoch: step / stepsPerEpoch,
          seconds: last?.seconds ?? 0,
          trainLoss: means.take(),
          loss,
          accuracy: accuracy ?? null,
        });
      }
      return { status: 'finished', curve, ...about };
    } finally {
      await evaluate.dispose();
      await trainer.dispose();
    }
  } finally {
    await device.dispose();
  }
}

/** Steps after which a trial is judged: `perEpoch` times an epoch, and after the last. */
export function evaluationSteps(steps: number, stepsPerEpoch: number, perEpoch: number): Set<number> {
  const due = new Set([steps]);
  for (let i = 1; ; i++) {
    const step = Math.max(1, Math.round((i * stepsPerEpoch) / perEpoch));
    if (step >= steps) return due;
    due.add(step);
  }
}

class MeanLoss {
  #sum = 0;
  #count = 0;

  add(loss: number): void {
    this.#sum += loss;
    this.#count++;
  }

  /** The mean since it was last taken. */
  take(): number {
    const mean = this.#sum / this.#count;
    this.#sum = 0;
    this.#count = 0;
    return mean;
  }
}

/** Mean loss and accuracy over all examples, in the order they have. */
function evaluatorOf(network: Network, { test, measure, normalization }: Problem): Promise<Evaluator> {
  const batchSize = Math.min(EVALUATION_BATCH, test.count);
  // Nothing is shuffled, so the key is of no consequence.
  const batches = new Batches(test, { batchSize, key: Key.fromSeed(0), normalization, shuffle: false });
  return evaluator(network, batches, measure);
}

export type { TrainConfig };
