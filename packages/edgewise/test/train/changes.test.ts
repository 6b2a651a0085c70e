/** @file Hyper-parameters that change in a run: by hand, recorded and replayed, and by schedules. */
import { describe, expect, it } from 'vitest';
import { ConfigError, FormatError } from '../../src/base/errors.ts';
import { findOptimizer } from '../../src/optim/index.ts';
import {
  type Change,
  loadCheckpoint,
  MemoryRunStore,
  metricSeries,
  readChanges,
  readMetrics,
} from '../../src/train/index.ts';
import { complete, completeInParts, metrics, open, type Run, type Spec, spec, state } from './harness.ts';

const of = spec({
  optimizer: findOptimizer('adamw'),
  values: { lr: 0.02, weightDecay: 0.1 },
  schedule: (t) => 0.02 / (1 + 0.1 * t),
  steps: 16,
  trainer: { checkpointEvery: 4 },
});

/** Changes after some steps. */
const HANDS: Readonly<Record<number, Record<string, number | number[]>>> = {
  3: { lr: 0.05 },
  6: { weightDecay: 0.5, betas: [0.8, 0.99] },
  9: { lr: 0.02 },
};

/** Runs with {@link HANDS}, cut off without saving after `dying` steps where given. */
async function byHand(store: MemoryRunStore, dying?: number): Promise<Run> {
  let run: Run | undefined;
  const onStep = ({ step }: { step: number }) => {
    if (HANDS[step]) run?.trainer.change(HANDS[step]);
    if (step === dying) throw new Error('killed');
  };
  run = await open({ ...of, trainer: { ...of.trainer, onStep } }, { store });
  if (dying === undefined) await run.trainer.run();
  else await expect(run.trainer.run()).rejects.toThrow('killed');
  return run;
}

const recorded = async (store: MemoryRunStore) => readChanges(await store.read('changes.jsonl')).changes;

describe('changes by hand', () => {
  it('act from the next step on, are recorded before it, and can be read', async () => {
    const store = new MemoryRunStore();
    const { trainer } = await byHand(store);
    const expected: Change[] = [
      { step: 4, name: 'lr', from: 0.02, to: 0.05 },
      { step: 7, name: 'weightDecay', from: 0.1, to: 0.5 },
      { step: 7, name: 'betas', from: [0.9, 0.999], to: [0.8, 0.99] },
      { step: 10, name: 'lr', from: 0.05, to: 0.02 },
    ];
    expect(await recorded(store)).toEqual(expected);
    expect(trainer.changes).toEqual(expected);
    expect(trainer.values).toMatchObject({ lr: 0.02, weightDecay: 0.5, betas: [0.8, 0.99] });
    const { values } = metricSeries(readMetrics(await store.read('metrics.jsonl')).records, 'lr');
    expect(values).toEqual(
      Array.from({ length: 16 }, (_, i) => of.schedule(i + 1) * (i + 1 >= 4 && i + 1 < 10 ? 0.05 / 0.02 : 1)),
    );
  });

  it.each([5, 7, 8, 11])('and a crash after step %i: the resumed run makes them again, to the bit', async (dying) => {
    const [whole, broken] = [new MemoryRunStore(), new MemoryRunStore()];
    const expected = await byHand(whole);
    await byHand(broken, dying);
    const known = (await recorded(broken)).length;
    expect(known).toBe((await recorded(whole)).filter(({ step }) => step <= dying).length);
    let run: Run | undefined;
    const onStep = ({ step }: { step: number }) => {
      if (step >= dying && HANDS[step]) run?.trainer.change(HANDS[step]);
    };
    run = await open(
      { ...of, trainer: { ...of.trainer, onStep } },
      { store: broken, checkpoint: await loadCheckpoint(broken) },
    );
    await run.trainer.run();
    expect(state(run)).toEqual(state(expected));
    expect(await metrics(broken)).toBe(await metrics(whole));
    expect(await recorded(broken)).toEqual(await recorded(whole));
  });

  it('replayed in a new run give the same bits, interrupted or not', async () => {
    const [store, again, parts] = [new MemoryRunStore(), new MemoryRunStore(), new MemoryRunStore()];
    const expected = await byHand(store);
    const changes = await recorded(store);
    const replay: Spec = { ...of, trainer: { ...of.trainer, changes } };
    expect(state(await complete(replay, { store: again }))).toEqual(state(expected));
    expect(state(await completeInParts(replay, parts, [3, 6, 8]))).toEqual(state(expected));
    for (const each of [again, parts]) {
      expect(await metrics(each)).toBe(await metrics(store));
      expect(await recorded(each)).toEqual(changes);
    }
    const { params } = state(await complete(of));
    expect(params).not.toBe(state(expected).params);
  });

  it('that do not fit are refused, and the run is as it was', async () => {
    const { trainer } = await open({ ...of, trainer: { schedules: { 'betas.0': () => 0.9 } } });
    for (const [values, message] of [
      [{ lr: -1 }, /lr is -1/],
      [{ weightdecay: 1 }, /did you mean 'weightDecay'/],
      [{ betas: [0.9, 0.99] }, /'betas' follows a schedule/],
    ] as const) {
      expect(() => trainer.change(values as never)).toThrow(ConfigError);
      expect(() => trainer.change(values as never)).toThrow(message);
    }
    await trainer.run();
    expect(trainer.changes).toEqual([]);
    expect(() => trainer.change({ lr: 0.1 })).toThrow(/ended at step 16/);
    await expect(open({ ...of, trainer: { changes: [{ step: 0, name: 'lr', to: 1 }] } })).rejects.toThrow(/step 0/);
  });

  it('a last line that was cut off never acted; other damage is an error', () => {
    const bytes = (text: string) => new TextEncoder().encode(text);
    const line = '{"step":3,"name":"lr","from":1,"to":2}\n';
    expect(readChanges(bytes(`${line}{"step":4,`))).toEqual({
      changes: [{ step: 3, name: 'lr', from: 1, to: 2 }],
      length: line.length,
    });
    for (const bad of ['{\n', '{"step":0,"name":"lr","from":1,"to":2}\n', '{"step":1,"name":"lr","to":2}\n'])
      expect(() => readChanges(bytes(bad))).toThrow(FormatError);
  });
});

