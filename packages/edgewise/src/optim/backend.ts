/** @file Where optimizers run: compiled to WebAssembly, or interpreted. */
import { ConfigError } from '../base/errors.ts';
import {
  type Binding,
  type BoundUpdate,
  compileUpdate,
  interpretUpdate,
  type Stage,
  type UpdateGraph,
  type VectorDType,
  type VectorSpace,
} from '../kernels/index.ts';
import type { ParamLayout } from '../params/layout.ts';
import { ParamVector } from '../params/vector.ts';

/** What an update costs. */
export interface Cost {
  /** Size of the WebAssembly code made so far. */
  codeBytes(): number;
  /** Passes over the vector. */
  readonly stages: number;
  /** Bytes read and written for each parameter. */
  readonly traffic: number;
  /** Sums, norms and the like over all parameters, and over each tensor. */
  readonly reductions: { readonly model: number; readonly tensor: number };
}

export interface Backend {
  /** Throws a ConfigError where `vector` is not in memory the backend can work on. */
  check(vector: ParamVector, what: string): void;
  /** A zeroed vector of state. */
  allocate(layout: ParamLayout): ParamVector;
  bind(
    graphs: readonly [UpdateGraph, UpdateGraph],
    binding: Binding,
  ): { readonly update: BoundUpdate; readonly cost: Cost };
}

/** Fused kernels over the memory of `space`. */
export function wasmBackend(space: VectorSpace, dtype: VectorDType): Backend {
  return {
    check(vector, what) {
      if (vector.dtype !== dtype) {
        throw new ConfigError(
          `Optimizer: the ${what} given is a vector of ${vector.dtype}, but the parameters are ${dtype}; use one dtype.`,
        );
      }
      if (vector.data.buffer !== space.memory.buffer) {
        throw new ConfigError(
          `Optimizer: the ${what} given lies outside the space given; make that vector with parameterVector(space, layout, dtype).`,
        );
      }
    },
    allocate: (layout) => parameterVector(space, layout, dtype),
    bind(graphs, binding) {
      const compiled = compileUpdate(graphs, dtype);
      const cost = {
        codeBytes: () => compiled.codeBytes,
        stages: compiled.plan.stages.length,
        traffic: compiled.traffic,
        reductions: countReductions(compiled.plan.stages),
      };
      return { update: compiled.bind(binding, space), cost };
    },
  };
}

function countReductions(stages: readonly Stage[]): Cost['reductions'] {
  const levels = stages.flatMap(({ reductions }) => reductions.map(({ total }) => total.level));
  const model = levels.filter((level) => level === 'global').length;
  return { model, tensor: levels.length - model };
}

/** One op after the other in float64, on vectors anywhere. */
export const interpreterBackend: Backend = {
  check() {},
  allocate: (layout) => new ParamVector(layout, 'float64'),
  bind: (graphs, binding) => ({
    update: interpretUpdate(graphs[0], binding),
    cost: { codeBytes: () => 0, stages: 0, traffic: 0, reductions: { model: 0, tensor: 0 } },
  }),
};

/** A zeroed vector over `layout` in the memory of `space`, which kernels and ONNX Runtime use without a copy. */
export function parameterVector<D extends VectorDType>(
  space: VectorSpace,
  layout: ParamLayout,
  dtype: D,
): ParamVector<D> {
  const { byteOffset } = space.alloc(layout.size, dtype);
  return new ParamVector(layout, dtype, space.memory, byteOffset);
}
