/** @file Where a model declares what it needs (parameters, buffers, random numbers) while it is traced into a graph. */
import { ConfigError, ShapeError } from '../base/errors.ts';
import type { Initializer } from '../params/initializers.ts';
import type { ParamSpec } from '../params/layout.ts';
import type { DType } from '../tensor/dtype.ts';
import { type Shape, sameShape, showShape } from '../tensor/shape.ts';
import { input, type Tensor } from '../tensor/tensor.ts';

/** A declared value and the symbol that stands for it in the graph. */
export interface Declared extends ParamSpec {
  readonly symbol: Tensor;
}

/** A buffer: state that training updates without a gradient, such as the running statistics of batch normalisation. */
export interface Buffer extends Declared {
  /** Its value after the step, a symbol of the same shape; absent where this trace does not change it. */
  readonly next?: Tensor;
}

/** Fresh uniform numbers in [0, 1) the graph wants at every evaluation (dropout, stochastic depth). */
export interface RandomInput {
  readonly name: string;
  readonly symbol: Tensor;
}

/** What a model is: a function from its input symbol to its output symbol that declares parameters on the way. */
export type Forward = (scope: Scope, x: Tensor) => Tensor;

export interface Model {
  /** Name in the registry, such as `resnet20`. */
  readonly name: string;
  /** Shape of one example, without the batch axis. */
  readonly inputShape: Shape;
  readonly inputDtype?: DType;
  readonly forward: Forward;
}

/** A model at one batch size and mode, as a graph. Symbols of equal name and shape are shared between traces. */
export interface Traced {
  readonly input: Tensor;
  readonly output: Tensor;
  readonly params: readonly Declared[];
  readonly buffers: readonly Buffer[];
  readonly randoms: readonly RandomInput[];
}

export interface TraceOptions {
  readonly batch: number;
  /** Training mode: batch statistics, dropout, buffer updates. False evaluates. */
  readonly training: boolean;
  /** Element type of parameters and activations; float32 by default. */
  readonly dtype?: DType;
}

/** Runs `model.forward` on symbols and collects what it declared. ConfigError where a name is declared twice with different shapes. */
export function trace(model: Model, { batch, training, dtype = 'float32' }: TraceOptions): Traced {
  const declarations: Declarations = { params: new Map(), buffers: new Map(), randoms: new Map() };
  const x = input('input', [batch, ...model.inputShape], model.inputDtype ?? dtype);
  const scope = new Scope('', declarations, training, dtype);
  const output = model.forward(scope, x);
  return {
    input: x,
    output,
    params: [...declarations.params.values()],
    buffers: [...declarations.buffers.values()],
    randoms: [...declarations.randoms.values()],
  };
}

interface Declarations {
  readonly params: Map<string, Declared>;
  readonly buffers: Map<string, Buffer>;
  readonly randoms: Map<string, RandomInput>;
}

/** A named place in a model. Layers declare under their scope, so names read like PyTorch's: `layer1.0.conv1.weight`. */
export class Scope {
  readonly training: boolean;
  readonly dtype: DType;
  /** Dotted name of this place, '' at the root: what parameter names start with, and what layers name in errors. */
  readonly path: string;
  readonly #declarations: Declarations;

  constructor(path: string, declarations: Declarations, training: boolean, dtype: DType) {
    this.path = path;
    this.#declarations = declarations;
    this.training = training;
    this.dtype = dtype;
  }

  /** The scope called `name` inside this one. */
  at(name: string | number): Scope {
    return new Scope(this.#join(String(name)), this.#declarations, this.training, this.dtype);
  }

  /** Declares a trainable parameter, or returns it where the same one was declared before (shared weights). */
  param(name: string, shape: Shape, init: Initializer, tags: readonly string[] = []): Tensor {
    return this.#declare(this.#declarations.params, 'parameter', name, shape, init, tags).symbol;
  }

  /** Declares a buffer: saved and loaded with the parameters, changed by {@link update} instead of by a gradient. */
  buffer(name: string, shape: Shape, init: Initializer): Tensor {
    return this.#declare(this.#declarations.buffers, 'buffer', name, shape, init, []).symbol;
  }

  /** Says what the buffer `name` of this scope becomes after a training step. */
  update(name: string, next: Tensor): void {
    const path = this.#join(name);
    const buffer = this.#declarations.buffers.get(path);
    if (!buffer) throw new ConfigError(`update: there is no buffer '${path}' here; declare it first.`);
    if (!sameShape(next.shape, buffer.shape)) {
      throw new ShapeError(
        `update: buffer '${path}' has shape ${showShape(buffer.shape)}, but its next value has ${showShape(next.shape)}.`,
      );
    }
    this.#declarations.buffers.set(path, { ...buffer, next });
  }

  /** Fresh uniform numbers in [0, 1), drawn by whoever runs the graph. */
  uniform(name: string, shape: Shape): Tensor {
    const path = this.#join(name);
    if (this.#declarations.randoms.has(path))
      throw new ConfigError(`uniform: random input '${path}' is declared twice; give each its own name.`);
    const symbol = input(`random.${path}`, shape, this.dtype);
    this.#declarations.randoms.set(path, { name: path, symbol });
    return symbol;
  }

  #join(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }

  #declare(
    table: Map<string, Declared>,
    kind: string,
    name: string,
    shape: Shape,
    init: Initializer,
    tags: readonly string[],
  ): Declared {
    const path = this.#join(name);
    const known = table.get(path);
    if (known) {
      if (!sameShape(known.shape, shape)) {
        throw new ConfigError(
          `${kind} '${path}' is declared with shape ${showShape(known.shape)} and again with ${showShape(shape)}; use another scope.`,
        );
      }
      return known;
    }
    const declared: Declared = { name: path, shape, init, tags, symbol: input(path, shape, this.dtype) };
    table.set(path, declared);
    return declared;
  }
}
