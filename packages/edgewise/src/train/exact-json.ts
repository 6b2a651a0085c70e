/** JSON that gives back exactly what went in: what a resume reads must equal what the run knew, to the bit. */
import { ConfigError } from '../base/errors.ts';

/** Anything JSON can say. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/**
 * `value` as JSON text from which `JSON.parse` rebuilds it exactly, the sign of zero included (`JSON.stringify` drops that). Properties that are
 * undefined are left out.
 *
 * @throws ConfigError naming the place of anything JSON cannot say: NaN, infinities, undefined in a list, functions, bigints, objects
 * with a prototype of their own (dates, maps, typed arrays).
 */
export function encodeJson(value: JsonValue, path = '$'): string {
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new ConfigError(`JSON has no ${value} (at ${path}); use null or a string.`);
    return formatNumber(value);
  }
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (Array.isArray(value)) {
    return `[${Array.from(value, (item: JsonValue, i) => encodeJson(item, `${path}[${i}]`)).join(',')}]`;
  }
  const prototype: unknown = typeof value === 'object' ? Object.getPrototypeOf(value) : undefined;
  if (typeof value !== 'object' || (prototype !== Object.prototype && prototype !== null)) {
    const what = typeof value === 'object' ? (value.constructor?.name ?? 'object') : typeof value;
    throw new ConfigError(`JSON cannot hold a ${what} (at ${path}); use numbers, strings, lists and plain objects.`);
  }
  const parts: string[] = [];
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined) parts.push(`${JSON.stringify(key)}:${encodeJson(item, `${path}.${key}`)}`);
  }
  return `{${parts.join(',')}}`;
}

/** A finite number as JSON, the sign of zero kept. */
export function formatNumber(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}
