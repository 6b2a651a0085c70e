/** @file Methods that treat a weight matrix as a matrix. */
import type { OptimizerDefinition } from '../definition.ts';
import { muon } from '../rules/muon.ts';
import { shampoo } from '../rules/shampoo.ts';
import { soap } from '../rules/soap.ts';

export { muon, shampoo, soap };

export const matrixFamily: readonly OptimizerDefinition[] = [muon, shampoo, soap];
