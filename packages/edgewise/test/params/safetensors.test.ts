import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError, FormatError } from '../../src/base/errors.ts';
import {
  parseSafetensors,
  parseSafetensorsHeader,
  type SafeTensor,
  safetensorsChunks,
  safetensorsHeaderLength,
  writeSafetensors,
} from '../../src/params/safetensors.ts';
import { tensorFrom, tensorValues, tensorView } from '../../src/params/tensor-values.ts';

const official = new Uint8Array(readFileSync(new URL('../fixtures/safetensors/official.safetensors', import.meta.url)));

/** A file with the given header text or object, padded as it comes. */
function fileOf(header: unknown, dataBytes = 0, text = typeof header === 'string' ? header : JSON.stringify(header)) {
  const json = new TextEncoder().encode(text);
  const out = new Uint8Array(8 + json.length + dataBytes);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  return out;
}

const tensor = (dtype: string, shape: unknown, begin: unknown, end: unknown) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe('a file of the reference implementation', () => {
  const file = parseSafetensors(official, 'official.safetensors');
  const get = (name: string): SafeTensor => {
    const found = file.tensors.get(name);
    if (!found) throw new Error(name);
    return found;
  };

  it('is read in full', () => {
    expect([...file.metadata]).toEqual([['format', 'np']]);
    expect(file.tensors.size).toBe(18);
    expect(get('layer.weight').shape).toEqual([2, 3]);
    expect(Array.from(tensorValues(get('layer.weight')))).toEqual([-0.25, -0.125, 0, 0.125, 0.25, 0.375]);
    expect(Array.from(tensorValues(get('double')))).toEqual([1 / 3, -1e300]);
    expect(Array.from<number | bigint>(tensorView(get('long')))).toEqual([-(2n ** 62n), 2n ** 53n + 1n]);
    expect(Array.from<number | bigint>(tensorView(get('ulong')))).toEqual([2n ** 64n - 1n]);
    expect(Array.from<number | bigint>(tensorView(get('int')))).toEqual([-(2 ** 31), 7]);
    expect(Array.from<number | bigint>(tensorView(get('uint')))).toEqual([2 ** 32 - 1]);
    expect(Array.from<number | bigint>(tensorView(get('short')))).toEqual([-5, 6, 7]);
    expect(Array.from<number | bigint>(tensorView(get('ushort')))).toEqual([65535]);
    expect(Array.from<number | bigint>(tensorView(get('byte')))).toEqual([-1, 1, 127]);
    expect(Array.from<number | bigint>(tensorView(get('ubyte')))).toEqual([0, 255]);
    expect(Array.from<number | bigint>(tensorView(get('mask')))).toEqual([1, 0, 1]);
    expect(get('empty').shape).toEqual([0, 4]);
    expect(tensorView(get('empty')).length).toBe(0);
    expect(get('scalar').shape).toEqual([]);
    expect(Array.from(tensorValues(get('scalar')))).toEqual([42]);
    expect(Array.from(tensorValues(get('naïve/重み')))).toEqual([3]);
    expect(Array.from(tensorValues(get('2')))).toEqual([2]);
    const half = [1, -2, 65504, 2 ** -24, 0.333251953125, Number.POSITIVE_INFINITY];
    expect(Array.from(tensorValues(get('half')))).toEqual(half);
  });

  it('is written again byte for byte, whatever the order given', () => {
    expect(writeSafetensors(file.tensors.values(), file.metadata)).toEqual(official);
    expect(writeSafetensors([...file.tensors.values()].reverse(), file.metadata)).toEqual(official);
  });

  it('is viewed in place where aligned and copied where not', () => {
    expect(tensorView(get('layer.weight')).buffer).toBe(official.buffer);
    for (const shift of [1, 2, 3, 4]) {
      // A Buffer too: its `slice` does not copy.
      const moved = Buffer.alloc(official.length + shift);
      moved.set(official, shift);
      const again = parseSafetensors(moved.subarray(shift), 'moved');
      for (const [name, value] of file.tensors) {
        const other = again.tensors.get(name);
        if (!other || value.dtype === 'F16') continue;
        expect(Array.from<number | bigint>(tensorView(other))).toEqual(Array.from<number | bigint>(tensorView(value)));
      }
    }
  });

  it('can be opened from its header alone', () => {
    const length = safetensorsHeaderLength(official.subarray(0, 8), official.length, 'x');
    const header = parseSafetensorsHeader(official.subarray(0, length), official.length, 'x');
    for (const [name, { offset, byteLength }] of header.entries) {
      expect(official.subarray(offset, offset + byteLength)).toEqual(get(name).data);
    }
    expect(() => parseSafetensorsHeader(official.subarray(0, length - 1), official.length, 'x')).toThrow(FormatError);
  });
});

