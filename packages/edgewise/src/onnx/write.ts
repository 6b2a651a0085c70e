/** An `OnnxModel` to ModelProto bytes. */
import { ConfigError } from '../base/errors.ts';
import {
  ATTRIBUTE,
  ATTRIBUTE_TYPE,
  DIMENSION,
  ENTRY,
  FUNCTION,
  GRAPH,
  MAX_GRAPH_DEPTH,
  MODEL,
  NODE,
  OPSET,
  SHAPE,
  TENSOR,
  TENSOR_TYPE,
  TYPE,
  VALUE_INFO,
} from './fields.ts';
import {
  type OnnxAttr,
  type OnnxFunction,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  type OnnxOpset,
  type OnnxTensor,
  type OnnxValueInfo,
  onnxDTypeBytes,
  onnxDTypeCode,
} from './model.ts';
import { MessageWriter } from './wire.ts';

/**
 * The bytes of an `.onnx` file. The same model gives the same bytes; tensor data are copied once.
 *
 * @throws ConfigError where a tensor's data do not fit its shape, a number does not fit its field, graphs are nested
 * deeper than 32, or the file would pass protobuf's 2 GiB.
 */
export function writeOnnx(model: OnnxModel): Uint8Array<ArrayBuffer> {
  if (!Number.isSafeInteger(model.irVersion) || model.irVersion < 1) {
    throw new ConfigError(`An ONNX model needs a positive IR version, and got ${model.irVersion}.`);
  }
  const w = new MessageWriter();
  w.int(MODEL.irVersion, model.irVersion);
  optionalString(w, MODEL.producerName, model.producerName);
  optionalString(w, MODEL.producerVersion, model.producerVersion);
  if (model.domain !== undefined) {
    w.string(MODEL.domain, model.domain);
  }
  if (model.modelVersion !== undefined) {
    w.int(MODEL.modelVersion, int64(model.modelVersion, 'modelVersion', 'the model'));
  }
  if (model.docString !== undefined) {
    w.string(MODEL.docString, model.docString);
  }
  w.message(MODEL.graph, true, (inner) => writeGraph(inner, model.graph, 1));
  for (const opset of model.opsets) {
    w.message(MODEL.opsetImport, false, (inner) => writeOpset(inner, opset));
  }
  for (const [key, value] of Object.entries(model.metadata)) {
    w.message(MODEL.metadataProps, false, (inner) => {
      inner.string(ENTRY.key, key);
      inner.string(ENTRY.value, value);
    });
  }
  for (const definition of model.functions ?? []) {
    w.message(MODEL.functions, true, (inner) => writeFunction(inner, definition));
  }
  return w.finish();
}

function writeOpset(w: MessageWriter, { domain, version }: OnnxOpset): void {
  if (!Number.isSafeInteger(version) || version < 1) {
    throw new ConfigError(`Operator set '${domain}' needs a positive integer as its version, and got ${version}.`);
  }
  // Written even where empty: ONNX wants the field present.
  w.string(OPSET.domain, domain);
  w.int(OPSET.version, version);
}

function writeGraph(w: MessageWriter, graph: OnnxGraph, depth: number): void {
  if (depth > MAX_GRAPH_DEPTH) {
    throw new ConfigError(
      `Graph '${graph.name}' is nested deeper than ${MAX_GRAPH_DEPTH}, which protobuf readers refuse.`,
    );
  }
  for (const node of graph.nodes) {
    w.message(GRAPH.node, holdsBlobs(node.attrs), (inner) => writeNode(inner, node, depth));
  }
  w.string(GRAPH.name, graph.name);
  for (const tensor of graph.initializers) {
    w.message(GRAPH.initializer, true, (inner) => writeTensor(inner, tensor));
  }
  for (const value of graph.inputs) {
    w.message(GRAPH.input, false, (inner) => writeValueInfo(inner, value));
  }
  for (const value of graph.outputs) {
    w.message(GRAPH.output, false, (inner) => writeValueInfo(inner, value));
  }
  for (const value of graph.valueInfo ?? []) {
    w.message(GRAPH.valueInfo, false, (inner) => writeValueInfo(inner, value));
  }
}

