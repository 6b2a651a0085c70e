/** @file Methods that treat a weight matrix as a matrix. */
import type { OptimizerDefinition } from '../definition.ts';
import { muon } from '../rules/muon.ts';
import { soap } from '../rules/soap.ts';

export { muon, soap };

export const matrixFamily: readonly OptimizerDefinition[] = [muon, soap];
