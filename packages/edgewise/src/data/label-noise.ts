/**
 * @file Labels perturbed anew every time an example is used: label-noise SGD is plain SGD on them.
 *
 * A. Damian, T. Ma, J. Lee, "Label Noise SGD Provably Prefers Flat Global Minimizers", NeurIPS 2021, arXiv 2106.06530. For labels that are
 * wrong once and for all, see `withLabelNoise`.
 */
import { ConfigError } from '../base/errors.ts';
import { integerAt, type Key } from '../base/random.ts';
import type { Dataset } from './dataset.ts';

/** Noise on the answers of a data set; which of the two says its kind. */
export type LabelNoise =
  | {
      /** With this probability a class is replaced by another one, each of them equally likely. */
      readonly probability: number;
    }
  | {
      /** This number is added to or subtracted from every target, equally likely. */
      readonly deviation: number;
    };

const TWO32 = 4294967296;

/** ConfigError unless `noise` makes sense for the answers of `dataset`. */
export function checkLabelNoise(noise: LabelNoise, dataset: Dataset): void {
  const { name } = dataset;
  if ('probability' in noise) {
    const { probability } = noise;
    if (dataset.kind !== 'classification')
      throw new ConfigError(
        `Label noise has a probability, but data set '${name}' has real targets; give a deviation instead.`,
      );
    if (!(probability >= 0 && probability <= 1))
      throw new ConfigError(`The probability of label noise must be between 0 and 1, got ${probability}.`);
    if (dataset.classes < 2 && probability > 0)
      throw new ConfigError(
        `Label noise replaces a class by another one, but data set '${name}' has one class; leave the noise out.`,
      );
    return;
  }
  if (dataset.kind === 'classification')
    throw new ConfigError(
      `Label noise has a deviation, but data set '${name}' has classes; give a probability instead.`,
    );
  if (!(Number.isFinite(noise.deviation) && noise.deviation >= 0))
    throw new ConfigError(`The deviation of label noise must be a finite number >= 0, got ${noise.deviation}.`);
}

/** The class that stands for `label` of `example` under the key of an epoch. */
export function noisyLabel(
  epochKey: Key,
  example: number,
  label: number,
  classes: number,
  probability: number,
): number {
  if (integerAt(epochKey, 2 * example, TWO32) >= probability * TWO32) return label;
  const other = integerAt(epochKey, 2 * example + 1, classes - 1);
  return other < label ? other : other + 1;
}

/** What is added to target number `element` of all targets under the key of an epoch. */
export function targetNoise(epochKey: Key, element: number, deviation: number): number {
  return integerAt(epochKey, element, 2) === 0 ? deviation : -deviation;
}

/**
 * The smallest mean cross-entropy in nats that any model can have on labels with noise: `-(1 - p) log(1 - p) - p log(p / (C - 1))`, the
 * entropy of a label whose true class is known. What the loss exceeds it by is what the model has yet to learn.
 *
 * @param probability p, of another class than the true one.
 * @param classes C.
 * @throws ConfigError for a probability outside [0, 1], and for fewer than two classes.
 */
export function labelNoiseEntropy(probability: number, classes: number): number {
  if (!(probability >= 0 && probability <= 1))
    throw new ConfigError(`The probability of label noise must be between 0 and 1, got ${probability}.`);
  if (!(Number.isInteger(classes) && classes >= 2))
    throw new ConfigError(`Labels with noise are of 2 classes or more, got ${classes}.`);
  const term = (p: number, each: number) => (p === 0 ? 0 : -p * Math.log(each));
  return term(1 - probability, 1 - probability) + term(probability, probability / (classes - 1));
}
