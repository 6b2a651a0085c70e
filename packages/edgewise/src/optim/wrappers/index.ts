/** @file Every wrapper. */
import { average } from './averaging.ts';
import type { Wrapper } from './wrapper.ts';

export { average } from './averaging.ts';
export { clipGlobalNorm, clipValue } from './clipping.ts';
export { type ChangedGradient, changeGradient } from './gradient.ts';
export type { Wrapper } from './wrapper.ts';

/** Every wrapper, in the order of the docs. */
export const wrappers: readonly Wrapper[] = [average];
