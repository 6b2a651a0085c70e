/** @file The gradient of one step: of its whole batch at once, or averaged over micro-batches. */
import type { Key } from '../base/random.ts';
import type { Batches } from '../data/batches.ts';
import type { BatchGraph, BatchMemory, BatchResult, Network } from './network.ts';

export interface StepGradientOptions {
  readonly network: Network;
  readonly batches: Batches;
  /** Compiled for the micro-batch. */
  readonly graph: BatchGraph;
  /** Draws the graph's random inputs, anew at every step and micro-batch. */
  readonly key: Key;
}

/** Evaluates loss and gradient on the batches of a run's steps, and undoes what that did to the buffers. */
export class StepGradient {
  readonly #network: Network;
  readonly #batches: Batches;
  readonly #graph: BatchGraph;
  readonly #key: Key;
  /** Micro-batches a batch consists of. */
  readonly #parts: number;
  readonly #whole: BatchMemory;
  readonly #sum: Float32Array | Float64Array;
  readonly #buffersBefore: Float32Array | Float64Array;

  constructor({ network, batches, graph, key }: StepGradientOptions) {
    this.#network = network;
    this.#batches = batches;
    this.#graph = graph;
    this.#key = key;
    this.#parts = batches.batchSize / graph.batch;
    const several = this.#parts > 1;
    this.#whole = several ? larger(graph, this.#parts) : graph;
    this.#sum = network.gradient.data.slice(0, several ? undefined : 0);
    this.#buffersBefore = network.buffers.data.slice();
  }

  /** Mean loss over the batch of `step` (from 0), its gradient in the network's gradient vector, running statistics moved on. */
  async evaluate(step: number): Promise<BatchResult> {
    this.#buffersBefore.set(this.#network.buffers.data);
    return this.#run(step);
  }

  /** The same at other weights, for a rule that looks at its batch again: same random numbers, running statistics left alone. */
  async evaluateAgain(step: number): Promise<BatchResult> {
    const after = this.#network.buffers.data.slice();
    const result = await this.#run(step);
    this.#network.buffers.data.set(after);
    return result;
  }

  /** Puts the running statistics back to what they were before the last {@link evaluate}. */
  restoreBuffers(): void {
    this.#network.buffers.data.set(this.#buffersBefore);
  }

  #run(step: number): Promise<BatchResult> {
    const draw = this.#key.split('step', step);
    this.#batches.fill(step, this.#whole.x, this.#whole.y);
    return this.#parts === 1 ? this.#graph.run(draw) : this.#accumulate(draw);
  }

  async #accumulate(draw: Key): Promise<BatchResult> {
    const { x, y } = this.#graph;
    const sum = this.#sum.fill(0);
    let [loss, correct]: [number, number | undefined] = [0, undefined];
    for (let part = 0; part < this.#parts; part++) {
      x.set(this.#whole.x.subarray(part * x.length, (part + 1) * x.length));
      y.set(this.#whole.y.subarray(part * y.length, (part + 1) * y.length));
      const result = await this.#graph.run(draw.split(part));
      loss += result.loss / this.#parts;
      if (result.correct !== undefined) correct = (correct ?? 0) + result.correct;
      const { data } = this.#network.gradient;
      for (let i = 0; i < sum.length; i++) sum[i] += data[i];
    }
    const { data } = this.#network.gradient;
    for (let i = 0; i < sum.length; i++) data[i] = sum[i] / this.#parts;
    return { loss, correct };
  }
}

/** Memory for `times` as many examples. */
function larger({ x, y }: BatchMemory, times: number): BatchMemory {
  const floats = (data: Float32Array | Float64Array) =>
    data instanceof Float64Array ? new Float64Array(times * data.length) : new Float32Array(times * data.length);
  return { x: floats(x), y: y instanceof Int32Array ? new Int32Array(times * y.length) : floats(y) };
}
