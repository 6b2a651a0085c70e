/** @file A loss as a function of the parameters on fixed data: what probes ask about, in a training loop or without one. */
import { ggnvp, grad, hvp, jvp, perExampleGrad, vjp } from '../autodiff/index.ts';
import { ConfigError, ShapeError } from '../base/errors.ts';
import type { ParamLayout } from '../params/layout.ts';
import type { Call, Device, Feeds, Program } from '../runtime/device.ts';
import { allocate, type TypedArray } from '../tensor/dtype.ts';
import { mul } from '../tensor/ops/elementwise.ts';
import { reshape } from '../tensor/ops/layout.ts';
import { sum } from '../tensor/ops/reduce.ts';
import { showShape, sizeOf } from '../tensor/shape.ts';
import { input, type Tensor } from '../tensor/tensor.ts';
import type { LinearOperator } from './lanczos.ts';
import { addScaled, type Vector } from './vectors.ts';

/** Data for one run of the graphs. */
export interface LandscapeBatch {
  /** Every input that is no parameter. */
  readonly feeds: Feeds;
  /** Examples that count, from the first on: what follows fills the batch up. All by default. */
  readonly count?: number;
}

export interface LandscapeOptions {
  readonly device: Device;
  /** Parameter symbols, float32 or float64, in the order of the layout. */
  readonly params: readonly Tensor[];
  readonly layout: ParamLayout;
  /** Loss of each example of a batch: [batch]. The landscape is their mean over all examples of all batches. */
  readonly losses: Tensor;
  /** What the losses are a function of, such as the logits [batch, classes]; for Gauss-Newton products. */
  readonly outputs?: Tensor;
  /** The loss of one example and, for each symbol it is written on, the symbol of the batch; for gradients of examples. */
  readonly example?: { readonly loss: Tensor; readonly symbols: ReadonlyMap<Tensor, Tensor> };
  readonly batches: readonly LandscapeBatch[];
}

interface Bound {
  readonly program: Program;
  /** A call for each batch, in order. */
  readonly calls: readonly Call[];
}

type Kind = 'losses' | 'gradient' | 'hessian' | 'gauss-newton' | 'fisher' | 'example gradients' | 'outputs';

/**
 * The mean loss over some examples as a function of a parameter vector, with its derivatives.
 *
 * Points, directions and results are vectors of the layout's size, padding included and zero. A graph is compiled when it is first
 * needed; nothing is written but what is handed in for results, so a training run takes the same course with and without questions.
 * Sums over batches are taken in float64.
 */
export class Landscape {
  readonly layout: ParamLayout;
  /** Examples the mean is over. */
  readonly examples: number;
  readonly #options: LandscapeOptions;
  readonly #batch: number;
  readonly #point: Vector;
  readonly #direction: Vector;
  readonly #result: Vector;
  readonly #directions: readonly Tensor[];
  readonly #share: Tensor;
  readonly #shares: readonly Vector[];
  readonly #bound = new Map<Kind, Promise<Bound>>();

