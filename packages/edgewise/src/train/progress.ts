/** @file What of a training run is neither weights nor optimizer state, and its way into checkpoints and back. */
import { FormatError } from '../base/errors.ts';
import type { ScalarState } from '../optim/optimizer.ts';
import type { LoadedCheckpoint } from './checkpoint.ts';
import type { JsonValue } from './exact-json.ts';

export interface Progress {
  step: number;
  seconds: number;
  skipped: number;
  /** Best evaluation so far (higher is better) and evaluations since. */
  best: number | null;
  since: number;
  stopped: boolean;
}

/** The fields of a checkpoint's state. @throws FormatError where it has none. */
export function stateOf(checkpoint: LoadedCheckpoint): Readonly<Record<string, JsonValue | undefined>> {
  const { state } = checkpoint;
  if (typeof state !== 'object' || state === null || Array.isArray(state)) {
    throw new FormatError(`${checkpoint.name} holds no training state; it is not a checkpoint of a training run.`);
  }
  // Not a list, so a record.
  return state as Readonly<Record<string, JsonValue | undefined>>;
}

/** The optimizer's numbers for a checkpoint's state; those that JSON has no numeral for become their names. */
export function scalarsToJson(state: ScalarState): JsonValue {
  const encode = (x: number): JsonValue => (Number.isFinite(x) ? x : String(x));
  return Object.fromEntries(Object.entries(state).map(([name, values]) => [name, values.map(encode)]));
}

/** The optimizer's numbers in a checkpoint's state. @throws FormatError where it has none. */
export function scalarsOf(value: JsonValue | undefined, name: string): ScalarState {
  const none = new FormatError(`${name} holds no optimizer state; it is not a checkpoint of a training run.`);
  const decode = (x: JsonValue): number => {
    if (typeof x === 'number') return x;
    if (x === 'NaN' || x === 'Infinity' || x === '-Infinity') return Number(x);
    throw none;
  };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw none;
  return Object.fromEntries(
    Object.entries(value).map(([key, list]) => {
      if (!Array.isArray(list)) throw none;
      return [key, list.map(decode)];
    }),
  );
}

/** Whether a value read from a checkpoint says how far a run was. */
export function isProgress(value: unknown): value is Progress {
  if (typeof value !== 'object' || value === null) return false;
  const { step, seconds, skipped, best, since, stopped } = value as Partial<Progress>;
  const counts = [step, skipped, since].every((n) => Number.isSafeInteger(n));
  return (
    counts && typeof seconds === 'number' && (best === null || typeof best === 'number') && typeof stopped === 'boolean'
  );
}
