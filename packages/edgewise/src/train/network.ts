/** @file A model in memory: its weights, gradient and buffers as vectors, and the compiled graphs that read and write them. */
import { grad } from '../autodiff/index.ts';
import { ConfigError } from '../base/errors.ts';
import { type Key, uniform } from '../base/random.ts';
import { VectorSpace } from '../kernels/space.ts';
import { type Buffer, type Model, type RandomInput, type Traced, trace } from '../nn/scope.ts';
import { ParamLayout } from '../params/layout.ts';
import { type FloatDType, initialize, ParamVector } from '../params/vector.ts';
import type { Device, Feeds, Program } from '../runtime/device.ts';
import { allocate, type TypedArray } from '../tensor/dtype.ts';
import { mul } from '../tensor/ops/elementwise.ts';
import { mean, sum } from '../tensor/ops/reduce.ts';
import type { Shape } from '../tensor/shape.ts';
import { input, type Tensor } from '../tensor/tensor.ts';
import type { Objective } from './objective.ts';

/** Addresses of WebAssembly memory have 32 bits. */
const MEMORY_LIMIT = 2 ** 32;

/** Memory a batch is put into before a graph runs on it. */
export interface BatchMemory {
  readonly x: Float32Array | Float64Array;
  readonly y: Int32Array | Float32Array | Float64Array;
}

/** What a graph found out about a batch. */
export interface BatchResult {
  /** Mean loss. */
  readonly loss: number;
  /** Examples classified rightly, or undefined where nothing is classified. */
  readonly correct: number | undefined;
}

/** A compiled graph with its batch memory. */
export interface BatchGraph<R = BatchResult> extends BatchMemory {
  readonly batch: number;
  /** Runs on what the batch memory holds. `key` draws the graph's random inputs. */
  run(key?: Key): Promise<R>;
  dispose(): Promise<void>;
}

/** Per-example results, in batch order. */
export interface ExampleResults {
  readonly losses: Float64Array;
  readonly correct: Float64Array | undefined;
}

/** A model's weights, gradient and buffers, in one WebAssembly memory that devices and kernels share without copies. */
export class Network {
  readonly model: Model;
  readonly objective: Objective;
  readonly device: Device;
  readonly dtype: FloatDType;
  readonly space: VectorSpace;
  /** θ. */
  readonly params: ParamVector;
  /** Gradient of the last training graph that ran. */
  readonly gradient: ParamVector;
  /** Running statistics and other state without a gradient. */
  readonly buffers: ParamVector;
  readonly #nextBuffers: ParamVector;
  readonly #traced: Traced;

  /**
   * Allocates and initialises a network.
   * @param options.state bytes to set memory aside for, such as an optimizer's (`stateBytes`); by default those of four vectors.
   * @throws ConfigError where the model has no parameters or too many, or the device does not compute in `dtype`.
   */
  constructor(options: {
    model: Model;
    objective: Objective;
    device: Device;
    key: Key;
    dtype?: FloatDType;
    state?: (layout: ParamLayout) => number;
  }) {
    const { model, objective, device, key, dtype = 'float32' } = options;
    if (!device.floats.includes(dtype)) {
      throw new ConfigError(
        `Device '${device.name}' computes in ${device.floats.join(', ')}, not in ${dtype}; choose another precision or device.`,
      );
    }
    this.model = model;
    this.objective = objective;
    this.device = device;
    this.dtype = dtype;
    this.#traced = trace(model, { batch: 1, training: true, dtype });
    const { params, buffers } = this.#traced;
    if (params.length === 0)
      throw new ConfigError(`Model '${model.name}' declares no parameters; there is nothing to train.`);
    const layout = new ParamLayout(params);
    const bufferLayout = new ParamLayout(buffers);
    // Growing the memory later would detach the views that devices hold.
    const vectors =
      VectorSpace.bytesFor(layout.size, dtype, 2) +
      VectorSpace.bytesFor(bufferLayout.size, dtype, 2) +
      (options.state?.(layout) ?? VectorSpace.bytesFor(layout.size, dtype, 4) + kernelTables(layout));
    if (vectors > MEMORY_LIMIT) {
      throw new ConfigError(
        `Model '${model.name}' has ${layout.count} parameters, which take ${(vectors / 2 ** 30).toFixed(1)} GiB with gradient and optimizer state, more than the 4 GiB of a WebAssembly memory; use a smaller model, an optimizer with less state, or float32.`,
      );
    }
    this.space = new VectorSpace({ reserve: Math.min(MEMORY_LIMIT, vectors) });
    const vector = (of: ParamLayout) =>
      new ParamVector(of, dtype, this.space.memory, this.space.alloc(of.size, dtype).byteOffset);
    this.params = vector(layout);
    this.gradient = vector(layout);
    this.buffers = vector(bufferLayout);
    this.#nextBuffers = vector(bufferLayout);
    initialize(this.params, params, key);
    initialize(this.buffers, buffers, key);
  }

  get layout(): ParamLayout {
    return this.params.layout;
  }

  /** Shape of what the model gives for one example. */
  get outputShape(): Shape {
    return this.#traced.output.shape.slice(1);
  }

  /** Parameter symbols in the order of the layout. */
  get symbols(): readonly Tensor[] {
    return this.#traced.params.map((p) => p.symbol);
  }

