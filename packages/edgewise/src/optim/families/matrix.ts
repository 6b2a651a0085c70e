/** @file Methods that treat a weight matrix as a matrix. */
import type { OptimizerDefinition } from '../definition.ts';
import { muon } from '../rules/muon.ts';

export { muon };

export const matrixFamily: readonly OptimizerDefinition[] = [muon];
