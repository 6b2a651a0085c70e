/** @file Mini-batches as pure functions of (key, step). */
import { ConfigError } from '../base/errors.ts';
import { type FloatArray, type Key, permutation } from '../base/random.ts';
import { sizeOf } from '../tensor/shape.ts';
import { type Augmentation, type AugmentationDraw, checkAugmentation, drawAugmentation } from './augmentation.ts';
import { checkDataset, type Dataset } from './dataset.ts';
import { ExampleWriter } from './example-writer.ts';
import { checkLabelNoise, type LabelNoise, noisyLabel, targetNoise } from './label-noise.ts';
import type { Normalization } from './normalization.ts';

/** Options of {@link Batches}. */
export interface BatchOptions {
  /** Examples a step; at most the size of the data set. */
  readonly batchSize: number;
  /** Source of the order (`key.split('shuffle', epoch)`), the augmentation (`'augment'`) and the label noise (`'labels'`). */
  readonly key: Key;
  /** A new random order every epoch; default true. Otherwise the order of the data set. */
  readonly shuffle?: boolean;
  /** Leaves out the examples at the end of an epoch that do not fill a batch; default true. */
  readonly dropLast?: boolean;
  /** (x - mean) / std; default none: bytes become b / 255. */
  readonly normalization?: Normalization;
  /** Random changes to images; default none. */
  readonly augmentation?: Augmentation;
  /** Labels perturbed anew in every epoch; default none. */
  readonly labelNoise?: LabelNoise;
}

/** Where a step lies in its epoch. */
export interface BatchPosition {
  readonly epoch: number;
  /** Place of the batch's first example in the epoch's order. */
  readonly position: number;
  /** Examples in the batch: `batchSize`, or fewer in the last one where it is kept. */
  readonly size: number;
}

/**
 * The batches of a run, numbered by step through all epochs. There is no cursor to save: the examples of step s, their
 * order, augmentation and label noise depend on the data set, the options and s alone, so a run resumes to the bit at any
 * step.
 */
export class Batches {
  readonly dataset: Dataset;
  readonly batchSize: number;
  readonly stepsPerEpoch: number;
  /** Numbers in one example's input. */
  readonly inputSize: number;
  /** Numbers in one example's answer: 1 for a class. */
  readonly targetSize: number;
  readonly #key: Key;
  readonly #shuffle: boolean;
  readonly #dropLast: boolean;
  readonly #augmentation: Augmentation | undefined;
  readonly #labelNoise: LabelNoise | undefined;
  readonly #writer: ExampleWriter;
  readonly #draw: AugmentationDraw = { dy: 0, dx: 0, flip: false, cutTop: 0, cutLeft: 0 };
  #order: { readonly epoch: number; readonly examples: Uint32Array } | undefined;

