export { adam, adamw } from './adam.ts';
export { adan } from './adan.ts';
export { parameterVector } from './backend.ts';
export { clipGlobalNorm, clipValue } from './clipping.ts';
export {
  defineOptimizer,
  type Family,
  type OptimizerDefinition,
  type Phase,
  type Refusal,
  type RuleSymbols,
  type ScalarSpec,
  type SlotSpec,
  type Source,
  type Stability,
  type Update,
} from './definition.ts';
export { type Assignment, assign, type Group, type Match, matching } from './groups.ts';
export * from './hyperparameters.ts';
export { clipFactor, correction, ema, globalNorm } from './math.ts';
export type { MatrixEvaluator } from './matrices.ts';
export { bytesNeeded, createOptimizer, interpretOptimizer, Optimizer } from './optimizer.ts';
export { findOptimizer, optimizers } from './registry.ts';
export * from './schedules.ts';
export type { OptimizerSettings, OptimizerTarget, ScalarState, StepInputs, StepReport } from './settings.ts';
export { sgd } from './sgd.ts';
export { type ChangedGradient, changeGradient } from './wrap.ts';
