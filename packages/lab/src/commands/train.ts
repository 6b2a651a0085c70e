/** @file `edgewise train`: a run from its first line to its summary. */
import { rmdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { ConfigError, EdgewiseError } from 'edgewise';
import { type Dataset, labelNoiseEntropy } from 'edgewise/data';
import { describeEnvironment, openRunStore } from 'edgewise/node';
import {
  type LoadedCheckpoint,
  loadCheckpoint,
  metricSeries,
  type RunStore,
  readMetrics,
  type TrainReport,
  type TrainResult,
} from 'edgewise/train';
import { CONFIG_FILE, type TrainRequest } from '../config/command.ts';
import type { TrainConfig } from '../config/settings.ts';
import { describeScaling } from '../run/batch-scaling.ts';
import { CARD_FILE } from '../run/card.ts';
import { openSession, type Session } from '../run/session.ts';
import { formatCount, formatDuration, formatNumber, formatPercent } from '../terminal/format.ts';
import { LiveTerminal } from '../terminal/live.ts';
import { renderPlot } from '../terminal/plot.ts';
import {
  describeSharpness,
  type Progress,
  progressHeader,
  progressRow,
  renderSummary,
  type Sharpness,
  statusLines,
} from '../terminal/progress.ts';
import type { OutputStream } from '../terminal/style.ts';

/** What the command needs of the process it runs in. */
export interface Terminal {
  readonly stream: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Fires when the user wants the run to end: the step under way is finished and the state saved. */
  readonly stop: AbortSignal;
}

/** Losses and accuracies of training are shown as running means over about 1 / (1 - this) steps: single batches jump about. */
const SMOOTHING = 0.98;

/** A run had begun and could not go on. The message is that of the error that ended it. */
export class RunFailed extends EdgewiseError {
  override readonly name = 'RunFailed';
}

/**
 * Trains as asked and prints progress; resolves with why the run ended.
 *
 * @throws RunFailed for what ends a run that has begun; other errors of the library's where it cannot begin, and then no folder is left behind.
 */
export async function train(request: TrainRequest, terminal: Terminal): Promise<TrainResult> {
  const { config } = request;
  const folder = request.resume ?? request.out ?? defaultFolder(config, terminal.now());
  const live = new LiveTerminal(terminal.stream, { env: terminal.env, now: terminal.now });
  const made = await missingFolders(folder);
  try {
    const store = await openRunStore(folder, { access: 'write' });
    try {
      return await trainIn(store, request, folder, live, terminal);
    } finally {
      await store.close();
    }
  } finally {
    // A run that never began leaves nothing behind; a folder with anything in it stays.
    for (const path of made) await rmdir(path).catch(() => {});
  }
}

async function trainIn(
  store: RunStore,
  request: TrainRequest,
  folder: string,
  live: LiveTerminal,
  { now, stop }: Terminal,
): Promise<TrainResult> {
  const { config } = request;
  const checkpoint = await startingPoint(request, store);
  const view = new View(live, config, now);
  const session = await openSession({ config, store, checkpoint, now, onStep: (report) => view.step(report) });
  try {
    await describe(store, session);
    view.begin(session, folder, checkpoint);
    const result = await session.trainer.run(stop).catch((cause: unknown) => {
      throw cause instanceof EdgewiseError ? new RunFailed(cause.message, { cause }) : cause;
    });
    await view.end(session, result, store, folder);
    return result;
  } catch (error) {
    live.clear();
    throw error;
  } finally {
    await session.dispose();
  }
}

/** The folder and those above it that do not exist yet, innermost first. */
async function missingFolders(folder: string): Promise<string[]> {
  const missing: string[] = [];
  for (let path = resolve(folder); path !== dirname(path); path = dirname(path)) {
    const exists = await stat(path).then(
      () => true,
      () => false,
    );
    if (exists) break;
    missing.push(path);
  }
  return missing;
}

/** runs/convnet-mnist-adan-20261125-161003. */
function defaultFolder({ model, data, optimizer }: TrainConfig, now: number): string {
  const time = new Date(now).toISOString().slice(0, 19).replaceAll('-', '').replaceAll(':', '').replace('T', '-');
  return `runs/${model.name}-${data.name}-${optimizer.name}-${time}`;
}

async function startingPoint(
  { resume, resumeStep }: TrainRequest,
  store: RunStore,
): Promise<LoadedCheckpoint | undefined> {
  if (resume !== null) return loadCheckpoint(store, resumeStep === null ? {} : { step: resumeStep });
  const files = await store.list();
  if (files.includes(CONFIG_FILE)) {
    throw new ConfigError(
      `There is a run in ${store.location} already; go on with it by --resume ${store.location}, or choose another folder with --out.`,
    );
  }
  return undefined;
}

/** Everything needed to repeat the run, to use its network, and to know where it was made. */
async function describe(store: RunStore, { config, card, scaling }: Session): Promise<void> {
  const json = (value: unknown) => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
  await store.writeAtomic(CONFIG_FILE, json(config));
  await store.writeAtomic(CARD_FILE, json(card));
  if (scaling) await store.writeAtomic('batch-scaling.json', json(scaling));
  await store.writeAtomic('environment.json', json(await describeEnvironment()));
}

/** What is on the screen. */
class View {
  readonly #live: LiveTerminal;
  readonly #config: TrainConfig;
  readonly #now: () => number;
  #session: Session | undefined;
  #started = 0;
  #startStep = 0;
  readonly #loss = new RunningMean(SMOOTHING);
  /** What is shown as loss: the mean, or what is not finite. */
  #lossNow: number | undefined;
  readonly #accuracy = new RunningMean(SMOOTHING);
  #test: TrainReport['test'];
  #testEpoch: number | undefined;
  #sharpness: Sharpness | undefined;
  #best: (NonNullable<TrainReport['test']> & { readonly epoch: number }) | undefined;

  constructor(live: LiveTerminal, config: TrainConfig, now: () => number) {
    this.#live = live;
    this.#config = config;
    this.#now = now;
  }

  begin(session: Session, folder: string, checkpoint: LoadedCheckpoint | undefined): void {
    this.#session = session;
    this.#started = this.#now();
    this.#startStep = session.trainer.step;
    const { network, data, steps, batches, optimizer } = session;
    const { model, device, batchSize, precision, wrap, groups, freeze } = this.#config;
    const { screen } = this.#live;
    const epochs = steps / batches.stepsPerEpoch;
    this.#live.print(
      renderSummary(
        [
          ['model', `${model.name}, ${formatCount(network.layout.count)} parameters`],
          [
            'data',
            `${data.train.name}, ${formatCount(data.train.count)} training and ${formatCount(data.test.count)} test examples`,
          ],
          [
            'optimizer',
            `${optimizer.definition.title}, lr ${formatNumber(optimizer.lr)}, ${this.#config.schedule.name} schedule, batch ${formatCount(batchSize)}`,
          ],
          ...(wrap.length > 0 ? [['wrapped in', wrap.map(({ name }) => name).join(', then ')] as const] : []),
          ...(groups.length > 0 || freeze.length > 0
            ? [['parameters', describeParameters(optimizer, groups.length)] as const]
            : []),
          ...(session.scaling ? [['rescaled', describeScaling(session.scaling)] as const] : []),
          ...describeLabelNoise(this.#config, data.train),
          ['length', `${formatCount(steps)} steps, ${formatNumber(epochs)} epochs`],
          ['device', `${device}, ${precision}`],
          ['run', folder],
          ...(checkpoint ? [['resumed', `from step ${formatCount(checkpoint.step)}`] as const] : []),
          ...(checkpoint?.warnings.map((warning) => ['warning', warning] as const) ?? []),
        ],
        screen,
      ),
    );
    this.#live.print(`\n${progressHeader(screen)}`);
  }

  step(report: TrainReport): void {
    this.#loss.add(report.loss);
    this.#lossNow = Number.isFinite(report.loss) ? this.#loss.value : report.loss;
    if (report.accuracy !== undefined) this.#accuracy.add(report.accuracy);
    if (report.probes?.sharpness !== undefined) {
      const { sharpness: value, 'sharpness/residual': residual, 'sharpness/threshold': threshold } = report.probes;
      this.#sharpness = { value, residual, preconditioned: report.probes['sharpness/preconditioned'], threshold };
    }
    if (report.test) {
      this.#test = report.test;
      this.#testEpoch = report.epoch;
      const score = ({ loss, accuracy }: NonNullable<TrainReport['test']>) => accuracy ?? -loss;
      if (!this.#best || score(report.test) >= score(this.#best)) this.#best = { ...report.test, epoch: report.epoch };
      this.#live.print(progressRow(this.#progress(report), this.#live.screen));
    }
    this.#live.status(
      (screen) => statusLines(this.#progress(report), screen),
      (screen) => progressRow(this.#progress(report), screen),
    );
  }

  #progress(report: TrainReport): Progress {
    const session = this.#session!;
    const seconds = (this.#now() - this.#started) / 1000;
    const done = report.step - this.#startStep;
    return {
      step: report.step,
      steps: session.steps,
      epoch: report.epoch,
      epochs: session.steps / session.batches.stepsPerEpoch,
      loss: this.#lossNow,
      accuracy: this.#accuracy.value,
      testLoss: this.#test?.loss,
      testAccuracy: this.#test?.accuracy,
      lr: report.lr,
      examplesPerSecond: (done * session.batches.batchSize) / seconds,
      secondsElapsed: report.seconds,
      secondsLeft: done > 0 ? (seconds / done) * (session.steps - report.step) : undefined,
      sharpness: this.#sharpness,
    };
  }

  async end(
    session: Session,
    { reason, step, skipped, last }: TrainResult,
    store: RunStore,
    folder: string,
  ): Promise<void> {
    this.#live.clear();
    const { screen } = this.#live;
    const { records } = readMetrics(await store.read('metrics.jsonl'));
    const epochs = (steps: number[]) => steps.map((s) => s / session.batches.stepsPerEpoch);
    const loss = metricSeries(records, 'train/loss');
    if (loss.values.length > 1) {
      const test = metricSeries(records, 'test/loss');
      const series = [
        { name: 'training', x: epochs(loss.steps), y: smooth(loss.values) },
        ...(test.values.length > 1 ? [{ name: 'test', x: epochs(test.steps), y: test.values }] : []),
      ];
      this.#live.print(
        `\n${renderPlot(series, { title: 'loss', xLabel: 'epoch', yScale: 'log', width: Math.min(screen.width, 100), height: 10, color: screen.color })}`,
      );
    }
    const why = {
      finished: 'finished',
      'early-stop': 'ended early: the test set shows no improvement',
      interrupted: `interrupted at step ${formatCount(step)}; go on with --resume ${folder}`,
    }[reason];
    const test = this.#test;
    const left = skipped === 0 ? '' : `; updates left out because something was not finite: ${formatCount(skipped)}`;
    const percent = (accuracy: number | undefined) =>
      accuracy === undefined ? '' : `, accuracy ${formatPercent(accuracy)}`;
    const rows: (readonly [string, string])[] = [['run', why + left]];
    if (test) rows.push(['test', `loss ${formatNumber(test.loss)}${percent(test.accuracy)}`]);
    if (this.#best && test && this.#best.epoch !== this.#testEpoch)
      rows.push([
        'best test',
        `loss ${formatNumber(this.#best.loss)}${percent(this.#best.accuracy)}, epoch ${formatNumber(this.#best.epoch, 3)}`,
      ]);
    if (last) {
      const trained = (step - this.#startStep) * session.batches.batchSize;
      const seconds = (this.#now() - this.#started) / 1000;
      rows.push([
        'time',
        `${formatDuration(last.seconds)}, ${formatCount(Math.round(trained / seconds))} examples a second`,
      ]);
    }
    if (this.#sharpness) rows.push(['sharpness', describeSharpness(this.#sharpness).replace(/^sharpness /, '')]);
    rows.push(['folder', folder]);
    this.#live.print(`\n${renderSummary(rows, screen)}`);
  }
}

/** How many groups there are, and what is frozen. */
function describeParameters({ assignments }: Session['optimizer'], groups: number): string {
  const still = assignments.filter(({ frozen }) => frozen);
  const count = still.reduce((sum, { segment }) => sum + segment.length, 0);
  return [
    ...(groups > 0 ? [`${groups} ${groups === 1 ? 'group' : 'groups'} of their own`] : []),
    ...(still.length > 0 ? [`${formatCount(count)} in ${formatCount(still.length)} tensors frozen`] : []),
  ].join(', ');
}

/** How much of the training loss the noise alone makes up. */
function describeLabelNoise({ labelNoise }: TrainConfig, train: Dataset): (readonly [string, string])[] {
  if (labelNoise === 0) return [];
  if (train.kind !== 'classification') return [['label noise', `±${formatNumber(labelNoise)}`]];
  const floor = formatNumber(labelNoiseEntropy(labelNoise, train.classes));
  return [['label noise', `${formatPercent(labelNoise)} of classes, anew every time; no training loss below ${floor}`]];
}

/** A mean that forgets, without bias towards its first values: all count alike until there are as many as it remembers. */
class RunningMean {
  readonly #keep: number;
  #sum = 0;
  #weight = 0;

  constructor(keep: number) {
    this.#keep = keep;
  }

  add(value: number): void {
    if (!Number.isFinite(value)) return;
    this.#sum = this.#keep * this.#sum + value;
    this.#weight = this.#keep * this.#weight + 1;
  }

  get value(): number | undefined {
    return this.#weight === 0 ? undefined : this.#sum / this.#weight;
  }
}

/** The course of a series without its batch-to-batch jumps, for the plot. */
function smooth(values: readonly number[]): number[] {
  const mean = new RunningMean(Math.min(SMOOTHING, 1 - 10 / Math.max(20, values.length)));
  return values.map((value) => {
    mean.add(value);
    return mean.value ?? value;
  });
}
