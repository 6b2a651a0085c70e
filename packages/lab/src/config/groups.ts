/** @file Groups of parameters in the configuration: which ones, and what differs for them; as JSON and as text. */
import { ConfigError, nearest } from 'edgewise';
import { z } from 'zod';
import { type Catalog, findVariant } from './catalog.ts';
import { showValue, valueOfText } from './setting.ts';

/** Parameters to choose: those that meet all conditions given. */
export interface MatchConfig {
  /** Carries one of these tags. */
  readonly tag?: readonly string[];
  /** Has one of these names, in which `*` stands for any characters. */
  readonly name?: readonly string[];
  /** Has at least, at most this many axes. */
  readonly minRank?: number;
  readonly maxRank?: number;
}

export type GroupValue = number | boolean | string | readonly number[];

/** What differs for some of the parameters; where several groups choose one, later ones win. */
export interface GroupConfig {
  readonly match: MatchConfig;
  /** Factor on the learning rate. */
  readonly lrScale: number;
  /** Hyper-parameters in place of the optimizer's. */
  readonly values: Readonly<Record<string, GroupValue>>;
  /** Another optimizer than the run's. */
  readonly optimizer?: string;
}

const CONDITIONS = ['tag', 'name', 'minRank', 'maxRank'] as const;
const words = z.array(z.string().min(1)).min(1);

/** A condition in JSON; one word may stand for a list of one. */
export const matchType = z
  .strictObject({
    tag: z.preprocess(listOf, words).optional().meta({ description: 'Tags, of which a parameter carries one.' }),
    name: z.preprocess(listOf, words).optional().meta({ description: 'Names; * stands for any characters.' }),
    minRank: z.int().gte(0).optional().meta({ description: 'Fewest axes.' }),
    maxRank: z.int().gte(0).optional().meta({ description: 'Most axes.' }),
  })
  .refine((match) => Object.keys(match).length > 0, 'give tag, name, minRank or maxRank');

/** A group in JSON. */
export const groupType = z.strictObject({
  match: matchType,
  lrScale: z.number().gte(0).default(1).meta({ description: 'Factor on the learning rate.' }),
  values: z
    .record(z.string(), z.union([z.number(), z.boolean(), z.string(), z.array(z.number())]))
    .default({})
    .meta({ description: "Hyper-parameters in place of the optimizer's." }),
  optimizer: z.string().optional().meta({ description: "Another optimizer than the run's." }),
});

function listOf(value: unknown): unknown {
  return typeof value === 'string' ? [value] : value;
}

/** Groups from JSON. @throws ConfigError naming what is wrong with which. */
export function readGroups(value: unknown, origin: string, catalog: Catalog): GroupConfig[] {
  return itemsOf(value, origin).map((item, i) => groupFrom(item, `${origin}, group ${i + 1}`, catalog));
}

/** Conditions from JSON. @throws ConfigError naming what is wrong with which. */
export function readMatches(value: unknown, origin: string): MatchConfig[] {
  return itemsOf(value, origin).map((item, i) => checked(matchType, item, `${origin}, condition ${i + 1}`));
}

/**
 * A group from a flag's text: `tag=bias,norm weightDecay=0`. Of `tag`, `name`, `minRank` and `maxRank` it says which parameters, of `lrScale`
 * and `optimizer` what it does; anything else is a hyper-parameter.
 */
export function groupOfText(text: string, origin: string, catalog: Catalog): GroupConfig {
  const entries = entriesOf(text, origin);
  const match = Object.fromEntries(
    CONDITIONS.flatMap((key) => (entries.has(key) ? [[key, condition(key, entries)]] : [])),
  );
  const [lrScale, optimizer] = [entries.get('lrScale'), entries.get('optimizer')];
  const own = new Set<string>([...CONDITIONS, 'lrScale', 'optimizer']);
  const values = Object.fromEntries(
    [...entries].filter(([key]) => !own.has(key)).map(([key, value]) => [key, valueOfWord(value)]),
  );
  return groupFrom(
    {
      match,
      ...(lrScale === undefined ? {} : { lrScale: numberOf(lrScale) }),
      ...(optimizer === undefined ? {} : { optimizer }),
      values,
    },
    origin,
    catalog,
  );
}

/** A condition from a flag's text: `name=conv1.*`. */
export function matchOfText(text: string, origin: string): MatchConfig {
  const entries = entriesOf(text, origin);
  for (const key of entries.keys()) {
    if ((CONDITIONS as readonly string[]).includes(key)) continue;
    const near = nearest(key, CONDITIONS);
    throw new ConfigError(
      `${origin}: there is no condition '${key}'; ${near ? `did you mean '${near}'?` : `there are ${CONDITIONS.join(', ')}.`}`,
    );
  }
  return checked(
    matchType,
    Object.fromEntries([...entries.keys()].map((key) => [key, condition(key as (typeof CONDITIONS)[number], entries)])),
    origin,
  );
}

function groupFrom(value: unknown, origin: string, catalog: Catalog): GroupConfig {
  const { optimizer, ...group } = checked(groupType, value, origin);
  if (optimizer === undefined) {
    if (group.lrScale === 1 && Object.keys(group.values).length === 0)
      throw new ConfigError(
        `${origin} changes nothing; give lrScale, optimizer, or hyper-parameters such as weightDecay.`,
      );
    return group;
  }
  return { ...group, optimizer: findVariant('optimizer', catalog.optimizers, optimizer, origin).name };
}

function itemsOf(value: unknown, origin: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new ConfigError(`${origin} is ${showValue(value)}; give a list.`);
}

function checked<T>(type: z.ZodType<T>, value: unknown, origin: string): T {
  const result = type.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue.path.length === 0 ? '' : ` ${issue.path.join('.')}`;
  if (issue.code === 'unrecognized_keys')
    throw new ConfigError(
      `${origin}:${where} has no ${issue.keys.map((key) => `'${key}'`).join(', ')}; see the documentation of groups.`,
    );
  throw new ConfigError(
    `${origin}:${where || ' it'} is wrong (${issue.message[0].toLowerCase()}${issue.message.slice(1)}).`,
  );
}

/** `key=value` words, separated by blanks. */
function entriesOf(text: string, origin: string): Map<string, string> {
  const entries = new Map<string, string>();
  for (const word of text.split(/\s+/).filter((each) => each !== '')) {
    const at = word.indexOf('=');
    if (at < 1)
      throw new ConfigError(`${origin}: '${word.slice(0, 60)}' is not of the form key=value, such as tag=bias,norm.`);
    const key = word.slice(0, at);
    if (entries.has(key))
      throw new ConfigError(`${origin}: ${key} is given twice; several values take commas between them.`);
    entries.set(key, word.slice(at + 1));
  }
  return entries;
}

const numberOf = (text: string): unknown => valueOfText({ kind: 'number', default: 0, doc: '' }, text);

const condition = (key: (typeof CONDITIONS)[number], entries: ReadonlyMap<string, string>): unknown => {
  const text = entries.get(key) ?? '';
  return key === 'tag' || key === 'name' ? text.split(',') : numberOf(text);
};

/** Without the schema of the optimizer, the text itself tells what it is. */
function valueOfWord(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  const parts = text.split(',').map(numberOf);
  if (parts.some((part) => typeof part !== 'number')) return text;
  return parts.length === 1 ? parts[0] : parts;
}
