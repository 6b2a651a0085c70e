/** @file What is trained in a race: data in two parts, a network and an objective. */
import { ConfigError, Key, random } from 'edgewise';
import {
  type Augmentation,
  type ClassificationData,
  type Dataset,
  type LabelNoise,
  type Normalization,
  select,
  subset,
  type TrainTest,
} from 'edgewise/data';
import type { Model } from 'edgewise/nn';
import { type Objective, objectiveFor } from 'edgewise/train';
import type { Catalog } from '../config/catalog.ts';
import type { TrainConfig } from '../config/settings.ts';
import { cardOf, modelOf } from '../run/card.ts';
import { catalog } from '../run/catalog.ts';
import { labelNoiseOf, loadData } from '../run/data.ts';
import { augmentationOf } from '../run/recipe.ts';
import { normalizationFor } from '../run/session.ts';
import { loadMobyDick, mobyDick, type TextData, textModel, textObjective } from './text.ts';

/** What a race can be run on: everything `edgewise train` knows, and text. Optimizers have their own defaults; a recipe would favour one. */
export const raceCatalog: Catalog = {
  ...catalog,
  data: [...catalog.data, mobyDick],
  recipe: { ...catalog.recipe, optimizer: 'adan' },
};

export interface Problem {
  readonly train: Dataset;
  /** What the network is judged on. */
  readonly test: Dataset;
  readonly model: Model;
  /** What is minimised. */
  readonly objective: Objective;
  /** What is measured: the same without label smoothing. */
  readonly measure: Objective;
  readonly normalization: Normalization | undefined;
  readonly augmentation: Augmentation | undefined;
  readonly labelNoise: LabelNoise | undefined;
}

/** How training examples are held out to judge hyper-parameters on. */
export interface HoldOut {
  /** In (0, 1). */
  readonly share: number;
  /** Draws which examples; the same for every trial. */
  readonly seed: number;
}

const isText = (data: TrainTest<Dataset> | TextData): data is TextData => 'characters' in data;

/** Data is read once; a race's trials all look at the same. */
let loaded: { readonly key: string; readonly data: Promise<TrainTest | TextData> } | undefined;

function dataOf(config: TrainConfig): Promise<TrainTest | TextData> {
  // Made-up data is drawn by the seed of the run.
  const key = JSON.stringify([config.data, config.seed]);
  if (loaded?.key !== key) loaded = { key, data: config.data.name === mobyDick.name ? text(config) : loadData(config) };
  return loaded.data;
}

async function text({ data: { steps, examples, testExamples } }: TrainConfig): Promise<TextData> {
  const { train, test, characters } = await loadMobyDick(Number(steps));
  const first = <D extends Dataset>(part: D, n: number | null): D =>
    n === null || n >= part.count ? part : subset(part, n);
  return { characters, train: first(train, examples), test: first(test, testExamples) };
}

/** Loads and builds what a configuration names. With `holdOut`, a part of the training set takes the place of the test set. */
export async function openProblem(config: TrainConfig, dataSeed: number, holdOut?: HoldOut): Promise<Problem> {
  const data = await dataOf({ ...config, seed: dataSeed });
  const { labelSmoothing } = config;
  const parts = holdOut ? split(data, holdOut) : data;
  if (isText(data)) {
    if (config.labelNoise > 0)
      throw new ConfigError(
        `labelNoise is ${config.labelNoise}, but '${data.train.name}' is text without labels; leave it out.`,
      );
    const [steps] = data.train.shape;
    return {
      ...parts,
      model: textModel(config, data),
      objective: textObjective(steps, { labelSmoothing }),
      measure: textObjective(steps),
      normalization: undefined,
      augmentation: undefined,
      labelNoise: undefined,
    };
  }
  const normalization = normalizationFor(config, parts.train);
  return {
    ...parts,
    model: modelOf(cardOf(config, data.train, normalization)),
    objective: objectiveFor(data.train, { labelSmoothing }),
    measure: objectiveFor(data.train),
    normalization,
    augmentation: augmentationOf(config),
    labelNoise: labelNoiseOf(config, parts.train),
  };
}

/** Text is cut, so that no window is judged on its own neighbourhood; examples that stand for themselves are drawn. */
function split(data: TrainTest | TextData, { share, seed }: HoldOut): TrainTest<Dataset> {
  const { train } = data;
  const held = Math.round(share * train.count);
  if (held < 1 || held >= train.count) {
    throw new ConfigError(
      `validation is ${share} of the ${train.count} training examples of '${train.name}', which leaves nothing on one side; choose another share.`,
    );
  }
  const kept = train.count - held;
  if (isText(data)) return { train: subset(data.train, kept), test: subset(data.train, held, kept) };
  const order = random.permutation(Key.fromSeed(seed).split('validation'), train.count);
  const part = (examples: Uint32Array): ClassificationData => select(data.train, examples.sort());
  return { train: part(order.slice(0, kept)), test: part(order.slice(kept)) };
}