describe('writing', () => {
  const floats = fc.float32Array({ maxLength: 20, noNaN: false });
  const doubles = fc.float64Array({ maxLength: 20 });
  const names = fc.string({ unit: 'binary' }).filter((name) => name !== '__metadata__' && !/\p{Surrogate}/u.test(name));

  it('round-trips any names, metadata and values, aligned for every dtype', () => {
    const entry = fc.tuple(names, fc.oneof(floats, doubles));
    fc.assert(
      fc.property(
        fc.uniqueArray(entry, { selector: ([name]) => name, maxLength: 8 }),
        fc.uniqueArray(fc.tuple(names, names), { selector: ([key]) => key, maxLength: 4 }),
        (entries, metadata) => {
          const tensors = entries.map(([name, values]) => tensorFrom(name, [values.length], values));
          const bytes = writeSafetensors(tensors, metadata);
          const file = parseSafetensors(bytes, 'round trip');
          expect([...file.metadata]).toEqual(metadata);
          expect(file.tensors.size).toBe(entries.length);
          for (const { name, dtype, shape, data } of tensors) {
            const got = file.tensors.get(name);
            expect(got?.dtype).toBe(dtype);
            expect(got?.shape).toEqual(shape);
            expect(got?.data).toEqual(data);
            if (got) expect(tensorView(got).buffer).toBe(bytes.buffer);
          }
        },
      ),
    );
  });

  it('hands out the tensors in place', () => {
    const values = Float32Array.of(1, 2, 3);
    const chunks = safetensorsChunks([tensorFrom('a', [3], values)]);
    expect(chunks[1].buffer).toBe(values.buffer);
    expect(chunks[0].length % 8).toBe(0);
  });

  it('rounds to F16 and BF16, ties to even', () => {
    const values = Float64Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -1e38, Number.NaN, 0.1, 3.4e38, -0);
    const bf = tensorFrom('b', [8], values, 'BF16');
    expect(bf.data.length).toBe(16);
    const back = Array.from(tensorValues(bf));
    const inf = Number.POSITIVE_INFINITY;
    expect(back.slice(0, 3)).toEqual([1, 1, 1 + 2 ** -6]);
    expect(back[3]).toBeCloseTo(-1e38, -36);
    expect(back.slice(4)).toEqual([Number.NaN, 0.10009765625, inf, -0]);
    const half = tensorFrom('h', [4], Float32Array.of(0.1, 2049, -70000, 2 ** -25), 'F16');
    expect(Array.from(tensorValues(half))).toEqual([0.0999755859375, 2048, -inf, 0]);
    expect(tensorFrom('d', [1], Float32Array.of(2), 'F64').data.length).toBe(8);
    expect(tensorFrom('s', [1], Float64Array.of(2), 'F32').data.length).toBe(4);
  });

  it('decodes every F16 pattern as its definition says', () => {
    const words = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const values = tensorValues({ name: 'h', dtype: 'F16', shape: [65536], data: new Uint8Array(words.buffer) });
    for (let i = 0; i < 65536; i++) {
      const e = (i >> 10) & 31;
      const f = (i & 1023) / 1024;
      const magnitude =
        e === 31 ? (f === 0 ? Number.POSITIVE_INFINITY : Number.NaN) : e === 0 ? f * 2 ** -14 : (1 + f) * 2 ** (e - 15);
      expect(values[i]).toBe(i >> 15 ? -magnitude : magnitude);
    }
  });

  it('refuses what the format cannot hold', () => {
    const one = tensorFrom('a', [1], Float32Array.of(1));
    expect(() => writeSafetensors([one, one])).toThrow(/named "a"/);
    expect(() => writeSafetensors([{ ...one, name: '__metadata__' }])).toThrow(/reserves/);
    expect(() => writeSafetensors([{ ...one, shape: [2] }])).toThrow(ConfigError);
    expect(() => writeSafetensors([{ ...one, name: 'x\ud800' }])).toThrow(/Unicode/);
    expect(() => writeSafetensors([one], [['k', '\udc00']])).toThrow(/Unicode/);
    expect(() => tensorView({ ...one, dtype: 'F8_E4M3', shape: [4] })).toThrow(ConfigError);
  });

  it('an empty file is the header alone', () => {
    const bytes = writeSafetensors([]);
    expect(Array.from(bytes)).toEqual([8, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d, 32, 32, 32, 32, 32, 32]);
    expect(parseSafetensors(bytes, 'empty').tensors.size).toBe(0);
  });
});

