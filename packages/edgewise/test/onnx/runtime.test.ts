// ONNX Runtime takes what we write.
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import type { OnnxAttr, OnnxDType, OnnxGraph, OnnxModel, OnnxNode, OnnxTensor } from '../../src/onnx/model.ts';
import { writeOnnx } from '../../src/onnx/write.ts';

const node = (
  opType: string,
  inputs: string[],
  outputs: string[],
  attrs: Record<string, OnnxAttr> = {},
  domain = '',
): OnnxNode => ({ opType, domain, name: '', inputs, outputs, attrs });

const float32 = (name: string, ...values: number[]): OnnxTensor => ({
  name,
  dtype: 'float32',
  dims: [values.length],
  data: new Uint8Array(Float32Array.from(values).buffer),
});

function modelOf(graph: OnnxGraph, rest: Partial<OnnxModel> = {}): OnnxModel {
  return {
    irVersion: 10,
    opsets: [{ domain: '', version: 21 }],
    producerName: 'edgewise',
    producerVersion: '0',
    graph,
    metadata: { purpose: 'a test' },
    docString: 'tiny',
    ...rest,
  };
}

async function run(model: OnnxModel, feeds: Record<string, ort.Tensor>): Promise<ort.InferenceSession.ReturnType> {
  const session = await ort.InferenceSession.create(writeOnnx(model));
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

describe('ONNX Runtime runs', () => {
  test('an Add of an input with a free dimension and an initializer', async () => {
    const model = modelOf({
      name: 'add',
      nodes: [node('Add', ['x', 'b'], ['y'])],
      inputs: [{ name: 'x', dtype: 'float32', dims: ['N', 2] }],
      outputs: [{ name: 'y', dtype: 'float32', dims: ['N', 2] }],
      initializers: [float32('b', 10, 20)],
    });
    const { y } = await run(model, { x: new ort.Tensor('float32', [1, 2, 3, 4, 5, 6], [3, 2]) });
    expect(y.dims).toEqual([3, 2]);
    expect(y.data).toEqual(Float32Array.of(11, 22, 13, 24, 15, 26));
  });

  test('constants of every element type', async () => {
    const values: [OnnxDType, ArrayBufferView][] = [
      ['float32', Float32Array.of(1.5, -0.25)],
      ['float64', Float64Array.of(0.1, -1e300)],
      ['int8', Int8Array.of(-128, 127)],
      ['int16', Int16Array.of(-32768, 32767)],
      ['int32', Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
      ['int64', BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)],
      ['uint8', Uint8Array.of(0, 255)],
      ['uint16', Uint16Array.of(0, 65535)],
      ['uint32', Uint32Array.of(0, 2 ** 32 - 1)],
      ['uint64', BigUint64Array.of(0n, 2n ** 64n - 1n)],
      ['bool', Uint8Array.of(0, 1)],
    ];
    const model = modelOf({
      name: 'constants',
      nodes: values.map(([dtype]) => node('Identity', [`${dtype}_in`], [dtype])),
      inputs: [],
      outputs: values.map(([dtype]) => ({ name: dtype, dtype, dims: [2] })),
      initializers: values.map(([dtype, { buffer }]) => ({
        name: `${dtype}_in`,
        dtype,
        dims: [2],
        data: new Uint8Array(buffer),
      })),
    });
    const results = await run(model, {});
    for (const [dtype, value] of values) {
      expect(results[dtype].type).toBe(dtype);
      expect(results[dtype].data).toEqual(value);
    }
  });

  test('strings, 16-bit floats and attributes of every plain kind', async () => {
    const model = modelOf({
      name: 'attributes',
      nodes: [
        node('Identity', ['words'], ['same']),
        node('Cast', ['half'], ['single'], { to: { type: 'int', value: 1 } }),
        node('Cast', ['brain'], ['wide'], { to: { type: 'int', value: 1 } }),
        node('Constant', [], ['c'], { value_floats: { type: 'floats', value: [1, -2.5] } }),
        node('Constant', [], ['i'], { value_ints: { type: 'ints', value: [-1, 2 ** 40] } }),
        node('Constant', [], ['s'], { value_strings: { type: 'strings', value: ['gr\u00fcn', ''] } }),
        node('Constant', [], ['t'], { value: { type: 'tensor', value: float32('', ...new Array(300).fill(7)) } }),
        node('LeakyRelu', ['c'], ['l'], { alpha: { type: 'float', value: 0.5 } }),
        node('DepthToSpace', ['image'], ['d'], {
          blocksize: { type: 'int', value: 2 },
          mode: { type: 'string', value: 'CRD' },
        }),
      ],
      inputs: [],
      outputs: ['same', 'single', 'wide', 'i', 's', 't', 'l', 'd'].map((name) => ({
        name,
        dtype: name === 'same' || name === 's' ? 'string' : name === 'i' ? 'int64' : 'float32',
      })),
      initializers: [
        { name: 'words', dtype: 'string', dims: [2], data: new Uint8Array(0), strings: ['\u00e4', 'b'] },
        { name: 'half', dtype: 'float16', dims: [2], data: Uint8Array.of(0x00, 0x3e, 0x00, 0xc0) },
        { name: 'brain', dtype: 'bfloat16', dims: [1], data: Uint8Array.of(0xc0, 0x3f) },
        { ...float32('image', 1, 2, 3, 4), dims: [1, 4, 1, 1] },
      ],
    });
    const results = await run(model, {});
    expect(results.same.data).toEqual(['\u00e4', 'b']);
    expect(results.single.data).toEqual(Float32Array.of(1.5, -2));
    expect(results.wide.data).toEqual(Float32Array.of(1.5));
    expect(results.i.data).toEqual(BigInt64Array.of(-1n, 2n ** 40n));
    expect(results.s.data).toEqual(['gr\u00fcn', '']);
    expect(results.t.data).toEqual(new Float32Array(300).fill(7));
    expect(results.l.data).toEqual(Float32Array.of(1, -1.25));
    expect(results.d.dims).toEqual([1, 1, 2, 2]);
  });

  test('sub-graphs, and a function with a default', async () => {
    const branch = (name: string, value: number): OnnxAttr => ({
      type: 'graph',
      value: {
        name,
        nodes: [node('Scaled', ['x'], [name], { by: { type: 'float', value } }, 'local')],
        inputs: [],
        outputs: [{ name, dtype: 'float32', dims: [2] }],
        initializers: [],
      },
    });
    const model = modelOf(
      {
        name: 'branches',
        nodes: [
          node('If', ['flag'], ['chosen'], { then_branch: branch('then', 10), else_branch: branch('else', -1) }),
          node('Scaled', ['chosen'], ['y'], {}, 'local'),
        ],
        inputs: [
          { name: 'flag', dtype: 'bool', dims: [] },
          { name: 'x', dtype: 'float32', dims: [2] },
        ],
        outputs: [{ name: 'y', dtype: 'float32', dims: [2] }],
        initializers: [],
      },
      {
        opsets: [
          { domain: '', version: 21 },
          { domain: 'local', version: 1 },
        ],
        functions: [
          {
            domain: 'local',
            name: 'Scaled',
            overload: '',
            inputs: ['v'],
            outputs: ['w'],
            attributes: [],
            defaults: { by: { type: 'float', value: 100 } },
            nodes: [
              node('Constant', [], ['s'], { value_float: { type: 'ref', refType: 'float', value: 'by' } }),
              node('Mul', ['v', 's'], ['w']),
            ],
            opsets: [{ domain: '', version: 21 }],
          },
        ],
      },
    );
    const x = new ort.Tensor('float32', [1, 2], [2]);
    const taken = await run(model, { flag: new ort.Tensor('bool', [true], []), x });
    expect(taken.y.data).toEqual(Float32Array.of(1000, 2000));
    const other = await run(model, { flag: new ort.Tensor('bool', [false], []), x });
    expect(other.y.data).toEqual(Float32Array.of(-100, -200));
  });
});
