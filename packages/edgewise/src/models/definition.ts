/** @file What an architecture is: a name, its settings, and a function to a model. */
import { ConfigError } from '../base/errors.ts';
import type { Model } from '../nn/scope.ts';
import { completeValues, type Schema, type Values } from '../optim/hyperparameters.ts';
import { type Shape, showShape, sizeOf } from '../tensor/shape.ts';

/** What a model is for. */
export interface Problem {
  /** Shape of one example, without the batch axis: `[channels, height, width]`, `[features]`, `[steps]`, ... */
  readonly inputShape: Shape;
  /** How many numbers come out for each example: classes, or targets of a regression. */
  readonly classes: number;
}

/** An architecture as its file defines it. */
export interface ModelDefinition<S extends Schema> {
  /** What it is called on the command line and in configurations, such as `resnet20`. */
  readonly name: string;
  readonly aliases?: readonly string[];
  /** One sentence. */
  readonly doc: string;
  /** Where it comes from: authors, year, section, address. */
  readonly paper: string;
  readonly options: S;
  /** The model with all options given; throws a ConfigError where options or problem do not fit the architecture. */
  readonly build: (options: Values<S>, problem: Problem) => Pick<Model, 'forward' | 'inputDtype'>;
}

/** An architecture as users meet it. */
export interface ModelInfo extends Omit<ModelDefinition<Schema>, 'build' | 'aliases'> {
  readonly aliases: readonly string[];
  /**
   * The model for a problem.
   *
   * @param options those that differ from their defaults.
   * @throws ConfigError for an unknown option (naming the nearest), a value outside what is allowed, or a problem the
   * architecture is not made for.
   */
  build(options: Readonly<Record<string, unknown>>, problem: Problem): Model;
}

/** Makes an architecture of a definition: options are checked and completed before `build` sees them. */
export function defineModel<const S extends Schema>(definition: ModelDefinition<S>): ModelInfo {
  const { name, aliases = [], doc, paper, options: schema, build } = definition;
  return {
    name,
    aliases,
    doc,
    paper,
    options: schema,
    build: (options, problem) => {
      const { inputShape, classes } = problem;
      if (inputShape.some((extent) => !Number.isInteger(extent) || extent < 1)) {
        throw new ConfigError(`${name}: the input shape ${showShape(inputShape)} must be whole numbers of at least 1.`);
      }
      if (!Number.isInteger(classes) || classes < 1) {
        throw new ConfigError(`${name}: classes is ${classes}; give a whole number of at least 1.`);
      }
      return { name, inputShape, ...build(completeValues(name, schema, options), problem) };
    },
  };
}

/** Throws a ConfigError unless examples are images of at least `least` pixels a side; returns their three extents. */
export function expectImages(name: string, { inputShape }: Problem, least = 1): [number, number, number] {
  const [channels, height, width] = inputShape;
  if (inputShape.length !== 3 || height < least || width < least) {
    throw new ConfigError(
      `${name} takes images [channels, height, width] of at least ${least} by ${least} pixels, but an example is ${showShape(inputShape)}; choose another model, or reshape the data.`,
    );
  }
  return [channels, height, width];
}

/** Steps and numbers a step where an example is read as a sequence: `[steps, features]`, or an image row by row. */
export function sequenceOf(name: string, { inputShape }: Problem): { steps: number; features: number } {
  if (inputShape.length === 2) return { steps: inputShape[0], features: inputShape[1] };
  if (inputShape.length === 3) return { steps: inputShape[1], features: sizeOf(inputShape) / inputShape[1] };
  throw new ConfigError(
    `${name} takes sequences [steps] of whole numbers, [steps, features], or images, but an example is ${showShape(inputShape)}; choose another model, or reshape the data.`,
  );
}

/** Throws a ConfigError unless every number of a list is a whole number. */
export function wholeNumbers(name: string, option: string, values: readonly number[]): readonly number[] {
  const bad = values.find((value) => !Number.isInteger(value));
  if (bad !== undefined) throw new ConfigError(`${name}: ${option} has ${bad} in it; give whole numbers.`);
  return values;
}
