/** @file Adan and the Adam family. */
import type { OptimizerDefinition } from '../definition.ts';
import { adabelief } from '../rules/adabelief.ts';
import { adabound, adaboundw, amsbound } from '../rules/adabound.ts';
import { adam, adamw, amsgrad } from '../rules/adam.ts';
import { adamax } from '../rules/adamax.ts';
import { adan } from '../rules/adan.ts';
import { generalizedSignSgd } from '../rules/generalized-signsgd.ts';
import { nadam, nadamw } from '../rules/nadam.ts';
import { padam } from '../rules/padam.ts';
import { radam } from '../rules/radam.ts';

export {
  adabelief,
  adabound,
  adaboundw,
  adam,
  adamax,
  adamw,
  adan,
  amsbound,
  amsgrad,
  generalizedSignSgd,
  nadam,
  nadamw,
  padam,
  radam,
};

export const adaptiveFamily: readonly OptimizerDefinition[] = [
  adan,
  adam,
  amsgrad,
  adamw,
  adamax,
  nadam,
  nadamw,
  radam,
  padam,
  adabound,
  amsbound,
  adaboundw,
  adabelief,
  generalizedSignSgd,
];
