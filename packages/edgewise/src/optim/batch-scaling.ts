/**
 * @file Hyper-parameters chosen for one batch size, carried over to another at the same number of epochs.
 *
 * Learning rates: P. Goyal et al., arXiv 1706.02677 (linear, for gradient descent); D. Granziol, S. Zohren, S. Roberts, JMLR 2022,
 * arXiv 2006.09092 (square root, for adaptive methods); Y. You et al., arXiv 1904.00962 (square root, LAMB). The rest follows: what
 * decays by itself decays as much in an epoch as before.
 */
import { ConfigError } from '../base/errors.ts';
import type { OptimizerDefinition } from './definition.ts';
import { completeValues, type Schema, type Values } from './hyperparameters.ts';

/** How one hyper-parameter follows the batch size. */
export interface BatchRule {
  /** The rule in symbols, with κ for the new batch size over the old one. */
  readonly formula: string;
  /** The value for a batch `ratio` times as large. */
  scaled(value: number, ratio: number): number;
}

/** A hyper-parameter that was rescaled. */
export interface BatchChange {
  readonly name: string;
  readonly before: number;
  readonly after: number;
  /** The rule in symbols, with κ for the new batch size over the old one. */
  readonly formula: string;
}

export interface BatchScaled<H extends Schema = Schema> {
  /** All hyper-parameters, those left out by their defaults. */
  readonly values: Values<H>;
  /** What differs from before. */
  readonly changes: readonly BatchChange[];
}

const linear: BatchRule = { formula: "η' = κ η", scaled: (value, ratio) => value * ratio };
const squareRoot: BatchRule = { formula: "η' = √κ η", scaled: (value, ratio) => value * Math.sqrt(ratio) };
/** `λ' η' steps' = λ η steps` where η' = √κ η, and where η' = η or does not enter. */
const decayWithRoot: BatchRule = { formula: "λ' = √κ λ", scaled: squareRoot.scaled };
const decayAlone: BatchRule = { formula: "λ' = κ λ", scaled: linear.scaled };
/** A mean over as many examples as before. */
const memory: BatchRule = { formula: "d' = d^κ", scaled: (value, ratio) => value ** ratio };

const isRate = (name: string): boolean => name === 'lr' || name.endsWith('Lr');
const isDecay = (name: string): boolean => name === 'weightDecay' || name.endsWith('WeightDecay');

/**
 * The rule of hyper-parameter `name`, undefined where it stays as it is.
 *
 * @param values All hyper-parameters: some say how the weight decay is coupled.
 */
export function batchRule<H extends Schema>(
  { batchScaling = 'square root', decay }: Pick<OptimizerDefinition<H>, 'batchScaling' | 'decay'>,
  values: Readonly<Record<string, unknown>>,
  name: string,
): BatchRule | undefined {
  if (isRate(name)) return { linear, 'square root': squareRoot, none: undefined }[batchScaling];
  if (name === 'averageDecay') return values.averageKind === 'mean' ? undefined : memory;
  if (!isDecay(name)) return undefined;
  // Some rules leave the coupling to a flag; for some of them a flag takes the learning rate out of it.
  const direct = values.decoupled ?? values.decouple ?? (decay === 'decoupled' || decay === 'proximal');
  if (direct !== true) return undefined;
  if (values.fixedDecay === true || values.plainDecay === true) return decayAlone;
  return { linear: undefined, 'square root': decayWithRoot, none: decayAlone }[batchScaling];
}

/**
 * Hyper-parameters that were chosen for batches of `from` examples, for batches of `to`, at the same number of epochs. With κ = to / from:
 *
 * - learning rates, those of parameters apart (`otherLr`) included: η' = κ η or √κ η, as the definition's `batchScaling` says; left
 *   alone where it says `none`
 * - decoupled and proximal weight decay: λ' η' κ⁻¹ = λ η, so that weights decay as much in an epoch as before; coupled decay stays
 * - decay rate of an exponential average of iterates: d' = d^κ, a mean over as many examples
 *
 * Momentum, decay rates of gradients and counts of steps stay. The rules hold up to a batch size that depends on the problem, of the order
 * of the gradient noise scale; beyond it the best learning rate hardly grows.
 *
 * @throws ConfigError for sizes that are no whole numbers from 1, and values that do not fit before or after.
 */
export function scaleForBatch<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  values: Partial<Values<H>>,
  from: number,
  to: number,
): BatchScaled<H> {
  for (const [size, what] of [
    [from, 'values were chosen for'],
    [to, 'they are wanted for'],
  ] as const) {
    if (!(Number.isSafeInteger(size) && size >= 1))
      throw new ConfigError(
        `${definition.name}: the batch size that ${what} is ${size}; give a whole number of at least 1.`,
      );
  }
  const complete = completeValues(definition.name, definition.hyperparameters, values);
  const changes = Object.entries(complete).flatMap(([name, before]): BatchChange[] => {
    const rule = batchRule(definition, complete, name);
    if (!rule || typeof before !== 'number') return [];
    const after = rule.scaled(before, to / from);
    return after === before ? [] : [{ name, before, after, formula: rule.formula }];
  });
  const changed = Object.fromEntries(changes.map(({ name, after }) => [name, after]));
  const where = `${definition.name}, rescaled from batch ${from} to ${to}`;
  return { values: completeValues(where, definition.hyperparameters, { ...complete, ...changed }), changes };
}
