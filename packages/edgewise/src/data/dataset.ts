/** @file What a data set is. */
import { ConfigError } from '../base/errors.ts';
import { type Shape, showShape, sizeOf } from '../tensor/shape.ts';

interface Examples {
  /** Short name for configurations and messages, such as `mnist/train`. */
  readonly name: string;
  /** Number of examples. */
  readonly count: number;
  /** Shape of one example: `[channels, height, width]` for images, `[features]` for vectors. */
  readonly shape: Shape;
  /** All examples, row-major `[count, ...shape]`. A byte b stands for the number b / 255. */
  readonly inputs: Uint8Array | Float32Array;
}

/** Examples with a class each. */
export interface ClassificationData extends Examples {
  readonly kind: 'classification';
  /** The class of every example, in [0, classes). */
  readonly labels: Int32Array;
  readonly classes: number;
  readonly classNames?: readonly string[];
}

/** Examples with numbers to predict. */
export interface RegressionData extends Examples {
  readonly kind: 'regression';
  /** Row-major `[count, ...targetShape]`. */
  readonly targets: Float32Array;
  readonly targetShape: Shape;
}

export type Dataset = ClassificationData | RegressionData;

/** A data set in the two parts it is published in. */
export interface TrainTest<D extends Dataset = ClassificationData> {
  readonly train: D;
  readonly test: D;
}

/**
 * Throws a ConfigError unless the parts of a data set fit together: lengths, label range, finite numbers. The readers of
 * this library have checked theirs.
 */
export function checkDataset(dataset: Dataset): void {
  const { name, count, shape, inputs } = dataset;
  const wanted = count * sizeOf(shape);
  if (inputs.length !== wanted) {
    throw new ConfigError(
      `Data set '${name}': ${count} examples of shape ${showShape(shape)} are ${wanted} numbers, but inputs has ${inputs.length}.`,
    );
  }
  if (inputs instanceof Float32Array) checkFinite(name, 'inputs', inputs);
  if (dataset.kind === 'regression') {
    const size = count * sizeOf(dataset.targetShape);
    if (dataset.targets.length !== size) {
      throw new ConfigError(
        `Data set '${name}': ${count} targets of shape ${showShape(dataset.targetShape)} are ${size} numbers, but targets has ${dataset.targets.length}.`,
      );
    }
    checkFinite(name, 'targets', dataset.targets);
    return;
  }
  const { labels, classes, classNames } = dataset;
  if (labels.length !== count) {
    throw new ConfigError(`Data set '${name}' has ${count} examples but ${labels.length} labels.`);
  }
  const wrong = labels.findIndex((label) => label < 0 || label >= classes);
  if (wrong >= 0) {
    throw new ConfigError(`Data set '${name}': example ${wrong} has label ${labels[wrong]}, outside [0, ${classes}).`);
  }
  if (classNames && classNames.length !== classes) {
    throw new ConfigError(`Data set '${name}' has ${classes} classes but ${classNames.length} class names.`);
  }
}

function checkFinite(name: string, what: string, values: Float32Array): void {
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (wrong < 0) return;
  throw new ConfigError(`Data set '${name}': element ${wrong} of ${what} is ${values[wrong]}; data must be finite.`);
}
