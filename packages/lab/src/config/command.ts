/** `edgewise train` on the command line: every setting as a flag, read into a checked request; and its help. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, type CommandUnknownOpts, Option } from '@commander-js/extra-typings';
import { ConfigError } from 'edgewise';
import { type Catalog, findVariant, type Variant } from './catalog.ts';
import { checkResumable } from './resume.ts';
import { type ConfigLayer, type Flags, parseTrainConfig, unknownFlag } from './schema.ts';
import { placeholder, type Setting, showValue } from './setting.ts';
import {
  CHOOSABLE,
  type Choosable,
  fixedLeaves,
  type Leaf,
  type TrainConfig,
  variantLeaves,
  wrapperLeaves,
} from './settings.ts';

/** What `edgewise train` is asked to do. */
export interface TrainRequest {
  readonly config: TrainConfig;
  /** Folder to write the run to; null: one named after the run. */
  readonly out: string | null;
  /** Folder of a run to go on with. */
  readonly resume: string | null;
  /** Step of the checkpoint to go on from; null: the newest. */
  readonly resumeStep: number | null;
  /** Only say what would be trained with what. */
  readonly dryRun: boolean;
}

/** Reads a text file; `readFileSync` unless a test says otherwise. */
export type ReadFile = (path: string) => string;

const PARTS = Object.keys(CHOOSABLE) as readonly Choosable[];

/** Flags that say where, not what: they are not part of the configuration. */
const PLACES = {
  config: ['--config <file>', 'JSON file with settings, such as the config.json of a run; flags override it.'],
  out: ['--out <folder>', 'Folder to write the run to. (default: a new folder in runs/)'],
  resume: ['--resume <folder>', 'Go on with the run in this folder, from its newest checkpoint that is whole.'],
  resumeStep: ['--resume-step <n>', 'Go on from the checkpoint of this step instead. [steps]'],
} as const;

/** Flags about parts of the network; each can be given several times. */
const PARAMETERS = {
  group: [
    '--group <text>',
    "Parameters for which something differs: 'tag=bias,norm weightDecay=0', 'minRank=2 lrScale=0.5', 'name=head.* optimizer=adamw adamwLr=0.001'. tag, name (* stands for any characters), minRank and maxRank say which; lrScale is a factor on the learning rate; optimizer is another optimizer for them, whose hyper-parameters begin with its name. Can be given several times; later groups win. Takes the place of groups in a file.",
  ],
  freeze: [
    '--freeze <text>',
    "Parameters that are not trained, chosen as by --group: 'name=conv1.*'. Can be given several times.",
  ],
} as const;

/** Name of the configuration in a run's folder. */
export const CONFIG_FILE = 'config.json';

/**
 * The command `train`, for the given arguments: which flags it lists in its help depends on the optimizer, model, data set and schedule they choose.
 *
 * @param argv Arguments after `train`.
 * @param action Called with the checked request.
 */
export function trainCommand(
  catalog: Catalog,
  argv: readonly string[],
  action: (request: TrainRequest) => Promise<void>,
  readFile: ReadFile = (path) => readFileSync(path, 'utf8'),
): CommandUnknownOpts {
  const command = new Command('train').description('Train a network and keep everything about it in a run folder.');
  command.showSuggestionAfterError(false).allowExcessArguments(false).exitOverride();
  command
    .configureOutput({ writeErr: () => {} })
    .addHelpOption(new Option('-h, --help', 'Show this help.').helpGroup('Where'));
  command.optionsGroup('Where');
  for (const [flags, doc] of Object.values(PLACES)) command.option(flags, doc);
  command.option('--dry-run', 'Print what every parameter would be updated with, and train nothing.');
  const choices = choicesIn(catalog, argv);
  for (const part of PARTS) {
    const names = CHOOSABLE[part].list(catalog).map(({ name }) => name);
    const { doc } = choices[part];
    command.addOption(
      new Option(
        `--${part} <name>`,
        `One of ${names.join(', ')}. ${doc.replace(/\.?$/, '.')} (default: ${recipeName(catalog, part)})`,
      ).helpGroup('Choices'),
    );
  }
  const wrap = wrappersIn(catalog, argv);
  if (catalog.wrappers.length > 0) {
    const list = catalog.wrappers.map(({ name }) => name).join(', ');
    command.addOption(
      new Option(
        '--wrap <names>',
        `What is put around the optimizer, innermost first, with commas between: of ${list}. (default: none)`,
      ).helpGroup('Choices'),
    );
  }
  const several = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];
  for (const [flags, doc] of Object.values(PARAMETERS))
    command.addOption(new Option(flags, doc).argParser(several).helpGroup('Parameters'));
  const defaults = defaultsFor(catalog, choices, wrap);
  for (const { leaf, hidden } of allLeaves(catalog, choices, wrap)) {
    for (const option of optionsOf(leaf, defaults)) command.addOption(hidden ? option.hideHelp() : option);
  }
  return command.action(async (options) => {
    await action(requestOf(catalog, options, readFile));
  });
}