  /**
   * ConfigError for a data set whose parts do not fit together, a batch size that is not between 1 and the number of
   * examples, and a normalization, augmentation or label noise that does not fit the examples.
   */
  constructor(dataset: Dataset, options: BatchOptions) {
    const { batchSize, key, shuffle = true, dropLast = true, normalization, augmentation, labelNoise } = options;
    const { name, count, shape } = dataset;
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new ConfigError(`The batch size must be a whole number >= 1, got ${batchSize}.`);
    }
    if (batchSize > count) {
      throw new ConfigError(
        `The batch size ${batchSize} is larger than data set '${name}' with its ${count} examples; choose at most ${count}.`,
      );
    }
    checkDataset(dataset);
    if (augmentation) checkAugmentation(augmentation, shape);
    if (labelNoise) checkLabelNoise(labelNoise, dataset);
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.stepsPerEpoch = dropLast ? Math.floor(count / batchSize) : Math.ceil(count / batchSize);
    this.inputSize = sizeOf(shape);
    this.targetSize = dataset.kind === 'classification' ? 1 : sizeOf(dataset.targetShape);
    this.#key = key;
    this.#shuffle = shuffle;
    this.#dropLast = dropLast;
    this.#augmentation = augmentation;
    this.#labelNoise = labelNoise;
    this.#writer = new ExampleWriter(dataset, normalization);
  }

  /** Epoch, position in it and size of the batch of `step`, a whole number >= 0. */
  locate(step: number): BatchPosition {
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new ConfigError(`A step is a whole number >= 0, got ${step}.`);
    }
    const epoch = Math.floor(step / this.stepsPerEpoch);
    const position = (step - epoch * this.stepsPerEpoch) * this.batchSize;
    return { epoch, position, size: Math.min(this.batchSize, this.dataset.count - position) };
  }

  /** The numbers of the examples in the batch of `step`. */
  indices(step: number): Uint32Array {
    const { epoch, position, size } = this.locate(step);
    return this.#orderOf(epoch).slice(position, position + size);
  }

  /**
   * Writes the batch of `step`: inputs row-major `[size, ...shape]` to `x`, and to `y` the classes (an Int32Array) or the
   * targets `[size, ...targetShape]` (floats). Returns its size; of arrays made for a full batch, the rest is left alone
   * where the last batch of an epoch is smaller. ConfigError where an array has another length or type.
   */
  fill(step: number, x: FloatArray, y: FloatArray | Int32Array): number {
    const { epoch, position, size } = this.locate(step);
    this.#check(x, y, size, `step ${step}`);
    const order = this.#orderOf(epoch);
    const augmentation = this.#augmentation;
    const epochKey = augmentation && this.#key.split('augment', epoch);
    const labelKey = this.#labelNoise && this.#key.split('labels', epoch);
    for (let i = 0; i < size; i++) {
      const example = order[position + i];
      if (augmentation && epochKey) {
        drawAugmentation(augmentation, epochKey, example, this.dataset.shape, this.#draw);
        this.#writer.writeAugmented(example, augmentation, this.#draw, x, i * this.inputSize);
      } else this.#writer.write(example, x, i * this.inputSize);
      this.#answer(example, y, i);
      if (labelKey) this.#perturb(labelKey, example, y, i);
    }
    return size;
  }

  /**
   * Writes the examples numbered by `indices` without augmentation and label noise, for evaluation and for probes that always look at
   * the same examples. Arrays as in {@link fill}, for `indices.length` examples.
   */
  fillExamples(indices: ArrayLike<number>, x: FloatArray, y: FloatArray | Int32Array): void {
    const { name, count } = this.dataset;
    this.#check(x, y, indices.length, `${indices.length} examples`);
    for (let i = 0; i < indices.length; i++) {
      const example = indices[i];
      if (!(Number.isInteger(example) && example >= 0 && example < count)) {
        throw new ConfigError(`Data set '${name}' has examples 0 to ${count - 1}, none with number ${example}.`);
      }
      this.#writer.write(example, x, i * this.inputSize);
      this.#answer(example, y, i);
    }
  }

  /** What decides the order of examples, as plain data for a run's configuration. */
  toJSON(): Record<string, unknown> {
    return {
      dataset: this.dataset.name,
      count: this.dataset.count,
      batchSize: this.batchSize,
      key: this.#key.toString(),
      shuffle: this.#shuffle,
      dropLast: this.#dropLast,
      augmentation: this.#augmentation ?? null,
      labelNoise: this.#labelNoise ?? null,
    };
  }

  #orderOf(epoch: number): Uint32Array {
    if (this.#order?.epoch !== epoch) {
      const { count } = this.dataset;
      // Without shuffling the order of any epoch will do.
      if (!this.#shuffle && this.#order) return this.#order.examples;
      const examples = this.#shuffle
        ? permutation(this.#key.split('shuffle', epoch), count)
        : Uint32Array.from({ length: count }, (_, i) => i);
      this.#order = { epoch, examples };
    }
    return this.#order.examples;
  }

  #answer(example: number, y: FloatArray | Int32Array, row: number): void {
    const { dataset, targetSize } = this;
    if (dataset.kind === 'classification') y[row] = dataset.labels[example];
    else {
      const from = example * targetSize;
      for (let j = 0; j < targetSize; j++) y[row * targetSize + j] = dataset.targets[from + j];
    }
  }

  #perturb(epochKey: Key, example: number, y: FloatArray | Int32Array, row: number): void {
    const { dataset, targetSize } = this;
    const noise = this.#labelNoise;
    if (!noise) return;
    if (dataset.kind === 'classification') {
      if ('probability' in noise) y[row] = noisyLabel(epochKey, example, y[row], dataset.classes, noise.probability);
    } else if ('deviation' in noise) {
      for (let j = 0; j < targetSize; j++)
        y[row * targetSize + j] += targetNoise(epochKey, example * targetSize + j, noise.deviation);
    }
  }

  #check(x: FloatArray, y: FloatArray | Int32Array, size: number, what: string): void {
    const { dataset, batchSize, inputSize, targetSize } = this;
    const sizes = [
      ['x', x.length, inputSize],
      ['y', y.length, targetSize],
    ] as const;
    for (const [array, length, each] of sizes) {
      if (length !== size * each && !(size < batchSize && length === batchSize * each)) {
        throw new ConfigError(
          `Filling ${what} of data set '${dataset.name}' takes ${size * each} numbers in ${array} (${size} examples of ${each}), got an array of ${length}.`,
        );
      }
    }
    if (y instanceof Int32Array !== (dataset.kind === 'classification')) {
      throw new ConfigError(
        dataset.kind === 'classification'
          ? `Data set '${dataset.name}' has classes; y must be an Int32Array.`
          : `Data set '${dataset.name}' has real targets; y must be a Float32Array or Float64Array.`,
      );
    }
  }
}
