/** @file Adan and the Adam family. */
import type { OptimizerDefinition } from '../definition.ts';
import { adam, adamw } from '../rules/adam.ts';
import { adan } from '../rules/adan.ts';

export { adam, adamw, adan };

export const adaptiveFamily: readonly OptimizerDefinition[] = [adan, adam, adamw];
