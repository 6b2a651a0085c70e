/** @file What compiled updates promise beside computing the right thing. */
import { describe, expect, test } from 'vitest';
import { compileUpdate, NOMINALS } from '../../src/kernels/index.ts';
import { planUpdate, specialize } from '../../src/kernels/plan.ts';
import { simplify } from '../../src/kernels/simplify.ts';
import { translate } from '../../src/kernels/translate.ts';
import { add, div, equal, greater, mul, sqrt, square, sub, where } from '../../src/tensor/ops/elementwise.ts';
import { transpose } from '../../src/tensor/ops/layout.ts';
import { max, mean, norm, sum } from '../../src/tensor/ops/reduce.ts';
import { constant, input } from '../../src/tensor/tensor.ts';
import { bindPage, graphsOf, layOut, type Page } from './support.ts';

const planOf = (page: Page) => planUpdate(simplify(translate(graphsOf(page)[0])));
const compile = (page: Page) => compileUpdate(graphsOf(page), 'float32');

describe('stages', () => {
  const perTensor = { axes: [1, 2], keepDims: true } as const;

  test('elementwise updates take one pass', () => {
    const plan = planOf({ vectors: ['a', 'b'], rule: ({ a, b }) => ({ writes: { a: add(a, b), b: mul(a, b) } }) });
    expect(plan.stages.map(({ vectors }) => vectors)).toEqual([['a', 'b']]);
  });

  test('each reduction that elements wait for adds a pass that reads only what it needs', () => {
    const plan = planOf({
      vectors: ['a', 'b', 'c'],
      rule({ a, b, c }) {
        const clipped = div(a, norm(a));
        const ratio = div(norm(add(clipped, b), perTensor), norm(c, perTensor));
        return { writes: { c: sub(c, mul(ratio, clipped)) } };
      },
    });
    expect(plan.stages.map(({ vectors }) => vectors)).toEqual([
      ['a', 'c'],
      ['a', 'b'],
      ['a', 'c'],
    ]);
    expect(plan.stages.map(({ reductions }) => reductions.length)).toEqual([2, 1, 0]);
    expect(plan.stages.map(({ grain }) => grain)).toEqual(['tensor', 'tensor', 'tensor']);
  });

  test('a reduction no element waits for shares the pass with the writes', () => {
    const plan = planOf({
      vectors: ['a', 'b'],
      rule: ({ a, b }) => ({ writes: { a: add(a, b) }, results: { moved: sum(square(b)), largest: max(a) } }),
    });
    expect(plan.stages).toHaveLength(1);
    expect(plan.stages[0].reductions).toHaveLength(2);
  });

  test('it does so too where writes wait for other reductions', () => {
    const plan = planOf({
      vectors: ['a', 'b'],
      rule: ({ a, b }) => ({ writes: { b: sub(b, div(a, norm(a))) }, results: { size: sum(square(b)) } }),
    });
    expect(plan.stages.map(({ vectors }) => vectors)).toEqual([['a'], ['a', 'b']]);
    expect(plan.stages.map(({ reductions }) => reductions.length)).toEqual([1, 1]);
  });

  test('a guard on a reduction comes before the writes', () => {
    const plan = planOf({
      vectors: ['a', 'b'],
      rule: ({ a, b }) => ({ writes: { a: add(a, b) }, guards: [greater(sum(b), 0)] }),
    });
    expect(plan.stages.map(({ writes }) => writes.length)).toEqual([0, 1]);
  });

  test('under known conditions, what the branch not taken reads is gone, and an unchanged vector is not touched', () => {
    const plan = planOf({
      vectors: ['a', 'b', 'c'],
      scalars: { t: 'global' },
      rule: ({ a, b, c, t }) => ({ writes: { a: add(a, b), c: where(equal(t, 3), sqrt(a), c) } }),
    });
    const [stage] = plan.stages;
    const condition = stage.globals.find((x) => x.bool)!;
    expect(specialize(stage, new Map([[condition, false]])).vectors).toEqual(['a', 'b']);
    expect(specialize(stage, new Map([[condition, true]])).vectors).toEqual(['a', 'b', 'c']);
  });
});

test('factors that hold for all are gathered on the host', () => {
  const page: Page = {
    vectors: ['a', 'b'],
    scalars: {},
    rule({ a, b }) {
      const [p, q] = [constant(3, [], 'float64'), constant(7, [], 'float64')];
      return { writes: { a: mul(div(add(mul(a, p), mul(b, q)), add(square(b), 1)), 2) } };
    },
  };
  const plan = planOf(page);
  const products = JSON.stringify(plan.stages[0].writes).match(/"op":"mul"/g) ?? [];
  // a·6, b·14, b²; the outer factor 2 has no product of its own.
  expect(products).toHaveLength(3);
});

describe('a refused update', () => {
  test.each(['interpreter', 'float64', 'float32'] as const)('changes nothing: %s', (engine) => {
    const page: Page = {
      vectors: ['a', 'b'],
      scalars: { limit: 'global', count: 'tensor' },
      rule: ({ a, b, limit, count }) => ({
        writes: { a: add(a, b) },
        results: { count: add(count, 1) },
        guards: [greater(sum(a), 1e9), greater(sum(b), limit)],
      }),
    };
    const { segments, size } = layOut([
      [1, 5],
      [2, 3],
    ]);
    const b = Array.from({ length: size }, (_, i) => i);
    const { update, views, results, scalars } = bindPage(
      page,
      { segments, size, vectors: { a: b, b }, scalars: { limit: [3], count: [5, 6] }, results: { count: 2 } },
      engine,
    );
    results.count.fill(-1);
    expect(update.run()).toBe(1);
    expect([...views.a()]).toEqual(b);
    expect([...results.count]).toEqual([-1, -1]);
    scalars.limit[0] = 1000;
    expect(update.run()).toBe(-1);
    expect([...results.count]).toEqual([6, 7]);
    expect(views.a()[1]).toBe(2);
  });
});

