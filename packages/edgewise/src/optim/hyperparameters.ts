/** @file What an optimizer can be told: descriptions that checks, command-line flags, docs and tuners are made from. */
import { ConfigError, nearest } from '../base/errors.ts';
import type { Tensor } from '../tensor/tensor.ts';

interface Described {
  /** One paragraph: meaning, where it enters the formula, edge cases. */
  readonly doc: string;
  /** Unit of the value, where it has one: `steps`, `1/step`, ... */
  readonly unit?: string;
}

interface Limits {
  /** Smallest value allowed. */
  readonly min?: number;
  /** Largest value allowed. */
  readonly max?: number;
  /** All values allowed are larger than this. */
  readonly above?: number;
  /** All values allowed are smaller than this. */
  readonly below?: number;
}

/** Where a tuner should look. */
export interface SearchRange {
  readonly low: number;
  readonly high: number;
  readonly scale: 'log' | 'linear' | 'log of 1 - x';
}

export interface NumberParameter extends Described, Limits {
  readonly kind: 'number';
  readonly default: number;
  readonly search?: SearchRange;
}

export interface IntegerParameter extends Described, Limits {
  readonly kind: 'integer';
  readonly default: number;
  readonly search?: SearchRange;
}

/** A whole number that decides how the update is built, such as the number of iterations in it: the same for all tensors. */
export interface CountParameter extends Described, Limits {
  readonly kind: 'count';
  readonly default: number;
  readonly search?: SearchRange;
}

/** A list of numbers, such as decay rates. */
export interface NumbersParameter extends Described, Limits {
  readonly kind: 'numbers';
  readonly default: readonly number[];
  /** Whether lists of other lengths than the default's are allowed; false by default. */
  readonly anyLength?: boolean;
  /** One range for each number, undefined where tuning does not pay. */
  readonly search?: readonly (SearchRange | undefined)[];
}

export interface FlagParameter extends Described {
  readonly kind: 'flag';
  readonly default: boolean;
}

export interface ChoiceParameter<T extends string = string> extends Described {
  readonly kind: 'choice';
  readonly choices: readonly T[];
  readonly default: T;
}

export type Hyperparameter =
  | NumberParameter
  | IntegerParameter
  | CountParameter
  | NumbersParameter
  | FlagParameter
  | ChoiceParameter;

/** Whether a hyper-parameter decides how the update is built, rather than being a number in it. */
export const isStructural = ({ kind }: Hyperparameter): boolean =>
  kind === 'count' || kind === 'flag' || kind === 'choice';

/** Hyper-parameters by name. */
export type Schema = Readonly<Record<string, Hyperparameter>>;

/** A hyper-parameter's value as users write it. */
export type ValueOf<P extends Hyperparameter> = P extends NumberParameter | IntegerParameter | CountParameter
  ? number
  : P extends NumbersParameter
    ? readonly number[]
    : P extends FlagParameter
      ? boolean
      : P extends ChoiceParameter<infer T>
        ? T
        : never;

export type Values<H extends Schema> = { readonly [K in keyof H]: ValueOf<H[K]> };

/** A hyper-parameter as a rule sees it: numbers are symbols, so that they may change while running or differ by tensor. */
export type SymbolOf<P extends Hyperparameter> = P extends NumberParameter | IntegerParameter
  ? Tensor
  : P extends NumbersParameter
    ? readonly Tensor[]
    : ValueOf<P>;

export type Symbols<H extends Schema> = { readonly [K in keyof H]: SymbolOf<H[K]> };

export const number = (p: Omit<NumberParameter, 'kind'>): NumberParameter => ({ kind: 'number', ...p });
export const integer = (p: Omit<IntegerParameter, 'kind'>): IntegerParameter => ({ kind: 'integer', ...p });
export const count = (p: Omit<CountParameter, 'kind'>): CountParameter => ({ kind: 'count', ...p });
export const numbers = (p: Omit<NumbersParameter, 'kind'>): NumbersParameter => ({ kind: 'numbers', ...p });
export const flag = (p: Omit<FlagParameter, 'kind'>): FlagParameter => ({ kind: 'flag', ...p });
export const choice = <const T extends string>(p: Omit<ChoiceParameter<T>, 'kind'>): ChoiceParameter<T> => ({
  kind: 'choice',
  ...p,
});