  /**
   * Compiles the training graph for one batch size: mean loss, gradient (written to {@link gradient}) and buffer updates.
   */
  async trainingGraph(batch: number): Promise<BatchGraph> {
    const traced = trace(this.model, { batch, training: true, dtype: this.dtype });
    const target = this.objective.target(batch, this.dtype);
    const losses = this.objective.losses(traced.output, target);
    const loss = mean(losses);
    const correct = this.objective.correct?.(traced.output, target);
    const updates = traced.buffers.filter(hasNext);
    const grads = grad(loss, this.symbols);
    const outputs = [loss, ...(correct ? [sum(correct)] : []), ...grads, ...updates.map((b) => b.next)];
    const program = await this.#compile(traced, target, outputs);
    const memory = this.#batchMemory(traced.input, target);
    const randoms = randomMemory(traced.randoms);
    const results = [
      undefined,
      ...(correct ? [undefined] : []),
      ...windows(this.gradient),
      ...updates.map((b) => this.#nextBuffers.view(b.name)),
    ];
    const call = program.bind(this.#feeds(traced, target, memory, randoms), results);
    return {
      batch,
      ...memory,
      dispose: () => program.dispose(),
      run: async (key) => {
        drawRandoms(randoms, key);
        await call.run();
        for (const { name } of updates) this.buffers.view(name).set(this.#nextBuffers.view(name));
        return { loss: Number(call.results[0][0]), correct: correct && Number(call.results[1][0]) };
      },
    };
  }

  /** Compiles the evaluation graph for one batch size: loss (without label smoothing where `objective` says so) and correctness of each example. */
  async evaluationGraph(batch: number, objective: Objective = this.objective): Promise<BatchGraph<ExampleResults>> {
    const traced = trace(this.model, { batch, training: false, dtype: this.dtype });
    const target = objective.target(batch, this.dtype);
    const correct = objective.correct?.(traced.output, target);
    const program = await this.#compile(traced, target, [
      objective.losses(traced.output, target),
      ...(correct ? [correct] : []),
    ]);
    const memory = this.#batchMemory(traced.input, target);
    const call = program.bind(this.#feeds(traced, target, memory, randomMemory(traced.randoms)));
    return {
      batch,
      ...memory,
      dispose: () => program.dispose(),
      run: async () => {
        await call.run();
        return { losses: numbers(call.results[0]), correct: correct && numbers(call.results[1]) };
      },
    };
  }

  /**
   * The loss on one fixed batch as a graph of the parameters alone, for probes: everything but the weights is fed from memory.
   * Evaluation mode, so that the loss is a function of the weights. The mean over the batch, or with `memory.share` the sum of each
   * example's loss times its share.
   */
  probeLoss(
    batch: number,
    memory: BatchMemory & { readonly share?: Float32Array | Float64Array },
    objective: Objective = this.objective,
  ): { loss: Tensor; feeds: Feeds } {
    const traced = trace(this.model, { batch, training: false, dtype: this.dtype });
    const target = objective.target(batch, this.dtype);
    const feeds = new Map<Tensor, TypedArray>([
      [traced.input, memory.x],
      [target, memory.y],
    ]);
    for (const { name, symbol } of traced.buffers) feeds.set(symbol, this.buffers.view(name));
    const losses = objective.losses(traced.output, target);
    if (!memory.share) return { loss: mean(losses), feeds };
    const share = input('share', [batch], this.dtype);
    return { loss: sum(mul(losses, share)), feeds: feeds.set(share, memory.share) };
  }

  /** Memory of every parameter, in the order of {@link symbols}. */
  get weights(): readonly TypedArray[] {
    return windows(this.params);
  }

  #compile(traced: Traced, target: Tensor, outputs: readonly Tensor[]): Promise<Program> {
    const leaves = [...traced.params, ...traced.buffers, ...traced.randoms].map((declared) => declared.symbol);
    return this.device.compile([traced.input, target, ...leaves], outputs);
  }

  #feeds(traced: Traced, target: Tensor, memory: BatchMemory, randoms: readonly RandomMemory[]): Feeds {
    return new Map<Tensor, TypedArray>([
      [traced.input, memory.x],
      [target, memory.y],
      ...traced.params.map((p) => [p.symbol, this.params.view(p.name)] as const),
      ...traced.buffers.map((b) => [b.symbol, this.buffers.view(b.name)] as const),
      ...randoms.map((r) => [r.symbol, r.data] as const),
    ]);
  }

  #batchMemory(x: Tensor, y: Tensor): BatchMemory {
    // Symbols of models and objectives are float32, float64 or int32.
    return { x: allocate(x.dtype, x.size) as BatchMemory['x'], y: allocate(y.dtype, y.size) as BatchMemory['y'] };
  }
}

/**
 * Bytes to set aside for what update kernels allocate when a stage first runs: a line for each stretch of memory, which is a
 * segment or, for rules by row, a row. Generous, because untouched memory costs nothing.
 */
function kernelTables({ segments }: ParamLayout): number {
  const rows = segments.reduce((total, { shape }) => total + (shape.length > 1 ? shape[0] : 1), 0);
  return 2 ** 20 + 1024 * segments.length + 128 * rows;
}

interface RandomMemory extends RandomInput {
  readonly data: Float32Array | Float64Array;
}

function randomMemory(randoms: readonly RandomInput[]): RandomMemory[] {
  return randoms.map((r) => ({
    ...r,
    data: r.symbol.dtype === 'float64' ? new Float64Array(r.symbol.size) : new Float32Array(r.symbol.size),
  }));
}

function drawRandoms(randoms: readonly RandomMemory[], key: Key | undefined): void {
  if (randoms.length === 0) return;
  if (!key)
    throw new ConfigError(
      `The model draws random numbers ('${randoms[0].name}'), but the graph was run without a key; pass one.`,
    );
  for (const { name, data } of randoms) uniform(key.split(name), data);
}

const hasNext = (buffer: Buffer): buffer is Buffer & { next: Tensor } => buffer.next !== undefined;

const windows = (vector: ParamVector): TypedArray[] => [...vector.entries()].map(([, view]) => view);

const numbers = (data: TypedArray): Float64Array => Float64Array.from(data, Number);
