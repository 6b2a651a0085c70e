import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import { CIFAR10_CLASSES, parseCifar10, parseCifar100 } from '../../src/data/cifar.ts';
import { checkDataset } from '../../src/data/dataset.ts';
import { gunzip } from '../../src/data/gzip.ts';
import { idxDataset, parseIdx, readIdx } from '../../src/data/idx.ts';

/** An IDX file of the given type code, extents and element bytes. */
function idx(type: number, shape: readonly number[], data: ArrayLike<number>): Uint8Array {
  const out = new Uint8Array(4 + 4 * shape.length + data.length);
  out.set([0, 0, type, shape.length]);
  const view = new DataView(out.buffer);
  shape.forEach((extent, axis) => {
    view.setUint32(4 + 4 * axis, extent);
  });
  out.set(data, 4 + 4 * shape.length);
  return out;
}

function bigEndian(method: 'setInt16' | 'setInt32' | 'setFloat32' | 'setFloat64', bytes: number, values: number[]) {
  const view = new DataView(new ArrayBuffer(bytes * values.length));
  values.forEach((value, i) => {
    view[method](i * bytes, value);
  });
  return new Uint8Array(view.buffer);
}

describe('IDX', () => {
  it.each([
    ['uint8', 8, [0, 255, 7], Uint8Array.of(0, 255, 7)],
    ['int8', 9, [-1, 127, -128], Uint8Array.of(255, 127, 128)],
    ['int16', 11, [-2, 300], bigEndian('setInt16', 2, [-2, 300])],
    ['int32', 12, [-70000, 5], bigEndian('setInt32', 4, [-70000, 5])],
    ['float32', 13, [0.5, -1e30], bigEndian('setFloat32', 4, [0.5, -1e30])],
    ['float64', 14, [1 / 3], bigEndian('setFloat64', 8, [1 / 3])],
  ])('reads %s', (dtype, type, values, bytes) => {
    const array = parseIdx(idx(type, [values.length], bytes), 'x');
    expect(array.dtype).toBe(dtype);
    expect(array.shape).toEqual([values.length]);
    Array.from(array.data).forEach((value, i) => {
      expect(Math.fround(value)).toBe(Math.fround(values[i]));
    });
    // The same from the middle of a larger buffer, at an odd offset.
    const file = idx(type, [values.length], bytes);
    const shifted = new Uint8Array(file.length + 3);
    shifted.set(file, 3);
    expect(Array.from(parseIdx(shifted.subarray(3), 'x').data)).toEqual(Array.from(array.data));
  });

  const good = idx(8, [2, 3], [1, 2, 3, 4, 5, 6]);
  it.each([
    ['nothing', new Uint8Array(0), /starts with the bytes 00 00/],
    ['another magic number', Uint8Array.of(1, 0, 8, 1, 0, 0, 0, 0), /not with '01 00 08 01'/],
    ['an unknown type', Uint8Array.of(0, 0, 10, 1, 0, 0, 0, 0), /type 10 at offset 2/],
    ['rank 0', Uint8Array.of(0, 0, 8, 0), /rank 0/],
    ['a header that is cut off', good.subarray(0, 11), /rank 2/],
    ['data that are cut off', good.subarray(0, 17), /6 bytes after offset 12, but 5 bytes follow/],
    ['bytes after the data', idx(8, [2, 3], [1, 2, 3, 4, 5, 6, 7]), /but 7 bytes follow/],
    ['extents far beyond the file', idx(8, [0xffffffff, 0xffffffff, 0xffffffff], []), /but 0 bytes follow/],
    ['rank 255', idx(8, new Array(255).fill(0xffffffff), []), /of rank 255/],
    ['a compressed file', new Uint8Array(gzipSync(good)), /readIdx/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => parseIdx(bytes, 'evil-ubyte')).toThrow(FormatError);
    expect(() => parseIdx(bytes, 'evil-ubyte')).toThrow(message);
    expect(() => parseIdx(bytes, 'evil-ubyte')).toThrow(/^evil-ubyte/);
  });

  it('reads plain and compressed files alike', async () => {
    expect((await readIdx(new Uint8Array(gzipSync(good)), 'x')).data).toEqual((await readIdx(good, 'x')).data);
  });

  it('random and mutated bytes never throw anything but FormatError', () => {
    const attempt = (bytes: Uint8Array) => {
      try {
        const { shape, data } = parseIdx(bytes, 'fuzz');
        expect(data.length).toBe(shape.reduce((a, b) => a * b, 1));
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), attempt), { numRuns: 2000 });
    const type = fc.constantFrom(8, 9, 11, 12, 13, 14);
    const bytes = fc.tuple(type, fc.nat(4), fc.uint8Array({ maxLength: 64 }));
    fc.assert(
      fc.property(bytes, ([code, rank, rest]) => attempt(Uint8Array.of(0, 0, code, rank, ...rest.map((b) => b & 3)))),
      { numRuns: 2000 },
    );
  });

  it('images and labels make a data set, or say why not', () => {
    const images = (shape: number[]) =>
      parseIdx(idx(8, shape, new Array(shape.reduce((a, b) => a * b, 1)).fill(9)), 'images');
    const labels = (...values: number[]) => parseIdx(idx(8, [values.length], values), 'labels');
    const made = idxDataset('toy', images([3, 2, 2]), labels(0, 2, 1), { classNames: ['a', 'b', 'c'] });
    expect(made).toMatchObject({ name: 'toy', count: 3, shape: [1, 2, 2], classes: 3, classNames: ['a', 'b', 'c'] });
    expect(Array.from(made.labels)).toEqual([0, 2, 1]);
    checkDataset(made);
    expect(idxDataset('toy', images([3, 5]), labels(0, 4, 1)).classes).toBe(5);
    expect(idxDataset('toy', images([1, 3, 2, 2]), labels(0)).shape).toEqual([3, 2, 2]);
    expect(() => idxDataset('toy', images([3, 2, 2]), labels(0, 1))).toThrow(
      /images has 3 images, but labels has 2 labels/,
    );
    expect(() => idxDataset('toy', images([3]), labels(0, 1, 2))).toThrow(/rank 2, 3 or 4/);
    expect(() => idxDataset('toy', images([2, 2]), images([2, 2]))).toThrow(/labels are uint8 of rank 1/);
    expect(() => idxDataset('toy', images([2, 2]), labels(3, 10), { classes: 10 })).toThrow(
      /labels: label 10 of example 1 \(offset 9\) is outside \[0, 10\)/,
    );
    const floats = parseIdx(idx(13, [1, 1], bigEndian('setFloat32', 4, [1])), 'images');
    expect(() => idxDataset('toy', floats, labels(0))).toThrow(FormatError);
  });
});

