import { MemoryRunStore } from 'edgewise/train';
import { describe, expect, it } from 'vitest';
import type { PlanSource } from '../../src/race/plan.ts';
import { newRace, type Race, readRace, refuseRaceIn, runRace, saveRace } from '../../src/race/race.ts';
import type { Runner } from '../../src/race/runner.ts';
import type { TrialSpec } from '../../src/race/trial.ts';
import { diverged, fakeRunner, finished, formula, signal } from './support.ts';

const source: PlanSource = {
  plan: {
    optimizers: ['adan', 'sgd', 'adamw'],
    budgets: [1, 2, 4],
    trials: 8,
    tuningEpochs: 1,
    seeds: 2,
    train: { data: 'moons', model: 'mlp' },
  },
  flags: {},
};

/** Adan needs half the epochs of the others. */
const halves = (spec: TrialSpec) =>
  formula(spec, spec.config.optimizer.name === 'sgd' ? 0.1 : 1e-3, spec.config.optimizer.name === 'adan' ? 2 : 1);

async function run(source: PlanSource, runner: Runner): Promise<Race> {
  const race = newRace(source);
  const store = new MemoryRunStore();
  expect(await runRace(race, { store, runner, stop: signal() })).toBe(true);
  return race;
}

describe('a race', () => {
  it('tunes everyone with the same budget, then runs everyone in every budget and seed', async () => {
    const runner = fakeRunner(halves);
    await run(source, runner);
    const count = (part: string, name: string) =>
      runner.ran.filter(({ id, config }) => id.startsWith(part) && config.optimizer.name === name);
    for (const name of ['adan', 'sgd', 'adamw']) {
      const tuning = count('tuning', name);
      expect(tuning).toHaveLength(8);
      expect(new Set(tuning.map(({ config }) => config.epochs))).toEqual(new Set([1]));
      expect(count('final', name).map(({ config }) => [config.epochs, config.seed])).toEqual([
        [1, 0],
        [1, 1],
        [2, 0],
        [2, 1],
        [4, 0],
        [4, 1],
      ]);
    }
  });

  it('judges tuning trials on training data held out, the same for all, and final runs on the test set', async () => {
    const runner = fakeRunner(halves);
    await run(source, runner);
    for (const { id, holdOut, dataSeed, config } of runner.ran) {
      expect(holdOut).toEqual(id.startsWith('tuning') ? { share: 0.1, seed: 0 } : undefined);
      expect(dataSeed).toBe(0);
      if (id.startsWith('tuning')) expect(config.seed).toBe(0);
    }
  });

  it('has them differ in their optimizers alone', async () => {
    const runner = fakeRunner(halves);
    await run(source, runner);
    const finals = runner.ran.filter(({ id }) => id.startsWith('final') && id.endsWith('4-epochs/seed-1'));
    const rest = finals.map(({ id: _, config: { optimizer: __, ...config }, ...spec }) =>
      JSON.stringify([config, spec]),
    );
    expect(finals).toHaveLength(3);
    expect(new Set(rest).size).toBe(1);
  });

  it('runs with the draw that was best on the held-out examples', async () => {
    const runner = fakeRunner(halves);
    const { summary } = await run(source, runner);
    for (const { label, trial, values, trials } of summary.winners) {
      const tried = runner.ran.filter(({ id }) => id.startsWith(`tuning/${label}/`));
      const losses = tried.map((spec) => halves(spec).curve[1].loss);
      expect(trial).toBe(losses.indexOf(Math.min(...losses)));
      expect(trials).toBe(8);
      const finals = runner.ran.filter(({ id }) => id.startsWith(`final/${label}/`));
      for (const { config } of finals) expect(config.optimizer.lr).toBe(values.lr);
    }
  });

  it('tunes for each budget where no length is given for trials', async () => {
    const plan = { ...(source.plan as object), tuningEpochs: null };
    // The best rate falls with the length.
    const runner = fakeRunner((spec) => formula(spec, 0.01 / (spec.config.epochs ?? 1) ** 2));
    const { summary } = await run({ plan, flags: {} }, runner);
    const rates = summary.winners
      .filter(({ label }) => label === 'adan')
      .map(({ epochs, values }) => [epochs, values.lr]);
    expect(rates.map(([epochs]) => epochs)).toEqual([1, 2, 4]);
    for (const [epochs, lr] of rates) {
      const finals = runner.ran.filter(({ id }) => id.startsWith(`final/adan/${epochs}-`));
      for (const { config } of finals) expect(config.optimizer.lr).toBe(lr);
    }
    expect(Number(rates[2][1])).toBeLessThan(Number(rates[0][1]));
  });

  it('breaks ties of accuracy by loss, and of both by order', async () => {
    const losses = [0.5, 0.4, 0.4, 0.6, 0.7, 0.8, 0.9, 1];
    const by = (select: string, accuracy: (trial: number) => number) =>
      run(
        { plan: { ...(source.plan as object), select }, flags: {} },
        fakeRunner(({ id }) => {
          const trial = Number(/trial-(\d+)/.exec(id)?.[1] ?? 0);
          return finished(losses[trial], accuracy(trial));
        }),
      ).then(({ summary }) => summary.winners[0].trial);
    expect(await by('accuracy', () => 0.5)).toBe(1);
    expect(await by('accuracy', (trial) => trial / 10)).toBe(7);
    expect(await by('loss', (trial) => trial / 10)).toBe(1);
  });

  it('counts what diverged as failed: it never wins, and is said', async () => {
    const { summary } = await run(
      source,
      fakeRunner((spec) => {
        const { name, lr } = spec.config.optimizer;
        if (name === 'sgd') return diverged;
        if (spec.id.endsWith('seed-1') && name === 'adamw' && spec.config.epochs === 4) return diverged;
        return Number(lr) > (name === 'adan' ? 1e-2 : 1e-3) ? diverged : halves(spec);
      }),
    );
    const [adan, sgd] = summary.winners;
    expect(Number(adan.values.lr)).toBeLessThanOrEqual(1e-2);
    expect(adan.diverged).toBe(4);
    expect(sgd).toMatchObject({ trial: null, diverged: 8, loss: null });
    expect(summary.finals.filter(({ label }) => label === 'sgd')).toEqual([]);
    const hurt = summary.finals.find(({ label, epochs }) => label === 'adamw' && epochs === 4);
    expect(hurt).toMatchObject({ finished: 1, diverged: 1 });
    // A budget in which a run diverged is compared with nothing.
    expect(summary.claim.loss.map(({ against, epochs }) => [against, epochs])).toEqual([
      ['adamw', 1],
      ['adamw', 2],
    ]);
  });

  it('finds an optimizer that needs half the epochs', async () => {
    const plan = {
      ...(source.plan as object),
      trials: 0,
      optimizers: [
        { name: 'adan', lr: 1e-3 },
        { name: 'adamw', lr: 1e-3 },
      ],
    };
    const { summary } = await run({ plan, flags: {} }, fakeRunner(halves));
    const { claim } = summary;
    expect(claim.reference).toBe('adan');
    expect(claim.loss.map(({ ratio }) => ratio)).toEqual([1, 0.5, 0.5]);
    expect(claim.loss.map(({ reach }) => reach.kind)).toEqual(['at most', 'at', 'at']);
    expect(claim.accuracy.slice(1).map(({ atHalf, value }) => atHalf === value)).toEqual([true, true]);
    expect(summary.finals[0].loss).toEqual({ mean: 0.5005, low: 0.5, high: 0.501 });
  });

  it('names what was chosen at an end of what was tried', async () => {
    const { summary } = await run(
      source,
      fakeRunner((spec) => formula(spec, spec.config.optimizer.name === 'sgd' ? 1e3 : 1e-3)),
    );
    expect(summary.winners.map(({ atEdge }) => atEdge)).toEqual([[], ['lr'], []]);
  });
});

