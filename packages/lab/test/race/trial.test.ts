import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CompiledProgram, compileProgram } from '../../../edgewise/test/support/program.ts';
import { parseTrainConfig } from '../../src/config/schema.ts';
import { openProblem, raceCatalog } from '../../src/race/problem.ts';
import { forkedRunner } from '../../src/race/runner.ts';
import { evaluationSteps, runTrial, TrialInterrupted, type TrialSpec } from '../../src/race/trial.ts';
import { openSession } from '../../src/run/session.ts';
import { signal } from './support.ts';

const configOf = (value: Record<string, unknown>) =>
  parseTrainConfig(
    [
      {
        source: 'test',
        value: {
          model: { name: 'mlp', widths: [16] },
          data: { name: 'spirals', count: 200 },
          batchSize: 20,
          epochs: 2,
          threads: 1,
          ...value,
        },
      },
    ],
    raceCatalog,
  );

const specOf = (value: Record<string, unknown> = {}, more: Partial<TrialSpec> = {}): TrialSpec => ({
  id: 'trial',
  config: configOf(value),
  dataSeed: 0,
  evaluationsPerEpoch: 1,
  ...more,
});

/** A clock that counts how often it was asked. */
function counter(): () => number {
  let ticks = 0;
  return () => 1000 * ticks++;
}

describe('a trial', () => {
  it('is the same to the bit every time', async () => {
    const run = () => runTrial(specOf(), { now: counter() });
    expect(await run()).toEqual(await run());
  });

  it('ends where `edgewise train` with the same settings ends', async () => {
    for (const value of [
      { optimizer: { name: 'adan', weightDecay: 0.1 }, clipNorm: 1, schedule: 'warmupCosine' },
      { optimizer: { name: 'sgd', momentum: 0.9 }, labelSmoothing: 0.1, microBatchSize: 10, seed: 0 },
    ]) {
      const spec = specOf(value);
      const session = await openSession({ config: spec.config, now: counter() });
      const { last } = await session.trainer.run();
      await session.dispose();
      const { curve, stepsPerEpoch } = await runTrial(spec, { now: counter() });
      expect(curve.map(({ step }) => step)).toEqual([stepsPerEpoch, 2 * stepsPerEpoch]);
      expect(curve[1]).toMatchObject({ loss: last?.test?.loss, accuracy: last?.test?.accuracy });
    }
  });

  it('begins with the same weights and batches for every optimizer', async () => {
    // What the first step reports is the loss before its update; evaluations after every step show it alone.
    const first = async (name: string) =>
      (await runTrial(specOf({ optimizer: name }, { evaluationsPerEpoch: 10 }), { now: counter() })).curve[0];
    const [adan, sgd] = [await first('adan'), await first('sgd')];
    expect(adan.step).toBe(1);
    expect(adan.trainLoss).toBe(sgd.trainLoss);
    expect(adan.loss).not.toBe(sgd.loss);
    const other = await runTrial(specOf({ seed: 1 }, { evaluationsPerEpoch: 10 }), { now: counter() });
    expect(other.curve[0].trainLoss).not.toBe(adan.trainLoss);
  });

  it('leaves evaluations out of its time', async () => {
    // A clock that only training steps move: each asks for the time once when a stretch begins and once a step.
    const often = await runTrial(specOf({}, { evaluationsPerEpoch: 10 }), { now: counter() });
    const seldom = await runTrial(specOf(), { now: counter() });
    expect(often.curve).toHaveLength(20);
    expect(often.curve[19].seconds).toBe(20);
    expect(seldom.curve.map(({ seconds }) => seconds)).toEqual([10, 20]);
  });

  it('that diverges is a result', async () => {
    const result = await runTrial(specOf({ optimizer: { name: 'sgd', lr: 1e30 } }), { now: counter() });
    expect(result.status).toBe('diverged');
    expect(result.diverged?.step).toBeGreaterThan(1);
    expect(result.diverged?.reason).toMatch(/finite|NaN|Infinity/);
    expect(JSON.parse(JSON.stringify(result))).toEqual(result);
  });

  it('is given up when it is told to stop', async () => {
    const controller = new AbortController();
    const stopped = runTrial(specOf(), {
      now: counter(),
      stop: controller.signal,
      onStep: ({ step }) => step === 3 && controller.abort(),
    });
    await expect(stopped).rejects.toThrow(TrialInterrupted);
  });

  it('counts its training examples and those it is judged on', async () => {
    const { examples, stepsPerEpoch } = await runTrial(specOf({}, { holdOut: { share: 0.25, seed: 0 } }), {
      now: counter(),
    });
    expect(examples).toEqual({ train: 150, judged: 50 });
    expect(stepsPerEpoch).toBe(7);
  });
});

