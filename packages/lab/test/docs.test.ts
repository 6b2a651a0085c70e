/** @file What is committed of the docs is what the code would write; `npm run docs` writes it anew. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { findOptimizer, optimizers, wrappers } from 'edgewise/optim';
import { describe, expect, test } from 'vitest';
import { disagreements } from '../src/docs/disagreements.ts';
import { optimizerMarkdown, overviewMarkdown, wrappersMarkdown } from '../src/docs/markdown.ts';
import { type Point, surfaces, trajectory } from '../src/docs/trajectories.ts';
import { trajectoryFigure } from '../src/docs/trajectory-figure.ts';

const docs = new URL('../../../docs/', import.meta.url);
const read = (name: string): string => readFileSync(new URL(name, docs), 'utf8');

describe('pages', () => {
  test.each(optimizers.map((definition) => ({ name: definition.name, definition })))(
    '$name',
    ({ name, definition }) => {
      expect(read(`optimizers/${name}.md`)).toBe(optimizerMarkdown(definition, `figures/${name}.svg`));
      expect(existsSync(new URL(`optimizers/figures/${name}.svg`, docs))).toBe(true);
    },
  );

  test('the overview and the wrappers', () => {
    expect(read('optimizers/README.md')).toBe(overviewMarkdown());
    expect(read('optimizers/wrappers.md')).toBe(wrappersMarkdown());
  });

  test('the parity report has a row for every recorded rule, each within 1e-9', () => {
    const report = read('parity.md');
    const folder = new URL('fixtures/optimizers/', import.meta.url);
    const recorded = new Set(
      readdirSync(folder)
        .filter((name) => name !== 'schedules.json')
        .flatMap((name) => {
          const { optimizer, cases } = JSON.parse(readFileSync(new URL(name, folder), 'utf8'));
          return cases.map((entry: { optimizer?: string }) => entry.optimizer ?? optimizer);
        }),
    );
    for (const rule of recorded) {
      const row = report.split('\n').find((line) => line.startsWith(`| \`${rule}\` |`));
      expect(row, rule).toBeDefined();
      const [, , , , , interpreted, compiled, float32] = String(row).split('|');
      for (const error of [interpreted, compiled]) expect(Number(error), `${rule}: ${row}`).toBeLessThan(1e-9);
      expect(Number(float32), `${rule}: ${row}`).toBeLessThan(1e-4);
    }
  });

  test('links in the guide lead somewhere', () => {
    const missing = [...read('which-optimizer.md').matchAll(/\]\(([^)#]+\.md)\)/g)]
      .map(([, path]) => path)
      .filter((path) => !existsSync(new URL(path, docs)));
    expect(missing).toEqual([]);
  });

  test('disagreements are told of rules there are', () => {
    const known = new Set([...wrappers.map(({ name }) => name), 'amsgrad']);
    for (const name of Object.keys(disagreements)) if (!known.has(name)) expect(findOptimizer(name).name).toBe(name);
  });
});

describe('functions of two variables', () => {
  test.each(surfaces)('$name: gradient and Hessian are those of the value', ({ value, gradient, hessian, minimum }) => {
    const h = 1e-5;
    for (const p of [[0.3, -0.7], [-1.1, 0.4], minimum] as Point[]) {
      const along = (f: (q: Point) => number, i: number) => {
        const [up, down] = [h, -h].map((d) => f([p[0] + (i === 0 ? d : 0), p[1] + (i === 1 ? d : 0)]));
        return (up - down) / (2 * h);
      };
      for (const i of [0, 1]) {
        expect(gradient(p)[i]).toBeCloseTo(along(value, i), 4);
        const row = hessian(p, i === 0 ? [1, 0] : [0, 1]);
        for (const j of [0, 1])
          expect(row[j]).toBeCloseTo(
            along((q) => gradient(q)[j], i),
            3,
          );
      }
    }
    expect(Math.hypot(...gradient(minimum))).toBeLessThan(1e-12);
  });

  test('gradient descent on the quadratic follows its closed form', async () => {
    const [valley] = surfaces;
    const path = await trajectory(findOptimizer('sgd'), valley, 0.02, 3);
    let p = valley.start;
    for (let k = 1; k <= 3; k++) {
      const g = valley.gradient(p);
      p = [p[0] - 0.02 * g[0], p[1] - 0.02 * g[1]];
      expect(path?.points[k][0]).toBeCloseTo(p[0], 14);
      expect(path?.points[k][1]).toBeCloseTo(p[1], 14);
    }
    expect(await trajectory(findOptimizer('sgd'), valley, 10, 50)).toBeUndefined();
  });

  test('the figure is the same bytes every time, and says where there is no path', async () => {
    const [valley] = surfaces;
    const path = await trajectory(findOptimizer('sgd'), valley, 0.02, 20);
    const draw = () =>
      trajectoryFigure('a & b', [
        { surface: valley, path },
        { surface: valley, path: undefined },
      ]);
    const svg = draw();
    expect(draw()).toBe(svg);
    expect(svg).toContain('a &amp; b');
    expect(svg).toContain('η = 0.02');
    expect(svg).toContain('no path');
  });
});
