/** @file `edgewise race`: several optimizers against each other, on the same terms. */
import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, Option } from '@commander-js/extra-typings';
import { ConfigError, EdgewiseError } from 'edgewise';
import { openRunStore } from 'edgewise/node';
import type { RunStore } from 'edgewise/train';
import { readableError } from '../config/command.ts';
import { renderFigure } from '../figures/index.ts';
import { type Entry, overviewFigure, renderOverview } from '../race/overview.ts';
import { claimFigure, curvesFigure } from '../race/pictures.ts';
import type { PlanSource } from '../race/plan.ts';
import { newRace, RACE_FILE, type Race, readRace, refuseRaceIn, runRace } from '../race/race.ts';
import type { TrialRecord } from '../race/results.ts';
import { forkedRunner, localRunner, type Progress, serveTrials } from '../race/runner.ts';
import { renderMarkdown, renderTable, tablesOf } from '../race/table.ts';
import type { TrialSpec } from '../race/trial.ts';
import { formatCount, formatDuration, formatNumber, formatPercent } from '../terminal/format.ts';
import { LiveTerminal } from '../terminal/live.ts';
import { truncate } from '../terminal/style.ts';
import { RunFailed, type Terminal } from './train.ts';

/** What `edgewise race` is asked to do. */
export interface RaceRequest {
  /** What to run; null where a race is resumed. */
  readonly source: PlanSource | null;
  /** What to call the plan in messages. */
  readonly origin: string;
  readonly out: string | null;
  readonly resume: string | null;
  /** Folder whose subfolders hold races, to sum up; nothing is run. */
  readonly overview: string | null;
  readonly jobs: number;
}

const JOBS_LIMIT = 64;

const list = (text: string): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

const numberOf = (flag: string) => (text: string) => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new ConfigError(`${flag} is ${JSON.stringify(text)}; give a number.`);
  }
  return value;
};

const numbersOf = (flag: string) => (text: string) => list(text).map(numberOf(flag));

