import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import type { OnnxAttr, OnnxGraph, OnnxModel, OnnxTensor } from '../../src/onnx/model.ts';
import { readOnnx } from '../../src/onnx/read.ts';
import { MessageReader, MessageWriter } from '../../src/onnx/wire.ts';
import { writeOnnx } from '../../src/onnx/write.ts';
import { anyModel } from './arbitrary.ts';

const empty: OnnxGraph = { name: 'g', nodes: [], inputs: [], outputs: [], initializers: [] };

function modelWith(graph: Partial<OnnxGraph>): OnnxModel {
  return {
    irVersion: 10,
    opsets: [{ domain: '', version: 21 }],
    producerName: '',
    producerVersion: '',
    graph: { ...empty, ...graph },
    metadata: {},
  };
}

function modelWithAttr(attr: OnnxAttr): OnnxModel {
  return modelWith({ nodes: [{ opType: 'Op', domain: '', name: 'n', inputs: [], outputs: [], attrs: { a: attr } }] });
}

function attrOf(model: OnnxModel): OnnxAttr {
  return model.graph.nodes[0].attrs.a;
}

describe('writing and reading', () => {
  test('gives back any model', () => {
    fc.assert(
      fc.property(anyModel, (model) => {
        expect(readOnnx(writeOnnx(model))).toEqual(model);
      }),
      { numRuns: 400 },
    );
  });

  test('gives the same bytes for the same model', () => {
    fc.assert(
      fc.property(anyModel, (model) => {
        const bytes = writeOnnx(model);
        expect(writeOnnx(readOnnx(bytes))).toEqual(bytes);
      }),
    );
  });

  test('keeps tensor data as views into the bytes that were read', () => {
    const data = Uint8Array.from({ length: 4096 }, (_, i) => i & 0xff);
    const bytes = writeOnnx(modelWith({ initializers: [{ name: 'w', dtype: 'float32', dims: [1024], data }] }));
    const [tensor] = readOnnx(bytes).graph.initializers;
    expect(tensor.data).toEqual(data);
    expect(tensor.data.buffer).toBe(bytes.buffer);
  });

  test('reads bytes at an odd offset of a larger buffer, and a Buffer as plain bytes', () => {
    const tensor: OnnxTensor = { name: 'w', dtype: 'int64', dims: [1], data: new Uint8Array(8).fill(7) };
    const bytes = writeOnnx(modelWith({ initializers: [tensor] }));
    const large = new Uint8Array(bytes.length + 20).fill(255);
    large.set(bytes, 3);
    const read = readOnnx(Buffer.from(large.buffer, 3, bytes.length)).graph.initializers[0];
    expect(read).toEqual(tensor);
    expect(Buffer.isBuffer(read.data)).toBe(false);
  });

  test('takes the ends of int64, which doubles lack, to its ends', () => {
    const ends = [2 ** 63, -(2 ** 63), 2 ** 53 - 1, -(2 ** 53) + 1, -1, 2 ** 32, 2 ** 32 - 1, 2 ** 31];
    const bytes = writeOnnx(modelWithAttr({ type: 'ints', value: ends }));
    expect(attrOf(readOnnx(bytes))).toEqual({ type: 'ints', value: ends });
  });

  test('rounds floats to float32', () => {
    const read = attrOf(readOnnx(writeOnnx(modelWithAttr({ type: 'floats', value: [0.1, 3.4028235e38, 1e-46] }))));
    expect(read).toEqual({ type: 'floats', value: [Math.fround(0.1), 3.4028234663852886e38, 0] });
  });

  test('finds nothing inherited among the attributes of a model from a file', () => {
    const { attrs } = readOnnx(writeOnnx(modelWithAttr({ type: 'int', value: 1 }))).graph.nodes[0];
    expect(attrs.a).toEqual({ type: 'int', value: 1 });
    expect(attrs.constructor).toBeUndefined();
    expect('toString' in attrs).toBe(false);
  });
});

