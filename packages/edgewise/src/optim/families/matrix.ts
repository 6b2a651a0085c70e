/** @file Methods that treat a weight matrix as a matrix. */
import type { OptimizerDefinition } from '../definition.ts';

export const matrixFamily: readonly OptimizerDefinition[] = [];
