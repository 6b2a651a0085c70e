/** @file What the optimizer asks to have evaluated on a step's batch: at once, or averaged over micro-batches. */
import { ConfigError } from '../base/errors.ts';
import { type Key, rademacher, uniform } from '../base/random.ts';
import type { Batches } from '../data/batches.ts';
import type { BatchGraph, BatchMemory, BatchResult, DrawnGraph, Network } from './network.ts';

export interface StepGradientOptions {
  readonly network: Network;
  readonly batches: Batches;
  /** Compiled for the micro-batch. */
  readonly graph: BatchGraph;
  /** Draws the graph's random inputs, anew at every step and micro-batch. */
  readonly key: Key;
}

/** A stretch of the batch, in pieces as large as a graph takes. */
interface Pieces {
  readonly graph: BatchGraph;
  /** First piece, counted from the beginning of the batch, and how many there are. */
  readonly from: number;
  readonly count: number;
  /** Writes what the graph draws for a piece; nothing by default. */
  draw?(piece: number): void;
}

/** Evaluates loss and gradient on the batches of a run's steps, and undoes what that did to the buffers. */
export class StepGradient {
  readonly #network: Network;
  readonly #batches: Batches;
  readonly #graph: BatchGraph;
  readonly #key: Key;
  /** The whole batch. */
  readonly #whole: BatchMemory;
  readonly #buffersBefore: Float32Array | Float64Array;
  #sum: Float32Array | Float64Array;
  /** Training graphs for parts of other sizes than the one given; compiled when first asked for, as the two below. */
  readonly #parts = new Map<number, Promise<BatchGraph>>();
  #labels: Promise<DrawnGraph> | undefined;
  #diagonal: Promise<DrawnGraph> | undefined;

  constructor({ network, batches, graph, key }: StepGradientOptions) {
    this.#network = network;
    this.#batches = batches;
    this.#graph = graph;
    this.#key = key;
    const several = batches.batchSize > graph.batch;
    this.#whole = several ? larger(graph, batches.batchSize / graph.batch) : { x: graph.x, y: graph.y };
    this.#sum = network.gradient.data.slice(0, several ? undefined : 0);
    this.#buffersBefore = network.buffers.data.slice();
  }

  /** Mean loss over the batch of `step` (from 0), its gradient in the network's gradient vector, running statistics moved on. */
  async evaluate(step: number): Promise<BatchResult> {
    this.#buffersBefore.set(this.#network.buffers.data);
    return this.#run(step, this.#loss());
  }

  /**
   * What a rule asks for on its batch once more, perhaps at other weights; into the network's gradient vector. Same random numbers
   * as in {@link evaluate}, running statistics left alone.
   *
   * `loss`: the gradient of the mean loss. `loss:i/n`: that over the i-th of n equal parts of the batch, i from 1. `sampled labels`:
   * that with labels drawn from the model's softmax. `hutchinson`: u ⊙ ∇²L u with random signs u. What is drawn is drawn once a
   * step, and does not depend on micro-batches.
   *
   * @throws ConfigError for anything else, parts that do not divide the batch, and labels where there is no softmax.
   */
  async evaluateAgain(step: number, what = 'loss'): Promise<BatchResult> {
    const pieces = await this.#piecesOf(what, step);
    const after = this.#network.buffers.data.slice();
    const result = await this.#run(step, pieces);
    this.#network.buffers.data.set(after);
    return result;
  }

  /** Puts the running statistics back to what they were before the last {@link evaluate}. */
  restoreBuffers(): void {
    this.#network.buffers.data.set(this.#buffersBefore);
  }