test('a long blob comes out whole, whether or not its message was said to hold blobs', () => {
  const blob = Uint8Array.from({ length: 3000 }, (_, i) => i & 0xff);
  const written = [true, false].map((holdsBlobs) => {
    const writer = new MessageWriter();
    writer.int(1, 5);
    writer.message(2, holdsBlobs, (outer) => {
      outer.int(3, 6);
      outer.message(4, true, (inner) => inner.bytes(5, blob));
      outer.string(6, 'after');
    });
    return writer.finish();
  });
  expect(written[0]).toEqual(written[1]);
  const found = MessageReader.read(written[0], undefined, (r) => {
    r.next();
    r.skip();
    r.next();
    return r.message('outer', -1, () => {
      r.next();
      r.skip();
      r.next();
      const bytes = r.message('inner', -1, () => (r.next() ? r.bytes() : undefined));
      r.next();
      return [bytes, r.field, r.string()];
    });
  });
  expect(found).toEqual([blob, 6, 'after']);
});

describe('writing refuses', () => {
  const tensor = (change: Partial<OnnxTensor>): OnnxModel =>
    modelWith({ initializers: [{ name: 'w', dtype: 'float32', dims: [2], data: new Uint8Array(8), ...change }] });
  const nested = (depth: number): OnnxGraph =>
    depth === 0
      ? empty
      : {
          ...empty,
          nodes: [
            {
              opType: 'If',
              domain: '',
              name: '',
              inputs: [],
              outputs: [],
              attrs: { a: { type: 'graph', value: nested(depth - 1) } },
            },
          ],
        };

  test.each<[string, OnnxModel, RegExp]>([
    ['data shorter than the shape', tensor({ dims: [3] }), /'w' of type float32 and shape \[3\] needs 12 bytes.*got 8/],
    ['a negative dimension', tensor({ dims: [-2] }), /'w' has a dimension of -2/],
    ['a fractional dimension', tensor({ dims: [0.5] }), /'w' has a dimension of 0.5/],
    ['strings in a tensor of numbers', tensor({ strings: ['a', 'b'] }), /'w'.*no strings/],
    [
      'a tensor of too few strings',
      tensor({ dtype: 'string', data: new Uint8Array(0), strings: ['a'] }),
      /needs 2 strings/,
    ],
    [
      'a tensor of strings without strings',
      tensor({ dtype: 'string' }),
      /needs 2 strings and no data.*0 strings and 8/,
    ],
    ['a fractional integer', modelWithAttr({ type: 'int', value: 1.5 }), /Attribute 'a' of node 'n' \(Op\) is 1.5/],
    ['an integer beyond 64 bits', modelWithAttr({ type: 'ints', value: [1, 2 ** 64] }), /is 18446744073709552000/],
    ['an integer that is none', modelWithAttr({ type: 'int', value: Number.NaN }), /is NaN/],
    ['a float beyond float32', modelWithAttr({ type: 'float', value: 1e39 }), /is 1e\+39, which no float32/],
    ['a node without operator', modelWith({ nodes: [{ ...nested(1).nodes[0], opType: '' }] }), /has no opType/],
    [
      'a negative size',
      modelWith({ inputs: [{ name: 'x', dtype: 'float32', dims: [-1] }] }),
      /'x' has a dimension of -1/,
    ],
    ['operator set 0', { ...modelWith({}), opsets: [{ domain: 'd', version: 0 }] }, /'d' needs a positive integer/],
    ['IR version 0', { ...modelWith({}), irVersion: 0 }, /positive IR version, and got 0/],
    ['33 graphs inside one another', modelWith(nested(32)), /nested deeper than 32/],
  ])('%s', (_, model, message) => {
    expect(() => writeOnnx(model)).toThrow(ConfigError);
    expect(() => writeOnnx(model)).toThrow(message);
  });

  test('but takes 32 graphs inside one another, and reads them', () => {
    const model = modelWith(nested(31));
    expect(readOnnx(writeOnnx(model))).toEqual(model);
  });
});
