/** @file What the training loop asks of a probe. */
import type { ParamVector } from '../params/vector.ts';
import type { MetricFields } from './metrics.ts';

/** A question put to the network at some steps. It reads weights and never writes them, so training takes the same course with and without it. */
export interface Probe {
  readonly name: string;
  /** Asked after every so many steps, and after the last one. */
  readonly every: number;
  /** Quantities it records. */
  readonly fields: MetricFields;
  /** Vectors that carry over to the next measurement (a warm start); saved with checkpoints, so that a resumed run measures the same. */
  readonly memory: ReadonlyMap<string, ParamVector>;
  /** Measures at the present weights, which the optimizer reached with learning rate `lr`. */
  measure(moment: { readonly step: number; readonly lr: number }): Promise<Readonly<Record<string, number>>>;
  dispose(): Promise<void>;
}