  /** Frees the graphs compiled here. */
  async dispose(): Promise<void> {
    for (const graph of [...this.#parts.values(), this.#labels, this.#diagonal]) await (await graph)?.dispose();
  }

  #loss(): Pieces {
    return { graph: this.#graph, from: 0, count: this.#batches.batchSize / this.#graph.batch };
  }

  async #piecesOf(what: string, step: number): Promise<Pieces> {
    if (what === 'loss') return this.#loss();
    const size = this.#graph.batch;
    const count = this.#batches.batchSize / size;
    const key = this.#key.split(what, step);
    if (what === 'sampled labels') {
      this.#labels ??= this.#network.sampledLabelsGraph(size);
      const graph = await this.#labels;
      const { draws } = graph;
      return { graph, from: 0, count, draw: (piece) => uniform(key, draws, 0, 1, piece * draws.length) };
    }
    if (what === 'hutchinson') {
      this.#diagonal ??= this.#network.hessianDiagonalGraph(size);
      const graph = await this.#diagonal;
      rademacher(key, graph.draws);
      return { graph, from: 0, count };
    }
    const [, i, n] = /^loss:([1-9]\d*)\/([1-9]\d*)$/.exec(what) ?? [];
    if (i !== undefined && Number(i) <= Number(n)) return this.#part(Number(i), Number(n));
    throw new ConfigError(
      `The optimizer wants '${what}' evaluated; training evaluates 'loss', 'loss:i/n' with i from 1 to n, 'sampled labels' and 'hutchinson'. Choose another optimizer.`,
    );
  }

  /** The i-th of n parts, in the largest pieces that divide it and are no larger than a micro-batch. */
  async #part(i: number, n: number): Promise<Pieces> {
    const { batchSize } = this.#batches;
    if (batchSize % n !== 0) {
      throw new ConfigError(
        `The optimizer takes the batch in ${n} equal parts, but ${n} does not divide the batch of ${batchSize}; choose a multiple of it.`,
      );
    }
    const share = batchSize / n;
    let size = Math.min(share, this.#graph.batch);
    while (share % size !== 0) size--;
    const pieces = share / size;
    return { graph: await this.#graphFor(size), from: (i - 1) * pieces, count: pieces };
  }

  async #graphFor(size: number): Promise<BatchGraph> {
    if (size === this.#graph.batch) return this.#graph;
    const graph = this.#parts.get(size) ?? this.#network.trainingGraph(size);
    this.#parts.set(size, graph);
    return graph;
  }

  async #run(step: number, { graph, from, count, draw }: Pieces): Promise<BatchResult> {
    const key = this.#key.split('step', step);
    this.#batches.fill(step, this.#whole.x, this.#whole.y);
    const pieces = this.#batches.batchSize / graph.batch;
    const one = (piece: number): Promise<BatchResult> => {
      copyPiece(this.#whole, graph, piece);
      draw?.(piece);
      return graph.run(pieces === 1 ? key : key.split(piece));
    };
    if (count === 1) return one(from);
    const { data } = this.#network.gradient;
    if (this.#sum.length === 0) this.#sum = data.slice();
    const sum = this.#sum.fill(0);
    let [loss, correct]: [number, number | undefined] = [0, undefined];
    for (let piece = from; piece < from + count; piece++) {
      const result = await one(piece);
      loss += result.loss / count;
      if (result.correct !== undefined) correct = (correct ?? 0) + result.correct;
      for (let i = 0; i < sum.length; i++) sum[i] += data[i];
    }
    for (let i = 0; i < sum.length; i++) data[i] = sum[i] / count;
    return { loss, correct };
  }
}

/** Puts a piece of a batch into the memory of a graph; nothing where they are one. */
export function copyPiece(whole: BatchMemory, { x, y }: BatchMemory, piece: number): void {
  if (whole.x === x) return;
  x.set(whole.x.subarray(piece * x.length, (piece + 1) * x.length));
  y.set(whole.y.subarray(piece * y.length, (piece + 1) * y.length));
}

/** Memory for `times` as many examples. */
export function larger({ x, y }: BatchMemory, times: number): BatchMemory {
  const floats = (data: Float32Array | Float64Array) =>
    data instanceof Float64Array ? new Float64Array(times * data.length) : new Float32Array(times * data.length);
  return { x: floats(x), y: y instanceof Int32Array ? new Int32Array(times * y.length) : floats(y) };
}
