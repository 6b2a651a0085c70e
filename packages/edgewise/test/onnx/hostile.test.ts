// Bytes that are no model, or lie about themselves.
import { readFileSync } from 'node:fs';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import type { OnnxModel } from '../../src/onnx/model.ts';
import { readOnnx } from '../../src/onnx/read.ts';
import { writeOnnx } from '../../src/onnx/write.ts';
import { anyModel } from './arbitrary.ts';

const official = new Uint8Array(readFileSync(new URL('../fixtures/onnx/everything.onnx', import.meta.url)));

/** The model, or undefined where the bytes are refused properly; any other error passes through and fails the test. */
function readOrRefuse(bytes: Uint8Array): OnnxModel | undefined {
  try {
    return readOnnx(bytes);
  } catch (error) {
    if (error instanceof FormatError) {
      return undefined;
    }
    throw error;
  }
}

/** What is read can be written, and is then the same model. */
function expectSound(bytes: Uint8Array): void {
  const model = readOrRefuse(bytes);
  if (model !== undefined) {
    expect(readOnnx(writeOnnx(model))).toEqual(model);
  }
}

const damage = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at: fc.nat(), byte: fc.nat(255) }),
  fc.record({ kind: fc.constant('remove' as const), at: fc.nat(), length: fc.integer({ min: 1, max: 12 }) }),
  fc.record({
    kind: fc.constant('insert' as const),
    at: fc.nat(),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 12 }).map((n) => new Uint8Array(n).fill(0xff)),
    ),
  }),
);

function damaged(bytes: Uint8Array, damages: readonly (typeof damage extends fc.Arbitrary<infer T> ? T : never)[]) {
  const list = [...bytes];
  for (const item of damages) {
    const at = item.at % (list.length + 1);
    switch (item.kind) {
      case 'set':
        list[at] = item.byte;
        break;
      case 'remove':
        list.splice(at, item.length);
        break;
      case 'insert':
        list.splice(at, 0, ...item.bytes);
        break;
    }
  }
  return Uint8Array.from(list);
}

describe('damaged bytes are refused, or read as a sound model:', () => {
  test('a file cut off anywhere', () => {
    for (let length = 0; length < official.length; length++) {
      expectSound(official.slice(0, length));
    }
  });

  test('a file with any one byte changed to its extremes', () => {
    for (let at = 0; at < official.length; at++) {
      for (const change of [0x01, 0x08, 0x80, 0xff]) {
        const bytes = official.slice();
        bytes[at] ^= change;
        readOrRefuse(bytes);
      }
    }
  });

  test('a file of the official package, damaged', () => {
    fc.assert(
      fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
        expectSound(damaged(official, damages));
      }),
      { numRuns: 1500 },
    );
  });

  test('any model, damaged', () => {
    fc.assert(
      fc.property(anyModel, fc.array(damage, { minLength: 1, maxLength: 3 }), (model, damages) => {
        expectSound(damaged(writeOnnx(model), damages));
      }),
      { numRuns: 400 },
    );
  });

  test('anything', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expectSound(bytes);
      }),
      { numRuns: 2000 },
    );
  });
});

type Part = (writer: BinaryWriter) => unknown;
const int =
  (field: number, value: number | bigint): Part =>
  (w) =>
    w.tag(field, 0).int64(BigInt(value));
const blob =
  (field: number, value: Uint8Array | string): Part =>
  (w) =>
    w.tag(field, 2).bytes(typeof value === 'string' ? new TextEncoder().encode(value) : value);
const raw =
  (...bytes: number[]): Part =>
  (w) =>
    w.raw(Uint8Array.from(bytes));
const message =
  (field: number, ...parts: Part[]): Part =>
  (w) => {
    w.tag(field, 2).fork();
    for (const part of parts) part(w);
    w.join();
  };
function bytesOf(...parts: Part[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const part of parts) part(writer);
  return writer.finish();
}

