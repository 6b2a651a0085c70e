/** ModelProto bytes to an `OnnxModel`. */
import { ATTRIBUTE, ATTRIBUTE_TYPE, FUNCTION, GRAPH, MAX_GRAPH_DEPTH, MODEL, NODE, OPSET } from './fields.ts';
import type {
  OnnxAttr,
  OnnxAttrKind,
  OnnxFunction,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxOpset,
  OnnxTensor,
  OnnxValueInfo,
} from './model.ts';
import { emptyRecord, type ReadContext, type Reader, readEntry, readTensor } from './read-tensor.ts';
import { readValueHint, readValueInfo, refuseSecond } from './read-value.ts';
import { MessageReader } from './wire.ts';

/** What `readOnnx` may be told. */
export interface ReadOnnxOptions {
  /**
   * Bytes of a file beside the model that holds tensor data, by the location the model gives; called once per
   * location. Locations come from the model: a function that opens files must refuse those that leave the model's folder.
   * Default: a model with external data is refused.
   */
  readonly externalData?: (location: string) => Uint8Array | undefined;
}

/**
 * The model in the bytes of an `.onnx` file. Tensor data are views into `bytes` where the file's encoding allows it,
 * so `bytes` must not change while they are in use.
 *
 * The messages are checked one by one: lengths, element types, shapes against data. What ONNX asks of the graph as
 * a whole (order of nodes, names defined once, operators that exist) is left to whoever builds something from it.
 * Documentation of parts, training information, quantization annotations and device configurations are passed over.
 *
 * @throws FormatError where the bytes are no ONNX model, or one with sparse tensors, external data that is not
 * given, element types below a byte, 8-bit floats or complex numbers, or graphs nested deeper than 32.
 */
export function readOnnx(bytes: Uint8Array, options: ReadOnnxOptions = {}): OnnxModel {
  const files = new Map<string, Uint8Array | undefined>();
  const { externalData } = options;
  const context: ReadContext = {
    graphDepth: 0,
    inFunction: false,
    externalData:
      externalData &&
      ((location) => {
        if (!files.has(location)) {
          files.set(location, externalData(location));
        }
        return files.get(location);
      }),
  };
  // A Buffer's own subarray would give Buffers, whose slice is a view and not a copy.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return MessageReader.read(plain, context, readModel);
}

function readModel(r: Reader): OnnxModel {
  let irVersion = 0;
  let producerName = '';
  let producerVersion = '';
  let domain: string | undefined;
  let modelVersion: number | undefined;
  let docString: string | undefined;
  let graph: OnnxGraph | undefined;
  const opsets: OnnxOpset[] = [];
  const functions: OnnxFunction[] = [];
  const metadata = emptyRecord<string>();
  while (r.next()) {
    switch (r.field) {
      case MODEL.irVersion:
        irVersion = r.int();
        break;
      case MODEL.producerName:
        producerName = r.looseString();
        break;
      case MODEL.producerVersion:
        producerVersion = r.looseString();
        break;
      case MODEL.domain:
        domain = r.looseString();
        break;
      case MODEL.modelVersion:
        modelVersion = r.int();
        break;
      case MODEL.docString:
        docString = r.looseString();
        break;
      case MODEL.graph:
        refuseSecond(r, graph, 'graph');
        graph = r.message('graph', -1, readGraph);
        break;
      case MODEL.opsetImport:
        opsets.push(r.message('opset_import', opsets.length, readOpset));
        break;
      case MODEL.metadataProps: {
        const [key, value] = r.message('metadata_props', -1, readEntry);
        metadata[key] = value;
        break;
      }
      case MODEL.functions:
        functions.push(r.message('functions', functions.length, readFunction));
        break;
      default:
        r.skip();
    }
  }
  if (!Number.isSafeInteger(irVersion) || irVersion < 1) {
    throw r.error(`it gives ${irVersion} as its IR version`);
  }
  if (graph === undefined) {
    throw r.error('it has no graph');
  }
  return {
    irVersion,
    opsets,
    producerName,
    producerVersion,
    graph,
    metadata,
    ...(domain !== undefined && { domain }),
    ...(modelVersion !== undefined && { modelVersion }),
    ...(docString !== undefined && { docString }),
    ...(functions.length > 0 && { functions }),
  };
}

