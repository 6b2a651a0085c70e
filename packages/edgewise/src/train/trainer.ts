/** @file The training loop: batches, gradients, updates, evaluation, probes, records and checkpoints, resumable to the bit. */
import { ConfigError, FormatError, NonFiniteError } from '../base/errors.ts';
import type { Key } from '../base/random.ts';
import type { Batches } from '../data/batches.ts';
import type { Schema, Values } from '../optim/hyperparameters.ts';
import type { Optimizer, StepReport } from '../optim/optimizer.ts';
import type { SafeTensor } from '../params/safetensors.ts';
import { loadVector, vectorTensors } from '../params/state.ts';
import { ParamVector } from '../params/vector.ts';
import { type Change, Changes, checkChange, type PlannedChange } from './changes.ts';
import { type LoadedCheckpoint, listCheckpoints, saveCheckpoint } from './checkpoint.ts';
import { checkFit, checkSteps } from './checks.ts';
import { diagnose, norm } from './diagnosis.ts';
import { EvaluatedPoint } from './evaluated.ts';
import { type Evaluator, evaluator } from './evaluation.ts';
import type { JsonValue } from './exact-json.ts';
import { StepGradient } from './gradient.ts';
import { parseLogPosition, RunLogs } from './logs.ts';
import { type MetricFields, type MetricRecord, TRAINING_FIELDS } from './metrics.ts';
import type { BatchGraph, Network } from './network.ts';
import type { Probe } from './probe.ts';
import { isProgress, type Progress, scalarsOf, scalarsToJson, stateOf } from './progress.ts';
import type { RunStore } from './store.ts';

/** Ends a run whose test loss (or accuracy, where there is one) has stopped getting better. */
export interface EarlyStopping {
  /** Evaluations without improvement before the run ends. */
  readonly patience: number;
  /** What counts as improvement; 0 by default. */
  readonly minDelta?: number;
}

export interface TrainerOptions {
  readonly network: Network;
  readonly optimizer: Optimizer;
  /** Learning rate in force at step t = 1, 2, ...; times lr / base lr once the optimizer's lr is changed from what it began with. */
  readonly schedule: (t: number) => number;
  /**
   * Other hyper-parameters by step, as {@link Optimizer.vary} names them: `weightDecay`, or `betas.0` for the first of a list. Recorded as
   * `optimizer/weightDecay`.
   */
  readonly schedules?: Readonly<Record<string, (t: number) => number>>;
  /** Changes of hyper-parameters to make at their steps, such as those another run recorded. */
  readonly changes?: readonly PlannedChange[];
  /** Training batches; their size is the batch an update sees. */
  readonly batches: Batches;
  /** What is evaluated on; none where absent. */
  readonly test?: Batches;
  /** Steps in the whole run. */
  readonly steps: number;
  /** Draws dropout and the like. */
  readonly key: Key;
  /** Examples a graph sees at once; the gradients of batchSize / microBatch of them are averaged. The batch size by default. */
  readonly microBatch?: number;
  /** Evaluate after every so many steps (and after the last); an epoch by default, 0 for only after the last. */
  readonly evalEvery?: number;
  /** Save after every so many steps (and after the last); an epoch by default, 0 for only after the last. */
  readonly checkpointEvery?: number;
  /** Checkpoints kept, 3 by default. */
  readonly keep?: number;
  readonly earlyStopping?: EarlyStopping;
  /**
   * Batches that running statistics are computed from where another point than the one trained is evaluated, such as an average;
   * as many as hold 2,000 examples by default, an epoch at most.
   */
  readonly averageBatches?: number;
  readonly probes?: readonly Probe[];
  /**
   * At a loss or gradient that is not finite, or an update that the optimizer refuses: `stop` (default) saves the state before that step and throws;
   * `skip` leaves the update out, running statistics included, and goes on.
   */
  readonly onNonFinite?: 'stop' | 'skip';
  /** Where the run is kept; nothing is written where absent. */
  readonly store?: RunStore;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Told of every step, after its records were made. */
  readonly onStep?: (report: TrainReport) => void;
}

