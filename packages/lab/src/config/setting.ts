/**
 * One setting: what it is, what it may be, how it is read from a flag. The library describes hyper-parameters in the same words, so that an
 * optimizer's page is all that its flags, its checks and its help are made from.
 */
import { type Hyperparameter, problemOf } from 'edgewise/optim';
import { z } from 'zod';

/** A piece of text, such as a path. */
export interface TextSetting {
  readonly kind: 'text';
  readonly doc: string;
  readonly unit?: string;
  /** Left out: must be given. Only where it is empty may the text be. */
  readonly default?: string;
}

type Automatic<T> = T extends unknown ? Omit<T, 'default'> & { readonly default: null; readonly auto: string } : never;

type Scalar = Exclude<Hyperparameter, { kind: 'flag' }> | TextSetting;

/**
 * A setting. Where its default is null, what then happens is chosen by the program, and `auto` says how; a flag gives null as `auto`.
 * `changeable`: may differ when a run is resumed, because the numbers of the run do not depend on it.
 */
export type Setting = (Hyperparameter | TextSetting | Automatic<Scalar>) & { readonly changeable?: boolean };

/** Settings by name. */
export type Settings = Readonly<Record<string, Setting>>;

/** A value as JSON has it. */
export type SettingValue = number | string | boolean | readonly number[] | null;

type PlainValue<S> = S extends { kind: 'number' | 'integer' | 'count' }
  ? number
  : S extends { kind: 'numbers' }
    ? readonly number[]
    : S extends { kind: 'flag' }
      ? boolean
      : S extends { kind: 'choice'; choices: readonly (infer T)[] }
        ? T
        : string;

/** The values that checked settings have. */
export type ValuesOf<S extends Settings> = {
  readonly [K in keyof S]: S[K] extends { readonly default: null } ? PlainValue<S[K]> | null : PlainValue<S[K]>;
};

const isAutomatic = (setting: Setting): setting is Extract<Setting, { default: null }> => setting.default === null;

/** The zod type of a setting's value, its default filled in where it is missing. */
export function settingType(setting: Setting): z.ZodType {
  const plain = plainType(setting).meta({ description: setting.doc });
  if (isAutomatic(setting)) return plain.nullable().default(null);
  return setting.default === undefined ? plain : plain.default(setting.default);
}

function plainType(setting: Setting): z.ZodType {
  switch (setting.kind) {
    case 'flag':
      return z.boolean();
    case 'choice':
      return z.enum(setting.choices);
    case 'text':
      return setting.default === '' ? z.string() : z.string().min(1);
    case 'integer':
    case 'count':
      return limited(z.int(), setting);
    case 'number':
      return limited(z.number(), setting);
    case 'numbers': {
      const list = z.array(limited(z.number(), setting));
      return setting.anyLength || setting.default === null ? list : list.length(setting.default.length);
    }
  }
}

interface Limits {
  readonly min?: number;
  readonly max?: number;
  readonly above?: number;
  readonly below?: number;
}

function limited(type: z.ZodNumber | z.ZodInt, { min, max, above, below }: Limits): z.ZodType {
  let checked: z.ZodNumber | z.ZodInt = type;
  if (min !== undefined) checked = checked.gte(min);
  if (max !== undefined) checked = checked.lte(max);
  if (above !== undefined) checked = checked.gt(above);
  if (below !== undefined) checked = checked.lt(below);
  return checked;
}

/** What is wrong with `value`, as advice: `give a number above 0`. */
export function adviceFor(setting: Setting, value: unknown): string {
  if (setting.kind === 'text') return 'give some text';
  // The default is looked at only for how many numbers a list has.
  const plain = (isAutomatic(setting) ? { ...setting, default: [] } : setting) as Hyperparameter;
  const advice = problemOf(plain, value) ?? 'give another value';
  return isAutomatic(setting) ? `${advice}, or auto` : advice;
}

/**
 * The value that a flag's text stands for. Text that stands for none is given back as it is, for the check to refuse.
 *
 * @param text `true` where the flag was given without a value.
 */
export function valueOfText(setting: Setting, text: string | boolean): unknown {
  if (typeof text === 'boolean') return text;
  if (isAutomatic(setting) && text === 'auto') return null;
  switch (setting.kind) {
    case 'number':
    case 'integer':
    case 'count':
      return numberOf(text);
    case 'numbers':
      return text.trim() === '' ? [] : text.split(',').map(numberOf);
    case 'flag':
      return text === 'true' ? true : text === 'false' ? false : text;
    default:
      return text;
  }
}

/** Decimal numbers only: JavaScript also reads `0x10`, `` and `Infinity`. */
function numberOf(text: string): number | string {
  return /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(text) ? Number(text) : text;
}

/** A value in a message or in help: as it would be typed. */
export function showValue(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : value.map(showValue).join(',');
  if (value === null) return 'null';
  if (typeof value === 'string') return value === '' ? 'empty' : clip(value);
  if (typeof value === 'object') return 'an object';
  return clip(String(value));
}

const clip = (text: string): string => (text.length <= 60 ? text : `${text.slice(0, 60)}...`);

/** What a flag's value is called in help. */
export function placeholder(setting: Setting): string {
  const names = {
    number: '<number>',
    count: '<n>',
    integer: '<n>',
    numbers: '<n,n,...>',
    choice: '<name>',
    flag: '[true|false]',
    text: '<text>',
  };
  return names[setting.kind];
}
