export { type Binding, type BoundUpdate, CompiledUpdate, compileUpdate } from './compiled.ts';
export {
  type Level,
  levelOf,
  NOMINALS,
  type Nominal,
  nominalShape,
  type ScalarInput,
  type Segment,
  symbolAt,
  type UpdateGraph,
} from './domain.ts';
export { interpretUpdate } from './interpret.ts';
export type { Stage } from './plan.ts';
export {
  bytesOf,
  type VectorArray,
  type VectorDType,
  VectorSpace,
  type VectorSpaceOptions,
  type Window,
} from './space.ts';
