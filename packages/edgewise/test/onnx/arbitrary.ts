import fc from 'fast-check';
import {
  type OnnxAttr,
  type OnnxAttrKind,
  type OnnxDType,
  type OnnxFunction,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  type OnnxTensor,
  type OnnxValueInfo,
  onnxDTypeBytes,
} from '../../src/onnx/model.ts';

const text = fc.oneof(fc.string({ maxLength: 6 }), fc.string({ unit: 'binary', maxLength: 60 }));
const name = text.filter((word) => word !== '');
const domain = text.filter((word) => word !== 'ai.onnx');
const int = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer({ min: -3, max: 3 }),
  fc.constantFrom(-(2 ** 63), 2 ** 63, 2 ** 60),
);
const float = fc.float();

const dtype = fc.constantFrom<OnnxDType>(
  'float32',
  'float64',
  'float16',
  'bfloat16',
  'int8',
  'int16',
  'int32',
  'int64',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
  'bool',
);

/** Some of them larger than what the writer copies into its buffer at once. */
const numbers: fc.Arbitrary<OnnxTensor> = fc
  .record({ name: text, dtype, dims: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 4 }), seed: fc.nat() })
  .map(({ seed, ...rest }) => {
    const length = rest.dims.reduce((a, b) => a * b, 1) * onnxDTypeBytes(rest.dtype);
    return { ...rest, data: Uint8Array.from({ length }, (_, i) => (seed + i * 37) & 0xff) };
  });
const strings: fc.Arbitrary<OnnxTensor> = fc
  .record({ name: text, strings: fc.array(text, { maxLength: 4 }) })
  .map((rest) => ({ ...rest, dtype: 'string', dims: [rest.strings.length], data: new Uint8Array(0) }));
const tensor = fc.oneof({ weight: 4, arbitrary: numbers }, { weight: 1, arbitrary: strings });

const value: fc.Arbitrary<OnnxValueInfo> = fc
  .record(
    {
      name: text,
      dtype: fc.oneof(dtype, fc.constant<OnnxDType>('string')),
      dims: fc.array(fc.oneof(fc.nat(), text, fc.constant(Number.MAX_SAFE_INTEGER)), { maxLength: 4 }),
    },
    { requiredKeys: ['name'] },
  )
  .map((info) => info);

function record<T>(entry: fc.Arbitrary<T>): fc.Arbitrary<Record<string, T>> {
  const key = fc.oneof({ weight: 5, arbitrary: name }, { weight: 1, arbitrary: fc.constant('__proto__') });
  return fc.array(fc.tuple(key, entry), { maxLength: 3 }).map((entries) => Object.fromEntries(entries));
}

function attr(depth: number, inFunction: boolean): fc.Arbitrary<OnnxAttr> {
  const kinds: fc.Arbitrary<OnnxAttr>[] = [
    int.map((value) => ({ type: 'int', value })),
    float.map((value) => ({ type: 'float', value })),
    text.map((value) => ({ type: 'string', value })),
    fc.array(int, { maxLength: 4 }).map((value) => ({ type: 'ints', value })),
    fc.array(float, { maxLength: 4 }).map((value) => ({ type: 'floats', value })),
    fc.array(text, { maxLength: 4 }).map((value) => ({ type: 'strings', value })),
    tensor.map((value) => ({ type: 'tensor', value })),
    fc.array(tensor, { maxLength: 2 }).map((value) => ({ type: 'tensors', value })),
  ];
  if (inFunction) {
    const refType = fc.constantFrom<OnnxAttrKind>('int', 'float', 'string', 'ints', 'tensor', 'graph');
    kinds.push(fc.tuple(refType, name).map(([refType, value]) => ({ type: 'ref', refType, value })));
  }
  if (depth > 0) {
    kinds.push(
      graph(depth - 1, inFunction).map((value) => ({ type: 'graph', value })),
      fc.array(graph(depth - 1, inFunction), { maxLength: 2 }).map((value) => ({ type: 'graphs', value })),
    );
  }
  return fc.oneof(...kinds);
}

function node(depth: number, inFunction: boolean): fc.Arbitrary<OnnxNode> {
  const required = {
    opType: name,
    domain,
    name: text,
    inputs: fc.array(text, { maxLength: 3 }),
    outputs: fc.array(text, { maxLength: 3 }),
    attrs: record(attr(depth, inFunction)),
  };
  return fc.oneof(fc.record(required), fc.record({ ...required, overload: name }));
}

function graph(depth: number, inFunction: boolean): fc.Arbitrary<OnnxGraph> {
  const required = {
    name: text,
    nodes: fc.array(node(depth, inFunction), { maxLength: 3 }),
    inputs: fc.array(value, { maxLength: 2 }),
    outputs: fc.array(value, { maxLength: 2 }),
    initializers: fc.array(tensor, { maxLength: 3 }),
  };
  return fc.oneof(
    fc.record(required),
    fc.record({ ...required, valueInfo: fc.array(value, { minLength: 1, maxLength: 2 }) }),
  );
}

const opsets = fc.array(fc.record({ domain, version: fc.integer({ min: 1, max: 2 ** 40 }) }), { maxLength: 2 });

const definition: fc.Arbitrary<OnnxFunction> = fc.record({
  domain,
  name,
  overload: text,
  inputs: fc.array(text, { maxLength: 2 }),
  outputs: fc.array(text, { maxLength: 2 }),
  attributes: fc.array(text, { maxLength: 2 }),
  defaults: record(attr(0, false)),
  nodes: fc.array(node(1, true), { maxLength: 2 }),
  opsets,
});

/** Models that are well formed as messages; as graphs they mean nothing. */
export const anyModel: fc.Arbitrary<OnnxModel> = fc.record(
  {
    irVersion: fc.integer({ min: 1, max: 20 }),
    opsets,
    producerName: text,
    producerVersion: text,
    graph: graph(2, false),
    metadata: record(text),
    domain: text,
    modelVersion: int,
    docString: text,
    functions: fc.array(definition, { minLength: 1, maxLength: 2 }),
  },
  { requiredKeys: ['irVersion', 'opsets', 'producerName', 'producerVersion', 'graph', 'metadata'] },
);
