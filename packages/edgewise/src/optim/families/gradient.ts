/** @file Gradient descent, accelerated and clipped, and rules that accumulate squares. */
import type { OptimizerDefinition } from '../definition.ts';
import { sgd } from '../rules/sgd.ts';

export { sgd };

export const gradientFamily: readonly OptimizerDefinition[] = [sgd];