function writeNode(w: MessageWriter, node: OnnxNode, depth: number): void {
  if (node.opType === '') {
    throw new ConfigError(`Node '${node.name}' has no opType.`);
  }
  for (const input of node.inputs) {
    w.string(NODE.input, input);
  }
  for (const output of node.outputs) {
    w.string(NODE.output, output);
  }
  optionalString(w, NODE.name, node.name);
  w.string(NODE.opType, node.opType);
  for (const [name, attr] of Object.entries(node.attrs)) {
    w.message(NODE.attribute, isBlob(attr), (inner) => {
      writeAttr(inner, name, attr, depth, `node '${node.name}' (${node.opType})`);
    });
  }
  optionalString(w, NODE.domain, node.domain);
  optionalString(w, NODE.overload, node.overload ?? '');
}

function writeAttr(w: MessageWriter, name: string, attr: OnnxAttr, depth: number, owner: string): void {
  if (name === '') {
    throw new ConfigError(`An attribute of ${owner} has no name.`);
  }
  w.string(ATTRIBUTE.name, name);
  switch (attr.type) {
    case 'float':
      w.float(ATTRIBUTE.f, float32(attr.value, name, owner));
      break;
    case 'int':
      w.int(ATTRIBUTE.i, int64(attr.value, name, owner));
      break;
    case 'string':
      w.string(ATTRIBUTE.s, attr.value);
      break;
    case 'tensor':
      w.message(ATTRIBUTE.t, true, (inner) => writeTensor(inner, attr.value));
      break;
    case 'graph':
      w.message(ATTRIBUTE.g, true, (inner) => writeGraph(inner, attr.value, depth + 1));
      break;
    case 'floats':
      for (const value of attr.value) {
        w.float(ATTRIBUTE.floats, float32(value, name, owner));
      }
      break;
    case 'ints':
      for (const value of attr.value) {
        w.int(ATTRIBUTE.ints, int64(value, name, owner));
      }
      break;
    case 'strings':
      for (const value of attr.value) {
        w.string(ATTRIBUTE.strings, value);
      }
      break;
    case 'tensors':
      for (const tensor of attr.value) {
        w.message(ATTRIBUTE.tensors, true, (inner) => writeTensor(inner, tensor));
      }
      break;
    case 'graphs':
      for (const graph of attr.value) {
        w.message(ATTRIBUTE.graphs, true, (inner) => writeGraph(inner, graph, depth + 1));
      }
      break;
    case 'ref':
      w.string(ATTRIBUTE.refAttrName, attr.value);
      break;
  }
  w.int(ATTRIBUTE.type, ATTRIBUTE_TYPE[attr.type === 'ref' ? attr.refType : attr.type]);
}

function writeTensor(w: MessageWriter, tensor: OnnxTensor): void {
  const { name, dtype, dims, data, strings } = tensor;
  // By this, not by the product, where the sizes before the 0 overflow.
  let count = dims.includes(0) ? 0 : 1;
  for (const dim of dims) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw new ConfigError(`Tensor '${name}' has a dimension of ${dim}; dimensions are integers of at least 0.`);
    }
    count = count === 0 ? 0 : count * dim;
    w.int(TENSOR.dims, dim);
  }
  w.int(TENSOR.dataType, onnxDTypeCode(dtype));
  if (dtype === 'string') {
    if (strings?.length !== count || data.length > 0) {
      throw new ConfigError(
        `Tensor '${name}' of shape [${dims}] needs ${count} strings and no data, and got ${strings?.length ?? 0} strings and ${data.length} bytes.`,
      );
    }
    for (const value of strings) {
      w.string(TENSOR.stringData, value);
    }
  } else if (strings !== undefined || data.length !== count * onnxDTypeBytes(dtype)) {
    throw new ConfigError(
      `Tensor '${name}' of type ${dtype} and shape [${dims}] needs ${count * onnxDTypeBytes(dtype)} bytes of data and no strings, and got ${data.length} bytes.`,
    );
  }
  optionalString(w, TENSOR.name, name);
  if (dtype !== 'string') {
    w.bytes(TENSOR.rawData, data);
  }
}

