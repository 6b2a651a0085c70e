import { expect, it } from 'vitest';
import { parseTrainConfig } from '../../src/config/index.ts';
import { openProblem, raceCatalog } from '../../src/race/problem.ts';
import { catalog } from '../../src/run/catalog.ts';
import { openSession } from '../../src/run/session.ts';

const run = async (value: Record<string, unknown>) => {
  const config = parseTrainConfig(
    [
      {
        source: 'test',
        value: {
          model: { name: 'mlp', widths: [16] },
          data: { name: 'spirals', count: 200 },
          batchSize: 20,
          steps: 60,
          threads: 1,
          optimizer: 'adamw',
          ...value,
          probes: { sharpness: { every: 0 } },
        },
      },
    ],
    catalog,
  );
  const session = await openSession({ config, now: () => 0 });
  const { last } = await session.trainer.run();
  await session.dispose();
  return { loss: last?.loss, lr: session.optimizer.lr, scaling: session.scaling };
};
it('label noise and a batch size that values were tuned for reach the run, and the race', async () => {
  const clean = await run({});
  const noisy = await run({ labelNoise: 0.3 });
  expect(noisy.loss).not.toBe(clean.loss);
  expect((await run({ labelNoise: 0.3 })).loss).toBe(noisy.loss);
  const tuned = await run({ tunedBatchSize: 80, schedule: { name: 'cosine', min: 0.0007 } });
  expect(tuned.lr).toBeCloseTo(0.0005, 15);
  await expect(run({ labelNoise: 1.5 })).rejects.toThrow(/between 0 and 1/);
  const config = parseTrainConfig(
    [{ source: 'test', value: { model: 'mlp', data: { name: 'spirals' }, labelNoise: 0.1 } }],
    raceCatalog,
  );
  expect((await openProblem(config, 0)).labelNoise).toEqual({ probability: 0.1 });
});