/**
 * Reads the arguments after `train` into a checked request.
 *
 * @throws ConfigError for anything that is wrong with them, or with a JSON file they name.
 */
export async function parseTrainArguments(
  argv: readonly string[],
  catalog: Catalog,
  readFile?: ReadFile,
): Promise<TrainRequest> {
  let request: TrainRequest | undefined;
  const command = trainCommand(
    catalog,
    argv,
    async (parsed) => {
      request = parsed;
    },
    readFile,
  );
  try {
    await command.parseAsync(argv, { from: 'user' });
  } catch (error) {
    throw readableError(error, command);
  }
  if (!request) throw new Error('the command ended without its action');
  return request;
}

/** The help of `edgewise train` with the given arguments, at most `width` columns wide. */
export function trainHelp(catalog: Catalog, argv: readonly string[], width: number): string {
  const command = trainCommand(catalog, argv, async () => {});
  new Command('edgewise').addCommand(command);
  return command.configureHelp({ helpWidth: width }).helpInformation();
}

/** What commander says, as one sentence of ours; anything else as it is. */
export function readableError(error: unknown, command: CommandUnknownOpts): unknown {
  if (!(error instanceof CommanderError)) return error;
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? '';
  switch (error.code) {
    case 'commander.unknownOption': {
      const name = quoted.replace(/^-+/, '').replace(/=.*$/, '');
      return unknownFlag(
        name,
        command.options.map((option) => option.long ?? ''),
      );
    }
    case 'commander.optionMissingArgument':
      return new ConfigError(`${quoted.split(' ')[0]} needs a value: ${quoted}.`);
    case 'commander.missingArgument':
      return new ConfigError(`edgewise ${command.name()} needs <${quoted}>; see edgewise ${command.name()} --help.`);
    case 'commander.excessArguments': {
      const places = command.registeredArguments.map((argument) => `<${argument.name()}>`);
      const takes = places.length === 0 ? 'flags only, such as --lr 0.01' : `${places.join(' and ')}, then flags`;
      return new ConfigError(
        `edgewise ${command.name()} takes ${takes}; got ${command.args.map(showValue).join(' ')}.`,
      );
    }
    default:
      return error;
  }
}