/** What is known after a step. */
export interface TrainReport {
  readonly step: number;
  /** Passes over the training data so far, fractional. */
  readonly epoch: number;
  /** Mean training loss of the step's batch. */
  readonly loss: number;
  /** Share of the batch classified rightly, where something is classified. */
  readonly accuracy: number | undefined;
  readonly lr: number;
  /** Values of the hyper-parameters that follow schedules. */
  readonly scheduled?: Readonly<Record<string, number>>;
  readonly gradientNorm: number;
  /** Results of an evaluation after this step. */
  readonly test?: { readonly loss: number; readonly accuracy: number | undefined };
  /** What probes found after this step, by quantity. */
  readonly probes?: Readonly<Record<string, number>>;
  /** The update was left out: see `onNonFinite`. */
  readonly skipped?: boolean;
  /** Seconds of training so far, pauses between resumes left out. */
  readonly seconds: number;
}

export interface TrainResult {
  /** Why the run ended. `interrupted` can be resumed. */
  readonly reason: 'finished' | 'early-stop' | 'interrupted';
  readonly step: number;
  /** Updates left out since the beginning of the run: see `onNonFinite`. */
  readonly skipped: number;
  readonly last: TrainReport | undefined;
}

type Settings = TrainerOptions &
  Required<
    Pick<TrainerOptions, 'evalEvery' | 'checkpointEvery' | 'microBatch' | 'averageBatches' | 'probes' | 'onNonFinite'>
  >;

/** Runs a training run; make one with {@link Trainer.create}. */
export class Trainer {
  readonly #options: Settings;
  readonly #graph: BatchGraph;
  readonly #gradient: StepGradient;
  readonly #evaluate: Evaluator | undefined;
  readonly #point: EvaluatedPoint;
  readonly #changes: Changes;
  readonly #schedules: readonly (readonly [name: string, schedule: (t: number) => number])[];
  /** What the schedule of learning rates is relative to. */
  readonly #baseLr: number;
  readonly #progress: Progress = { step: 0, seconds: 0, skipped: 0, best: null, since: 0, stopped: false };
  #logs: RunLogs | undefined;
  #last: TrainReport | undefined;
  #running = false;

  private constructor(options: Settings, graph: BatchGraph, evaluate: Evaluator | undefined) {
    this.#options = options;
    this.#graph = graph;
    this.#gradient = new StepGradient({ ...options, graph });
    this.#evaluate = evaluate;
    this.#point = new EvaluatedPoint(options);
    const { optimizer, changes = [], schedules = {} } = options;
    this.#schedules = Object.entries(schedules);
    this.#baseLr = optimizer.lr;
    this.#vary(1);
    const scheduled = Object.keys(schedules).map((name) => name.split('.')[0]);
    this.#changes = new Changes(optimizer, changes, scheduled);
  }

  /**
   * Compiles the graphs and begins the run's records, or goes on from `checkpoint`.
   *
   * @throws ConfigError or ShapeError for settings, data and network that do not fit each other; StoreError where the store has a run already.
   */
  static async create(given: TrainerOptions, checkpoint?: LoadedCheckpoint): Promise<Trainer> {
    const { network, batches } = given;
    const {
      microBatch = batches.batchSize,
      evalEvery = batches.stepsPerEpoch,
      checkpointEvery = batches.stepsPerEpoch,
      averageBatches = Math.min(batches.stepsPerEpoch, Math.ceil(2000 / batches.batchSize)),
    } = given;
    const options = {
      probes: [],
      onNonFinite: 'stop' as const,
      ...given,
      microBatch,
      evalEvery,
      checkpointEvery,
      averageBatches,
    };
    checkSteps('steps', given.steps, 1);
    checkSteps('evalEvery', evalEvery, 0);
    checkSteps('checkpointEvery', checkpointEvery, 0);
    checkSteps('microBatch', microBatch, 1);
    checkSteps('averageBatches', averageBatches, 1);
    if (batches.batchSize % microBatch !== 0) {
      throw new ConfigError(
        `The micro-batch of ${microBatch} does not divide the batch of ${batches.batchSize}; choose a divisor.`,
      );
    }
    if (batches.stepsPerEpoch * batches.batchSize > batches.dataset.count) {
      throw new ConfigError('Training batches must all have the same size; create them with dropLast.');
    }
    if (given.earlyStopping && !given.test)
      throw new ConfigError('Early stopping needs test data to look at; give some.');
    for (const each of given.test ? [batches, given.test] : [batches]) checkFit(network, each.dataset);
    const graph = await network.trainingGraph(microBatch);
    const evaluate = given.test && (await evaluator(network, given.test));
    const trainer = new Trainer(options, graph, evaluate);
    if (checkpoint) await trainer.#restore(checkpoint);
    else if (given.store && (await listCheckpoints(given.store)).length === 0)
      await trainer.#changes.begin(given.store);
    if (given.store) {
      const fields = trainer.#fields();
      trainer.#logs = checkpoint
        ? await RunLogs.resume(given.store, fields, parseLogPosition(stateOf(checkpoint).logs, checkpoint.name))
        : await RunLogs.begin(given.store, fields, given.now() / 1000);
    }
    return trainer;
  }

