/** @file From the names an implementation gives to rules and hyper-parameters to ours. */
import { ConfigError } from 'edgewise';
import { findOptimizer, type OptimizerDefinition, type OptimizerSettings } from 'edgewise/optim';
import type { GoldenCase, GoldenFile } from './format.ts';

/** What a recorded case is a case of. */
export interface Subject {
  readonly definition: OptimizerDefinition;
  readonly settings: OptimizerSettings;
  /** Names of our state behind further sequences of a case: a slot for `base`, a number for `d`, `gamma_next`, `n_averaged`. */
  readonly watch?: Readonly<Partial<Record<'base' | 'd' | 'gamma_next' | 'n_averaged', string>>>;
}

export type Recorded = Readonly<Record<string, unknown>>;

/** Reads the hyper-parameters of a rule as recorded. */
export type Translation = (hyperparameters: Recorded) => Subject;

type Values = NonNullable<OptimizerSettings['values']>;

/** `weight_decay` as `weightDecay`. */
const camelCase = (name: string): string => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/**
 * Values in our names: those of `names`, else the same in camel case. `null` is dropped, which is how implementations say `off`
 * where that is our default; a name mapped to `undefined` is dropped too.
 */
export function renamed(hyperparameters: Recorded, names: Readonly<Record<string, string | undefined>> = {}): Values {
  const entries = Object.entries(hyperparameters).flatMap(([name, value]) => {
    const ours = Object.hasOwn(names, name) ? names[name] : camelCase(name);
    return ours === undefined || value === null ? [] : [[ours, value]];
  });
  // Checked against the definition's schema when the optimizer is made.
  return Object.fromEntries(entries) as Values;
}

/** A rule called `name` here, with other names for some hyper-parameters, and values that make it the variant recorded. */
export const plain =
  (name: string, names: Readonly<Record<string, string | undefined>> = {}, fixed: Recorded = {}): Translation =>
  (hyperparameters) => ({
    definition: findOptimizer(name),
    settings: { values: { ...renamed(hyperparameters, names), ...(fixed as Values) } },
  });

/**
 * The rule and settings of a recorded case; by default those of the optimizer of that name.
 * @throws ConfigError where there is none.
 */
export function subjectOf(
  file: Pick<GoldenFile, 'optimizer'>,
  entry: GoldenCase,
  translations: Readonly<Record<string, Translation>>,
): Subject {
  const recorded = entry.optimizer ?? file.optimizer;
  const translate = Object.hasOwn(translations, recorded) ? translations[recorded] : plain(camelCase(recorded));
  try {
    return translate(entry.hyperparameters);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`Case ${entry.id} of rule '${recorded}': ${error.message}`, { cause: error });
  }
}