describe('sums', () => {
  const page: Page = { vectors: ['a'], rule: ({ a }) => ({ results: { squares: sum(square(a)), plain: sum(a) } }) };
  const { segments, size } = layOut([
    [1, 3],
    [7, 131],
  ]);
  const run = (a: number[]) => {
    const { update, results } = bindPage(
      page,
      { segments, size, vectors: { a }, results: { squares: 1, plain: 1 } },
      'float32',
    );
    update.run();
    return [results.squares[0], results.plain[0]];
  };
  const elements = (f: (i: number) => number) =>
    Array.from({ length: size }, (_, i) => (i === 3 || i >= size - 3 ? 0 : f(i)));

  test('of squares neither overflow nor vanish in float32', () => {
    const huge = Math.fround(3e38);
    expect(run(elements(() => huge))[0] / (huge * huge * (size - 4))).toBeCloseTo(1, 12);
    const tiny = Math.fround(1e-40);
    expect(run(elements(() => tiny))[0] / (tiny * tiny * (size - 4))).toBeCloseTo(1, 12);
  });

  test('are in float64 and the same every time', () => {
    const a = elements((i) => Math.fround(Math.sin(i * 12.9898) * 43758.5453 * 10 ** (i % 5)));
    const exact = a.reduce((total, x) => total + x, 0);
    const [, first] = run(a);
    expect(Math.abs(first - exact) / a.reduce((total, x) => total + Math.abs(x), 0)).toBeLessThan(1e-15);
    expect(run(a)).toEqual(run(a));
  });
});

test('growing the memory between runs keeps the update going', () => {
  const page: Page = {
    vectors: ['a'],
    scalars: { x: 'global' },
    rule: ({ a, x }) => ({ writes: { a: add(a, x) }, results: { total: sum(a) } }),
  };
  const { update, space, views, results } = bindPage(
    page,
    {
      segments: [{ offset: 0, length: 4, rows: 1 }],
      size: 4,
      vectors: { a: [1, 2, 3, 4] },
      scalars: { x: [0.5] },
      results: { total: 1 },
    },
    'float32',
  );
  update.run();
  const before = views.a();
  space.alloc(100_000, 'float64');
  expect(before.length).toBe(0);
  update.run();
  expect([...views.a()]).toEqual([2, 3, 4, 5]);
  expect(results.total[0]).toBe(12);
});

describe('rules that kernels cannot run say why', () => {
  const vectors = ['a', 'b'];

  test('a mean, whose divisor would be nominal', () => {
    expect(() => compile({ vectors, rule: ({ a }) => ({ writes: { a: sub(a, mean(a)) } }) })).toThrow(
      /constant depends on the nominal number/,
    );
  });
  test('sums over columns', () => {
    expect(() =>
      compile({ vectors, rule: ({ a }) => ({ writes: { a: sub(a, sum(a, { axes: 1, keepDims: true })) } }) }),
    ).toThrow(/sum.*shape \[2, 1, 5\].*axis 2, axes 1 and 2, or all/);
  });
  test('reductions without keepDims', () => {
    expect(() =>
      compile({ vectors, rule: ({ a }) => ({ writes: { a }, results: { x: sum(a, { axes: [1, 2] }) } }) }),
    ).toThrow(/keepDims/);
  });
  test('other ops', () => {
    expect(() => compile({ vectors, rule: ({ a }) => ({ writes: { a: transpose(transpose(a)) } }) })).toThrow(
      /transpose.*(not available|one per element)|one per element.*transpose/,
    );
  });
  test('foreign inputs', () => {
    expect(() =>
      compile({ vectors, rule: ({ a }) => ({ writes: { a: add(a, input('mystery', [], 'float64')) } }) }),
    ).toThrow(/'mystery' is none of the rule's symbols/);
  });
  test('tables', () => {
    const rule: Page['rule'] = ({ a }) => ({
      writes: { a: add(a, constant([1, 2, 3, 4, 5], [1, 1, NOMINALS[0][2]], 'float64')) },
    });
    expect(() =>
      translate(graphsOf({ vectors, rule: (s) => (s.a.shape[2] === 5 ? rule(s) : { writes: {} }) })[0]),
    ).toThrow(/one per element|table/);
  });
  test('results of rows', () => {
    expect(() =>
      bindPage(
        { vectors, rule: ({ a }) => ({ results: { x: sum(a, { axes: 2, keepDims: true }) } }) },
        {
          segments: [{ offset: 0, length: 4, rows: 2 }],
          size: 4,
          vectors: { a: [1, 2, 3, 4], b: [1, 2, 3, 4] },
          results: { x: 2 },
        },
        'float32',
      ),
    ).toThrow(/result 'x' is one number for each row/);
  });
});

test('equal updates share their code', () => {
  const page: Page = { vectors: ['a', 'b'], rule: ({ a, b }) => ({ writes: { a: sub(a, b) } }) };
  expect(compile(page)).toBe(compile(page));
  expect(compile(page)).not.toBe(compile({ ...page, rule: ({ a, b }) => ({ writes: { a: add(a, b) } }) }));
});
