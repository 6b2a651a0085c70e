import { ConfigError, nearest } from '../base/errors.ts';
import { type Model, trace } from '../nn/scope.ts';
import { convnet } from './convnet.ts';
import type { ModelInfo, Problem } from './definition.ts';
import { lstm } from './lstm.ts';
import { mlp } from './mlp.ts';
import { resnets } from './resnet.ts';
import { transformer } from './transformer.ts';
import { vggs } from './vgg.ts';

export { defineModel, type ModelDefinition, type ModelInfo, type Problem } from './definition.ts';

/** Every architecture there is. */
export const models: readonly ModelInfo[] = [mlp, convnet, ...resnets, ...vggs, transformer, lstm];

/** Upper and lower case, `-` and `_` are not told apart. */
const plain = (name: string): string => name.toLowerCase().replace(/[-_]/g, '');

/** The architecture called `name`, by name or alias. ConfigError that names the nearest where there is none. */
export function findModel(name: string): ModelInfo {
  const found = models.find((model) => [model.name, ...model.aliases].some((known) => plain(known) === plain(name)));
  if (found) return found;
  const near = nearest(
    name,
    models.flatMap((model) => [model.name, ...model.aliases]),
  );
  const known = models.map((model) => model.name).join(', ');
  throw new ConfigError(
    `There is no model '${name}'; ${near ? `did you mean '${near}'? There are ${known}.` : `there are ${known}.`}`,
  );
}

/** The model called `name` for a problem; see {@link ModelInfo.build}. */
export function buildModel(name: string, problem: Problem, options: Readonly<Record<string, unknown>> = {}): Model {
  return findModel(name).build(options, problem);
}

/** Number of trainable parameters. */
export function parameterCount(model: Model): number {
  return trace(model, { batch: 1, training: true }).params.reduce((total, { symbol }) => total + symbol.size, 0);
}
