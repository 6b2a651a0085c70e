import { ConfigError } from '../base/errors.ts';
import type { Scope } from './scope.ts';

/** A layer as messages name it: `linear 'fc1'`. */
export const layerName = (kind: string, { path }: Scope): string => (path === '' ? kind : `${kind} '${path}'`);

/** `value` where it is a whole number of at least `least`, else a ConfigError that names the layer and the setting. */
export function wholeNumber(layer: string, setting: string, value: number, least = 1): number {
  if (!Number.isInteger(value) || value < least) {
    throw new ConfigError(`${layer}: ${setting} is ${value}; give a whole number of at least ${least}.`);
  }
  return value;
}

/** `value` where it is a probability below 1, else a ConfigError that names the layer and the setting. */
export function dropProbability(layer: string, setting: string, value: number): number {
  if (!(value >= 0 && value < 1)) {
    throw new ConfigError(`${layer}: ${setting} is ${value}; give a probability from 0 up to, but below, 1.`);
  }
  return value;
}