/** The learning rate η, with a default and a search range a decade to either side of it. */
export const learningRate = (value: number, doc = 'Learning rate η, before the schedule.'): NumberParameter =>
  number({ default: value, above: 0, doc, search: { low: value / 30, high: value * 30, scale: 'log' } });

/** Decay rates in [0, 1): weights of the old value in moving averages. */
export const decayRates = (values: readonly number[], doc: string): NumbersParameter =>
  numbers({
    default: values,
    min: 0,
    below: 1,
    doc,
    search: values.map((value) => ({
      low: 1 - 3 * (1 - value),
      high: 1 - (1 - value) / 3,
      scale: 'log of 1 - x' as const,
    })),
  });

/** The stabiliser ε of a division. */
export const stabiliser = (value: number, doc: string): NumberParameter =>
  number({
    default: value,
    above: 0,
    doc,
    search: { low: value / 100, high: Math.min(0.1, value * 1e4), scale: 'log' },
  });

/** A decay rate or momentum in [0, 1). */
export const decayRate = (value: number, doc: string): NumberParameter =>
  number({
    default: value,
    min: 0,
    below: 1,
    doc,
    search: { low: Math.max(0, 1 - 5 * (1 - value)), high: 1 - (1 - value) / 5, scale: 'log of 1 - x' },
  });

/** The weight-decay coefficient λ. */
export const decayCoefficient = (value: number, doc: string): NumberParameter =>
  number({ default: value, min: 0, doc, search: { low: 1e-5, high: 1, scale: 'log' } });

/**
 * `given` completed by defaults.
 * @param where What the values are for, in messages: `adan`, or `adan, group 2`.
 * @throws ConfigError for a name that is not in the schema (naming the nearest one), or a value outside what is allowed.
 */
export function completeValues<H extends Schema>(
  where: string,
  schema: H,
  given: Readonly<Record<string, unknown>>,
): Values<H> {
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(schema, name)) continue;
    const near = nearest(name, Object.keys(schema));
    throw new ConfigError(
      `${where} has no hyper-parameter '${name}'; ${near ? `did you mean '${near}'?` : `it has ${Object.keys(schema).join(', ')}.`}`,
    );
  }
  const entries = Object.entries(schema).map(([name, parameter]) => {
    const value = given[name];
    if (value === undefined) return [name, parameter.default];
    const problem = problemOf(parameter, value);
    if (problem) throw new ConfigError(`${where}: ${name} is ${show(value)}; ${problem}.`);
    return [name, value];
  });
  // Every entry was checked against the schema that the type is derived from.
  return Object.fromEntries(entries) as Values<H>;
}

/** What is wrong with a value, as advice; undefined where nothing is. */
export function problemOf(parameter: Hyperparameter, value: unknown): string | undefined {
  switch (parameter.kind) {
    case 'flag':
      return typeof value === 'boolean' ? undefined : 'give true or false';
    case 'choice':
      return typeof value === 'string' && parameter.choices.includes(value)
        ? undefined
        : `choose one of ${parameter.choices.join(', ')}`;
    case 'numbers': {
      const { length } = parameter.default;
      const fine =
        Array.isArray(value) &&
        (parameter.anyLength || value.length === length) &&
        value.every((x) => within(x, parameter));
      return fine
        ? undefined
        : `give ${parameter.anyLength ? 'a list of' : length} numbers, each ${limitsOf(parameter)}`;
    }
    case 'integer':
    case 'count':
      return Number.isInteger(value) && within(value, parameter)
        ? undefined
        : `give a whole number ${limitsOf(parameter)}`;
    case 'number':
      return within(value, parameter) ? undefined : `give a number ${limitsOf(parameter)}`;
  }
}

function within(value: unknown, { min, max, above, below }: Limits): value is number {
  if (typeof value !== 'number' || !Number.isFinite(value)) return false;
  return !(
    (min !== undefined && value < min) ||
    (max !== undefined && value > max) ||
    (above !== undefined && value <= above) ||
    (below !== undefined && value >= below)
  );
}

function limitsOf({ min, max, above, below }: Limits): string {
  const parts = [
    min !== undefined ? `of at least ${min}` : above !== undefined ? `above ${above}` : '',
    max !== undefined ? `at most ${max}` : below !== undefined ? `below ${below}` : '',
  ].filter((part) => part !== '');
  return parts.length === 0 ? 'that is finite' : parts.join(' and ');
}

function show(value: unknown): string {
  if (typeof value === 'number') return String(value);
  return JSON.stringify(value) ?? String(value);
}
