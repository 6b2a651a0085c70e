import { Key, random } from 'edgewise';
import { Batches } from 'edgewise/data';
import { openDevice } from 'edgewise/node';
import { adan, createOptimizer } from 'edgewise/optim';
import { Network, Trainer } from 'edgewise/train';
import { describe, expect, it } from 'vitest';
import { parseTrainConfig } from '../../src/config/schema.ts';
import { openProblem, raceCatalog } from '../../src/race/problem.ts';
import { loadMobyDick, type TextData, textModel, textObjective, windows } from '../../src/race/text.ts';
import { runTrial } from '../../src/race/trial.ts';

const configOf = (model: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  parseTrainConfig(
    [{ source: 'test', value: { model, data: { name: 'moby-dick', steps: 16 }, threads: 1, ...more } }],
    raceCatalog,
  );

const small = { name: 'transformer', task: 'predict', vocabulary: 96, width: 16, heads: 2, layers: 1 };

/** Test loss before and after training on `text`, in nats a character. */
async function losses(text: string, steps: number, updates: number): Promise<[before: number, after: number]> {
  const data: TextData = windows(text, steps, 'text');
  const device = await openDevice('cpu', { threads: 1 });
  const network = new Network({
    model: textModel(configOf(small), data),
    objective: textObjective(steps),
    device,
    key: Key.fromSeed(1),
  });
  const batches = new Batches(data.train, { batchSize: 32, key: Key.fromSeed(2) });
  const evaluation = new Batches(data.test, { batchSize: data.test.count, key: Key.fromSeed(2), shuffle: false });
  const graph = await network.evaluationGraph(data.test.count);
  const measure = async () => {
    evaluation.fillExamples(
      Uint32Array.from({ length: data.test.count }, (_, i) => i),
      graph.x,
      graph.y,
    );
    const result = await graph.run();
    return result.losses.reduce((sum, loss) => sum + loss, 0) / data.test.count;
  };
  const before = await measure();
  const trainer = await Trainer.create({
    network,
    optimizer: createOptimizer(
      adan,
      { values: { lr: 0.01 } },
      { theta: network.params, grad: network.gradient, space: network.space },
    ),
    schedule: () => 0.01,
    batches,
    steps: updates,
    key: Key.fromSeed(3),
    now: () => 0,
  });
  await trainer.run();
  const after = await measure();
  await graph.dispose();
  await trainer.dispose();
  await device.dispose();
  return [before, after];
}

describe('windows of text', () => {
  it('do not overlap, and have what follows each character as its target', () => {
    const text = Array.from({ length: 100 }, (_, i) => String.fromCharCode(65 + (i % 26))).join('');
    const { train, test, characters } = windows(text, 8, 'letters');
    expect(characters.join('')).toBe('ABCDEFGHIJKLMNOPQRSTUVWXYZ');
    // 90 characters to train on, of which the last is only a target.
    expect([train.count, test.count]).toEqual([11, 1]);
    const read = (codes: ArrayLike<number>) => Array.from(codes, (code) => characters[code]).join('');
    expect(read(train.inputs)).toBe(text.slice(0, 88));
    expect(read(train.targets)).toBe(text.slice(1, 89));
    expect(read(test.inputs)).toBe(text.slice(90, 98));
    expect(read(test.targets)).toBe(text.slice(91, 99));
  });

  it('must fit into both parts', () => {
    expect(() => windows('abcdefghij'.repeat(10), 10, 'short')).toThrow(/test part of short has 10 characters/);
  });
});

describe('a character model', () => {
  it('begins near the entropy of a guess, and learns a text that repeats itself', async () => {
    const [before, after] = await losses('the sea, '.repeat(400), 16, 150);
    // Seven characters, and small initial logits.
    expect(before).toBeCloseTo(Math.log(7), 1);
    // Only the first position of a window has to guess, between two kinds of e and of blank.
    expect(after).toBeLessThan(0.15);
  });

  it('sees nothing of what it is to predict: noise stays noise', async () => {
    const noise = random.integers(Key.fromSeed(9), new Int32Array(9000), 0, 8);
    const text = Array.from(noise, (n) => String.fromCharCode(97 + n)).join('');
    const [, after] = await losses(text, 16, 150);
    expect(after).toBeGreaterThan(Math.log(8) - 0.02);
  });

  it('must predict at every position', async () => {
    const data = windows('abcd'.repeat(100), 16, 'text');
    const model = (value: Record<string, unknown>) => () => textModel(configOf(value), data);
    expect(model({ ...small, task: 'classify' })).toThrow(/does not predict a character at every position/);
    expect(model({ ...small, vocabulary: 3 })).toThrow(/vocabulary is 3, but text\/train has 4 different characters/);
    expect(model({ name: 'lstm' })).toThrow(/does not predict/);
  });
});

describe('Moby Dick', () => {
  it('is the novel', async () => {
    const { train, test, characters } = await loadMobyDick(64);
    expect(characters.length).toBeGreaterThan(70);
    expect(characters.length).toBeLessThan(96);
    expect(train.count + test.count).toBeGreaterThan(18_000);
    const read = (codes: ArrayLike<number>) => Array.from(codes, (code) => characters[code]).join('');
    expect(read(train.inputs.subarray(0, 200))).toContain('Call me Ishmael.');
    expect(read(test.inputs)).toContain('the devious-cruising Rachel');
  });

  it('is held out by the end of the training part, where windows have no neighbours in training but one', async () => {
    const config = configOf(small);
    const whole = await openProblem(config, 0);
    const { train, test } = await openProblem(config, 0, { share: 0.1, seed: 0 });
    expect(train.count + test.count).toBe(whole.train.count);
    expect(test.inputs[0]).toBe(whole.train.inputs[16 * train.count]);
  });

  it('is predicted better than by the frequencies of its characters', async () => {
    const data = { name: 'moby-dick', steps: 16, examples: 1280, testExamples: 64 };
    const config = configOf(small, { data, batchSize: 32, epochs: 12, optimizer: { name: 'adan', lr: 0.01 } });
    const { test } = await openProblem(config, 0);
    const counts = new Map<number, number>();
    const targets = test.kind === 'regression' ? test.targets : [];
    for (const code of targets) counts.set(code, (counts.get(code) ?? 0) + 1);
    const shares = [...counts.values()].map((count) => count / targets.length);
    const entropy = -shares.reduce((sum, share) => sum + share * Math.log(share), 0);
    const { curve } = await runTrial({ id: 'x', config, dataSeed: 0, evaluationsPerEpoch: 1 }, { now: () => 0 });
    expect(curve[11].loss).toBeLessThan(entropy - 0.2);
    expect(curve[11].accuracy).toBeGreaterThan(1.2 * Math.max(...shares));
  });
});