function requestOf(catalog: Catalog, options: Readonly<Record<string, unknown>>, readFile: ReadFile): TrainRequest {
  const text = (name: keyof typeof PLACES): string | null => {
    const value = options[name];
    if (value === '') throw new ConfigError(`${PLACES[name][0].split(' ')[0]} is empty; give a path.`);
    return typeof value === 'string' ? value : null;
  };
  const [config, out, resume, step] = [text('config'), text('out'), text('resume'), text('resumeStep')];
  const { dryRun: dry, ...rest } = options;
  const dryRun = dry === true;
  const flags: Record<string, Flags[string]> = {};
  for (const [name, value] of Object.entries(rest)) {
    if (Object.hasOwn(PLACES, name)) continue;
    if (typeof value === 'string' || typeof value === 'boolean' || isTexts(value)) flags[kebab(name)] = value;
  }
  if (resume === null) {
    if (step !== null)
      throw new ConfigError('--resume-step says where to go on, but not with which run; give --resume too.');
    const layers: ConfigLayer[] = config === null ? [] : [{ source: config, value: readJson(config, readFile) }];
    return { config: parseTrainConfig([...layers, { flags }], catalog), out, resume, resumeStep: null, dryRun };
  }
  for (const [name, value] of [
    ['--out', out],
    ['--config', config],
  ] as const) {
    if (value !== null)
      throw new ConfigError(`--resume goes on in the folder of the run, with its settings; leave out ${name}.`);
  }
  if (step !== null && !/^\d{1,15}$/.test(step)) {
    throw new ConfigError(`--resume-step is ${showValue(step)}; give a whole number of at least 0.`);
  }
  const path = `${resume.replace(/\/+$/, '')}/${CONFIG_FILE}`;
  const saved: ConfigLayer = { source: path, value: readJson(path, readFile) };
  const before = parseTrainConfig([saved], catalog);
  const after = parseTrainConfig([saved, { flags }], catalog);
  checkResumable(before, after, catalog);
  return { config: after, out, resume, resumeStep: step === null ? null : Number(step), dryRun };
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((each) => typeof each === 'string');

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

function readJson(path: string, readFile: ReadFile): unknown {
  let text: string;
  try {
    text = readFile(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const why =
      code === 'ENOENT'
        ? 'there is no such file'
        : code === 'EISDIR'
          ? 'it is a folder'
          : error instanceof Error
            ? error.message
            : String(error);
    throw new ConfigError(`The settings in ${path} cannot be read: ${why}.`, { cause: error });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`${path} is not JSON: ${why}.`, { cause: error });
  }
}

/** The variants that `argv` chooses, as far as it can be seen without parsing; what is mistyped is left to the parser. */
function choicesIn(catalog: Catalog, argv: readonly string[]): Record<Choosable, Variant> {
  const pick = (part: Choosable): Variant => {
    const variants = CHOOSABLE[part].list(catalog);
    const said = saidOf(argv, part);
    try {
      return findVariant(part, variants, said ?? recipeName(catalog, part), part);
    } catch {
      return findVariant(part, variants, recipeName(catalog, part), part);
    }
  };
  return { model: pick('model'), data: pick('data'), optimizer: pick('optimizer'), schedule: pick('schedule') };
}

/** The last value that `argv` gives to a flag. */
function saidOf(argv: readonly string[], name: string): string | undefined {
  const at = argv.findLastIndex((word) => word === `--${name}` || word.startsWith(`--${name}=`));
  return at < 0 ? undefined : argv[at].includes('=') ? argv[at].slice(argv[at].indexOf('=') + 1) : argv[at + 1];
}

/** The wrappers that `argv` names. */
function wrappersIn({ wrappers }: Catalog, argv: readonly string[]): Variant[] {
  const said = (saidOf(argv, 'wrap') ?? '').split(',').map((name) => name.trim().toLowerCase());
  return wrappers.filter(({ name }) => said.includes(name.toLowerCase()));
}

function recipeName(catalog: Catalog, part: Choosable): string {
  const value = catalog.recipe[part];
  const name: unknown = typeof value === 'object' && value !== null && 'name' in value ? value.name : value;
  if (typeof name !== 'string') throw new Error(`the recipe names no ${part}`);
  return name;
}

/** The configuration that these choices have by default, to show in help; undefined where something must be given. */
function defaultsFor(
  catalog: Catalog,
  choices: Record<Choosable, Variant>,
  wrap: readonly Variant[],
): TrainConfig | undefined {
  const flags = {
    ...Object.fromEntries(PARTS.map((part) => [part, choices[part].name])),
    wrap: wrap.map(({ name }) => name).join(),
  };
  const required = PARTS.flatMap((part) => variantLeaves(part, choices[part])).filter(
    ({ setting }) => setting.default === undefined,
  );
  const filled = Object.fromEntries(required.map(({ flag }) => [flag.slice(2), '-']));
  return parseTrainConfig([{ flags: { ...flags, ...filled } }], catalog);
}

/** Every leaf there can be, once per flag; those of variants not chosen are hidden in help. */
function allLeaves(
  catalog: Catalog,
  choices: Record<Choosable, Variant>,
  wrap: readonly Variant[],
): { leaf: Leaf; hidden: boolean }[] {
  const found = new Map<string, { leaf: Leaf; hidden: boolean; owner: string }>();
  const add = (leaf: Leaf, hidden: boolean, owner: string): void => {
    const other = found.get(leaf.flag);
    if (other && other.owner !== owner)
      throw new Error(`${leaf.flag} stands for two settings, of ${other.owner} and ${owner}`);
    if (!other) found.set(leaf.flag, { leaf, hidden, owner });
  };
  for (const part of PARTS) for (const leaf of variantLeaves(part, choices[part])) add(leaf, false, part);
  // There are optimizers that are wrapped already, whose flags are those of the wrapper.
  for (const leaf of wrap.flatMap(wrapperLeaves)) add(leaf, false, 'optimizer');
  for (const part of PARTS) {
    for (const variant of CHOOSABLE[part].list(catalog)) {
      for (const leaf of variantLeaves(part, variant)) add(leaf, true, part);
    }
  }
  for (const leaf of catalog.wrappers.flatMap(wrapperLeaves)) add(leaf, true, 'optimizer');
  for (const leaf of fixedLeaves(catalog)) add(leaf, false, 'the run');
  return [...found.values()];
}

function optionsOf(leaf: Leaf, defaults: TrainConfig | undefined): Option[] {
  const { flag, setting, heading } = leaf;
  const notes = [
    ...(setting.kind === 'choice' ? [`one of ${setting.choices.join(', ')}`] : []),
    ...(setting.unit === undefined ? [] : [setting.unit]),
    defaultOf(leaf, defaults),
  ].join('; ');
  const make = (flags: string, doc?: string): Option => new Option(flags, doc);
  const option = make(`${flag} ${placeholder(setting)}`, `${setting.doc} [${notes}]`).helpGroup(heading);
  return setting.kind === 'flag' ? [option, make(`--no-${flag.slice(2)}`).hideHelp()] : [option];
}

function defaultOf({ path, setting }: Leaf, defaults: TrainConfig | undefined): string {
  if (setting.default === undefined) return 'must be given';
  const value =
    path[0] === 'wrap'
      ? setting.default
      : path.reduce<unknown>(
          (at, step) => (typeof at === 'object' && at !== null ? Reflect.get(at, step) : undefined),
          defaults,
        );
  if (value === null || value === undefined) return `default: ${autoOf(setting)}`;
  return `default: ${showValue(value)}`;
}

const autoOf = (setting: Setting): string => ('auto' in setting ? setting.auto : 'none');