function raceCommand() {
  return new Command('race')
    .description(
      'Race optimizers: the same model, batches and initial weights, each tuned with the same budget over the range it declares; tables, JSON and figures of loss and accuracy over epochs and over time. Flags of `edgewise train` say what is trained, such as --model, --data or --batch-size.',
    )
    .argument('[plan.json]', 'File with the plan; flags override it.')
    .optionsGroup('Plan')
    .option('--title <text>', 'What the race is called. (default: model, data and batch size)')
    .option(
      '--optimizers <names>',
      'Optimizers, with commas between them; settings of their own need a plan file.',
      list,
    )
    .option(
      '--budgets <epochs>',
      'Lengths of the runs that are compared, with commas between them; each is a full schedule. (default: 1,2,4) [epochs]',
      numbersOf('--budgets'),
    )
    .option(
      '--trials <n>',
      'Trials that each optimizer is tuned with; 0: nothing is tuned. (default: 6)',
      numberOf('--trials'),
    )
    .option(
      '--tuning-epochs <epochs>',
      'Length of a tuning trial. (default: every budget is tuned for in its own length) [epochs]',
      numberOf('--tuning-epochs'),
    )
    .option(
      '--validation <share>',
      'Share of the training set that trials are judged on and do not see. (default: 0.1)',
      numberOf('--validation'),
    )
    .addOption(
      new Option('--select <what>', 'What decides between trials. (default: accuracy; for text, loss)').choices([
        'accuracy',
        'loss',
      ]),
    )
    .option('--seeds <n>', 'Final runs of each optimizer and budget. (default: 3)', numberOf('--seeds'))
    .option(
      '--evaluations-per-epoch <n>',
      'Evaluations that curves are made of; they do not count as training time. (default: 1)',
      numberOf('--evaluations-per-epoch'),
    )
    .option('--reference <name>', "Optimizer whose epochs are compared with the others'. (default: adan)")
    .optionsGroup('Where')
    .option('--out <folder>', 'Folder for the results. (default: a new folder in runs/)')
    .option('--resume <folder>', 'Go on with the race in this folder; finished trials are not run again.')
    .option(
      '--overview <folder>',
      'Run nothing, and sum up the races in the folders below this one: a table and figures.',
    )
    .option(
      '--jobs <n>',
      'Trials at once, each in a process with one thread; more are done in the same time, but each takes longer. 1: one at a time, with all cores.',
      numberOf('--jobs'),
      1,
    )
    .allowUnknownOption()
    .allowExcessArguments()
    .showSuggestionAfterError(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
}

/** The help of `edgewise race`. */
export function raceHelp(width: number): string {
  const command = raceCommand();
  new Command('edgewise').addCommand(command);
  return command.configureHelp({ helpWidth: width }).helpInformation();
}

/**
 * Reads the arguments after `race`.
 *
 * @throws ConfigError for anything that is wrong with them, or with the plan file they name.
 */
export function parseRaceArguments(
  argv: readonly string[],
  readFile: (path: string) => string = (path) => readFileSync(path, 'utf8'),
): RaceRequest {
  const command = raceCommand();
  let rest: readonly string[] = [];
  let file: string | undefined;
  try {
    const { operands, unknown } = command.parseOptions([...argv]);
    [file] = operands;
    rest = [...operands.slice(1), ...unknown];
  } catch (error) {
    throw readableError(error, command);
  }
  const { out = null, resume = null, overview = null, jobs, ...planned } = command.opts();
  if (!Number.isInteger(jobs) || jobs < 1 || jobs > JOBS_LIMIT)
    throw new ConfigError(`--jobs is ${jobs}; give a whole number from 1 to ${JOBS_LIMIT}.`);
  for (const [flag, value] of [
    ['--out', out],
    ['--resume', resume],
    ['--overview', overview],
  ] as const) {
    if (value === '') throw new ConfigError(`${flag} is empty; give a path.`);
  }
  const flags = trainFlags(rest);
  const given = Object.entries(planned).filter(([, value]) => value !== undefined);
  const plans = file !== undefined || out !== null || given.length > 0 || Object.keys(flags).length > 0;
  if (overview !== null) {
    if (plans || resume !== null) {
      throw new ConfigError('--overview sums up races that were run; leave out the plan and all other flags.');
    }
    return { source: null, origin: overview, out, resume, overview, jobs };
  }
  if (resume !== null) {
    if (plans) {
      throw new ConfigError(
        '--resume goes on with the race as it was planned; leave out the plan, --out and other flags than --jobs.',
      );
    }
    return { source: null, origin: resume, out, resume, overview, jobs };
  }
  const base = file === undefined ? {} : readPlan(file, readFile);
  if (typeof base !== 'object' || base === null || Array.isArray(base)) {
    throw new ConfigError(`${file}: the plan must be an object with \`optimizers\` and \`budgets\`.`);
  }
  const plan = { ...base, ...Object.fromEntries(given) };
  if (!('optimizers' in plan)) {
    throw new ConfigError(
      'A race needs optimizers: name them with --optimizers, such as --optimizers adan,adamw,sgd, or give a plan file.',
    );
  }
  return { source: { plan, flags }, origin: file ?? 'the plan', out, resume, overview, jobs };
}

function readPlan(path: string, readFile: (path: string) => string): unknown {
  let text: string;
  try {
    text = readFile(path);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    const why = code === 'ENOENT' ? 'there is no such file' : cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(`The plan in ${path} cannot be read: ${why}.`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`${path} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}.`, { cause });
  }
}

/** Flags of `edgewise train` as names and values: `--name value`, `--name=value`, or `--name` alone for yes. */
function trainFlags(words: readonly string[]): Record<string, string | boolean> {
  const flags: Record<string, string | boolean> = {};
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (!word.startsWith('--') || word.length < 3) {
      throw new ConfigError(`edgewise race takes a plan file and flags; got '${word}'.`);
    }
    const [name, ...value] = word.slice(2).split('=');
    if (value.length > 0) flags[name] = value.join('=');
    else if (i + 1 < words.length && !words[i + 1].startsWith('--')) flags[name] = words[++i];
    else if (name.startsWith('no-')) flags[name.slice(3)] = false;
    else flags[name] = true;
  }
  return flags;
}

