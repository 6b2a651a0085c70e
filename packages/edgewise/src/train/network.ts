/** @file A model in memory: its weights, gradient and buffers as vectors, and the compiled graphs that read and write them. */
import { grad, hvp, jvp, substitute } from '../autodiff/index.ts';
import { ConfigError } from '../base/errors.ts';
import { type Key, uniform } from '../base/random.ts';
import { VectorSpace } from '../kernels/space.ts';
import { type Buffer, type Model, type RandomInput, type Traced, trace } from '../nn/scope.ts';
import { ParamLayout } from '../params/layout.ts';
import { type FloatDType, initialize, ParamVector } from '../params/vector.ts';
import type { Device, Feeds } from '../runtime/device.ts';
import { allocate, type DType, type TypedArray } from '../tensor/dtype.ts';
import { mul } from '../tensor/ops/elementwise.ts';
import { mean, sum } from '../tensor/ops/reduce.ts';
import type { Shape } from '../tensor/shape.ts';
import { constant, input, type Tensor } from '../tensor/tensor.ts';
import { crossEntropyObjective, type Objective, sampledLabels } from './objective.ts';

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

/** A training graph with numbers that whoever runs it draws beforehand. */
export interface DrawnGraph extends BatchGraph {
  /** For labels: a uniform number in [0, 1) for each; for directions: a number for each element of the parameter vector. */
  readonly draws: Float32Array | Float64Array;
}

