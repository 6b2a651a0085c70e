/** @file Layer-wise and sign methods, two gradients a step, curvature diagonals. */
import type { OptimizerDefinition } from '../definition.ts';
import { lamb } from '../rules/lamb.ts';
import { larc, lars } from '../rules/lars.ts';
import { lion } from '../rules/lion.ts';
import { sophia, sophiaH } from '../rules/sophia.ts';
import { stepTunedSgd } from '../rules/step-tuned.ts';

export { lamb, larc, lars, lion, sophia, sophiaH, stepTunedSgd };

export const scaledFamily: readonly OptimizerDefinition[] = [lars, larc, lamb, lion, stepTunedSgd, sophia, sophiaH];