/** The arguments of a worker process, which the command starts itself. */
const WORKER = '--worker';

/** Whether these arguments make this process a worker of a race. */
export const isRaceWorker = (argv: readonly string[]): boolean => argv[0] === WORKER;

/** Runs trials for the race that started this process. */
export const raceWorker = (): Promise<void> => serveTrials(() => performance.now());

/**
 * Runs a race, or goes on with one, and writes `race.json`, `README.md`, `curves.svg` and `claim.svg` into its folder.
 *
 * @returns Whether it was finished; false where it was interrupted.
 * @throws RunFailed for what ends a race that has begun; other errors of the library's where it cannot begin.
 */
export async function race(request: RaceRequest, { stream, env, now, stop }: Terminal): Promise<boolean> {
  const { source, origin, resume, overview, jobs } = request;
  if (overview !== null) {
    stream.write(`${await writeOverview(overview)}\n`);
    return true;
  }
  // Before anything is written: a plan that is refused leaves no folder.
  const fresh = source ? newRace(source, origin) : undefined;
  const folder = resume ?? request.out ?? defaultFolder(now());
  const live = new LiveTerminal(stream, { env, now });
  if (resume !== null) await (await openRunStore(resume, { access: 'read' })).close();
  const store = await openRunStore(folder, { access: 'write' });
  try {
    if (fresh) await refuseRaceIn(store);
    const state = fresh ?? (await readRace(store));
    const clock = () => performance.now();
    const runner = jobs === 1 ? localRunner(clock) : forkedRunner(jobs, process.argv[1], ['race', WORKER]);
    const view = new View(live, clock);
    view.begin(state, folder);
    let complete: boolean;
    try {
      complete = await runRace(state, { store, runner, stop, events: view });
    } catch (error) {
      throw error instanceof EdgewiseError ? new RunFailed(error.message, { cause: error }) : error;
    } finally {
      live.clear();
      await runner.close();
    }
    await writeReport(store, state);
    view.end(state, complete, folder);
    return complete;
  } finally {
    await store.close();
  }
}

/** Sums up the races below `folder`, in the order of their names; returns what to tell. */
async function writeOverview(folder: string): Promise<string> {
  await (await openRunStore(folder, { access: 'read' })).close();
  const entries: Entry[] = [];
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    if (!existsSync(join(path, RACE_FILE))) continue;
    const store = await openRunStore(path, { access: 'read' });
    entries.push({ folder: name, race: await readRace(store) });
    await store.close();
  }
  if (entries.length === 0) {
    throw new ConfigError(`No folder in ${folder} holds a race (${RACE_FILE}); give the folder that they are in.`);
  }
  const figures = [
    { file: 'loss.svg', figure: overviewFigure(entries, 'loss') },
    { file: 'accuracy.svg', figure: overviewFigure(entries, 'accuracy') },
  ].flatMap(({ file, figure }) => (figure ? [{ file, figure }] : []));
  const store = await openRunStore(folder, { access: 'write' });
  try {
    const encode = (text: string) => new TextEncoder().encode(text);
    for (const { file, figure } of figures) await store.writeAtomic(file, encode(renderFigure(figure)));
    const named = figures.map(({ file, figure }) => ({ file, title: figure.title }));
    await store.writeAtomic('README.md', encode(renderOverview(entries, named)));
  } finally {
    await store.close();
  }
  return `${entries.length} races summed up in ${join(folder, 'README.md')}`;
}

