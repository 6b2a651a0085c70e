/** @file Random updates on random layouts: compiled code against the interpreter, which shares nothing with the compiler. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  abs,
  add,
  div,
  equal,
  exp,
  floor,
  greater,
  isFinite as isFiniteNumber,
  isNaN as isNaNumber,
  less,
  logicalAnd,
  logicalNot,
  logicalOr,
  maximum,
  minimum,
  mul,
  neg,
  round,
  sign,
  sqrt,
  square,
  sub,
  tanh,
  where,
} from '../../src/tensor/ops/elementwise.ts';
import { max, min, sum } from '../../src/tensor/ops/reduce.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { bindPage, type Data, type Engine, layOut, type Page, padding, type Symbols } from './support.ts';

type Node =
  | { readonly kind: 'leaf'; readonly name: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'unary'; readonly op: keyof typeof unary; readonly x: Node }
  | { readonly kind: 'binary'; readonly op: keyof typeof binary; readonly a: Node; readonly b: Node }
  | {
      readonly kind: 'where';
      readonly test: keyof typeof tests;
      readonly c: Node;
      readonly d: Node;
      readonly a: Node;
      readonly b: Node;
    }
  | {
      readonly kind: 'reduce';
      readonly op: keyof typeof reductions;
      readonly axes: readonly number[];
      readonly x: Node;
    };

// Kept away from poles and discontinuities of the derivative, so that rounding does not decide the result.
const unary = {
  neg,
  abs,
  square,
  tanh,
  sqrtAbs: (x: Tensor) => sqrt(add(abs(x), 0.5)),
  sign,
  exp: (x: Tensor) => exp(tanh(x)),
  floor: (x: Tensor) => floor(mul(x, 1e-9)),
  round: (x: Tensor) => round(mul(x, 1e-9)),
};
const binary = {
  add,
  sub,
  mul: (a: Tensor, b: Tensor) => mul(tanh(a), b),
  div: (a: Tensor, b: Tensor) => div(a, add(abs(b), 0.5)),
  maximum,
  minimum,
};
const tests = {
  greater,
  less,
  both: (a: Tensor, b: Tensor) => logicalAnd(greater(a, b), less(a, b)),
  either: (a: Tensor, b: Tensor) => logicalOr(greater(a, b), logicalNot(less(a, b))),
  fine: (a: Tensor) => isFiniteNumber(a),
  nan: (a: Tensor) => isNaNumber(a),
  equal: (a: Tensor) => equal(a, a),
};
const reductions = {
  sum: (x: Tensor, axes: readonly number[]) => sum(mul(x, 0.1), { axes, keepDims: true }),
  max: (x: Tensor, axes: readonly number[]) => max(x, { axes, keepDims: true }),
  min: (x: Tensor, axes: readonly number[]) => min(x, { axes, keepDims: true }),
};

const LEAVES = ['a', 'b', 'c', 'one', 'each'];
const keys = <T extends object>(record: T) => fc.constantFrom(...(Object.keys(record) as (keyof T)[]));

const leaf = fc.record({ kind: fc.constant('leaf' as const), name: fc.constantFrom(...LEAVES) });
/** Ops with jumps only see leaves where `smooth`: there float32 is exact, and rounding cannot push a value over a jump. */
const expressions = (smooth: boolean) =>
  fc.letrec<{ node: Node }>((tie) => ({
    node: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      leaf,
      fc.record({ kind: fc.constant('number' as const), value: fc.constantFrom(0, 1, -1, 2, 0.25) }),
      fc.record({
        kind: fc.constant('unary' as const),
        op: smooth ? fc.constantFrom('neg', 'abs', 'square', 'tanh', 'sqrtAbs', 'exp') : keys(unary),
        x: tie('node'),
      }),
      fc.record({ kind: fc.constant('binary' as const), op: keys(binary), a: tie('node'), b: tie('node') }),
      fc.record({
        kind: fc.constant('where' as const),
        test: keys(tests),
        c: smooth ? leaf : tie('node'),
        d: smooth ? leaf : tie('node'),
        a: tie('node'),
        b: tie('node'),
      }),
      fc.record({
        kind: fc.constant('reduce' as const),
        op: keys(reductions),
        axes: fc.constantFrom([2], [1, 2], [0, 1, 2]),
        x: tie('node'),
      }),
    ),
  })).node;