function readOpset(r: Reader): OnnxOpset {
  let domain = '';
  let version = 0;
  while (r.next()) {
    switch (r.field) {
      case OPSET.domain:
        domain = standardDomain(r.string());
        break;
      case OPSET.version:
        version = r.int();
        break;
      default:
        r.skip();
    }
  }
  if (!Number.isSafeInteger(version) || version < 1) {
    throw r.error(`operator set '${domain}' has version ${version}`);
  }
  return { domain, version };
}

function readGraph(r: Reader): OnnxGraph {
  if (r.context.graphDepth >= MAX_GRAPH_DEPTH) {
    throw r.error(`graphs are nested deeper than ${MAX_GRAPH_DEPTH}`);
  }
  r.context.graphDepth++;
  let name = '';
  const nodes: OnnxNode[] = [];
  const inputs: OnnxValueInfo[] = [];
  const outputs: OnnxValueInfo[] = [];
  const valueInfo: OnnxValueInfo[] = [];
  const initializers: OnnxTensor[] = [];
  let valueInfos = 0;
  while (r.next()) {
    switch (r.field) {
      case GRAPH.node:
        nodes.push(r.message('node', nodes.length, readNode));
        break;
      case GRAPH.name:
        name = r.string();
        break;
      case GRAPH.initializer:
        initializers.push(r.message('initializer', initializers.length, readTensor));
        break;
      case GRAPH.input:
        inputs.push(r.message('input', inputs.length, readValueInfo));
        break;
      case GRAPH.output:
        outputs.push(r.message('output', outputs.length, readValueInfo));
        break;
      case GRAPH.valueInfo:
        valueInfo.push(r.message('value_info', valueInfos++, readValueHint));
        break;
      case GRAPH.sparseInitializer:
        throw r.error('the graph has sparse initializers, which are not supported; make them dense');
      default:
        r.skip();
    }
  }
  r.context.graphDepth--;
  return { name, nodes, inputs, outputs, initializers, ...(valueInfo.length > 0 && { valueInfo }) };
}

function readNode(r: Reader): OnnxNode {
  let opType = '';
  let domain = '';
  let overload = '';
  let name = '';
  let count = 0;
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attrs = emptyRecord<OnnxAttr>();
  while (r.next()) {
    switch (r.field) {
      case NODE.input:
        inputs.push(r.string());
        break;
      case NODE.output:
        outputs.push(r.string());
        break;
      case NODE.name:
        name = r.string();
        break;
      case NODE.opType:
        opType = r.string();
        break;
      case NODE.domain:
        domain = standardDomain(r.string());
        break;
      case NODE.overload:
        overload = r.string();
        break;
      case NODE.attribute:
        addAttr(r, attrs, r.message('attribute', count++, readAttr));
        break;
      default:
        r.skip();
    }
  }
  if (opType === '') {
    throw r.error(`node '${name}' has no op_type`);
  }
  return { opType, domain, name, inputs, outputs, attrs, ...(overload !== '' && { overload }) };
}

const attrKindOfCode = new Map<number, OnnxAttrKind>(
  (Object.keys(ATTRIBUTE_TYPE) as OnnxAttrKind[]).map((kind) => [ATTRIBUTE_TYPE[kind], kind]),
);

interface NamedAttr {
  readonly name: string;
  readonly attr: OnnxAttr;
}

function addAttr(r: Reader, attrs: Record<string, OnnxAttr>, { name, attr }: NamedAttr): void {
  if (name in attrs) {
    throw r.error(`attribute '${name}' is given twice`);
  }
  attrs[name] = attr;
}