function defaultFolder(now: number): string {
  const time = new Date(now).toISOString().slice(0, 19).replaceAll('-', '').replaceAll(':', '').replace('T', '-');
  return `runs/race-${time}`;
}

/** Tables and figures of what is known so far. */
export async function writeReport(store: RunStore, state: Race): Promise<void> {
  const figures = [
    { file: 'claim.svg', figure: claimFigure(state) },
    { file: 'curves.svg', figure: curvesFigure(state) },
  ].flatMap(({ file, figure }) => (figure ? [{ file, figure }] : []));
  const encode = (text: string) => new TextEncoder().encode(text);
  for (const { file, figure } of figures) await store.writeAtomic(file, encode(renderFigure(figure)));
  const named = figures.map(({ file, figure }) => ({ file, title: figure.title }));
  await store.writeAtomic('README.md', encode(renderMarkdown(state, named)));
}

/** What is on the screen. */
class View {
  readonly #live: LiveTerminal;
  readonly #clock: () => number;
  readonly #running = new Map<string, Progress>();
  #done = 0;
  #total = 0;
  #doneBefore = 0;
  #started = 0;

  constructor(live: LiveTerminal, clock: () => number) {
    this.#live = live;
    this.#clock = clock;
  }

  begin({ plan }: Race, folder: string): void {
    const { config } = plan.entrants[0];
    const names = plan.entrants.map(({ label }) => label).join(', ');
    this.#live.print(
      [
        `${plan.title}: ${names}`,
        `${config.model.name} on ${config.data.name}, batch ${formatCount(config.batchSize)}; budgets of ${plan.budgets.join(', ')} epochs; ${plan.trials} trials of tuning, ${plan.seeds.length} seeds`,
        `folder ${folder}`,
        '',
      ].join('\n'),
    );
    this.#started = this.#clock();
  }

  total(total: number, done: number): void {
    [this.#total, this.#done, this.#doneBefore] = [total, done, done];
    if (done > 0) this.#live.print(`${done} of ${total} trials were finished before`);
  }

  step(spec: TrialSpec, progress: Progress): void {
    this.#running.set(spec.id, progress);
    const lines = () =>
      [...this.#running].map(
        ([id, { step, steps, loss }]) =>
          `${id}  step ${formatCount(step)} of ${formatCount(steps)}, loss ${formatNumber(loss)}`,
      );
    this.#live.status(
      ({ width }) => [...lines(), this.#overall()].map((line) => truncate(line, width)),
      () => `${lines().join('; ')}; ${this.#overall()}`,
    );
  }

  finished({ id, config }: TrialSpec, record: TrialRecord, done: number): void {
    this.#running.delete(id);
    this.#done = done;
    const end = record.curve.at(-1);
    const what =
      record.status === 'diverged' || !end
        ? `diverged at step ${record.diverged?.step ?? '?'}`
        : `loss ${formatNumber(end.loss)}${end.accuracy === null ? '' : `, accuracy ${formatPercent(end.accuracy)}`}, ${formatDuration(end.seconds)}`;
    const lr = id.startsWith('tuning/') ? `, lr ${formatNumber(Number(config.optimizer.lr))}` : '';
    this.#live.print(`${id}${lr}: ${what}`);
  }

  end(state: Race, complete: boolean, folder: string): void {
    for (const table of tablesOf(state)) this.#live.print(`\n${renderTable(table)}`);
    this.#live.print(
      complete
        ? `\nfinished in ${formatDuration((this.#clock() - this.#started) / 1000)}; tables in ${folder}/README.md, everything in ${folder}/race.json`
        : `\ninterrupted with ${this.#done} of ${this.#total} trials finished; go on with edgewise race --resume ${folder}`,
    );
  }

  #overall(): string {
    const seconds = (this.#clock() - this.#started) / 1000;
    return `${this.#done} of ${this.#total} trials, ${this.#done - this.#doneBefore} now, ${formatDuration(seconds)}`;
  }
}