describe('gzip', () => {
  const content = new Uint8Array(100_000).map((_, i) => i * 7);
  const packed = new Uint8Array(gzipSync(content));

  it('unpacks', async () => {
    expect(await gunzip(packed, 'x')).toEqual(content);
  });

  it('stops a file that unpacks to more than the limit', async () => {
    const bomb = new Uint8Array(gzipSync(new Uint8Array(50_000_000)));
    expect(bomb.length).toBeLessThan(60_000);
    await expect(gunzip(bomb, 'bomb.gz', 1_000_000)).rejects.toThrow(
      /^bomb\.gz: .* more than the allowed 1000000 bytes/,
    );
    await expect(gunzip(bomb, 'bomb.gz', 1_000_000)).rejects.toThrow(FormatError);
    await expect(gunzip(packed, 'x', content.length)).resolves.toHaveLength(content.length);
    await expect(gunzip(packed, 'x', content.length - 1)).rejects.toThrow(FormatError);
  });

  it('damaged, cut-off and extended files throw FormatError and nothing else', async () => {
    const small = new Uint8Array(gzipSync(content.subarray(0, 300)));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(small.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.nat(small.length),
        fc.uint8Array({ maxLength: 4 }),
        async (at, flip, cut, tail) => {
          const bytes = Uint8Array.of(...small.subarray(0, small.length - cut), ...tail);
          if (at < bytes.length) bytes[at] ^= flip;
          try {
            await gunzip(bytes, 'fuzz.gz');
          } catch (error) {
            if (!(error instanceof FormatError)) throw error;
          }
        },
      ),
      { numRuns: 400 },
    );
    await expect(gunzip(small.subarray(0, small.length - 1), 'cut.gz')).rejects.toThrow(
      /^cut\.gz: .*damaged or cut off/,
    );
    await expect(gunzip(new Uint8Array(0), 'empty.gz')).rejects.toThrow(FormatError);
  });
});