  /** @throws ShapeError or ConfigError where symbols, layout and batches do not fit each other. */
  constructor(options: LandscapeOptions) {
    const { params, layout, losses, batches } = options;
    if (losses.shape.length !== 1)
      throw new ShapeError(`Landscape: losses have shape ${showShape(losses.shape)}; one for each example is wanted.`);
    if (batches.length === 0) throw new ConfigError('Landscape: no batches were given; at least one is wanted.');
    if (params.length !== layout.segments.length)
      throw new ShapeError(
        `Landscape: ${params.length} parameter symbols were given for ${layout.segments.length} parameters.`,
      );
    params.forEach(({ size }, i) => {
      const { name, length } = layout.segments[i];
      if (size !== length)
        throw new ShapeError(`Landscape: symbol ${i} has ${size} elements, parameter '${name}' has ${length}.`);
    });
    this.#options = options;
    this.layout = layout;
    this.#batch = losses.shape[0];
    const counts = batches.map(({ count = this.#batch }) => count);
    for (const count of counts) {
      if (!(Number.isInteger(count) && count >= 1 && count <= this.#batch))
        throw new ConfigError(`Landscape: a batch counts ${count} examples; give 1 to ${this.#batch}.`);
    }
    this.examples = counts.reduce((total, count) => total + count, 0);
    const { dtype } = params[0];
    const vector = (length: number): Vector =>
      dtype === 'float64' ? new Float64Array(length) : new Float32Array(length);
    [this.#point, this.#direction, this.#result] = [vector(layout.size), vector(layout.size), vector(layout.size)];
    this.#directions = params.map((p, i) => input(`direction.${i}`, p.shape, p.dtype));
    this.#share = input('share', [this.#batch], dtype);
    this.#shares = counts.map((count) => vector(this.#batch).fill(1 / this.examples, 0, count));
  }

  /** Examples of one run of a graph, padding included. */
  get batchSize(): number {
    return this.#batch;
  }

  get dtype(): 'float32' | 'float64' {
    return this.#point instanceof Float64Array ? 'float64' : 'float32';
  }

  /** A zeroed vector in the precision of the graphs. */
  vector(): Vector {
    return this.#point.slice().fill(0);
  }

  /** The loss of every example at `theta`, in order. */
  async losses(theta: Vector): Promise<Float64Array> {
    const all = new Float64Array(this.examples);
    let at = 0;
    await this.#each('losses', theta, ([losses], batch) => {
      const { count = this.#batch } = this.#options.batches[batch];
      for (let i = 0; i < count; i++) all[at++] = Number(losses[i]);
    });
    return all;
  }

  /** The mean loss at `theta`, summed in float64. */
  async loss(theta: Vector): Promise<number> {
    const losses = await this.losses(theta);
    return losses.reduce((total, loss) => total + loss, 0) / losses.length;
  }

  /** Writes the gradient at `theta` to `out`. Resolves to the mean loss there. */
  async gradient(theta: Vector, out: Vector): Promise<number> {
    const total = this.#accumulator(out);
    let loss = 0;
    await this.#each('gradient', theta, ([value]) => {
      loss += Number(value[0]);
      this.#add(total);
    });
    if (total !== out) out.set(total);
    return loss;
  }

  /** The gradient of each batch's mean loss at `theta`, one after the other; `gradient` is overwritten by the next. */
  async batchGradients(
    theta: Vector,
    visit: (gradient: Vector, batch: number, loss: number) => void | Promise<void>,
  ): Promise<void> {
    await this.#each('gradient', theta, async ([value], batch) => {
      const { count = this.#batch } = this.#options.batches[batch];
      const factor = this.examples / count;
      for (let i = 0; i < this.#result.length; i++) this.#result[i] *= factor;
      await visit(this.#result, batch, Number(value[0]) * factor);
    });
  }

  /**
   * Gradients of the examples' own losses at `theta`, a batch at a time: `gradients` holds them one after the other, each as long as the
   * parameters without padding.
   * @throws ConfigError where the landscape was made without `example`.
   */
  async exampleGradients(
    theta: Vector,
    visit: (gradients: Vector, count: number) => void | Promise<void>,
  ): Promise<void> {
    await this.#each('example gradients', theta, async ([gradients], batch) => {
      const { count = this.#batch } = this.#options.batches[batch];
      // Compiled from a graph of the parameters' dtype.
      await visit(gradients as Vector, count);
    });
  }

  /** What the losses are a function of at `theta`, a batch at a time. @throws ConfigError where there are no `outputs`. */
  async outputs(theta: Vector, visit: (outputs: TypedArray, count: number) => void | Promise<void>): Promise<void> {
    await this.#each('outputs', theta, async ([outputs], batch) => {
      const { count = this.#batch } = this.#options.batches[batch];
      await visit(outputs, count);
    });
  }

  /** The Hessian at `theta`: exact products, forward over reverse, about two gradients each. */
  hessian(theta: Vector): LinearOperator {
    return this.#operator('hessian', theta);
  }

  /**
   * The generalised Gauss-Newton matrix at `theta`, Jᵀ (∂²loss/∂outputs²) J: the Hessian without the curvature of the network.
   * For cross-entropy and squared error it is the Fisher information of the model's own labels.
   * @throws ConfigError where there are no `outputs`.
   */
  gaussNewton(theta: Vector): LinearOperator {
    return this.#operator('gauss-newton', theta);
  }

  /** The empirical Fisher matrix at `theta`: mean over examples of gradient times its transpose, labels as given. */
  fisher(theta: Vector): LinearOperator {
    return this.#operator('fisher', theta);
  }

  /** Frees compiled graphs. */
  async dispose(): Promise<void> {
    const bound = await Promise.all([...this.#bound.values()].map((entry) => entry.catch(() => undefined)));
    this.#bound.clear();
    await Promise.all(bound.map((entry) => entry?.program.dispose()));
  }

  #operator(kind: Kind, theta: Vector): LinearOperator {
    return {
      size: this.layout.size,
      apply: async (v, out) => {
        const total = this.#accumulator(out);
        this.#direction.set(v);
        await this.#each(kind, theta, () => this.#add(total));
        if (total !== out) out.set(total);
      },
    };
  }

  /** Where sums over batches are taken. */
  #accumulator(out: Vector): Vector {
    if (this.#options.batches.length > 1 && !(out instanceof Float64Array)) return new Float64Array(out.length);
    out.fill(0);
    return out;
  }

  #add(total: Vector): void {
    if (this.#options.batches.length === 1) total.set(this.#result);
    else addScaled(total, 1, this.#result);
  }

  async #each(
    kind: Kind,
    theta: Vector,
    visit: (results: readonly TypedArray[], batch: number) => void | Promise<void>,
  ): Promise<void> {
    if (theta.length !== this.layout.size)
      throw new ShapeError(
        `Landscape: a point of ${theta.length} elements was given; parameter vectors have ${this.layout.size}, padding included.`,
      );
    const { calls } = await this.#compiled(kind);
    this.#point.set(theta);
    for (const [batch, call] of calls.entries()) {
      await call.run();
      await visit(call.results, batch);
    }
  }

  #compiled(kind: Kind): Promise<Bound> {
    const known = this.#bound.get(kind);
    if (known) return known;
    const made = this.#compile(kind);
    this.#bound.set(kind, made);
    // A graph that could not be compiled is tried again when it is next asked for.
    made.catch(() => this.#bound.delete(kind));
    return made;
  }

  async #compile(kind: Kind): Promise<Bound> {
    const { device, params, batches } = this.#options;
    const windows = (vector: Vector) =>
      this.layout.segments.map(({ offset, length }) => vector.subarray(offset, offset + length));
    const graph = this.#graph(kind);
    const results = graph.outputs.map((output, i) => {
      const at = i - (graph.outputs.length - params.length);
      return graph.vector && at >= 0 ? windows(this.#result)[at] : allocate(output.dtype, output.size);
    });
    const fed = [...batches[0].feeds.keys()];
    const symbols = [...params, ...(graph.directed ? this.#directions : []), this.#share, ...fed];
    const program = await device.compile(symbols, graph.outputs);
    const calls = batches.map(({ feeds }, batch) => {
      const memory: [Tensor, TypedArray][] = [
        ...params.map((p, i): [Tensor, TypedArray] => [p, windows(this.#point)[i]]),
        ...this.#directions.map((d, i): [Tensor, TypedArray] => [d, windows(this.#direction)[i]]),
        [this.#share, this.#shares[batch]],
        ...feeds,
      ];
      return program.bind(new Map(memory), results);
    });
    return { program, calls };
  }

  /** Outputs of a graph; whether the last of them make up a vector, and whether it reads a direction. */
  #graph(kind: Kind): { outputs: readonly Tensor[]; vector: boolean; directed: boolean } {
    const { params, losses, outputs, example } = this.#options;
    const loss = sum(mul(losses, this.#share));
    const directions = this.#directions;
    const missing = (what: string): never => {
      throw new ConfigError(`Landscape: it was made without ${what}, which this question needs; give it.`);
    };
    switch (kind) {
      case 'losses':
        return { outputs: [losses], vector: false, directed: false };
      case 'gradient':
        return { outputs: [loss, ...grad(loss, params)], vector: true, directed: false };
      case 'hessian':
        return { outputs: hvp(loss, params, directions), vector: true, directed: true };
      case 'gauss-newton':
        return {
          outputs: ggnvp(loss, [outputs ?? missing('`outputs`')], params, directions),
          vector: true,
          directed: true,
        };
      case 'fisher': {
        const [slopes] = jvp([losses], params, directions);
        return { outputs: vjp([losses], params, [mul(slopes, this.#share)]), vector: true, directed: true };
      }
      case 'example gradients': {
        const { loss: own, symbols } = example ?? missing('`example`');
        return { outputs: [perExampleGrad(own, params, symbols)], vector: false, directed: false };
      }
      case 'outputs': {
        const given = outputs ?? missing('`outputs`');
        return {
          outputs: [reshape(given, [given.shape[0], sizeOf(given.shape.slice(1))])],
          vector: false,
          directed: false,
        };
      }
    }
  }
}
