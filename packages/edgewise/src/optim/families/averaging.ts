/** @file Averaging, dual averaging, and methods without a learning rate. */
import type { OptimizerDefinition } from '../definition.ts';

export const averagingFamily: readonly OptimizerDefinition[] = [];
