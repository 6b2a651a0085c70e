/** @file What must hold before training begins. */
import { ConfigError, ShapeError } from '../base/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import { showShape } from '../tensor/shape.ts';
import type { Network } from './network.ts';

/** Throws a ConfigError unless `value` is a whole number of at least `least`. */
export function checkSteps(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least)
    throw new ConfigError(`${name} is ${value}; give a whole number of at least ${least}.`);
}

/** Throws where the examples of `data` are not what the network takes, or their classes more than it tells apart. */
export function checkFit({ model, outputShape }: Network, data: Dataset): void {
  if (showShape(data.shape) !== showShape(model.inputShape)) {
    throw new ShapeError(
      `Model '${model.name}' takes examples of shape ${showShape(model.inputShape)}, but those of data set '${data.name}' are ${showShape(data.shape)}; build it for this data.`,
    );
  }
  if (model.inputDtype !== undefined && !model.inputDtype.startsWith('float')) {
    throw new ConfigError(
      `Model '${model.name}' takes whole numbers, such as tokens, but the examples of data set '${data.name}' are real numbers; choose another model.`,
    );
  }
  const [outputs] = outputShape;
  if (data.kind === 'classification' && (outputShape.length !== 1 || outputs < data.classes)) {
    throw new ShapeError(
      `Model '${model.name}' gives ${showShape(outputShape)} for each example, but data set '${data.name}' has ${data.classes} classes; it must give one number for each.`,
    );
  }
}