describe('hostile files', () => {
  const ok = tensor('F32', [2], 0, 8);
  const cases: [what: string, bytes: Uint8Array, message: RegExp][] = [
    ['too short', new Uint8Array(7), /8-byte header length/],
    ['header beyond the file', fileOf({ a: ok }, 8).subarray(0, 20), /only 12 bytes follow/],
    ['header above the limit', Uint8Array.of(1, 225, 245, 5, 0, 0, 0, 0, 0x7b), /limit of 100000000/],
    ['header length of 2^63', Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 128, 0x7b), /limit/],
    ['no brace', fileOf('[]'), /must start with/],
    ['leading space', fileOf(' {}'), /must start with/],
    ['empty header', fileOf(''), /must start with/],
    ['bad JSON', fileOf('{"a":'), /not valid JSON/],
    ['bytes after the JSON', fileOf('{}\0'), /not valid JSON/],
    ['deep JSON', fileOf(`{"a":${'['.repeat(200_000)}`), /not valid JSON/],
    ['deep but valid JSON', fileOf(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), /must be an object/],
    ['deep shape', fileOf(`{"a":{"dtype":"F32","shape":${'['.repeat(9999)}${']'.repeat(9999)}}}`), /whole numbers/],
    [
      'bad UTF-8',
      (() => {
        const b = fileOf('{"ab":1}');
        b[10] = 0xff;
        return b;
      })(),
      /UTF-8/,
    ],
    [
      'a name twice',
      fileOf(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        8,
      ),
      /"a" twice/,
    ],
    [
      'a name twice, once escaped',
      fileOf(
        '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
      ),
      /"a" twice/,
    ],
    ['a field twice', fileOf('{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}', 8), /"shape" twice/],
    ['a tensor that is no object', fileOf({ a: 3 }), /must be an object/],
    ['a missing dtype', fileOf({ a: { shape: [2], data_offsets: [0, 8] } }, 8), /dtype undefined/],
    ['an unknown dtype', fileOf({ a: tensor('F128', [2], 0, 8) }, 8), /dtype "F128"/],
    ['a dtype of the prototype', fileOf({ a: tensor('toString', [2], 0, 8) }, 8), /dtype "toString"/],
    ['a negative extent', fileOf({ a: tensor('F32', [-2], 0, 8) }, 8), /shape/],
    ['a fractional extent', fileOf({ a: tensor('F32', [0.5], 0, 2) }, 2), /shape/],
    ['a shape that is no list', fileOf({ a: tensor('F32', '2', 0, 8) }, 8), /shape "2"/],
    ['a shape beyond 2^53', fileOf({ a: tensor('F32', [2 ** 40, 2 ** 40], 0, 8) }, 8), /2\^53/],
    [
      'a shape with zero and a huge extent',
      fileOf({ a: tensor('F32', [2 ** 53 - 1, 0, 2 ** 53 - 1], 0, 8) }, 8),
      /takes 0 bytes/,
    ],
    ['half a byte', fileOf({ a: tensor('F4', [3], 0, 2) }, 2), /no whole number/],
    ['a shape that does not fit', fileOf({ a: tensor('F32', [3], 0, 8) }, 8), /takes 12 bytes, but has 8/],
    ['reversed offsets', fileOf({ a: tensor('F32', [2], 8, 0) }, 8), /outside/],
    ['three offsets', fileOf({ a: { ...ok, data_offsets: [0, 8, 8] } }, 8), /two whole numbers/],
    ['offsets beyond the file', fileOf({ a: tensor('F32', [4], 0, 16) }, 8), /outside the 8 bytes/],
    ['huge offsets', fileOf({ a: tensor('F32', [2], 2 ** 53, 2 ** 53 + 8) }, 8), /two whole numbers/],
    ['overlap', fileOf({ a: ok, b: tensor('F32', [2], 4, 12) }, 12), /"b" starts at offset \d+, inside/],
    ['the same bytes twice', fileOf({ a: ok, b: ok }, 8), /inside/],
    ['a gap', fileOf({ a: ok, b: tensor('F32', [1], 12, 16) }, 16), /gap/],
    ['a gap at the start', fileOf({ a: tensor('F32', [1], 4, 8) }, 8), /gap/],
    ['bytes after the last tensor', fileOf({ a: ok }, 9), /cover all/],
    ['data without tensors', fileOf({}, 4), /cover all/],
    ['metadata that is no object', fileOf({ __metadata__: 'x' }), /must map names/],
    ['metadata that is not text', fileOf({ __metadata__: { step: 3 } }), /"step" must be a string/],
    ['metadata twice', fileOf('{"__metadata__":{"a":"1","a":"2"}}'), /"a" twice/],
  ];
  it.each(cases)('%s: a FormatError that names the file', (_, bytes, message) => {
    let error: unknown;
    try {
      parseSafetensors(bytes, 'evil.safetensors');
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(FormatError);
    if (error instanceof FormatError) {
      expect(error.message).toMatch(message);
      expect(error.message).toMatch(/^evil\.safetensors/);
      expect(error.message.length).toBeLessThan(600);
    }
  });

  it('braces, quotes and colons in names are not structure', () => {
    const odd = ['{', '}', '"', '\\', '":', '{"a":', '\\"', '__proto__', 'constructor', ''];
    const file = parseSafetensors(
      writeSafetensors(odd.map((name) => tensorFrom(name, [1], Float32Array.of(7)))),
      'odd',
    );
    expect([...file.tensors.keys()].sort()).toEqual([...odd].sort());
  });

  it('accepts sub-byte dtypes that fill whole bytes', () => {
    const bytes = fileOf({ a: tensor('F4', [4], 0, 2), b: tensor('F6_E2M3', [4], 2, 5) }, 5);
    expect(parseSafetensors(bytes, 'x').tensors.get('b')?.data.length).toBe(3);
  });

  const isFormatErrorOrFine = (bytes: Uint8Array) => {
    try {
      const file = parseSafetensors(bytes, 'fuzz');
      // What is accepted lies inside the file.
      for (const { data } of file.tensors.values()) {
        expect(data.byteOffset + data.length).toBeLessThanOrEqual(bytes.byteOffset + bytes.length);
      }
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
  };

  it('random bytes never throw anything but FormatError', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), isFormatErrorOrFine), { numRuns: 2000 });
  });

  it('random JSON headers never throw anything but FormatError', () => {
    const offsets = fc.array(fc.oneof(fc.nat(20), fc.double()), { maxLength: 3 });
    const record = fc.record(
      {
        dtype: fc.oneof(fc.constantFrom('F32', 'U8', 'F4', 'I64'), fc.string()),
        shape: fc.oneof(fc.array(fc.nat(3)), fc.anything()),
        data_offsets: offsets,
      },
      { requiredKeys: [] },
    );
    const header = fc.dictionary(fc.string(), fc.oneof({ weight: 3, arbitrary: record }, fc.jsonValue()));
    const safe = fc.property(header, fc.nat(40), (value, extra) => {
      let text: string;
      try {
        text = JSON.stringify(value);
      } catch {
        return; // BigInts and cycles of fc.anything.
      }
      isFormatErrorOrFine(fileOf(value, extra, text));
    });
    fc.assert(safe, { numRuns: 1500 });
  });

  it('a valid file with any few bytes changed, cut or added never throws anything but FormatError', () => {
    const edit = fc.tuple(fc.nat(official.length - 1), fc.nat(255));
    fc.assert(
      fc.property(
        fc.array(edit, { maxLength: 4 }),
        fc.nat(official.length),
        fc.uint8Array({ maxLength: 8 }),
        (edits, cut, tail) => {
          const bytes = new Uint8Array(official.length - cut + tail.length);
          bytes.set(official.subarray(0, official.length - cut));
          bytes.set(tail, official.length - cut);
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          isFormatErrorOrFine(bytes);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('every single-byte change of the header keeps to FormatError', () => {
    for (let at = 0; at < 1150; at++) {
      for (const value of [0, 0x22, 0x2d, 0x39, 0x5b, 0x7d, 0xff]) {
        const bytes = official.slice();
        bytes[at] = value;
        isFormatErrorOrFine(bytes);
      }
    }
  });
});
