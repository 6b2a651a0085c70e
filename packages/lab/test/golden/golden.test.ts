/** @file Every rule against every recorded trajectory of its authors' or the frameworks' code. */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ENGINES, type Engine, parseGolden, recordedSubject, replay } from '../../src/golden/index.ts';

const FOLDER = new URL('../fixtures/optimizers/', import.meta.url);

/** Of float32 the first steps are compared: later ones add rounding of the trajectory, not of the rule. */
const LIMITS: Readonly<Record<Engine, { readonly steps: number; readonly tolerance: number }>> = {
  interpreter: { steps: Number.POSITIVE_INFINITY, tolerance: 1e-9 },
  'float64 kernel': { steps: Number.POSITIVE_INFINITY, tolerance: 1e-9 },
  'float32 kernel': { steps: 8, tolerance: 1e-4 },
};

const cases = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json') && name !== 'schedules.json')
  .flatMap((name) => {
    const file = parseGolden(readFileSync(new URL(name, FOLDER), 'utf8'), name);
    return file.cases.map((entry) => ({ file, entry, id: entry.id, rule: entry.optimizer ?? file.optimizer }));
  });

test('there are as many cases as were recorded', () => {
  expect(cases.length).toBe(162);
});

describe.each(ENGINES)('%s', (engine) => {
  const { steps, tolerance } = LIMITS[engine];
  test.each(cases)(`$rule $id within ${tolerance}`, async ({ file, entry }) => {
    const { error, where } = await replay(
      engine,
      file,
      entry,
      recordedSubject(file, entry),
      Math.min(steps, entry.steps),
    );
    expect(error, where).toBeLessThan(tolerance);
  });
});
