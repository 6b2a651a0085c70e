export { CHANGES_FILE, type Change, type PlannedChange, readChanges } from './changes.ts';
export {
  type Checkpoint,
  type LoadedCheckpoint,
  listCheckpoints,
  loadCheckpoint,
  saveCheckpoint,
} from './checkpoint.ts';
export { checkFit } from './checks.ts';
export { loadWeights } from './evaluated.ts';
export { type Evaluator, evaluator } from './evaluation.ts';
export { EventLog, type TrainingEvent } from './events.ts';
export { type ExportOptions, exportModel, exportOnnx } from './export.ts';
export { RunLogs } from './logs.ts';
export {
  type MetricField,
  type MetricFields,
  type MetricRecord,
  metricSeries,
  readMetricFields,
  readMetrics,
} from './metrics.ts';
export {
  type BatchGraph,
  type BatchResult,
  type BufferStatistics,
  type DrawnGraph,
  type ExampleResults,
  Network,
} from './network.ts';
export {
  type CrossEntropyOptions,
  crossEntropyObjective,
  type Objective,
  objectiveFor,
  squaredErrorObjective,
} from './objective.ts';
export type { Probe } from './probe.ts';
export { MemoryRunStore, type RunStore, StoreError, type StoreErrorCode } from './store.ts';
export { type EarlyStopping, Trainer, type TrainerOptions, type TrainReport, type TrainResult } from './trainer.ts';
