// Files written by the official onnx package, and what that package reads from them: fixtures/onnx/make.py.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import type { OnnxTensor } from '../../src/onnx/model.ts';
import { readOnnx } from '../../src/onnx/read.ts';
import { writeOnnx } from '../../src/onnx/write.ts';

const file = (name: string) => new Uint8Array(readFileSync(new URL(`../fixtures/onnx/${name}`, import.meta.url)));

interface Expected {
  dtype: string;
  dims: number[];
  hex?: string;
  strings?: string[];
}

const expected: Record<string, Expected> = JSON.parse(new TextDecoder().decode(file('expected.json')));
const model = readOnnx(file('everything.onnx'));
const constant = (name: string, value: number): OnnxTensor => ({
  name: `${name}_value`,
  dtype: 'float32',
  dims: [1],
  data: new Uint8Array(Float32Array.of(value).buffer),
});
const branch = (name: string, value: number) => ({
  name,
  nodes: [
    {
      opType: 'Constant',
      domain: '',
      name: '',
      inputs: [],
      outputs: [`${name}_out`],
      attrs: { value: { type: 'tensor', value: constant(name, value) } },
    },
  ],
  inputs: [],
  outputs: [{ name: `${name}_out` }],
  initializers: [],
});

describe('a file of the official onnx package', () => {
  test('has every element, whatever field holds it', () => {
    const found = Object.fromEntries(
      model.graph.initializers.map(({ name, dtype, dims, data, strings }) => [
        name,
        { dtype, dims, ...(strings === undefined ? { hex: Buffer.from(data).toString('hex') } : { strings }) },
      ]),
    );
    expect(Object.keys(found)).toHaveLength(29);
    expect(found).toEqual(expected);
  });

  test('has its header', () => {
    const { graph, functions, ...header } = model;
    expect(graph.name).toBe('main');
    expect(header).toEqual({
      irVersion: 10,
      opsets: [
        { domain: '', version: 21 },
        { domain: 'test', version: 1 },
        { domain: 'local', version: 1 },
      ],
      producerName: 'make.py',
      producerVersion: '1',
      docString: 'a model\nof everything',
      metadata: Object.fromEntries([
        ['task', 'nothing'],
        ['__proto__', 'a key like any other'],
      ]),
    });
  });

  test('has the types of its values, as far as they are given and known', () => {
    expect(model.graph.inputs).toEqual([
      { name: 'flag', dtype: 'bool', dims: [] },
      { name: 'x', dtype: 'float32', dims: ['N', '', 3] },
      { name: 'rank', dtype: 'float32' },
    ]);
    expect(model.graph.outputs).toEqual([{ name: 'y', dtype: 'float32', dims: ['N', 4] }]);
    expect(model.graph.valueInfo).toEqual([
      { name: 'a', dtype: 'float32', dims: [1] },
      { name: 'list' },
      { name: 'tiny', dims: [1] },
    ]);
  });

  test('has its nodes, with attributes of every kind', () => {
    const one = { name: '', dtype: 'int64', dims: [1], data: Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0) };
    expect(model.graph.nodes).toEqual([
      {
        opType: 'If',
        domain: '',
        name: '',
        inputs: ['flag'],
        outputs: ['chosen'],
        attrs: {
          then_branch: { type: 'graph', value: branch('then', 1) },
          else_branch: { type: 'graph', value: branch('else', 2) },
        },
      },
      {
        opType: 'Everything',
        domain: 'test',
        name: 'all kinds',
        inputs: ['x', '', 'chosen'],
        outputs: ['a', '', 'b'],
        attrs: {
          f: { type: 'float', value: -0.5 },
          i: { type: 'int', value: -(2 ** 40) },
          zero: { type: 'int', value: 0 },
          end: { type: 'int', value: 2 ** 63 },
          s: { type: 'string', value: 't\u00e4xt' },
          fs: { type: 'floats', value: [1, -2] },
          ints: { type: 'ints', value: [-1, 0, 2 ** 31, 2 ** 53] },
          ss: { type: 'strings', value: ['p', 'q'] },
          t: { type: 'tensor', value: one },
          ts: { type: 'tensors', value: [one, one] },
          g: { type: 'graph', value: branch('g', 3) },
          gs: { type: 'graphs', value: [branch('g1', 4), branch('g2', 5)] },
        },
      },
      {
        opType: 'Scaled',
        domain: 'local',
        name: '',
        inputs: ['a'],
        outputs: ['y'],
        attrs: { scale: { type: 'float', value: 3 } },
      },
    ]);
  });

  test('has its function', () => {
    expect(model.functions).toEqual([
      {
        domain: 'local',
        name: 'Scaled',
        overload: '',
        inputs: ['v'],
        outputs: ['w'],
        attributes: ['must'],
        defaults: { scale: { type: 'float', value: 2 } },
        nodes: [
          {
            opType: 'Constant',
            domain: '',
            name: '',
            inputs: [],
            outputs: ['s'],
            attrs: { value_float: { type: 'ref', refType: 'float', value: 'scale' } },
          },
          { opType: 'Mul', domain: '', name: '', inputs: ['v', 's'], outputs: ['w'], attrs: {} },
        ],
        opsets: [{ domain: '', version: 21 }],
      },
    ]);
  });

  test('is the same after writing and reading', () => {
    expect(readOnnx(writeOnnx(model))).toEqual(model);
  });
});

describe('external data', () => {
  test('come from the file that is given, asked for once', () => {
    const asked: string[] = [];
    const { graph } = readOnnx(file('external.onnx'), {
      externalData: (location) => {
        asked.push(location);
        return file(location);
      },
    });
    expect(asked).toEqual(['external.bin']);
    const [weight, bias] = graph.initializers;
    expect(weight.dims).toEqual([2, 3]);
    expect(new Float32Array(weight.data.slice().buffer)).toEqual(Float32Array.of(0, 1, 2, 3, 4, 5));
    expect(new Float32Array(bias.data.slice().buffer)).toEqual(Float32Array.of(10, 20, 30));
  });

  test.each<[string, (location: string) => Uint8Array | undefined, RegExp]>([
    ['that are not given', () => undefined, /'weight' keeps its elements in the file 'external.bin'/],
    ['that are too short', () => new Uint8Array(20), /'weight' needs 24 bytes at 0 of 'external.bin', which has 20/],
    ['that end before their offset', () => new Uint8Array(30), /'bias' needs 12 bytes at 24/],
  ])('%s are refused', (_, externalData, message) => {
    expect(() => readOnnx(file('external.onnx'), { externalData })).toThrow(FormatError);
    expect(() => readOnnx(file('external.onnx'), { externalData })).toThrow(message);
  });
});
