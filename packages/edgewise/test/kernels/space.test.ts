import { describe, expect, test } from 'vitest';
import { VectorSpace } from '../../src/kernels/index.ts';
import { Bytes } from '../../src/kernels/wasm.ts';

describe('VectorSpace', () => {
  test('hands out zeroed vectors that do not overlap, on cache lines, staggered over a page', () => {
    const space = new VectorSpace();
    const windows = Array.from({ length: 14 }, (_, i) => space.alloc(1000 + i, i % 3 === 0 ? 'float64' : 'float32'));
    const ends = windows.map(({ byteOffset, length, dtype }) => byteOffset + length * (dtype === 'float64' ? 8 : 4));
    for (const [i, { byteOffset }] of windows.entries()) {
      expect(byteOffset % 64).toBe(0);
      if (i > 0) expect(byteOffset).toBeGreaterThanOrEqual(ends[i - 1] + 16);
    }
    // No two of any twelve start at the same place of a 4 KiB page.
    expect(new Set(windows.slice(0, 12).map(({ byteOffset }) => byteOffset % 4096)).size).toBe(12);
    for (const window of windows) expect(window.view().every((x) => x === 0)).toBe(true);
    expect(ends.every((end) => end <= space.memory.buffer.byteLength)).toBe(true);
  });

  test('keeps contents when it grows, and gives new views', () => {
    const space = new VectorSpace();
    const window = space.alloc(8, 'float32');
    window.view().set([1, 2, 3]);
    const old = window.view();
    space.alloc(1_000_000, 'float64');
    expect(old.length).toBe(0);
    expect([...window.view().subarray(0, 4)]).toEqual([1, 2, 3, 0]);
    expect(window.view()).toBe(window.view());
  });

  test('does not grow within what was reserved', () => {
    const reserve = VectorSpace.bytesFor(10_001, 'float32', 6);
    const space = new VectorSpace({ reserve });
    const { buffer } = space.memory;
    for (let i = 0; i < 6; i++) space.alloc(10_001, 'float32');
    expect(space.memory.buffer).toBe(buffer);
  });

  test('says what is wrong with a size', () => {
    const space = new VectorSpace();
    expect(() => space.alloc(2 ** 31, 'float32')).toThrow(/8 GiB more .* exceed the 4 GiB/);
    expect(() => space.alloc(-1, 'float32')).toThrow(/whole number of elements/);
    expect(() => space.alloc(0.5, 'float32')).toThrow(/whole number of elements/);
    expect(() => new VectorSpace({ reserve: Number.NaN })).toThrow(/reserve is NaN/);
    expect(() => new VectorSpace({ reserve: 2 ** 33 })).toThrow(/reserve/);
    const small = space.alloc(4, 'float32');
    expect(small.view().length).toBe(4);
  });
});

describe('LEB128', () => {
  const decode = (bytes: readonly number[], signed: boolean) => {
    let value = 0n;
    let shift = 0n;
    for (const byte of bytes) {
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
      if ((byte & 0x80) === 0) return Number(signed && byte & 0x40 ? value - (1n << shift) : value);
    }
    return Number.NaN;
  };
  const numbers = [0, 1, 63, 64, 127, 128, 255, 8191, 8192, 65535, 2 ** 21, 2 ** 31 - 1];

  test('unsigned', () => {
    for (const x of [...numbers, 2 ** 31, 2 ** 32 - 1]) expect(decode(new Bytes().u32(x).list, false)).toBe(x);
  });
  test('signed', () => {
    for (const x of numbers.flatMap((n) => [n, -n]).concat(-(2 ** 31)))
      expect(decode(new Bytes().s32(x).list, true)).toBe(x === 0 ? 0 : x);
  });
});