describe('schedules of other hyper-parameters', () => {
  const scheduled: Spec = {
    ...of,
    trainer: {
      checkpointEvery: 4,
      schedules: { weightDecay: (t: number) => (t < 9 ? 0.1 * t : 0), 'betas.0': (t: number) => 0.8 + 0.01 * t },
    },
  };

  it('give the steps of an optimizer set by hand before each, to the bit, and are recorded', async () => {
    const store = new MemoryRunStore();
    const run = await complete(scheduled, { store });
    const hand = await open({ ...of, trainer: {} });
    const graph = await hand.network.trainingGraph(16);
    for (let t = 1; t <= 16; t++) {
      hand.batches.fill(t - 1, graph.x, graph.y);
      const { loss } = await graph.run();
      hand.optimizer.set({ weightDecay: t < 9 ? 0.1 * t : 0, betas: [0.8 + 0.01 * t, 0.999] });
      hand.optimizer.step({ lr: of.schedule(t), loss });
    }
    expect(state(run)).toEqual(state({ ...run, network: hand.network, optimizer: hand.optimizer }));
    const { records } = readMetrics(await store.read('metrics.jsonl'));
    expect(metricSeries(records, 'optimizer/weightDecay').values.slice(6, 10)).toEqual([0.1 * 7, 0.8, 0, 0]);
    expect(metricSeries(records, 'optimizer/betas.0').values[3]).toBe(0.8 + 0.01 * 4);
  });

  it('go on to the bit', async () => {
    const [whole, parts] = [new MemoryRunStore(), new MemoryRunStore()];
    const expected = state(await complete(scheduled, { store: whole }));
    expect(state(await completeInParts(scheduled, parts, [2, 9, 13]))).toEqual(expected);
    expect(await metrics(parts)).toBe(await metrics(whole));
  });

  it.each([
    ['lr', /given to the step/],
    ['betas', /did you mean|it has/],
    ['weightDecays', /did you mean 'weightDecay'/],
    ['amsgrad', /no number 'amsgrad'/],
  ])('of %s are refused', async (name, message) => {
    await expect(open({ ...of, trainer: { schedules: { [name]: () => 0.5 } } })).rejects.toThrow(message);
  });

  it('that leave what is allowed, or need other state, are refused', async () => {
    const sgd = { ...of, optimizer: findOptimizer('sgd'), values: { lr: 0.1 } };
    const with_ = (schedules: Record<string, () => number>) => open({ ...sgd, trainer: { schedules } });
    await expect(with_({ weightDecay: () => -1 })).rejects.toThrow(/weightDecay is -1; give a number of at least 0/);
    await expect(with_({ momentum: () => 0.9 })).rejects.toThrow(/state 'b' would be missing/);
  });
});
