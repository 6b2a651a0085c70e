import type { Batches } from '../data/batches.ts';
import type { Network } from './network.ts';
import { crossEntropyObjective, type Objective } from './objective.ts';

/** Evaluates a network on a whole data set. */
export interface Evaluator {
  /** Mean loss over all examples (without label smoothing), and the share classified rightly where something is classified. */
  run(): Promise<{ loss: number; accuracy: number | undefined }>;
  dispose(): Promise<void>;
}

/**
 * Compiles the evaluation of `network` on every example of `batches.dataset`, `batches.batchSize` at a time. The last batch is
 * filled up with the first examples, which are not counted twice.
 *
 * @param objective What is measured; by default the network's own, without label smoothing.
 */
export async function evaluator(
  network: Network,
  batches: Batches,
  objective: Objective = network.objective.name === 'crossEntropy' ? crossEntropyObjective() : network.objective,
): Promise<Evaluator> {
  const { count } = batches.dataset;
  const size = Math.min(batches.batchSize, count);
  const graph = await network.evaluationGraph(size, objective);
  return {
    run: async () => {
      let [loss, right]: [number, number | undefined] = [0, undefined];
      for (let from = 0; from < count; from += size) {
        batches.fillExamples(
          Uint32Array.from({ length: size }, (_, i) => (from + i) % count),
          graph.x,
          graph.y,
        );
        const { losses, correct } = await graph.run();
        const counted = Math.min(size, count - from);
        for (let i = 0; i < counted; i++) loss += losses[i];
        if (correct) right = correct.subarray(0, counted).reduce((total, x) => total + x, right ?? 0);
      }
      return { loss: loss / count, accuracy: right === undefined ? undefined : right / count };
    },
    dispose: () => graph.dispose(),
  };
}