/** What the buffers would become with no memory of what they were, and the share of what they were that they keep. */
export interface BufferStatistics {
  /** In the layout of the buffers. */
  readonly fresh: ParamVector;
  /** 1 for buffers that training does not move. */
  readonly kept: ParamVector;
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
    const loss = mean(this.objective.losses(traced.output, target));
    const correct = this.objective.correct?.(traced.output, target);
    const updates = traced.buffers.filter(hasNext);
    const outputs = [loss, ...(correct ? [sum(correct)] : []), ...grad(loss, this.symbols)];
    const graph = await this.#bound(traced, target, [...outputs, ...updates.map((b) => b.next)], {
      results: [
        undefined,
        ...(correct ? [undefined] : []),
        ...windows(this.gradient),
        ...updates.map((b) => this.#nextBuffers.view(b.name)),
      ],
    });
    return {
      ...graph,
      run: async (key) => {
        const results = await graph.run(key);
        for (const { name } of updates) this.buffers.view(name).set(this.#nextBuffers.view(name));
        return { loss: Number(results[0][0]), correct: correct && Number(results[1][0]) };
      },
    };
  }

  /**
   * Compiles the gradient of the mean loss with labels drawn from the model's own softmax in place of the data's, one for each row of
   * logits and without label smoothing, in training mode: its square, times the examples, estimates the diagonal of the Gauss-Newton
   * matrix (Liu et al. 2023, arXiv 2305.14342, algorithm 2). Buffers are left alone.
   * @throws ConfigError for a network that is not trained by softmax cross-entropy.
   */
  async sampledLabelsGraph(batch: number): Promise<DrawnGraph> {
    if (this.objective.name !== 'crossEntropy') {
      throw new ConfigError(
        `Labels can be sampled from a softmax only, but model '${this.model.name}' is trained by ${this.objective.name}; choose an optimizer that does not ask for sampled labels, such as sophiaH.`,
      );
    }
    const traced = trace(this.model, { batch, training: true, dtype: this.dtype });
    const target = this.objective.target(batch, this.dtype);
    const uniforms = input('uniforms', target.shape, this.dtype);
    const labels = sampledLabels(traced.output, uniforms);
    const loss = mean(crossEntropyObjective().losses(traced.output, labels));
    const draws = floats(this.dtype, uniforms.size);
    const graph = await this.#bound(traced, target, [loss, ...grad(loss, this.symbols)], {
      results: [undefined, ...windows(this.gradient)],
      more: [[uniforms, draws]],
    });
    return { ...graph, draws, run: async (key) => ({ loss: await lossOf(graph.run(key)), correct: undefined }) };
  }

  /**
   * Compiles u ⊙ ∇²L u, written to {@link gradient}, for the mean loss L in training mode and the direction u that `draws` holds in
   * the layout of the parameters: with random signs an estimate of the Hessian's diagonal (Hutchinson 1989; Bekas et al. 2007).
   * Buffers are left alone.
   */
  async hessianDiagonalGraph(batch: number): Promise<DrawnGraph> {
    const traced = trace(this.model, { batch, training: true, dtype: this.dtype });
    const target = this.objective.target(batch, this.dtype);
    const loss = mean(this.objective.losses(traced.output, target));
    const direction = new ParamVector(this.layout, this.dtype);
    const symbols = this.#traced.params.map(({ name, shape }) => input(`direction.${name}`, shape, this.dtype));
    const products = hvp(loss, this.symbols, symbols).map((product, i) => mul(symbols[i], product));
    const graph = await this.#bound(traced, target, [loss, ...products], {
      results: [undefined, ...windows(this.gradient)],
      more: windows(direction).map((view, i) => [symbols[i], view]),
    });
    return {
      ...graph,
      draws: direction.data,
      run: async (key) => ({ loss: await lossOf(graph.run(key)), correct: undefined }),
    };
  }

  /**
   * Compiles what a batch says about the buffers that training moves: each next value is taken for kept · value + fresh, as a moving
   * average is, so that fresh / (1 - kept) is the batch's own statistic. Undefined where training moves no buffers.
   */
  async bufferStatisticsGraph(batch: number): Promise<BatchGraph<BufferStatistics> | undefined> {
    const traced = trace(this.model, { batch, training: true, dtype: this.dtype });
    const updates = traced.buffers.filter(hasNext);
    if (updates.length === 0) return undefined;
    const target = this.objective.target(batch, this.dtype);
    const zero = new Map(updates.map(({ symbol }) => [symbol, constant(0, symbol.shape, symbol.dtype)]));
    const [fresh, kept] = [
      new ParamVector(this.buffers.layout, this.dtype),
      new ParamVector(this.buffers.layout, this.dtype),
    ];
    kept.fill(1);
    const slopes = updates.map(
      ({ next, symbol }) => jvp([next], [symbol], [constant(1, symbol.shape, symbol.dtype)])[0],
    );
    const graph = await this.#bound(traced, target, [...updates.map(({ next }) => substitute(next, zero)), ...slopes], {
      results: [...updates.map(({ name }) => fresh.view(name)), ...updates.map(({ name }) => kept.view(name))],
    });
    return {
      ...graph,
      run: async (key) => {
        await graph.run(key);
        return { fresh, kept };
      },
    };
  }

  /** Compiles the evaluation graph for one batch size: loss (without label smoothing where `objective` says so) and correctness of each example. */
  async evaluationGraph(batch: number, objective: Objective = this.objective): Promise<BatchGraph<ExampleResults>> {
    const traced = trace(this.model, { batch, training: false, dtype: this.dtype });
    const target = objective.target(batch, this.dtype);
    const correct = objective.correct?.(traced.output, target);
    const graph = await this.#bound(traced, target, [
      objective.losses(traced.output, target),
      ...(correct ? [correct] : []),
    ]);
    return {
      ...graph,
      run: async (key) => {
        const results = await graph.run(key);
        return { losses: numbers(results[0]), correct: correct && numbers(results[1]) };
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

  /** Compiles `outputs` on a batch memory of their own; `more` feeds symbols that are not the model's. */
  async #bound(
    traced: Traced,
    target: Tensor,
    outputs: readonly Tensor[],
    options: {
      readonly results?: readonly (TypedArray | undefined)[];
      readonly more?: readonly (readonly [Tensor, TypedArray])[];
    } = {},
  ): Promise<BatchGraph<readonly TypedArray[]>> {
    const { results, more = [] } = options;
    const leaves = [...traced.params, ...traced.buffers, ...traced.randoms].map((declared) => declared.symbol);
    const symbols = [traced.input, target, ...leaves, ...more.map(([symbol]) => symbol)];
    const program = await this.device.compile(symbols, outputs);
    const memory = this.#batchMemory(traced.input, target);
    const randoms = randomMemory(traced.randoms);
    const call = program.bind(new Map([...this.#feeds(traced, target, memory, randoms), ...more]), results);
    return {
      batch: traced.input.shape[0],
      ...memory,
      dispose: () => program.dispose(),
      run: async (key) => {
        drawRandoms(randoms, key);
        await call.run();
        return call.results;
      },
    };
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
    data: floats(r.symbol.dtype, r.symbol.size),
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

const floats = (dtype: DType, size: number) => (dtype === 'float64' ? new Float64Array(size) : new Float32Array(size));

const lossOf = async (results: Promise<readonly TypedArray[]>): Promise<number> => Number((await results)[0][0]);

const numbers = (data: TypedArray): Float64Array => Float64Array.from(data, Number);
