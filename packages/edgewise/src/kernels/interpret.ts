/**
 * @file Updates run by the ops' reference kernels, one op after the other, in float64: the oracle that compiled updates
 * are tested against. It shares nothing with the compiler but the graph.
 */
import { EdgewiseError } from '../base/errors.ts';
import type { Shape } from '../tensor/shape.ts';
import { constantValues, type Tensor, topological, type Values } from '../tensor/tensor.ts';
import type { Binding, BoundUpdate } from './compiled.ts';
import { type Level, levelOf, type Segment, type UpdateGraph } from './domain.ts';

/** Binds the update to vectors of any dtype; it computes in float64 and rounds only where it writes. */
export function interpretUpdate(graph: UpdateGraph, binding: Binding): BoundUpdate {
  let active: readonly number[] = binding.segments.map((_, i) => i);
  return {
    activate(segments) {
      active = segments;
    },
    invalidate() {},
    run() {
      const run = new Run(graph, binding, active);
      const refused = graph.guards.findIndex((guard) => run.numbers(guard)[0] !== 0);
      if (refused >= 0) return refused;
      const written = Object.entries(graph.writes).map(
        ([name, tensor]) => [name, active.map((_, k) => run.elements(tensor, k))] as const,
      );
      const results = Object.entries(graph.results).map(([name, tensor]) => [name, run.numbers(tensor)] as const);
      for (const [name, parts] of written) {
        const vector = binding.vectors[name].view();
        for (const [k, part] of parts.entries()) vector.set(part, binding.segments[active[k]].offset);
      }
      for (const [name, values] of results) {
        const to = binding.results[name];
        const shared = values.length === 1;
        if (shared && to.length === 1) to[0] = values[0];
        else for (const [k, segment] of active.entries()) to[segment] = values[shared ? 0 : k];
      }
      return -1;
    },
  };
}

/** One run: values of every tensor, by active segment (a single one for numbers that hold for all). */
class Run {
  readonly #graph: UpdateGraph;
  readonly #segments: readonly Segment[];
  readonly #known = new Map<Tensor, readonly Values[]>();

  constructor(graph: UpdateGraph, { segments, vectors, scalars }: Binding, active: readonly number[]) {
    this.#graph = graph;
    this.#segments = active.map((i) => segments[i]);
    for (const [name, symbol] of Object.entries(graph.vectors)) {
      const data = vectors[name].view();
      this.#known.set(
        symbol,
        this.#segments.map((segment) =>
          this.#values(
            symbol,
            segment,
            Float64Array.from(data.subarray(segment.offset, segment.offset + segment.length)),
          ),
        ),
      );
    }
    for (const [name, { symbol }] of Object.entries(graph.scalars)) {
      const data = scalars[name];
      const shared = levelOf(symbol, graph.nominal) === 'global';
      this.#known.set(
        symbol,
        shared
          ? [this.#values(symbol, undefined, data.slice(0, 1))]
          : active.map((i, k) => this.#values(symbol, this.#segments[k], data.slice(i, i + 1))),
      );
    }
  }

  /** One number, or one a segment. */
  numbers(tensor: Tensor): number[] {
    return this.#compute(tensor).map((values) => values.data[0]);
  }

  /** The elements of `tensor` in the k-th active segment, broadcast where it has fewer. */
  elements(tensor: Tensor, k: number): Float64Array {
    const parts = this.#compute(tensor);
    const { data } = parts.length === 1 && this.#level(tensor) === 'global' ? parts[0] : parts[k];
    const { length, rows } = this.#segments[k];
    if (data.length === length) return data;
    return Float64Array.from({ length }, (_, i) => data[data.length === 1 ? 0 : Math.floor((i * rows) / length)]);
  }

  #level(tensor: Tensor): Level {
    return levelOf(tensor, this.#graph.nominal);
  }

  #compute(root: Tensor): readonly Values[] {
    for (const tensor of topological([root])) if (!this.#known.has(tensor)) this.#known.set(tensor, this.#node(tensor));
    return this.#known.get(root)!;
  }

  #node(tensor: Tensor): readonly Values[] {
    const { op, inputs } = tensor;
    const args = inputs.map((x) => this.#known.get(x)!);
    const shared = inputs.map((x) => this.#level(x) === 'global');
    const uniform = constantValues(tensor);
    if (uniform) return [{ dtype: tensor.dtype, shape: [], data: Float64Array.of(uniform[0]) }];
    if (!op.evaluate) {
      if (op.decompose) return this.#compute(op.decompose(inputs, tensor.attrs));
      throw new EdgewiseError(
        `Update rule: ${tensor} has no value; use the symbols the rule is given and ops with a reference kernel.`,
      );
    }
    if (this.#level(tensor) !== 'global')
      return this.#segments.map((segment, k) =>
        this.#evaluate(
          tensor,
          segment,
          args.map((arg, i) => arg[shared[i] ? 0 : k]),
        ),
      );
    if (shared.every(Boolean))
      return [
        this.#evaluate(
          tensor,
          undefined,
          args.map((arg) => arg[0]),
        ),
      ];
    // A reduction of everything: first in each segment, then over segments.
    const partial = this.#segments.map(
      (segment, k) =>
        this.#evaluate(
          tensor,
          segment,
          args.map((arg, i) => arg[shared[i] ? 0 : k]),
        ).data[0],
    );
    return [
      this.#evaluate(tensor, undefined, [
        {
          dtype: tensor.dtype,
          shape: inputs[0].shape.map((_, axis) => (axis === 0 ? partial.length : 1)),
          data: Float64Array.from(partial),
        },
      ]),
    ];
  }

  #evaluate(tensor: Tensor, segment: Segment | undefined, inputs: readonly Values[]): Values {
    const { op, attrs, dtype } = tensor;
    // Broadcasting to a nominal shape is left to the ops that read the result.
    if (op.name === 'expand' || op.name === 'reshape') return inputs[0];
    const shape = segment ? this.#shape(tensor.shape, segment) : tensor.shape.map(() => 1);
    return { dtype, shape, data: op.evaluate!(inputs, attrs, { dtype, shape }) };
  }

  #values(symbol: Tensor, segment: Segment | undefined, data: Float64Array): Values {
    return { dtype: symbol.dtype, shape: segment ? this.#shape(symbol.shape, segment) : [], data };
  }

  /** A nominal shape with one tensor and the segment's own rows and columns. */
  #shape(nominal: Shape, { length, rows }: Segment): number[] {
    const extents = [1, rows, rows === 0 ? 0 : length / rows];
    return nominal.map((extent, axis) => (extent === 1 ? 1 : extents[axis]));
  }
}
