/** @file What hyper-parameters a tuner tries: draws over the ranges that an optimizer declares. */
import { ConfigError, type Key, nearest, random } from 'edgewise';
import type { Hyperparameter, Schema, SearchRange } from 'edgewise/optim';
import type { SettingValue } from '../config/setting.ts';

/** A number to tune: a hyper-parameter, or one of a list. */
export interface Tuned {
  readonly name: string;
  /** Place in the list, where the hyper-parameter is one. */
  readonly index?: number;
  readonly range: SearchRange;
}

/** Values of hyper-parameters, as a configuration has them. */
export type Drawn = Readonly<Record<string, SettingValue>>;

/**
 * What `names` stand for in an optimizer's schema: `lr`, `betas` (every number of it that declares a range) or `betas.2`.
 *
 * @throws ConfigError for a name that is not in the schema, or has no range to search.
 */
export function tunedOf(optimizer: string, schema: Schema, names: readonly string[]): Tuned[] {
  return names.flatMap((full) => {
    const [name, place] = full.split('.');
    if (!Object.hasOwn(schema, name)) {
      const near = nearest(name, Object.keys(schema));
      throw new ConfigError(
        `The race should tune '${full}' of ${optimizer}, which has no such hyper-parameter; ${near ? `did you mean '${near}'?` : `it has ${Object.keys(schema).join(', ')}.`}`,
      );
    }
    const found = rangesOf(name, schema[name]).filter(({ index }) => place === undefined || String(index) === place);
    if (found.length === 0) {
      const searchable = Object.keys(schema).filter((key) => rangesOf(key, schema[key]).length > 0);
      throw new ConfigError(
        `The race should tune '${full}' of ${optimizer}, which declares no range to search for it; those it has are of ${searchable.join(', ')}.`,
      );
    }
    return found;
  });
}

function rangesOf(name: string, parameter: Hyperparameter): Tuned[] {
  if (parameter.kind === 'flag' || parameter.kind === 'choice' || parameter.search === undefined) return [];
  if (parameter.kind !== 'numbers') return [{ name, range: parameter.search }];
  return parameter.search.flatMap((range, index) => (range ? [{ name, index, range }] : []));
}

/**
 * `trials` draws, the same for the same key. Each number is uniform on its range's scale (the logarithm, the logarithm of one minus it, or as it
 * is), and stratified: of n trials each lies in another n-th of the range, so that few trials cover it. The fractions depend on the key, the
 * hyper-parameter's name and the number of trials only, so optimizers compared with each other are tried at the same places of their ranges.
 */
export function drawTrials(schema: Schema, tuned: readonly Tuned[], trials: number, key: Key): Drawn[] {
  const fractions = tuned.map(({ name, index }) => {
    const own = index === undefined ? key.split(name) : key.split(name).split(index);
    const order = random.permutation(own.split('order'), trials);
    const within = random.uniform(own.split('within'), new Float64Array(trials));
    return Array.from(order, (stratum, i) => (stratum + within[i]) / trials);
  });
  return Array.from({ length: trials }, (_, trial) => {
    const values: Record<string, SettingValue> = {};
    tuned.forEach(({ name, index, range }, i) => {
      const value = atFraction(range, fractions[i][trial]);
      const { kind, default: standard } = schema[name];
      if (index === undefined) values[name] = kind === 'number' ? value : Math.round(value);
      else {
        const list = Array.isArray(values[name]) ? values[name] : (standard as readonly number[]);
        values[name] = list.map((before, at) => (at === index ? value : before));
      }
    });
    return values;
  });
}

/** Digits that are kept: enough for any tuner, and few enough that the last bits of a machine's logarithm do not show. */
const DIGITS = 4;

/** The value at a fraction of a range, from `low` at 0 to `high` at 1. */
export function atFraction({ low, high, scale }: SearchRange, fraction: number): number {
  const between = (a: number, b: number) => a + (b - a) * fraction;
  const round = (value: number) => Number(value.toPrecision(DIGITS));
  const inside = (value: number) => Math.min(high, Math.max(low, value));
  switch (scale) {
    case 'linear':
      return inside(round(between(low, high)));
    case 'log':
      return inside(round(Math.exp(between(Math.log(low), Math.log(high)))));
    case 'log of 1 - x': {
      // Rounded twice: 1 - 0.0123 is not the nearest number to 0.9877.
      const distance = round(Math.exp(between(Math.log(1 - low), Math.log(1 - high))));
      return inside(Number((1 - distance).toPrecision(12)));
    }
  }
}
