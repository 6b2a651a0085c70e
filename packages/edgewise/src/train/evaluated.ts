/** @file Work at the point that a run evaluates and exports, where that is not the one it trains: weights and running statistics. */
import type { Key } from '../base/random.ts';
import type { Batches } from '../data/batches.ts';
import type { Optimizer } from '../optim/optimizer.ts';
import { loadVector } from '../params/state.ts';
import type { ParamVector } from '../params/vector.ts';
import type { LoadedCheckpoint } from './checkpoint.ts';
import { crc32c } from './crc32c.ts';
import { copyPiece, larger } from './gradient.ts';
import type { BatchGraph, BufferStatistics, Network } from './network.ts';

export interface EvaluatedPointOptions {
  readonly network: Network;
  readonly optimizer: Optimizer;
  readonly batches: Batches;
  /** Examples a graph sees at once. */
  readonly microBatch: number;
  /** Batches that running statistics are computed from: the first ones of the run, the same at every evaluation. */
  readonly averageBatches: number;
  /** Draws dropout and the like. */
  readonly key: Key;
}

/** Moves a network to the point evaluated and back. */
export class EvaluatedPoint {
  readonly #options: EvaluatedPointOptions;
  #graph: Promise<BatchGraph<BufferStatistics> | undefined> | undefined;
  /** Buffers computed last, and a checksum of the weights they belong to. */
  #known: { readonly weights: number; readonly buffers: Float32Array | Float64Array } | undefined;

  constructor(options: EvaluatedPointOptions) {
    this.#options = options;
  }

  /**
   * Runs `work` at the point evaluated; weights and buffers are put back to the bit, also where it throws.
   *
   * Running statistics belong to the weights they were gathered at, so they are gathered anew: the mean over batches of the
   * statistics that training would fold in (as PyTorch's `update_bn`).
   * @param work Told whether the point is another than the one trained.
   */
  async at<T>(work: (elsewhere: boolean) => Promise<T> | T): Promise<T> {
    const { network, optimizer } = this.#options;
    if (!optimizer.evaluatesElsewhere) return work(false);
    const trained = network.params.data.slice();
    return optimizer.atEvaluated(async () => {
      if (!network.params.data.some((x, i) => x !== trained[i])) return work(false);
      const buffers = network.buffers.data.slice();
      try {
        await this.#gather();
        return await work(true);
      } finally {
        network.buffers.data.set(buffers);
      }
    });
  }

  async dispose(): Promise<void> {
    await (await this.#graph)?.dispose();
  }

  async #gather(): Promise<void> {
    const { network, microBatch } = this.#options;
    if (network.buffers.layout.segments.length === 0) return;
    const { buffer, byteOffset, byteLength } = network.params.data;
    const weights = crc32c(new Uint8Array(buffer, byteOffset, byteLength));
    if (this.#known?.weights !== weights) {
      this.#graph ??= network.bufferStatisticsGraph(microBatch);
      const graph = await this.#graph;
      if (!graph) return;
      await this.#average(graph);
      this.#known = { weights, buffers: network.buffers.data.slice() };
    }
    network.buffers.data.set(this.#known.buffers);
  }

  /** Writes the mean statistics over the batches to the network's buffers. */
  async #average(graph: BatchGraph<BufferStatistics>): Promise<void> {
    const { network, batches, averageBatches, key } = this.#options;
    const pieces = batches.batchSize / graph.batch;
    const whole = larger(graph, pieces);
    const { data } = network.buffers;
    const sum = new Float64Array(data.length);
    let last: BufferStatistics | undefined;
    for (let step = 0; step < averageBatches; step++) {
      batches.fill(step, whole.x, whole.y);
      for (let piece = 0; piece < pieces; piece++) {
        copyPiece(whole, graph, piece);
        last = await graph.run(key.split('average', step, piece));
        const { fresh, kept } = last;
        for (let i = 0; i < sum.length; i++) sum[i] += fresh.data[i] / (1 - kept.data[i]);
      }
    }
    if (!last) return;
    // What keeps all of what it was, such as a buffer that training never moves, stays.
    for (let i = 0; i < sum.length; i++) if (last.kept.data[i] !== 1) data[i] = sum[i] / (averageBatches * pieces);
  }
}

/**
 * Fills vectors of a model with the weights and buffers of a checkpoint.
 * @param point `evaluated` (default): those that the run evaluates and exports, an average where the optimizer keeps one; `trained`: those
 *   that training goes on from.
 * @throws FormatError where they belong to another model.
 */
export function loadWeights(
  { file }: Pick<LoadedCheckpoint, 'file'>,
  { params, buffers }: { readonly params: ParamVector; readonly buffers: ParamVector },
  point: 'evaluated' | 'trained' = 'evaluated',
): void {
  const elsewhere =
    point === 'evaluated' && [...file.tensors.keys()].some((name) => name.startsWith('evaluated.params.'));
  const prefix = elsewhere ? 'evaluated.' : '';
  loadVector(params, file, `${prefix}params.`);
  loadVector(buffers, file, `${prefix}buffers.`);
}
