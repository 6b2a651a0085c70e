export { parameterVector } from './backend.ts';
export { type BatchChange, type BatchRule, type BatchScaled, batchRule, scaleForBatch } from './batch-scaling.ts';
export { combine, type Part } from './combine.ts';
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
export { costOf, type OptimizerCost } from './describe.ts';
export { deviceTensors } from './device-tensors.ts';
export * from './families/adaptive.ts';
export * from './families/averaging.ts';
export * from './families/gradient.ts';
export * from './families/matrix.ts';
export * from './families/scaled.ts';
export {
  type GraphNumber,
  type GraphParam,
  type GraphPhase,
  type GraphSlot,
  type GraphUpdate,
  graphNumbers,
  type StepGraph,
  type StepGraphOptions,
  stepGraph,
} from './graph.ts';
export {
  type GraphFeeds,
  type GraphRunner,
  type GraphState,
  type GraphStep,
  type GraphStepInputs,
  initialState,
  restartState,
  takeStep,
} from './graph-run.ts';
export { type ArrayLibrary, libraryRunner } from './graph-walk.ts';
export { type Assignment, assign, type Group, type Match, matching } from './groups.ts';
export * from './hyperparameters.ts';
export { clipFactor, correction, ema, globalNorm } from './math.ts';
export { createOptimizer, interpretOptimizer, Optimizer, stateBytes } from './optimizer.ts';
export { findOptimizer, optimizers } from './registry.ts';
export * from './schedules/index.ts';
export type { OptimizerSettings, OptimizerTarget, ScalarState, StepInputs, StepReport } from './settings.ts';
export type { TensorEvaluator } from './tensors.ts';
export * from './wrappers/index.ts';