function writeValueInfo(w: MessageWriter, { name, dtype, dims }: OnnxValueInfo): void {
  w.string(VALUE_INFO.name, name);
  if (dtype === undefined && dims === undefined) {
    return;
  }
  w.message(VALUE_INFO.type, false, (type) => {
    type.message(TYPE.tensor, false, (tensor) => {
      if (dtype !== undefined) {
        tensor.int(TENSOR_TYPE.elemType, onnxDTypeCode(dtype));
      }
      if (dims !== undefined) {
        tensor.message(TENSOR_TYPE.shape, false, (shape) => {
          for (const dim of dims) {
            shape.message(SHAPE.dim, false, (dimension) => writeDimension(dimension, dim, name));
          }
        });
      }
    });
  });
}

function writeDimension(w: MessageWriter, dim: number | string, name: string): void {
  if (typeof dim === 'string') {
    optionalString(w, DIMENSION.param, dim);
  } else if (Number.isSafeInteger(dim) && dim >= 0) {
    w.int(DIMENSION.value, dim);
  } else {
    throw new ConfigError(`Value '${name}' has a dimension of ${dim}; sizes are integers of at least 0.`);
  }
}

function writeFunction(w: MessageWriter, definition: OnnxFunction): void {
  const { name, domain } = definition;
  if (name === '') {
    throw new ConfigError(`A function of domain '${domain}' has no name.`);
  }
  w.string(FUNCTION.name, name);
  for (const input of definition.inputs) {
    w.string(FUNCTION.input, input);
  }
  for (const output of definition.outputs) {
    w.string(FUNCTION.output, output);
  }
  for (const attribute of definition.attributes) {
    w.string(FUNCTION.attribute, attribute);
  }
  for (const node of definition.nodes) {
    w.message(FUNCTION.node, holdsBlobs(node.attrs), (inner) => writeNode(inner, node, 0));
  }
  for (const opset of definition.opsets) {
    w.message(FUNCTION.opsetImport, false, (inner) => writeOpset(inner, opset));
  }
  optionalString(w, FUNCTION.domain, domain);
  for (const [key, attr] of Object.entries(definition.defaults)) {
    w.message(FUNCTION.attributeProto, isBlob(attr), (inner) => writeAttr(inner, key, attr, 0, `function '${name}'`));
  }
  optionalString(w, FUNCTION.overload, definition.overload);
}

function optionalString(w: MessageWriter, field: number, value: string): void {
  if (value !== '') {
    w.string(field, value);
  }
}

function holdsBlobs(attrs: Readonly<Record<string, OnnxAttr>>): boolean {
  for (const name in attrs) {
    if (isBlob(attrs[name])) {
      return true;
    }
  }
  return false;
}

function isBlob({ type }: OnnxAttr): boolean {
  return type === 'tensor' || type === 'graph' || type === 'tensors' || type === 'graphs';
}

function int64(value: number, attr: string, owner: string): number {
  if (!Number.isInteger(value) || Math.abs(value) > 2 ** 63) {
    throw new ConfigError(`Attribute '${attr}' of ${owner} is ${value}, which is no 64-bit integer.`);
  }
  return value;
}

function float32(value: number, attr: string, owner: string): number {
  const rounded = Math.fround(value);
  if (Number.isFinite(value) && !Number.isFinite(rounded)) {
    throw new ConfigError(`Attribute '${attr}' of ${owner} is ${value}, which no float32 can hold.`);
  }
  return rounded;
}
