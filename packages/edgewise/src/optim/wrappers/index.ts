/** @file Every wrapper. */
import { average } from './averaging.ts';
import { centralizeWrapper } from './centralization.ts';
import { lookaheadWrapper } from './lookahead.ts';
import { samWrapper } from './sam.ts';
import type { Wrapper } from './wrapper.ts';

export { average } from './averaging.ts';
export { centralize } from './centralization.ts';
export { clipGlobalNorm, clipValue } from './clipping.ts';
export { type ChangedGradient, changeGradient, type Measured, type ValuedChange } from './gradient.ts';
export { lookahead } from './lookahead.ts';
export { type SamOptions, sam } from './sam.ts';
export type { Wrapper } from './wrapper.ts';

/** Every wrapper, in the order of the docs. */
export const wrappers: readonly Wrapper[] = [centralizeWrapper, samWrapper, lookaheadWrapper, average];
