/**
 * Our side of the benchmark: a set-up for each workload, run in a process of its own (`ours_worker.ts`).
 *
 * A set-up gets the workload (parameter shapes, sizes, hyper-parameters) and the thread count, and returns a `Session`. Fill the
 * parameters with `parameterValue`, the batch with `batchOf`, the vector of a Hessian-vector product with `directionValue` and the
 * gradients of the update with `gradientValue` (all in `data.ts`), so that the values of `check` equal the peers'. Import the
 * library as `edgewise` and `edgewise/node`: the built packages are measured, not the sources.
 */
import type { Setup } from './protocol.ts';
import type { WorkloadName } from './workloads.ts';

/** The set-ups, by workload. A workload without one is measured for the peers alone. */
export const cases: Partial<Record<WorkloadName, Setup>> = {};