describe('evaluations', () => {
  it('come so often an epoch, and after the last step', () => {
    expect([...evaluationSteps(10, 5, 1)].sort((a, b) => a - b)).toEqual([5, 10]);
    expect([...evaluationSteps(7, 5, 2)].sort((a, b) => a - b)).toEqual([3, 5, 7]);
    expect([...evaluationSteps(3, 100, 1)]).toEqual([3]);
    expect([...evaluationSteps(4, 2, 100)].sort((a, b) => a - b)).toEqual([1, 2, 3, 4]);
    expect([...evaluationSteps(8, 2, 0.5)].sort((a, b) => a - b)).toEqual([4, 8]);
  });
});

describe('held-out examples', () => {
  const config = configOf({});
  const rows = ({ inputs, shape, count }: { inputs: ArrayLike<number>; shape: readonly number[]; count: number }) =>
    Array.from({ length: count }, (_, i) =>
      Array.from({ length: shape[0] }, (_, j) => inputs[i * shape[0] + j]).join(),
    );

  it('are a part of the training set that is not trained on, the same every time', async () => {
    const whole = await openProblem(config, 0);
    const { train, test } = await openProblem(config, 0, { share: 0.1, seed: 7 });
    expect([train.count, test.count]).toEqual([180, 20]);
    expect([...rows(train), ...rows(test)].sort()).toEqual(rows(whole.train).sort());
    const again = await openProblem(config, 0, { share: 0.1, seed: 7 });
    expect(again.test).toEqual(test);
    expect((await openProblem(config, 0, { share: 0.1, seed: 8 })).test).not.toEqual(test);
  });

  it('must leave something on both sides', async () => {
    await expect(openProblem(config, 0, { share: 0.001, seed: 0 })).rejects.toThrow(/leaves nothing on one side/);
  });
});

describe('trials in other processes', () => {
  let program: CompiledProgram;
  beforeAll(async () => {
    program = await compileProgram(join(import.meta.dirname, 'worker-program.ts'));
  });
  afterAll(() => program.remove());

  it('give the same as in this one', async () => {
    const runner = forkedRunner(2, program.path, []);
    try {
      const specs = ['adan', 'sgd', 'adamw'].map((optimizer) => specOf({ optimizer }));
      const steps: number[] = [];
      const there = await Promise.all(
        specs.slice(0, 2).map((spec) => runner.run(spec, signal(), ({ step }) => steps.push(step))),
      );
      there.push(await runner.run(specs[2], signal(), () => {}));
      for (const [i, spec] of specs.entries()) {
        const here = await runTrial(spec, { now: counter() });
        const plain = (curve: typeof here.curve) => curve.map(({ seconds: _, ...point }) => point);
        expect(plain(there[i].curve)).toEqual(plain(here.curve));
      }
    } finally {
      await runner.close();
    }
  });

  it('bring their errors home, and can be stopped', async () => {
    const runner = forkedRunner(1, program.path, []);
    try {
      await expect(runner.run(specOf({ model: 'convnet' }), signal(), () => {})).rejects.toThrow(/takes images/);
      const long = specOf({ epochs: 100_000 });
      const controller = new AbortController();
      const stopped = runner.run(long, controller.signal, () => controller.abort());
      await expect(stopped).rejects.toThrow(TrialInterrupted);
      expect((await runner.run(specOf(), signal(), () => {})).status).toBe('finished');
    } finally {
      await runner.close();
    }
  });

  it('say so when their process ends', async () => {
    const runner = forkedRunner(1, program.path, ['--die']);
    await expect(runner.run(specOf(), signal(), () => {})).rejects.toThrow(/trial ended with code 3/);
    await runner.close();
  });
});