describe('a race that was interrupted', () => {
  it('gives the same to the bit when it goes on, wherever it stopped, and runs nothing twice', async () => {
    const whole = JSON.stringify((await run(source, fakeRunner(halves))).trials);
    for (const after of [0, 1, 7, 24, 25, 30, 41]) {
      const store = new MemoryRunStore();
      const controller = new AbortController();
      const first = fakeRunner((spec) => {
        if (first.ran.length > after) controller.abort();
        return halves(spec);
      });
      const begun = newRace(source);
      expect(await runRace(begun, { store, runner: first, stop: controller.signal })).toBe(false);
      const race = await readRace(store);
      expect(Object.keys(race.trials)).toHaveLength(after + 1);
      const second = fakeRunner(halves);
      expect(await runRace(race, { store, runner: second, stop: signal() })).toBe(true);
      expect(first.ran.length + second.ran.length).toBe(42);
      expect(JSON.stringify(race.trials)).toBe(whole);
      expect((await readRace(store)).summary).toEqual(race.summary);
    }
  });

  it('has lost nothing but the trials under way when one fails', async () => {
    const store = new MemoryRunStore();
    const broken = fakeRunner((spec) => {
      if (spec.id === 'tuning/sgd/1-epochs/trial-2') throw new Error('no memory');
      return halves(spec);
    }, 2);
    await expect(runRace(newRace(source), { store, runner: broken, stop: signal() })).rejects.toThrow('no memory');
    const race = await readRace(store);
    expect(Object.keys(race.trials).length).toBeGreaterThanOrEqual(6);
    await runRace(race, { store, runner: fakeRunner(halves), stop: signal() });
    expect(Object.keys(race.trials)).toHaveLength(42);
  });

  it('finds the same with several trials at once, and says so', async () => {
    const alone = await run(source, fakeRunner(halves));
    const together = await run(source, fakeRunner(halves, 3));
    expect(together.summary).toEqual(alone.summary);
    expect(Object.values(together.trials).every(({ shared }) => shared)).toBe(true);
    expect(Object.values(alone.trials).some(({ shared }) => shared)).toBe(false);
  });
});

describe('a race folder', () => {
  it('is refused to another race', async () => {
    const store = new MemoryRunStore();
    await refuseRaceIn(store);
    await saveRace(store, newRace(source));
    await expect(refuseRaceIn(store)).rejects.toThrow(/There is a race in memory already; go on with it by --resume/);
  });

  it.each([
    ['{', /not JSON/],
    ['{}', /format is wrong/],
    [JSON.stringify({ ...newRace(source), format: 2 }), /format/],
    [JSON.stringify({ ...newRace(source), trials: { x: { status: 'finished' } } }), /trials\.x/],
    [
      JSON.stringify({
        ...newRace(source),
        trials: { x: { ...finished(1, 1), curve: [], shared: false, environment: 0 } },
      }),
      /has a curve/,
    ],
    [JSON.stringify({ ...newRace(source), plan: {} }), /other defaults than this version/],
    [JSON.stringify({ ...newRace(source), source: { plan: { optimizers: ['x'] }, flags: {} } }), /no optimizer 'x'/],
  ])('is refused where its file is %s', async (text, message) => {
    const store = new MemoryRunStore();
    await store.writeAtomic('race.json', new TextEncoder().encode(text));
    await expect(readRace(store)).rejects.toThrow(message);
  });
});
