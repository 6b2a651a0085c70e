/** @file Every optimizer and wrapper in a real training run: accumulation, resuming, and whether the loss falls. */
import { describe, expect, test } from 'vitest';
import { findOptimizer, type OptimizerDefinition, optimizers, wrappers } from '../../src/optim/index.ts';
import { loadCheckpoint, MemoryRunStore } from '../../src/train/index.ts';
import { complete, completeInParts, mlp, moons, type Spec, spec, state } from './harness.ts';

/** Learning rates at which two moons are learnt; the default where none is given. */
const RATES: Readonly<Record<string, number>> = {
  sgd: 0.5,
  siSgd: 0.5,
  radam: 0.005,
  lion: 0.003,
  sophia: 0.01,
  sophiaH: 0.01,
};

/** Where rounding is not what it was times a small number, and why. */
const AMPLIFIES: Readonly<Record<string, string>> = {
  soap: 'statistics of one gradient leave part of its first basis to rounding',
  shampoo: 'roots of statistics of one gradient are as large as rounding lets them be',
};

const subjects: readonly OptimizerDefinition[] = [
  ...optimizers,
  ...wrappers.map((wrapper) => wrapper.wrap(findOptimizer('adamw'))),
];

function specOf(optimizer: OptimizerDefinition, changes: Partial<Spec> = {}): Spec {
  const { lr } = optimizer.hyperparameters;
  const rate = RATES[optimizer.name] ?? (lr.kind === 'number' ? lr.default : Number.NaN);
  return spec({
    optimizer,
    values: { lr: rate },
    schedule: () => rate,
    data: moons(),
    model: mlp({ widths: [12] }),
    steps: 12,
    ...changes,
  });
}

describe.each(subjects.map((optimizer) => ({ name: optimizer.name, optimizer })))('$name', ({ optimizer }) => {
  const amplifies = AMPLIFIES[optimizer.name];
  const title = 'gradients accumulated over parts of a batch give the step of the whole batch';
  test.skipIf(amplifies !== undefined)(amplifies ? `${title} (${amplifies})` : title, async () => {
    const of = specOf(optimizer, { dtype: 'float64', steps: 6 });
    const whole = await complete(of);
    const parts = await complete({ ...of, trainer: { microBatch: 4 } });
    const [a, b] = [whole.network.params.data, parts.network.params.data];
    for (const [i, x] of a.entries()) expect(Math.abs(x - b[i])).toBeLessThan(1e-9 * Math.max(1, Math.abs(x)));
  });

  test('a run that was interrupted goes on to the bit', async () => {
    const of = specOf(optimizer, { trainer: { checkpointEvery: 5 } });
    const [at, parts] = [new MemoryRunStore(), new MemoryRunStore()];
    const once = await complete(of, { store: at });
    const resumed = await completeInParts(of, parts, [3, 7]);
    expect(state(resumed)).toEqual(state(once));
    expect(await loadCheckpoint(parts)).toMatchObject({ step: of.steps });
  });

  test('the loss falls', async () => {
    const losses: number[] = [];
    const of = specOf(optimizer, {
      steps: 150,
      batchSize: 32,
      trainer: { onStep: ({ loss }: { loss: number }) => losses.push(loss) },
    });
    const { trainer } = await complete(of);
    const mean = (list: readonly number[]) => list.reduce((sum, x) => sum + x, 0) / list.length;
    expect(mean(losses.slice(-10))).toBeLessThan(0.9 * mean(losses.slice(0, 3)));
    expect(trainer.step).toBe(150);
  });
});