function readAttr(r: Reader): NamedAttr {
  let name = '';
  let refName = '';
  let typeCode = 0;
  let float: number | undefined;
  let int: number | undefined;
  let string: string | undefined;
  let tensor: OnnxTensor | undefined;
  let graph: OnnxGraph | undefined;
  let floats: number[] | undefined;
  let ints: number[] | undefined;
  let strings: string[] | undefined;
  let tensors: OnnxTensor[] | undefined;
  let graphs: OnnxGraph[] | undefined;
  while (r.next()) {
    switch (r.field) {
      case ATTRIBUTE.name:
        name = r.string();
        break;
      case ATTRIBUTE.refAttrName:
        refName = r.string();
        break;
      case ATTRIBUTE.type:
        typeCode = r.int();
        break;
      case ATTRIBUTE.f:
        float = r.float();
        break;
      case ATTRIBUTE.i:
        int = r.int();
        break;
      case ATTRIBUTE.s:
        string = r.string();
        break;
      case ATTRIBUTE.t:
        refuseSecond(r, tensor, 'tensor');
        tensor = r.message('t', -1, readTensor);
        break;
      case ATTRIBUTE.g:
        refuseSecond(r, graph, 'graph');
        graph = r.message('g', -1, readGraph);
        break;
      case ATTRIBUTE.floats:
        floats ??= [];
        r.floats(floats);
        break;
      case ATTRIBUTE.ints:
        ints ??= [];
        r.ints(ints);
        break;
      case ATTRIBUTE.strings:
        strings ??= [];
        strings.push(r.string());
        break;
      case ATTRIBUTE.tensors:
        tensors ??= [];
        tensors.push(r.message('tensors', tensors.length, readTensor));
        break;
      case ATTRIBUTE.graphs:
        graphs ??= [];
        graphs.push(r.message('graphs', graphs.length, readGraph));
        break;
      default:
        r.skip();
    }
  }
  if (name === '') {
    throw r.error('an attribute has no name');
  }
  const type =
    typeCode === 0
      ? impliedKind({ float, int, string, tensor, graph, floats, ints, strings, tensors, graphs })
      : attrKindOfCode.get(typeCode);
  if (type === undefined) {
    throw r.error(
      typeCode === 0 ? `attribute '${name}' has no value` : `attribute '${name}' is of unsupported kind ${typeCode}`,
    );
  }
  if (refName !== '') {
    if (!r.context.inFunction) {
      throw r.error(`attribute '${name}' refers to the attribute '${refName}' of a function, outside any function`);
    }
    return { name, attr: { type: 'ref', refType: type, value: refName } };
  }
  // proto3 writers leave out numbers that are 0 and lists that are empty.
  switch (type) {
    case 'float':
      return { name, attr: { type, value: float ?? 0 } };
    case 'int':
      return { name, attr: { type, value: int ?? 0 } };
    case 'string':
      return { name, attr: { type, value: string ?? '' } };
    case 'tensor':
      return { name, attr: { type, value: present(r, tensor, name) } };
    case 'graph':
      return { name, attr: { type, value: present(r, graph, name) } };
    case 'floats':
      return { name, attr: { type, value: floats ?? [] } };
    case 'ints':
      return { name, attr: { type, value: ints ?? [] } };
    case 'strings':
      return { name, attr: { type, value: strings ?? [] } };
    case 'tensors':
      return { name, attr: { type, value: tensors ?? [] } };
    case 'graphs':
      return { name, attr: { type, value: graphs ?? [] } };
  }
}

/** The kind of an attribute in a file of IR version 1, which names none: that of the value it gives. */
function impliedKind(given: Readonly<Record<OnnxAttrKind, unknown>>): OnnxAttrKind | undefined {
  return [...attrKindOfCode.values()].find((kind) => given[kind] !== undefined);
}

function readFunction(r: Reader): OnnxFunction {
  let domain = '';
  let name = '';
  let overload = '';
  let defaultCount = 0;
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes: string[] = [];
  const defaults = emptyRecord<OnnxAttr>();
  const nodes: OnnxNode[] = [];
  const opsets: OnnxOpset[] = [];
  r.context.inFunction = true;
  while (r.next()) {
    switch (r.field) {
      case FUNCTION.name:
        name = r.string();
        break;
      case FUNCTION.domain:
        domain = standardDomain(r.string());
        break;
      case FUNCTION.overload:
        overload = r.string();
        break;
      case FUNCTION.input:
        inputs.push(r.string());
        break;
      case FUNCTION.output:
        outputs.push(r.string());
        break;
      case FUNCTION.attribute:
        attributes.push(r.string());
        break;
      case FUNCTION.attributeProto:
        addAttr(r, defaults, r.message('attribute_proto', defaultCount++, readAttr));
        break;
      case FUNCTION.node:
        nodes.push(r.message('node', nodes.length, readNode));
        break;
      case FUNCTION.opsetImport:
        opsets.push(r.message('opset_import', opsets.length, readOpset));
        break;
      default:
        r.skip();
    }
  }
  r.context.inFunction = false;
  if (name === '') {
    throw r.error('a function has no name');
  }
  return { domain, name, overload, inputs, outputs, attributes, defaults, nodes, opsets };
}

function standardDomain(domain: string): string {
  return domain === 'ai.onnx' ? '' : domain;
}

function present<T>(r: Reader, value: T | undefined, name: string): T {
  if (value === undefined) {
    throw r.error(`attribute '${name}' has no value of the kind it claims`);
  }
  return value;
}
