/** @file Every wrapper. */
import type { Wrapper } from './wrapper.ts';

export { clipGlobalNorm, clipValue } from './clipping.ts';
export { type ChangedGradient, changeGradient } from './gradient.ts';
export type { Wrapper } from './wrapper.ts';

/** Every wrapper, in the order of the docs. */
export const wrappers: readonly Wrapper[] = [];
