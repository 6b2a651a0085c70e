export { expandComposites, rewrite } from './expand.ts';
export { fuse } from './fuse.ts';
export { type LowerOptions, lowerToOnnx } from './lower.ts';
export { countOps, simplify } from './simplify.ts';
