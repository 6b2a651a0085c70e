/** @file Layer-wise and sign methods, clipped and normalised descent, curvature diagonals. */
import type { OptimizerDefinition } from '../definition.ts';

export const scaledFamily: readonly OptimizerDefinition[] = [];
