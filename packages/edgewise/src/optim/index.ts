export { parameterVector } from './backend.ts';
export {
  type Decay,
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
export { createOptimizer, interpretOptimizer, Optimizer, stateBytes } from './optimizer.ts';
export { findOptimizer, optimizers } from './registry.ts';
export { adam, adamw } from './rules/adam.ts';
export { adan } from './rules/adan.ts';
export { sgd } from './rules/sgd.ts';
export * from './schedules.ts';
export type { OptimizerSettings, OptimizerTarget, ScalarState, StepInputs, StepReport } from './settings.ts';
export type { TensorEvaluator } from './tensors.ts';
export { clipGlobalNorm, clipValue } from './wrappers/clipping.ts';
export { type ChangedGradient, changeGradient } from './wrappers/gradient.ts';