function build(node: Node, s: Symbols): Tensor {
  switch (node.kind) {
    case 'leaf':
      return s[node.name];
    case 'number':
      return add(mul(s.one, 0), node.value);
    case 'unary':
      return unary[node.op](build(node.x, s));
    case 'binary':
      return binary[node.op](build(node.a, s), build(node.b, s));
    case 'where':
      return where(tests[node.test](build(node.c, s), build(node.d, s)), build(node.a, s), build(node.b, s));
    case 'reduce': {
      const x = build(node.x, s);
      return x.rank === 3 ? reductions[node.op](x, node.axes) : x;
    }
  }
}

const pageOf = (nodes: readonly Node[]): Page => ({
  vectors: ['a', 'b', 'c'],
  scalars: { one: 'global', each: 'tensor' },
  rule: (s) => ({
    writes: { a: build(nodes[0], s), b: build(nodes[1], s) },
    results: { total: sum(mul(build(nodes[2], s), s.c)) },
  }),
});

const shapes = fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 11 })), {
  minLength: 1,
  maxLength: 4,
});
const values = (length: number) =>
  fc.array(fc.double({ min: -3, max: 3, noNaN: true }).map(Math.fround), { minLength: length, maxLength: length });

const cases = (smooth: boolean) =>
  shapes.chain((list) => {
    const node = expressions(smooth);
    const { segments, size } = layOut(list);
    return fc.record({
      nodes: fc.tuple(node, node, node),
      active: fc.subarray(
        segments.map((_, i) => i),
        { minLength: 1 },
      ),
      data: fc.record({ a: values(size), b: values(size), c: values(size) }).chain((vectors) =>
        fc
          .record({
            one: values(1),
            each: fc.oneof(
              values(segments.length),
              values(1).map(([x]) => segments.map(() => x)),
            ),
          })
          .map((scalars): Data => ({ segments, size, vectors, scalars, results: { total: 1 } })),
      ),
    });
  });

function outcome(
  page: Page,
  data: Data,
  active: readonly number[],
  engine: Engine,
): { readonly vectors: Float64Array[]; readonly total: number } {
  const { update, views, results } = bindPage(page, data, engine);
  update.activate(active);
  expect(update.run()).toBe(-1);
  return { vectors: ['a', 'b', 'c'].map((name) => Float64Array.from(views[name]())), total: results.total[0] };
}

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]) / (1 + Math.abs(b[i])));
  return worst;
}

describe.each([
  { engine: 'float64' as const, tolerance: 1e-11 },
  { engine: 'float32' as const, tolerance: 2e-3 },
])('$engine', ({ engine, tolerance }) => {
  test('computes what the interpreter computes, and nothing outside the active segments', () => {
    fc.assert(
      fc.property(cases(engine === 'float32'), ({ nodes, active, data }) => {
        const page = pageOf(nodes);
        const expected = outcome(page, data, active, 'interpreter');
        fc.pre(
          expected.vectors.every((vector) => vector.every((x) => Math.abs(x) < 1e4)) && Math.abs(expected.total) < 1e6,
        );
        const actual = outcome(page, data, active, engine);
        for (const [i, vector] of actual.vectors.entries())
          expect(difference(vector, expected.vectors[i])).toBeLessThan(tolerance);
        expect(difference([actual.total], [expected.total])).toBeLessThan(tolerance * data.size);
        const outside = padding({ segments: active.map((k) => data.segments[k]), size: data.size });
        for (const [i, name] of ['a', 'b', 'c'].entries())
          for (const k of outside) expect(actual.vectors[i][k]).toBe(data.vectors[name][k]);
      }),
      { numRuns: 400, seed: 20240607 },
    );
  });
});
