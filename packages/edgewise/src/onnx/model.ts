/**
 * The ONNX message types as plain immutable objects: what `writeOnnx` takes and `readOnnx` gives.
 * Source: the ONNX IR specification and its protobuf schema (github.com/onnx/onnx, docs/IR.md, onnx/onnx.proto).
 */

/** Element type of a tensor; those of ONNX that a byte-addressed tensor can hold, plus strings. */
export type OnnxDType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'bfloat16'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint8'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'bool'
  | 'string';

interface DTypeEntry {
  /** Number in `TensorProto.DataType`. */
  readonly code: number;
  /** Bytes of one element in raw form; 0 for strings, which have no fixed width. */
  readonly bytes: number;
}

const dtypes: Readonly<Record<OnnxDType, DTypeEntry>> = {
  float32: { code: 1, bytes: 4 },
  uint8: { code: 2, bytes: 1 },
  int8: { code: 3, bytes: 1 },
  uint16: { code: 4, bytes: 2 },
  int16: { code: 5, bytes: 2 },
  int32: { code: 6, bytes: 4 },
  int64: { code: 7, bytes: 8 },
  string: { code: 8, bytes: 0 },
  bool: { code: 9, bytes: 1 },
  float16: { code: 10, bytes: 2 },
  float64: { code: 11, bytes: 8 },
  uint32: { code: 12, bytes: 4 },
  uint64: { code: 13, bytes: 8 },
  bfloat16: { code: 16, bytes: 2 },
};

const byCode = new Map<number, OnnxDType>(
  (Object.keys(dtypes) as OnnxDType[]).map((dtype) => [dtypes[dtype].code, dtype]),
);

/** Number of `dtype` in `TensorProto.DataType`; what attributes such as `Cast`'s `to` hold. */
export function onnxDTypeCode(dtype: OnnxDType): number {
  return dtypes[dtype].code;
}

/** Element type with this number in `TensorProto.DataType`, or undefined where we do not represent it. */
export function onnxDTypeOfCode(code: number): OnnxDType | undefined {
  return byCode.get(code);
}

/** Bytes of one element; 0 for strings. */
export function onnxDTypeBytes(dtype: OnnxDType): number {
  return dtypes[dtype].bytes;
}

/** A constant tensor: an initializer, or the value of a tensor attribute. */
export interface OnnxTensor {
  readonly name: string;
  readonly dtype: OnnxDType;
  readonly dims: readonly number[];
  /**
   * Elements in row-major order, little-endian, `product(dims) * onnxDTypeBytes(dtype)` bytes; empty for strings.
   * Read from a file, this is a view into the file's bytes with whatever alignment they have there:
   * copy it, or check `byteOffset`, before putting a typed array over it.
   */
  readonly data: Uint8Array;
  /** Elements of a tensor of dtype `string`, `product(dims)` of them; absent for any other dtype. */
  readonly strings?: readonly string[];
}

/** An attribute of a node, tagged with its kind. */
export type OnnxAttr =
  /**
   * Integers are int64 in the file. One beyond ±2^53 is read as the nearest double (in practice the "to the end"
   * marks ±(2^63 - 1) of Slice), and 2^63 is written as 2^63 - 1.
   */
  | { readonly type: 'int'; readonly value: number }
  /** Rounded to float32 when written. */
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'ints'; readonly value: readonly number[] }
  | { readonly type: 'floats'; readonly value: readonly number[] }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'tensor'; readonly value: OnnxTensor }
  | { readonly type: 'tensors'; readonly value: readonly OnnxTensor[] }
  | { readonly type: 'graph'; readonly value: OnnxGraph }
  | { readonly type: 'graphs'; readonly value: readonly OnnxGraph[] }
  /**
   * Inside a function body only: the attribute `value` of the node that calls the function, which must be of
   * kind `refType`.
   */
  | { readonly type: 'ref'; readonly refType: OnnxAttrKind; readonly value: string };

/** The kinds of attribute that hold a value of their own. */
export type OnnxAttrKind =
  | 'int'
  | 'float'
  | 'string'
  | 'ints'
  | 'floats'
  | 'strings'
  | 'tensor'
  | 'tensors'
  | 'graph'
  | 'graphs';

/** One application of an operator. */
export interface OnnxNode {
  readonly opType: string;
  /** Operator set; '' is the standard ONNX one (the reader turns its alias `ai.onnx` into ''). */
  readonly domain: string;
  /** Which of several functions of one name this calls (IR version 10); absent means ''. */
  readonly overload?: string;
  /** For people and error messages; may be empty. */
  readonly name: string;
  /** Value names; '' stands for an optional input left out. */
  readonly inputs: readonly string[];
  /** Value names; '' stands for an optional output not wanted. */
  readonly outputs: readonly string[];
  readonly attrs: Readonly<Record<string, OnnxAttr>>;
}

/** Name, element type and shape of a graph input, output or intermediate value. */
export interface OnnxValueInfo {
  readonly name: string;
  /** Absent where the file does not say, which ONNX allows inside sub-graphs. */
  readonly dtype?: OnnxDType;
  /**
   * One entry a dimension: a size, or the name of a free dimension ('' for one without a name).
   * Absent where even the rank is unknown; an empty list is a scalar.
   */
  readonly dims?: readonly (number | string)[];
}

/** A graph; its nodes are in topological order by ONNX's rules, which the reader does not check. */
export interface OnnxGraph {
  readonly name: string;
  readonly nodes: readonly OnnxNode[];
  /** Files before IR version 4 list every initializer here too. */
  readonly inputs: readonly OnnxValueInfo[];
  readonly outputs: readonly OnnxValueInfo[];
  readonly initializers: readonly OnnxTensor[];
  /** Types of intermediate values, where the file gives them. */
  readonly valueInfo?: readonly OnnxValueInfo[];
}

/** Version of one operator set; domain '' is the standard ONNX one. */
export interface OnnxOpset {
  readonly domain: string;
  readonly version: number;
}

/** A function local to a model: a node whose domain and opType name it stands for its body. */
export interface OnnxFunction {
  readonly domain: string;
  readonly name: string;
  /** Distinguishes functions of one name (IR version 10); usually ''. */
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes without a default, which the calling node must give. */
  readonly attributes: readonly string[];
  /** Attributes with the value they have where the calling node gives none. */
  readonly defaults: Readonly<Record<string, OnnxAttr>>;
  readonly nodes: readonly OnnxNode[];
  readonly opsets: readonly OnnxOpset[];
}

/** A whole model: what one `.onnx` file holds. */
export interface OnnxModel {
  readonly irVersion: number;
  readonly opsets: readonly OnnxOpset[];
  readonly producerName: string;
  readonly producerVersion: string;
  readonly graph: OnnxGraph;
  readonly metadata: Readonly<Record<string, string>>;
  /** Name space of the model, such as `com.example.vision`. */
  readonly domain?: string;
  readonly modelVersion?: number;
  readonly docString?: string;
  /** Functions local to the model, where it has any. */
  readonly functions?: readonly OnnxFunction[];
}
