/** @file `edgewise optimizers`: what there is, the page of one, and rules held against recorded trajectories. */
import { readFile } from 'node:fs/promises';
import { Command } from '@commander-js/extra-typings';
import { ConfigError, nearest } from 'edgewise';
import { costOf, findOptimizer, type OptimizerDefinition, optimizers, type Wrapper, wrappers } from 'edgewise/optim';
import { readableError } from '../config/command.ts';
import { ENGINES, type Engine, parseGolden, recordedSubject, replay } from '../golden/index.ts';
import { type Page, pageOf, wrapperPage } from '../optimizers/page.ts';
import { type OutputStream, pad, paint, type Screen, screenOf } from '../terminal/style.ts';
import { table } from '../terminal/table.ts';

interface Actions {
  list(words: readonly string[]): void;
  show(name: string): void;
  check(files: readonly string[], options: CheckOptions): Promise<void>;
}

interface CheckOptions {
  readonly engine: Engine | undefined;
  readonly tolerance: number;
  readonly steps: number | undefined;
  readonly json: boolean;
}

const ENGINE_NAMES: Readonly<Record<string, Engine>> = {
  interpreter: 'interpreter',
  float64: 'float64 kernel',
  float32: 'float32 kernel',
};

function engineOf(text: string): Engine {
  if (Object.hasOwn(ENGINE_NAMES, text)) return ENGINE_NAMES[text];
  throw new ConfigError(`--engine is '${text}'; choose one of ${Object.keys(ENGINE_NAMES).join(', ')}.`);
}

const positive = (flag: string, whole: boolean) => (text: string) => {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0) || !Number.isFinite(value) || (whole && !Number.isInteger(value)))
    throw new ConfigError(`${flag} is '${text}'; give a ${whole ? 'whole ' : ''}number above 0.`);
  return value;
};

function optimizersCommand(actions: Actions) {
  const command = new Command('edgewise optimizers')
    .description('List optimizers, show the page of one, or hold rules against recorded trajectories.')
    .argument('[words...]', 'Show only those whose name, title, family or authors contain these words.')
    .action((words) => actions.list(words));
  command
    .command('show')
    .description('The page of an optimizer or wrapper: formula, options, cost, source.')
    .argument('<name>', 'Its name or an alias.')
    .action((name) => actions.show(name));
  command
    .command('check')
    .description(
      'Replay recorded trajectories (JSON files of the format of docs/parity.md) and print the largest relative error of each case. Exit code 1 where one is above the tolerance.',
    )
    .argument('<files...>', 'Files of recorded trajectories.')
    .option('--engine <name>', 'interpreter, float64 or float32 kernels. (default: interpreter and float64)', engineOf)
    .option('--tolerance <x>', 'Largest relative error allowed.', positive('--tolerance', false), 1e-9)
    .option('--steps <n>', 'Compare the first steps only. (default: all) [steps]', positive('--steps', true))
    .option('--json', 'Print JSON instead of a table.', false)
    .action((files, { engine, tolerance, steps, json }) => actions.check(files, { engine, tolerance, steps, json }));
  for (const each of [command, ...command.commands])
    each
      .showSuggestionAfterError(false)
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
  return command;
}

const noActions: Actions = { list() {}, show() {}, async check() {} };

/** The help of `edgewise optimizers`, or of one of its own commands. */
export function optimizersHelp(argv: readonly string[], width: number): string {
  const command = optimizersCommand(noActions);
  const chosen = command.commands.find((each) => argv.includes(each.name())) ?? command;
  return chosen.configureHelp({ helpWidth: width }).helpInformation();
}