describe('CIFAR', () => {
  const record = (labels: number[], fill: number) => [
    ...labels,
    ...new Array(3072).fill(0).map((_, i) => (fill + i) % 256),
  ];

  it('10: records of several files in order', () => {
    const data = parseCifar10('cifar10/train', [
      { label: 'a.bin', bytes: Uint8Array.from([...record([3], 0), ...record([9], 100)]) },
      { label: 'b.bin', bytes: Uint8Array.from(record([0], 200)) },
    ]);
    checkDataset(data);
    expect(data).toMatchObject({ count: 3, shape: [3, 32, 32], classes: 10, classNames: CIFAR10_CLASSES });
    expect(Array.from(data.labels)).toEqual([3, 9, 0]);
    expect([0, 1, 3071, 3072, 6144].map((i) => data.inputs[i])).toEqual([0, 1, 255, 100, 200]);
  });

  it('100: fine or coarse labels', () => {
    const bytes = Uint8Array.from([...record([19, 99], 1), ...record([0, 20], 2)]);
    const fine = parseCifar100('c', [{ label: 'a', bytes }]);
    const coarse = parseCifar100('c', [{ label: 'a', bytes }], 'coarse');
    expect([fine.classes, ...fine.labels]).toEqual([100, 99, 20]);
    expect([coarse.classes, ...coarse.labels]).toEqual([20, 19, 0]);
    expect([fine.inputs[0], fine.inputs[3072]]).toEqual([1, 2]);
    expect(() => parseCifar100('c', [{ label: 'a', bytes }], 'coarse', ['x'])).toThrow(/20 classes, but 1 class names/);
  });

  it('any bytes make a data set in range or a FormatError', () => {
    const lengths = fc.constantFrom(0, 1, 3072, 3073, 3074, 6146, 6148);
    fc.assert(
      fc.property(lengths, fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.boolean(), (length, pattern, hundred) => {
        const bytes = new Uint8Array(length).map((_, i) => pattern[i % pattern.length] % 128);
        const files = [{ label: 'fuzz.bin', bytes }];
        try {
          checkDataset(hundred ? parseCifar100('c', files) : parseCifar10('c', files));
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
        }
      }),
    );
  });

  it('refuses lengths and labels that cannot be', () => {
    const bytes = Uint8Array.from(record([3], 0));
    const read = (b: Uint8Array) => () => parseCifar10('c', [{ label: 'bad.bin', bytes: b }]);
    expect(read(bytes.subarray(1))).toThrow(/^bad\.bin has 3072 bytes, not a whole number of records of 3073/);
    expect(read(new Uint8Array(0))).toThrow(FormatError);
    bytes[0] = 10;
    expect(read(bytes)).toThrow(/^bad\.bin: the label at offset 0 is 10, outside \[0, 10\)/);
    expect(() =>
      parseCifar100('c', [{ label: 'bad.bin', bytes: Uint8Array.from(record([20, 5], 0)) }], 'coarse'),
    ).toThrow(/offset 0 is 20/);
    expect(() => parseCifar100('c', [{ label: 'bad.bin', bytes: Uint8Array.from(record([0, 100], 0)) }])).toThrow(
      /offset 1 is 100/,
    );
  });
});