  /** Steps taken. */
  get step(): number {
    return this.#progress.step;
  }

  /** Hyper-parameters of the step taken last, or of the first one; `lr` is what the schedule is relative to. */
  get values(): Values<Schema> {
    return this.#options.optimizer.values;
  }

  /** Changes of hyper-parameters made so far, in their order. */
  get changes(): readonly Change[] {
    return this.#changes.made;
  }

  /**
   * Changes hyper-parameters of the optimizer from the next step on, such as `{ lr: 0.01, weightDecay: 0.1 }`; may be called while the run is
   * under way. A changed lr multiplies every rate of the schedule by lr / the lr the optimizer was given to this trainer with.
   *
   * Each change is written to `changes.jsonl` before the step, so that the run can be resumed and repeated to the bit.
   * @throws ConfigError for values that do not fit, that would need other state, or that follow a schedule; the run is as it was.
   */
  change(values: Readonly<Record<string, JsonValue>>): void {
    const { step, stopped } = this.#progress;
    if (stopped || step >= this.#options.steps)
      throw new ConfigError(`The run ended at step ${step}; there is no step left to change anything for.`);
    this.#changes.ask(values);
  }

  /** Loss and accuracy on the whole test set at the point that is evaluated and exported; undefined without test data. */
  async evaluate(): Promise<{ loss: number; accuracy: number | undefined } | undefined> {
    return this.#evaluate && this.#point.at(this.#evaluate.run);
  }

  /**
   * Trains until the last step, an early stop, or until `signal` fires; then the step under way is finished. The state is
   * saved in any case.
   *
   * @throws NonFiniteError where the loss or gradient is not finite and `onNonFinite` is `stop`; StoreError where the disk
   * refuses, with the last checkpoint whole.
   */
  async run(signal?: AbortSignal): Promise<TrainResult> {
    if (this.#running) throw new ConfigError('This run is under way already; wait for it.');
    this.#running = true;
    const progress = this.#progress;
    const { steps, checkpointEvery, now, onStep } = this.#options;
    let since = now();
    let saved = progress.step > 0 ? progress.step : -1;
    try {
      while (progress.step < steps && !progress.stopped && !signal?.aborted) {
        const record = await this.#takeStep();
        const time = now();
        progress.seconds += (time - since) / 1000;
        since = time;
        const report = { ...record, seconds: progress.seconds };
        this.#last = report;
        this.#record(report, time);
        if (checkpointEvery > 0 && progress.step % checkpointEvery === 0) {
          await this.save();
          saved = progress.step;
        }
        onStep?.(report);
      }
      if (saved !== progress.step && progress.step > 0) await this.save();
      const reason = progress.stopped ? 'early-stop' : progress.step >= steps ? 'finished' : 'interrupted';
      return { reason, step: progress.step, skipped: progress.skipped, last: this.#last };
    } finally {
      this.#running = false;
    }
  }

  /** Writes a checkpoint of the present state, with everything recorded so far. Returns its name, or undefined without a store. */
  async save(): Promise<string | undefined> {
    const { store, network, optimizer, probes, keep } = this.#options;
    if (!store) return undefined;
    await this.#logs?.flush();
    const tensors = [
      ...(await this.#evaluatedTensors()),
      ...vectorTensors(network.params, 'params.'),
      ...vectorTensors(network.buffers, 'buffers.'),
      ...Object.entries(optimizer.slots).flatMap(([name, vector]) => vectorTensors(vector, `optimizer.${name}.`)),
      ...probes.flatMap((probe) =>
        [...probe.memory].flatMap(([name, vector]) => vectorTensors(vector, `probes.${probe.name}.${name}.`)),
      ),
    ];
    const state: JsonValue = {
      progress: { ...this.#progress },
      optimizer: scalarsToJson(optimizer.scalarState()),
      logs: this.#logs?.position ?? null,
      // A step that was refused has not been taken.
      changes: this.#changes.made.flatMap((change) => (change.step <= this.#progress.step ? [{ ...change }] : [])),
    };
    return saveCheckpoint(store, { step: this.#progress.step, tensors, state }, { keep });
  }

  /** Frees compiled graphs. */
  async dispose(): Promise<void> {
    await this.#graph.dispose();
    await this.#gradient.dispose();
    await this.#evaluate?.dispose();
    await this.#point.dispose();
    await Promise.all(this.#options.probes.map((probe) => probe.dispose()));
  }

  async #takeStep(): Promise<Omit<TrainReport, 'seconds'>> {
    const { network, batches, steps, evalEvery, probes, onNonFinite, earlyStopping } = this.#options;
    const progress = this.#progress;
    const t = progress.step + 1;
    await this.#changes.makeAt(t);
    const scheduled = this.#vary(t);
    const { loss, correct } = await this.#gradient.evaluate(progress.step);
    const gradientNorm = norm(network.gradient.data);
    const lr = this.#rate(t);
    const finite = Number.isFinite(loss) && Number.isFinite(gradientNorm);
    const { applied, refusal } = finite ? await this.#update(lr, loss) : { applied: false, refusal: undefined };
    if (!applied) {
      this.#gradient.restoreBuffers();
      if (onNonFinite === 'stop') {
        const name = await this.save();
        throw new NonFiniteError(diagnose({ network, step: t, lr, loss, gradientNorm, refusal, saved: name }));
      }
      progress.skipped++;
    }
    progress.step = t;
    const due = (every: number) => t === steps || (every > 0 && t % every === 0);
    const measured: Record<string, number> = {};
    for (const probe of probes) if (due(probe.every)) Object.assign(measured, await probe.measure({ step: t, lr }));
    const test = this.#evaluate && due(evalEvery) ? await this.#point.at(this.#evaluate.run) : undefined;
    if (test && earlyStopping) this.#judge(test, earlyStopping);
    return {
      step: t,
      epoch: t / batches.stepsPerEpoch,
      loss,
      accuracy: correct === undefined ? undefined : correct / batches.batchSize,
      lr,
      ...(this.#schedules.length > 0 ? { scheduled } : {}),
      gradientNorm,
      ...(test ? { test } : {}),
      ...(Object.keys(measured).length > 0 ? { probes: measured } : {}),
      ...(applied ? {} : { skipped: true }),
    };
  }

  #rate(t: number): number {
    const rate = this.#options.schedule(t);
    const { lr } = this.#options.optimizer;
    return lr === this.#baseLr ? rate : rate * (lr / this.#baseLr);
  }

  /** Sets what follows schedules to its values at step `t`. */
  #vary(t: number): Record<string, number> {
    const scheduled: Record<string, number> = {};
    for (const [name, schedule] of this.#schedules) {
      scheduled[name] = schedule(t);
      this.#options.optimizer.vary(name, scheduled[name]);
    }
    return scheduled;
  }

  /** Copies of the weights and buffers evaluated, where they are not those trained. */
  #evaluatedTensors(): Promise<SafeTensor[]> {
    const { params, buffers } = this.#options.network;
    const copy = (vector: ParamVector) => {
      const made = new ParamVector(vector.layout, vector.dtype);
      made.data.set(vector.data);
      return made;
    };
    return this.#point.at((elsewhere) =>
      elsewhere
        ? [...vectorTensors(copy(params), 'evaluated.params.'), ...vectorTensors(copy(buffers), 'evaluated.buffers.')]
        : [],
    );
  }

  #update(lr: number, loss: number): StepReport | Promise<StepReport> {
    const { optimizer } = this.#options;
    if (!optimizer.needsStepWith) return optimizer.step({ lr, loss });
    return optimizer.stepWith(async (what) => (await this.#gradient.evaluateAgain(this.#progress.step, what)).loss, {
      lr,
      loss,
    });
  }

  #judge(test: { loss: number; accuracy: number | undefined }, { patience, minDelta = 0 }: EarlyStopping): void {
    const progress = this.#progress;
    const score = test.accuracy ?? -test.loss;
    // A score that is not a number is no improvement, and nothing to improve on.
    if (score > (progress.best ?? Number.NEGATIVE_INFINITY) + minDelta) {
      progress.best = score;
      progress.since = 0;
    } else if (++progress.since >= patience) progress.stopped = true;
  }

  #fields(): MetricFields {
    const { probes, network } = this.#options;
    const unit = network.objective.name === 'crossEntropy' ? 'nats' : '1';
    const losses = {
      'train/loss': { ...TRAINING_FIELDS['train/loss'], unit },
      'test/loss': { ...TRAINING_FIELDS['test/loss'], unit },
    };
    const { hyperparameters } = this.#options.optimizer.definition;
    const scheduled: MetricFields = Object.fromEntries(
      this.#schedules.map(([name]) => {
        const { unit = '1', doc } = hyperparameters[name.split('.')[0]];
        return [`optimizer/${name}`, { unit, doc: `In force at this step, by its schedule. ${doc}` }];
      }),
    );
    return Object.assign({}, TRAINING_FIELDS, losses, scheduled, ...probes.map((probe) => probe.fields));
  }

  #record(report: TrainReport, time: number): void {
    const { batches } = this.#options;
    const record: MetricRecord = {
      step: report.step,
      epoch: report.epoch,
      examples: report.step * batches.batchSize,
      lr: report.lr,
      'train/loss': report.loss,
      'train/accuracy': report.accuracy,
      'train/gradient-norm': report.gradientNorm,
      'test/loss': report.test?.loss,
      'test/accuracy': report.test?.accuracy,
      ...Object.fromEntries(this.#schedules.map(([name]) => [`optimizer/${name}`, report.scheduled?.[name]])),
      ...report.probes,
      seconds: report.seconds,
    };
    this.#logs?.record(record, time / 1000);
  }

  async #restore(checkpoint: LoadedCheckpoint): Promise<void> {
    const { network, optimizer, probes } = this.#options;
    const state = stateOf(checkpoint);
    const { file } = checkpoint;
    const made = Array.isArray(state.changes) ? state.changes : [];
    await this.#changes.resume(
      this.#options.store,
      checkpoint.step,
      made.map((change) => checkChange(change, checkpoint.name)),
    );
    if (checkpoint.step > 0) this.#vary(checkpoint.step);
    loadVector(network.params, file, 'params.');
    loadVector(network.buffers, file, 'buffers.');
    for (const [name, vector] of Object.entries(optimizer.slots)) loadVector(vector, file, `optimizer.${name}.`);
    optimizer.restoreScalars(scalarsOf(state.optimizer, checkpoint.name));
    for (const probe of probes) {
      // A probe that was not on before starts without memory.
      for (const [name, vector] of probe.memory) {
        const prefix = `probes.${probe.name}.${name}.`;
        if ([...file.tensors.keys()].some((key) => key.startsWith(prefix))) loadVector(vector, file, prefix);
      }
    }
    const saved = state.progress;
    if (!isProgress(saved) || saved.step !== checkpoint.step) {
      throw new FormatError(
        `${checkpoint.name} does not say how far its run was; it is not a checkpoint of a training run.`,
      );
    }
    Object.assign(this.#progress, saved);
  }
}