export interface OptimizersOptions {
  readonly stream: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Does what `argv` asks for; resolves to the exit code. */
export async function optimizersMain(argv: readonly string[], { stream, env }: OptimizersOptions): Promise<number> {
  const screen = screenOf(stream, env);
  let exitCode = 0;
  const command = optimizersCommand({
    list: (words) => void stream.write(listing(words, screen)),
    show: (name) => void stream.write(shownPage(name, screen)),
    async check(files, options) {
      if (!(await checkFiles(files, options, stream, screen))) exitCode = 1;
    },
  });
  try {
    await command.parseAsync(argv, { from: 'user' });
  } catch (error) {
    throw readableError(error, command);
  }
  return exitCode;
}

const haystack = (definition: OptimizerDefinition | Wrapper): string =>
  [
    definition.name,
    ...('aliases' in definition ? (definition.aliases ?? []) : []),
    definition.title,
    'family' in definition ? definition.family : 'wrapper',
    definition.source.authors,
    definition.source.title,
  ]
    .join(' ')
    .toLowerCase();

function listing(words: readonly string[], screen: Screen): string {
  const wanted = words.map((word) => word.toLowerCase());
  const meets = (definition: OptimizerDefinition | Wrapper) =>
    wanted.every((word) => haystack(definition).includes(word));
  const [found, around] = [optimizers.filter(meets), wrappers.filter(meets)];
  if (found.length + around.length === 0) {
    const known = [
      ...optimizers.flatMap(({ name, aliases = [] }) => [name, ...aliases]),
      ...wrappers.map(({ name }) => name),
    ];
    const near = nearest(words.join(''), known);
    throw new ConfigError(
      `No optimizer is described by '${words.join(' ')}'; ${near ? `did you mean '${near}'?` : 'see all with edgewise optimizers.'}`,
    );
  }
  const rows = found.map((definition) => {
    const cost = costOf(definition);
    return [
      definition.name,
      `${cost.vectors}${cost.shaped.length > 0 ? '+' : ''}`,
      definition.evaluations?.average ?? String(cost.evaluations),
      String(cost.reductions.model),
      definition.family,
      `${definition.title}${definition.aliases?.length ? ` (also ${definition.aliases.join(', ')})` : ''}`,
    ];
  });
  const head = ['optimizer', 'state', 'gradients', 'reductions', 'family', 'what'];
  const wrapped = around.map(({ name, title, hyperparameters }) => [
    name,
    Object.keys(hyperparameters).join(', '),
    title,
  ]);
  return [
    ...(rows.length > 0 ? [table(head, rows, screen)] : []),
    ...(wrapped.length > 0
      ? [`\nAround any of them (edgewise train --wrap):\n`, table(['wrapper', 'options', 'what'], wrapped, screen)]
      : []),
    words.length === 0
      ? '\nstate: vectors of the size of the parameters at the defaults; gradients and reductions over the model: a step.\nedgewise optimizers show <name> tells more about one.\n'
      : '',
  ].join('');
}

function shownPage(name: string, screen: Screen): string {
  const wrapper = wrappers.find((each) => each.name.toLowerCase() === name.toLowerCase());
  const page: Omit<Page, 'state' | 'cost'> & Partial<Page> = wrapper
    ? wrapperPage(wrapper)
    : pageOf(findOptimizer(name));
  const bold = (text: string) => paint(text, 'bold', screen.color);
  const lines = (text: string, indent = '  ') =>
    wrap(text, Math.max(40, Math.min(screen.width, 110) - indent.length)).map((line) => indent + line);
  return `${[
    `${bold(page.title)}  ${page.name}${page.aliases.length > 0 ? ` (also ${page.aliases.join(', ')})` : ''}, ${page.family}`,
    '',
    ...page.formula.split('\n').map((line) => `  ${line}`),
    '',
    ...lines(page.use),
    '',
    bold('Options'),
    ...page.options.flatMap(({ name: option, default: value, range, search, doc }) => [
      `  ${paint(option, 'cyan', screen.color)} = ${value}  ${paint(`[${range}${search ? `; search ${search}` : ''}]`, 'dim', screen.color)}`,
      ...lines(doc, '      '),
    ]),
    ...(page.state?.length
      ? ['', bold('State'), ...page.state.map((slot) => `  ${slot.name}: ${slot.doc} (${slot.size})`)]
      : []),
    ...(page.cost ? ['', bold('Cost'), ...page.cost.map(({ what, value }) => `  ${pad(what, 30)}${value}`)] : []),
    '',
    bold('Source'),
    ...lines(page.source),
    ...(page.reference ? lines(`Equal to ${page.reference}`) : []),
  ].join('\n')}\n`;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [''];
  for (const word of text.split(/\s+/)) {
    const last = lines[lines.length - 1];
    if (last !== '' && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines;
}

/** Whether every case of every file is within the tolerance. */
async function checkFiles(
  files: readonly string[],
  { engine, tolerance, steps, json }: CheckOptions,
  stream: OutputStream,
  screen: Screen,
): Promise<boolean> {
  const engines = engine ? [engine] : ENGINES.filter((each) => each !== 'float32 kernel');
  const results: {
    file: string;
    id: string;
    optimizer: string;
    steps: number;
    errors: Record<string, number>;
    where: string;
    within: boolean;
  }[] = [];
  for (const path of files) {
    const file = parseGolden(await readText(path), path);
    for (const entry of file.cases) {
      const subject = recordedSubject(file, entry);
      const count = Math.min(steps ?? entry.steps, entry.steps);
      const errors: Record<string, number> = {};
      let worst = { error: -1, where: '' };
      for (const each of engines) {
        const agreement = await replay(each, file, entry, subject, count);
        errors[each] = agreement.error;
        if (agreement.error > worst.error) worst = agreement;
      }
      results.push({
        file: path,
        id: entry.id,
        optimizer: subject.definition.name,
        steps: count,
        errors,
        where: worst.where,
        within: worst.error <= tolerance,
      });
    }
  }
  const wrong = results.filter(({ within }) => !within);
  if (json) stream.write(`${JSON.stringify({ tolerance, cases: results }, null, 2)}\n`);
  else {
    const rows = results.map(({ id, optimizer, steps: count, errors, where, within }) => [
      id,
      optimizer,
      String(count),
      ...engines.map((each) => errors[each].toExponential(1)),
      paint(within ? 'ok' : `above ${tolerance} (${where})`, within ? 'green' : 'red', screen.color),
    ]);
    stream.write(table(['case', 'optimizer', 'steps', ...engines, ''], rows, { ...screen, interactive: false }));
    stream.write(`\n${results.length - wrong.length} of ${results.length} cases within ${tolerance} relative.\n`);
  }
  return wrong.length === 0;
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}.`, {
      cause: error,
    });
  }
}
