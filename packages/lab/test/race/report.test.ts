import { MemoryRunStore } from 'edgewise/train';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeReport } from '../../src/commands/race.ts';
import { claimFigure, curvesFigure } from '../../src/race/pictures.ts';
import { newRace, type Race, runRace } from '../../src/race/race.ts';
import { ratioText, renderMarkdown, renderTable, tablesOf } from '../../src/race/table.ts';
import { diverged, fakeRunner, formula, signal } from './support.ts';

const plan = {
  title: 'A | race',
  optimizers: [
    { name: 'adan', label: 'Adan', lr: 1e-3 },
    { name: 'adamw', label: 'AdamW', lr: 1e-3 },
    { name: 'sgd', label: 'SGD', tune: ['lr'] },
  ],
  budgets: [1, 2, 4],
  tuningEpochs: 2,
  trials: 5,
  seeds: 3,
  train: { data: 'moons', model: 'mlp' },
};

let race: Race;
beforeAll(async () => {
  race = newRace({ plan, flags: {} });
  const runner = fakeRunner((spec) => {
    const { name } = spec.config.optimizer;
    if (name === 'sgd' && spec.id.endsWith('trial-3')) return diverged;
    return formula(spec, name === 'sgd' ? 0.1 : 1e-3, name === 'adan' ? 2 : 1);
  });
  await runRace(race, { store: new MemoryRunStore(), runner, stop: signal() });
});

const cellsOf = (title: string) => tablesOf(race).find((table) => table.title.startsWith(title))?.rows ?? [];

describe('tables', () => {
  it('say what the JSON says', () => {
    const { summary } = race;
    const rows = cellsOf('Final runs');
    expect(rows).toHaveLength(9);
    for (const final of summary.finals) {
      const row = rows.find(([epochs, label]) => epochs === String(final.epochs) && label === final.label);
      const [mean, low, high] = (row?.[3].match(/[\d.]+/g) ?? []).map(Number);
      expect(mean).toBeCloseTo(final.loss?.mean ?? 0, 3);
      expect(low).toBeCloseTo(final.loss?.low ?? 0, 3);
      expect(high).toBeCloseTo(final.loss?.high ?? 0, 3);
      expect(Number.parseFloat(row?.[4] ?? '')).toBeCloseTo(100 * (final.accuracy?.mean ?? 0), 2);
      expect(row?.[6]).toBe('3');
    }
    const claims = cellsOf('Epochs that Adan needs for the loss');
    expect(claims.map((row) => row[4])).toEqual(summary.claim.loss.map(ratioText));
    expect(claims.find(([label, epochs]) => label === 'AdamW' && epochs === '4')?.[4]).toBe('0.5');
  });

  it('say what was tuned and what diverged', () => {
    const [row] = cellsOf('Tuning');
    expect(cellsOf('Tuning')).toHaveLength(1);
    expect(row.slice(1, 4)).toEqual(['SGD', '5', '1']);
    expect(row[4]).toMatch(/^lr 0\.\d+$/);
  });

  it('have the same cells on the terminal and as Markdown', () => {
    const markdown = renderMarkdown(race, []);
    for (const table of tablesOf(race)) {
      const lines = renderTable(table).split('\n');
      for (const row of table.rows) {
        expect(markdown).toContain(`| ${row.join(' | ')} |`);
        expect(lines.some((line) => row.every((cell) => line.includes(cell)))).toBe(true);
      }
    }
  });

  it('are none before anything was run', () => {
    expect(tablesOf(newRace({ plan, flags: {} }))).toEqual([]);
  });
});

describe('figures', () => {
  it('show what the JSON says', () => {
    const [loss, accuracy] = claimFigure(race)?.panels ?? [];
    const { finals } = race.summary;
    for (const { name, points } of loss.series) {
      expect(points.map(({ x, y, low, high }) => [x, y, low, high])).toEqual(
        finals.filter(({ label }) => label === name).map((f) => [f.epochs, f.loss?.mean, f.loss?.low, f.loss?.high]),
      );
    }
    expect(accuracy.series[0].points.map(({ y }) => y)).toEqual(
      finals.filter(({ label }) => label === 'Adan').map((f) => f.accuracy?.mean),
    );
  });

  it('mark by how much sooner the reference is, at the longest runs', () => {
    const [loss] = claimFigure(race)?.panels ?? [];
    const bracket = loss.brackets?.find(({ series }) => series === 'AdamW');
    expect(bracket).toMatchObject({ to: 4, label: '× 0.5' });
    expect(bracket?.from).toBeCloseTo(2, 9);
  });

  it('show the longest runs over epochs and time, with the spread over seeds', () => {
    const panels = curvesFigure(race)?.panels ?? [];
    expect(panels.map(({ title }) => title)).toEqual([
      'Loss over epochs',
      'Loss over time',
      'Accuracy over epochs',
      'Accuracy over time',
    ]);
    const [{ points }] = panels[0].series;
    expect(points.map(({ x }) => x)).toEqual([2, 4]);
    // Seeds 0, 1 and 2 lie 0.001 apart in loss; at the first evaluation it is twice as large.
    expect(points[1].high! - points[1].low!).toBeCloseTo(0.002, 9);
    expect(points[1].y).toBeCloseTo(points[1].low! + 0.001, 9);
    expect(panels[1].series[0].points.map(({ x }) => x)).toEqual([1, 2]);
  });

  it('are written beside the table, the same bytes each time', async () => {
    const write = async () => {
      const store = new MemoryRunStore();
      await writeReport(store, race);
      expect(await store.list()).toEqual(['README.md', 'claim.svg', 'curves.svg']);
      return Promise.all((await store.list()).map(async (name) => new TextDecoder().decode(await store.read(name))));
    };
    const files = await write();
    expect(await write()).toEqual(files);
    expect(files[0]).toContain('](claim.svg)');
  });

  it('are none before anything was run', async () => {
    const store = new MemoryRunStore();
    await writeReport(store, newRace({ plan, flags: {} }));
    expect(await store.list()).toEqual(['README.md']);
  });
});
