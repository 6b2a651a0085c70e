/** @file All optimizers by name. A program that uses one of them imports its page instead, and does not pay for the rest. */
import { ConfigError, nearest } from '../base/errors.ts';
import type { OptimizerDefinition } from './definition.ts';
import { adaptiveFamily } from './families/adaptive.ts';
import { averagingFamily } from './families/averaging.ts';
import { gradientFamily } from './families/gradient.ts';
import { matrixFamily } from './families/matrix.ts';
import { scaledFamily } from './families/scaled.ts';

/** Every optimizer, in the order of the docs. */
export const optimizers: readonly OptimizerDefinition[] = [
  ...adaptiveFamily,
  ...gradientFamily,
  ...scaledFamily,
  ...averagingFamily,
  ...matrixFamily,
];

/** The optimizer called `name`, or known by it, in any case. @throws ConfigError naming the nearest one. */
export function findOptimizer(name: string): OptimizerDefinition {
  const wanted = name.toLowerCase();
  const names = (definition: OptimizerDefinition) => [definition.name, ...(definition.aliases ?? [])];
  const found = optimizers.find((definition) => names(definition).some((known) => known.toLowerCase() === wanted));
  if (found) return found;
  const near = nearest(name, optimizers.flatMap(names));
  throw new ConfigError(
    `There is no optimizer '${name}'; ${near ? `did you mean '${near}'?` : `there are ${optimizers.map((definition) => definition.name).join(', ')}.`}`,
  );
}
