/** @file Phases that work on one tensor after the other: any op, matrix products included. */
import { EdgewiseError } from '../base/errors.ts';
import type { Segment } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import { evaluate } from '../tensor/evaluate.ts';
import { expand } from '../tensor/ops/layout.ts';
import { sameShape } from '../tensor/shape.ts';
import { input, inputName, type Tensor, topological } from '../tensor/tensor.ts';
import type { Phase } from './definition.ts';
import type { Schema } from './hyperparameters.ts';
import { type Context, symbolize, writesOf } from './trace.ts';

/** Computes tensors from given ones: the reference interpreter, or a device. */
export type TensorEvaluator = (
  outputs: readonly Tensor[],
  given: ReadonlyMap<Tensor, ArrayLike<number>>,
) => readonly ArrayLike<number>[] | Promise<readonly ArrayLike<number>[]>;

interface TracedTensor {
  readonly vectors: Readonly<Record<string, Tensor>>;
  readonly scalars: Readonly<Record<string, Tensor>>;
  readonly writes: readonly (readonly [name: string, value: Tensor])[];
}

/** A condition on numbers. */
interface TracedCondition {
  readonly scalars: Readonly<Record<string, Tensor>>;
  readonly holds: Tensor;
}

/** A phase over tensors, traced once for each shape there is. */
export class TensorUpdate<H extends Schema> {
  readonly #context: Context<H>;
  readonly #phase: Phase<H, string, string>;
  readonly #vectors: Readonly<Record<string, ParamVector>>;
  readonly #segments: readonly Segment[];
  readonly #evaluate: TensorEvaluator;
  readonly #traced = new Map<string, TracedTensor>();
  readonly #condition: TracedCondition | undefined;
  #active: readonly number[] = [];

  constructor(
    context: Context<H>,
    phase: Phase<H, string, string>,
    segments: readonly Segment[],
    vectors: Readonly<Record<string, ParamVector>>,
    evaluator: TensorEvaluator = evaluate,
  ) {
    this.#context = context;
    this.#phase = phase;
    this.#segments = segments;
    this.#vectors = vectors;
    this.#evaluate = evaluator;
    this.#condition = this.#traceCondition();
  }

  /** The segments to update from now on, by index. */
  activate(segments: readonly number[]): void {
    this.#active = segments;
  }

  /** Numbers are read at each run. */
  invalidate(): void {}

  /** Runs the update, which refuses nothing: resolves to -1. */
  async run(): Promise<number> {
    for (const index of this.#active) if (this.#takesPlace(index)) await this.#update(this.#segments[index], index);
    return -1;
  }

  #takesPlace(index: number): boolean {
    if (!this.#condition) return true;
    const { scalars, holds } = this.#condition;
    const [[answer]] = evaluate([holds], this.#numbersOf(scalars, index));
    return answer !== 0;
  }

  #numbersOf(scalars: Readonly<Record<string, Tensor>>, index: number): Map<Tensor, ArrayLike<number>> {
    const { at, levels } = this.#context.numbers;
    return new Map(
      Object.entries(scalars).map(([name, symbol]) => [symbol, [at[name][levels.get(name) === 'tensor' ? index : 0]]]),
    );
  }

  async #update(segment: Segment, index: number): Promise<void> {
    const { vectors, scalars, writes } = this.#trace(segment);
    if (writes.length === 0) return;
    const given = this.#numbersOf(scalars, index);
    for (const [name, symbol] of Object.entries(vectors)) given.set(symbol, this.#vectors[name].view(segment.name));
    const results = await this.#evaluate(
      writes.map(([, value]) => value),
      given,
    );
    for (const [i, [name]] of writes.entries()) this.#vectors[name].set(segment.name, results[i]);
  }

  #traceCondition(): TracedCondition | undefined {
    const { when } = this.#phase;
    if (!when) return undefined;
    const { symbols, vectors, scalars } = symbolize(this.#context, (_, name) => input(name, [], 'float64'));
    const holds = when(symbols);
    const elements = new Set(Object.values(vectors));
    const read = topological([holds]).find((node) => elements.has(node));
    if (read)
      throw new EdgewiseError(
        `${this.#context.definition.name}: the condition of a phase over tensors reads ${inputName(read)}; it may read numbers only, such as t.`,
      );
    return { scalars, holds };
  }

  #trace(segment: Segment): TracedTensor {
    const { shape } = segment;
    const shapeOf = (name: string) => this.#context.shaped.get(name)?.segment(segment.name).shape ?? shape;
    const key = JSON.stringify([shape, ...[...this.#context.shaped.keys()].map(shapeOf)]);
    const known = this.#traced.get(key);
    if (known) return known;
    const { symbols, vectors, scalars } = symbolize(this.#context, (level, name) =>
      input(name, level === 'element' ? shapeOf(name) : [], 'float64'),
    );
    const { theta, slots, ...rest } = this.#phase.update(symbols);
    const others = Object.entries(rest).filter(([, value]) => value !== undefined);
    const { name } = this.#context.definition;
    if (others.length > 0)
      throw new EdgewiseError(
        `${name}: a phase over tensors writes theta and slots only, not ${others.map(([what]) => what).join(', ')}; put those into a phase over the vector.`,
      );
    const writes = Object.entries(writesOf(this.#context, { theta, slots })).map(([vector, value]) => {
      const wanted = shapeOf(vector);
      return [vector, sameShape(value.shape, wanted) ? value : expand(value, wanted)] as const;
    });
    const traced = { vectors, scalars, writes };
    this.#traced.set(key, traced);
    return traced;
  }
}
