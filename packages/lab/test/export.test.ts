import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadMnist } from 'edgewise/node';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportRun } from '../src/commands/export.ts';
import { train } from '../src/commands/train.ts';
import { parseTrainArguments } from '../src/config/command.ts';
import { catalog } from '../src/run/catalog.ts';

let folder: string;
const quiet = { write: () => true };
const run = () => join(folder, 'run');
const file = (name: string) => join(folder, name);

/** Accuracy of an ONNX file on the first test images, given as numbers in [0, 1] or normalised. */
async function accuracy(path: string, count: number, batch: number, normalize: (x: number) => number): Promise<number> {
  const { test: data } = await loadMnist();
  const session = await ort.InferenceSession.create(path);
  let right = 0;
  for (let from = 0; from < count; from += batch) {
    const pixels = data.inputs.subarray(from * 784, (from + batch) * 784);
    const x = Float32Array.from(pixels, (byte) => normalize(byte / 255));
    const { output } = await session.run({ input: new ort.Tensor('float32', x, [batch, 1, 28, 28]) });
    const scores = output.data as Float32Array;
    for (let i = 0; i < batch; i++) {
      const row = Array.from(scores.subarray(10 * i, 10 * i + 10));
      if (row.indexOf(Math.max(...row)) === data.labels[from + i]) right++;
    }
  }
  await session.release();
  return right / count;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'edgewise-export-'));
  const flags =
    '--model convnet --model-channels 4,8 --model-widths 32 --model-batch-norm --steps 60 --sharpness-every 0';
  const data = '--data-examples 4000 --data-test-examples 500 --checkpoint-every 30';
  const request = await parseTrainArguments([...flags.split(' '), ...data.split(' '), '--out', run()], catalog);
  await train(request, { stream: quiet, env: {}, now: () => 0, stop: new AbortController().signal });
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('edgewise export', () => {
  test('plain ONNX Runtime on raw images reaches the accuracy the run recorded, at any batch size', async () => {
    await exportRun([run(), file('a.onnx')], quiet);
    const lines = (await readFile(join(run(), 'metrics.jsonl'), 'utf8')).trim().split('\n');
    const recorded = JSON.parse(lines[lines.length - 1])['test/accuracy'];
    expect(recorded).toBeGreaterThan(0.7);
    for (const batch of [1, 125, 500]) expect(await accuracy(file('a.onnx'), 500, batch, (x) => x)).toBe(recorded);
  });

  test('options: normalised input, another step, fixed batch, probabilities', async () => {
    const card = JSON.parse(await readFile(join(run(), 'model.json'), 'utf8'));
    const [mean] = card.normalization.mean;
    const [std] = card.normalization.std;
    await exportRun([run(), file('n.onnx'), '--normalized-input'], quiet);
    const raw = await accuracy(file('a.onnx'), 500, 500, (x) => x);
    expect(await accuracy(file('n.onnx'), 500, 500, (x) => (x - mean) / std)).toBe(raw);
    expect(await accuracy(file('n.onnx'), 500, 500, (x) => x)).not.toBe(raw);
    await exportRun([run(), file('early.onnx'), '--step', '30'], quiet);
    expect(await accuracy(file('early.onnx'), 500, 500, (x) => x)).toBeLessThan(raw);
    await exportRun([run(), file('fixed.onnx'), '--batch', '2', '--softmax'], quiet);
    await expect(accuracy(file('fixed.onnx'), 3, 3, (x) => x)).rejects.toThrow();
    const session = await ort.InferenceSession.create(file('fixed.onnx'));
    const x = new ort.Tensor('float32', new Float32Array(2 * 784), [2, 1, 28, 28]);
    const probabilities = (await session.run({ input: x })).output.data as Float32Array;
    expect(probabilities.subarray(0, 10).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
  });

  test('says what was written, and its largest difference from our evaluation', async () => {
    let text = '';
    await exportRun([run(), file('a.onnx')], { write: (part) => (text += part) });
    expect(text).toMatch(/convnet, [\d,]+ parameters after 60 steps/);
    const difference = Number(/evaluation ([\d.e-]+)/.exec(text)?.[1]);
    expect(difference).toBeLessThan(1e-5);
  });

  test.each([
    [['nowhere', 'x.onnx'], 'no such file or folder'],
    [['RUN'], 'needs <model.onnx>'],
    [['RUN', 'x.onnx', '--step', '7'], 'no checkpoint of step 7'],
    [['RUN', 'x.onnx', '--batch', '0'], 'at least 1'],
    [['RUN', '/nowhere/x.onnx'], 'could not be written'],
    [['RUN', 'x.onnx', '--sofmax'], 'did you mean --softmax?'],
  ])('%o is refused in a sentence, with nothing written', async (argv, message) => {
    const before = await readdir(folder);
    const there = argv.map((word) => (word === 'RUN' ? run() : word === 'x.onnx' ? file('x.onnx') : word));
    await expect(exportRun(there, quiet)).rejects.toThrow(message);
    expect(await readdir(folder)).toEqual(before);
  });

  test('a damaged model.json is named', async () => {
    const path = join(run(), 'model.json');
    const whole = await readFile(path);
    for (const [text, message] of [
      ['{', 'is not JSON'],
      ['{"name": 3}', 'name is wrong'],
      [
        '{"name":"convnet","options":{},"inputShape":[-1],"classes":10,"classNames":null,"normalization":null}',
        'inputShape.0 is wrong',
      ],
    ]) {
      await writeFile(path, text);
      await expect(exportRun([run(), file('x.onnx')], quiet)).rejects.toThrow(message);
    }
    await writeFile(path, whole);
  });
});