const graphOf = (...parts: Part[]) => bytesOf(int(1, 10), message(7, ...parts));
const tensorOf = (...parts: Part[]) => graphOf(message(5, blob(8, 'w'), ...parts));
const attrOf = (...parts: Part[]) => graphOf(message(1, blob(4, 'Op'), message(5, ...parts)));
const inputOf = (...parts: Part[]) => graphOf(message(11, blob(1, 'x'), message(2, ...parts)));
const float1 = new Uint8Array(4);
const nested = (depth: number): Part[] =>
  depth === 0
    ? []
    : [message(1, blob(4, 'If'), message(5, blob(1, 'b'), int(20, 5), message(6, ...nested(depth - 1))))];

/** Graphs inside graphs without recursion of our own, from the inside out. */
function deeplyNested(depth: number): Uint8Array {
  let graph: Uint8Array = new Uint8Array(0);
  for (let i = 0; i < depth; i++) {
    const inner = graph;
    graph = bytesOf(message(1, blob(4, 'If'), message(5, blob(1, 'b'), int(20, 5), blob(6, inner))));
  }
  return bytesOf(int(1, 10), blob(7, graph));
}

describe('refuses', () => {
  test.each<[string, Uint8Array, RegExp]>([
    ['nothing at all', new Uint8Array(0), /0 as its IR version \(byte 0\)/],
    ['a model without a graph', bytesOf(int(1, 10)), /has no graph/],
    ['a model with two graphs', bytesOf(int(1, 10), message(7), message(7)), /the graph is given twice/],
    ['a model without IR version', bytesOf(message(7)), /0 as its IR version/],
    ['a negative IR version', bytesOf(int(1, -1), message(7)), /-1 as its IR version/],
    ['operator set 0', bytesOf(int(1, 10), message(7), message(8, blob(1, 'd'))), /operator set 'd' has version 0/],
    ['a length beyond the end', bytesOf(int(1, 10), raw(0x3a, 100)), /field 7 claims 100 bytes where 0 are left/],
    ['a length beyond its message', graphOf(raw(0x0a, 3, 0x22, 9, 0x41)), /graph\.node\[0\]: field 4 claims 9 bytes/],
    ['a length beyond 32 bits', graphOf(raw(0x12, 0x81, 0x80, 0x80, 0x80, 0x10, 0x41)), /length beyond 32 bits/],
    ['a varint without end', graphOf(raw(0x12, ...new Array(11).fill(0x80))), /graph: invalid varint/],
    [
      'a number that runs out of its message',
      bytesOf(int(1, 10), message(7), raw(0x42, 2, 0x10, 0x80, 0x01)),
      /field 2 runs past the end of its message/,
    ],
    ['an element that runs out of its list', attrOf(blob(1, 'a'), raw(0x42, 1, 0x80), int(20, 7)), /last element/],
    ['a field number of 0', graphOf(raw(0x02, 0)), /illegal tag/],
    ['an unknown wire type', graphOf(raw(0x0f)), /illegal tag: field no 1 wire type 7/],
    ['a group that ends outside any', graphOf(raw(0xa4, 0x06)), /cant skip wire type 4/],
    ['groups nested without end', graphOf(raw(...new Array(50_000).fill(0x4b))), /maximum recursion depth/],
    ['text where a number is due', bytesOf(blob(1, 'a'), message(7)), /field 1 has wire type 2 where 0 is due/],
    ['a name that is not UTF-8', graphOf(blob(2, Uint8Array.of(0xc3, 0x28))), /field 2 is not UTF-8/],
    ['a node without operator', graphOf(message(1, blob(3, 'n'))), /node 'n' has no op_type/],
    ['sparse initializers', graphOf(message(15)), /sparse initializers/],
    ['graphs nested 33 deep', graphOf(...nested(32)), /nested deeper than 32/],
    ['graphs nested 3000 deep', deeplyNested(3000), /nested deeper than 32/],

    ['an attribute without name', attrOf(int(20, 2)), /graph\.node\[0\]\.attribute\[0\]: an attribute has no name/],
    ['an attribute without value', attrOf(blob(1, 'a')), /attribute 'a' has no value/],
    ['a tensor attribute without tensor', attrOf(blob(1, 'a'), int(20, 4)), /'a' has no value of the kind it claims/],
    ['an attribute of two tensors', attrOf(message(5, int(2, 1), int(1, 0)), message(5)), /tensor is given twice/],
    ['an attribute of sparse tensor kind', attrOf(blob(1, 'a'), int(20, 11)), /'a' is of unsupported kind 11/],
    ['an attribute of no known kind', attrOf(blob(1, 'a'), int(20, 99)), /'a' is of unsupported kind 99/],
    ['an attribute text that is not UTF-8', attrOf(blob(4, Uint8Array.of(0xff))), /field 4 is not UTF-8/],
    ['a reference outside functions', attrOf(blob(1, 'a'), blob(21, 'p'), int(20, 1)), /outside any function/],
    [
      'an attribute given twice',
      graphOf(message(1, blob(4, 'Op'), message(5, blob(1, 'a'), int(3, 1)), message(5, blob(1, 'a'), int(3, 1)))),
      /attribute 'a' is given twice/,
    ],

    ['a tensor without type', tensorOf(), /tensor 'w' has element type 0, which ONNX does not define/],
    ['an undefined element type', tensorOf(int(2, 99)), /element type 99, which ONNX does not define/],
    ['an element type that wraps to float32', tensorOf(int(2, 2n ** 32n + 1n)), /element type 4294967297/],
    ['complex numbers', tensorOf(int(2, 14)), /element type complex64, which is not supported/],
    ['a negative dimension', tensorOf(int(2, 1), int(1, -1), blob(9, float1)), /dimension of -1/],
    [
      'a dimension beyond 2^53',
      tensorOf(int(2, 1), int(1, 2n ** 60n), blob(9, float1)),
      /dimension of 1152921504606847000/,
    ],
    [
      'dimensions whose product overflows to the length given',
      tensorOf(int(2, 1), int(1, 2n ** 32n), int(1, 2n ** 32n), blob(9, new Uint8Array(0))),
      /more elements than any file can hold/,
    ],
    ['less data than the shape', tensorOf(int(2, 1), int(1, 2), blob(9, float1)), /\[2\] needs 8 bytes, and has 4/],
    ['more data than the shape', tensorOf(int(2, 1), int(1, 0), blob(9, float1)), /\[0\] needs 0 bytes, and has 4/],
    ['no data', tensorOf(int(2, 1), int(1, 2)), /\[2\] needs 8 bytes, and has 0/],
    ['a scalar without data', tensorOf(int(2, 7)), /shape \[\] needs 8 bytes, and has 0/],
    [
      'a huge shape over few integers',
      tensorOf(int(2, 6), int(1, 2n ** 40n), blob(5, float1)),
      /1099511627776 elements, and has 4/,
    ],
    [
      'integers that end early',
      tensorOf(int(2, 6), int(1, 1), blob(5, Uint8Array.of(1, 0x80))),
      /end inside an element/,
    ],
    [
      'an integer of 11 bytes',
      tensorOf(int(2, 7), int(1, 1), blob(7, Uint8Array.of(...new Array(10).fill(0x80), 1))),
      /invalid varint/,
    ],
    ['floats in part', tensorOf(int(2, 1), int(1, 1), blob(4, new Uint8Array(3))), /needs 4 bytes, and has 3/],
    [
      "elements in another type's field",
      tensorOf(int(2, 1), int(1, 1), int(5, 1)),
      /keeps its elements in int32_data where float_data/,
    ],
    ['elements in two fields', tensorOf(int(2, 6), int(1, 1), int(5, 1), blob(9, float1)), /in 2 fields at once/],
    ['strings in a tensor of numbers', tensorOf(int(2, 1), int(1, 1), blob(6, 'a')), /in string_data where float_data/],
    ['too few strings', tensorOf(int(2, 8), int(1, 2), blob(6, 'a')), /needs 2 strings in string_data, and has 1/],
    ['raw strings', tensorOf(int(2, 8), int(1, 0), blob(9, 'a')), /needs 0 strings in string_data/],
    ['a segment of a tensor', tensorOf(message(3)), /is one segment of a tensor/],

    ['external data without location', tensorOf(int(2, 1), int(14, 1)), /without a location/],
    [
      'external data that is not given',
      tensorOf(int(2, 1), int(14, 1), message(13, blob(1, 'location'), blob(2, '../w.bin'))),
      /in the file '\.\.\/w\.bin'; give that file by the option externalData/,
    ],
    ['external strings', tensorOf(int(2, 8), int(14, 1)), /strings in external data/],
    ['external data beside its own', tensorOf(int(2, 1), int(14, 1), blob(9, float1)), /and also names external data/],
    ['an undefined place of data', tensorOf(int(2, 1), int(14, 2), blob(9, float1)), /data_location 2/],

    ['an input of undefined type', inputOf(message(1, int(1, 77))), /value 'x' has element type 77/],
    ['an input of 4-bit integers', inputOf(message(1, int(1, 22))), /value 'x' has element type int4/],
    ['an input that is a sequence', inputOf(message(4)), /value 'x' is of kind sequence; only tensors/],
    ['an input that is a map', inputOf(message(5)), /value 'x' is of kind map; only tensors/],
    ['an input that is optional', inputOf(message(9)), /value 'x' is of kind optional; only tensors/],
    [
      'an input of negative size',
      inputOf(message(1, int(1, 1), message(2, message(1, int(1, -2))))),
      /dimension of -2/,
    ],
    ['an input with two shapes', inputOf(message(1, message(2), message(2))), /shape is given twice/],
    ['a function without name', bytesOf(int(1, 10), message(7), message(25)), /functions\[0\]: a function has no name/],
  ])('%s', (_, bytes, problem) => {
    let caught: unknown;
    try {
      readOnnx(bytes);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(FormatError);
    expect((caught as FormatError).message).toMatch(problem);
    expect((caught as FormatError).message).toMatch(/^Not a readable ONNX model: .*\(byte \d+\)\.$/);
  });

  test('a shape of a million dimensions, in a message one can read', () => {
    const bytes = tensorOf(int(2, 1), blob(1, new Uint8Array(1e6).fill(1)));
    expect(() => readOnnx(bytes)).toThrow(/and shape \[1,1,1,.*\.\.\. \(byte \d+\)\.$/);
    expect(() => readOnnx(bytes)).toThrow(expect.objectContaining({ message: expect.stringMatching(/^.{0,600}$/) }));
  });

  test.each([
    ['beyond the file', '5', '4'],
    ['negative', '-1', '4'],
    ['huge', '99999999999999999999', '4'],
    ['no number', '0x1', '4'],
    ['of another length', '0', '5'],
  ])('external data at an offset or length %s', (_, offset, length) => {
    const entry = (key: string, value: string) => message(13, blob(1, key), blob(2, value));
    const bytes = tensorOf(
      int(2, 1),
      int(14, 1),
      entry('location', 'f'),
      entry('offset', offset),
      entry('length', length),
    );
    expect(() => readOnnx(bytes, { externalData: () => new Uint8Array(8) })).toThrow(FormatError);
  });
});

describe('reads, as other implementations do,', () => {
  const tensor = (...parts: Part[]) => readOnnx(tensorOf(...parts)).graph.initializers[0];

  test('fields in any order, unknown ones among them', () => {
    const unknown = [
      int(100, 5),
      blob(101, 'later'),
      raw(0xb3, 0x06, 0x08, 0x01, 0xb4, 0x06),
      raw(0xbd, 0x06, 1, 2, 3, 4),
    ];
    const found = tensor(...unknown, blob(9, float1), ...unknown, int(1, 1), int(2, 1), ...unknown);
    expect(found).toEqual({ name: 'w', dtype: 'float32', dims: [1], data: float1 });
  });

  test('packed dimensions', () => {
    expect(tensor(int(2, 1), blob(1, Uint8Array.of(2, 0, 3))).dims).toEqual([2, 0, 3]);
  });

  test('an empty tensor whose other sizes are beyond any number', () => {
    const sizes = new Array<Part>(25).fill(int(1, 2n ** 50n));
    const bytes = tensorOf(int(2, 1), ...sizes, int(1, 0));
    expect(readOnnx(bytes).graph.initializers[0].data).toEqual(new Uint8Array(0));
    expect(readOnnx(writeOnnx(readOnnx(bytes)))).toEqual(readOnnx(bytes));
  });

  test('any number of graphs beside one another', () => {
    const bytes = graphOf(...new Array(100).fill(nested(2)).flat());
    expect(readOnnx(bytes).graph.nodes).toHaveLength(100);
  });

  test('elements one by one, in one run, or in several', () => {
    const data = Uint8Array.of(1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0);
    const expected = { name: 'w', dtype: 'int32', dims: [3], data };
    const minusOne = [...new Array(9).fill(0xff), 1];
    expect(tensor(int(2, 6), int(1, 3), int(5, 1), int(5, -1), int(5, 3))).toEqual(expected);
    expect(tensor(int(2, 6), int(1, 3), blob(5, Uint8Array.of(1, ...minusOne, 3)))).toEqual(expected);
    expect(tensor(int(2, 6), int(1, 3), blob(5, Uint8Array.of(1)), int(5, -1), int(5, 3))).toEqual(expected);
    const float = (w: BinaryWriter) => w.tag(4, 5).float(1);
    const floats = Uint8Array.of(0, 0, 128, 63, 0, 0, 128, 63, 0, 0, 128, 63);
    expect(tensor(int(2, 1), int(1, 3), float, float, float).data).toEqual(floats);
    expect(tensor(int(2, 1), int(1, 3), blob(4, floats.slice(0, 8)), float).data).toEqual(floats);
  });

  test('integers too wide for their type by their low bits', () => {
    expect(tensor(int(2, 3), int(1, 3), int(5, 255), int(5, 256), int(5, -1)).data).toEqual(Uint8Array.of(255, 0, 255));
    expect(tensor(int(2, 9), int(1, 3), int(5, 0), int(5, 256), int(5, -1)).data).toEqual(Uint8Array.of(0, 1, 1));
  });

  test('attributes of IR version 1, which do not say their kind', () => {
    const kinds = (...parts: Part[]) => readOnnx(attrOf(blob(1, 'a'), ...parts)).graph.nodes[0].attrs.a;
    expect(kinds(int(3, 0))).toEqual({ type: 'int', value: 0 });
    expect(kinds((w) => w.tag(2, 5).float(0.5))).toEqual({ type: 'float', value: 0.5 });
    expect(kinds(int(8, 1), int(8, 2))).toEqual({ type: 'ints', value: [1, 2] });
    expect(kinds(blob(9, 'p'))).toEqual({ type: 'strings', value: ['p'] });
  });

  test('values that proto3 writers leave out', () => {
    const kinds = (kind: number) => readOnnx(attrOf(blob(1, 'a'), int(20, kind))).graph.nodes[0].attrs.a;
    expect(kinds(1)).toEqual({ type: 'float', value: 0 });
    expect(kinds(2)).toEqual({ type: 'int', value: 0 });
    expect(kinds(3)).toEqual({ type: 'string', value: '' });
    expect(kinds(7)).toEqual({ type: 'ints', value: [] });
  });

  test('a dimension of -1 as a free one', () => {
    const bytes = inputOf(message(1, int(1, 1), message(2, message(1, int(1, -1)), message(1, int(1, 3)))));
    expect(readOnnx(bytes).graph.inputs[0].dims).toEqual(['', 3]);
  });

  test('an empty type as none', () => {
    expect(readOnnx(inputOf()).graph.inputs).toEqual([{ name: 'x' }]);
    expect(readOnnx(inputOf(message(1))).graph.inputs).toEqual([{ name: 'x' }]);
  });

  test('the domain ai.onnx as the standard one', () => {
    const node = message(1, blob(4, 'Op'), blob(7, 'ai.onnx'));
    const model = readOnnx(bytesOf(int(1, 10), message(7, node), message(8, blob(1, 'ai.onnx'), int(2, 9))));
    expect(model.opsets).toEqual([{ domain: '', version: 9 }]);
    expect(model.graph.nodes[0].domain).toBe('');
  });

  test('documentation that is not UTF-8', () => {
    const model = readOnnx(bytesOf(int(1, 10), message(7), blob(6, Uint8Array.of(0x41, 0xff))));
    expect(model.docString).toBe('A\ufffd');
  });
});
