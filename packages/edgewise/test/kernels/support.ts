/** @file Updates written for tests, run compiled and interpreted. */
import {
  type Binding,
  type BoundUpdate,
  compileUpdate,
  interpretUpdate,
  type Level,
  NOMINALS,
  type Segment,
  symbolAt,
  type UpdateGraph,
  type VectorArray,
  type VectorDType,
  VectorSpace,
} from '../../src/kernels/index.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

/** Symbols by name. */
export type Symbols = Readonly<Record<string, Tensor>>;

export interface Outputs {
  readonly writes?: Readonly<Record<string, Tensor>>;
  readonly results?: Readonly<Record<string, Tensor>>;
  readonly guards?: readonly Tensor[];
}

export interface Page {
  readonly vectors: readonly string[];
  /** Numbers read, with what there is one of each for. */
  readonly scalars?: Readonly<Record<string, Level>>;
  rule(s: Symbols): Outputs;
}

export function graphsOf(page: Page): readonly [UpdateGraph, UpdateGraph] {
  const graph = (index: 0 | 1): UpdateGraph => {
    const nominal = NOMINALS[index];
    const vectors = Object.fromEntries(page.vectors.map((name) => [name, symbolAt('element', name, nominal)]));
    const scalars = Object.fromEntries(
      Object.entries(page.scalars ?? {}).map(([name, level]) => [
        name,
        { symbol: symbolAt(level, name, nominal), tame: false },
      ]),
    );
    const symbols = {
      ...vectors,
      ...Object.fromEntries(Object.entries(scalars).map(([name, { symbol }]) => [name, symbol])),
    };
    const { writes = {}, results = {}, guards = [] } = page.rule(symbols);
    return { nominal, vectors, scalars, writes, results, guards };
  };
  return [graph(0), graph(1)];
}

export interface Data {
  readonly segments: readonly Segment[];
  /** Elements of the whole vector, padding included. */
  readonly size: number;
  readonly vectors: Readonly<Record<string, readonly number[]>>;
  readonly scalars?: Readonly<Record<string, readonly number[]>>;
  /** Length of each result. */
  readonly results?: Readonly<Record<string, number>>;
}

export interface Rig {
  readonly update: BoundUpdate;
  readonly space: VectorSpace;
  readonly views: Readonly<Record<string, () => VectorArray>>;
  readonly results: Readonly<Record<string, Float64Array>>;
  readonly scalars: Readonly<Record<string, Float64Array>>;
}

export type Engine = 'interpreter' | VectorDType;

/** Binds a page to copies of the data. */
export function bindPage(page: Page, data: Data, engine: Engine): Rig {
  const space = new VectorSpace();
  const dtype = engine === 'interpreter' ? 'float64' : engine;
  const windows = Object.fromEntries(page.vectors.map((name) => [name, space.alloc(data.size, dtype)]));
  for (const name of page.vectors) windows[name].view().set(data.vectors[name]);
  const scalars = Object.fromEntries(
    Object.entries(data.scalars ?? {}).map(([name, values]) => [name, Float64Array.from(values)]),
  );
  const results = Object.fromEntries(
    Object.entries(data.results ?? {}).map(([name, length]) => [name, new Float64Array(length)]),
  );
  const binding: Binding = { segments: data.segments, vectors: windows, scalars, results };
  const graphs = graphsOf(page);
  const update =
    engine === 'interpreter' ? interpretUpdate(graphs[0], binding) : compileUpdate(graphs, engine).bind(binding, space);
  return {
    update,
    space,
    views: Object.fromEntries(page.vectors.map((name) => [name, () => windows[name].view()])),
    results,
    scalars,
  };
}

/** Segments one after the other, each from a multiple of 4 elements. */
export function layOut(shapes: readonly (readonly [rows: number, columns: number])[]): {
  segments: Segment[];
  size: number;
} {
  let offset = 0;
  const segments = shapes.map(([rows, columns]) => {
    const segment = { offset, length: rows * columns, rows };
    offset += Math.ceil(segment.length / 4) * 4;
    return segment;
  });
  return { segments, size: offset };
}

/** Elements that belong to no segment. */
export function padding({
  segments,
  size,
}: {
  readonly segments: readonly Segment[];
  readonly size: number;
}): number[] {
  return Array.from({ length: size }, (_, i) => i).filter(
    (i) => !segments.some(({ offset, length }) => i >= offset && i < offset + length),
  );
}
