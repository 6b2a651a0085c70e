/** ValueInfoProto, and the types and shapes in it, to `OnnxValueInfo`. */
import { DIMENSION, SHAPE, TENSOR_TYPE, TYPE, VALUE_INFO } from './fields.ts';
import { type OnnxDType, type OnnxValueInfo, onnxDTypeOfCode } from './model.ts';
import { type Reader, readDType } from './read-tensor.ts';

/** The type of an intermediate value, which is only a hint: where we do not represent it, it counts as not given. */
export function readValueHint(r: Reader): OnnxValueInfo {
  return readValue(r, false);
}

/** The type of a graph's input or output; throws where it is no tensor we represent. */
export function readValueInfo(r: Reader): OnnxValueInfo {
  return readValue(r, true);
}

function readValue(r: Reader, binding: boolean): OnnxValueInfo {
  let name = '';
  let type: TensorType | undefined;
  while (r.next()) {
    switch (r.field) {
      case VALUE_INFO.name:
        name = r.string();
        break;
      case VALUE_INFO.type:
        refuseSecond(r, type, 'type');
        type = r.message('type', -1, readType);
        break;
      default:
        r.skip();
    }
  }
  if (type === undefined || type.kind === 0) {
    return { name };
  }
  const { kind, dtypeCode, dims } = type;
  if (binding && kind !== TYPE.tensor) {
    const label = Object.entries(TYPE).find(([, code]) => code === kind)?.[0];
    throw r.error(`value '${name}' is of kind ${label}; only tensors are supported`);
  }
  let dtype: OnnxDType | undefined;
  if (dtypeCode !== 0) {
    dtype = binding ? readDType(r, dtypeCode, `value '${name}'`) : onnxDTypeOfCode(dtypeCode);
  }
  return { name, ...(dtype !== undefined && { dtype }), ...(dims !== undefined && { dims }) };
}

interface TensorType {
  /** Field of TypeProto that holds the type; 0 where none does. */
  readonly kind: number;
  readonly dtypeCode: number;
  readonly dims: readonly (number | string)[] | undefined;
}

function readType(r: Reader): TensorType {
  let kind = 0;
  let tensor: Omit<TensorType, 'kind'> = { dtypeCode: 0, dims: undefined };
  while (r.next()) {
    switch (r.field) {
      case TYPE.tensor:
        kind = r.field;
        tensor = r.message('tensor_type', -1, readTensorType);
        break;
      case TYPE.sequence:
      case TYPE.map:
      case TYPE.opaque:
      case TYPE.sparseTensor:
      case TYPE.optional:
        kind = r.field;
        tensor = { dtypeCode: 0, dims: undefined };
        r.skip();
        break;
      default:
        r.skip();
    }
  }
  return { kind, ...tensor };
}

function readTensorType(r: Reader): Omit<TensorType, 'kind'> {
  let dtypeCode = 0;
  let dims: readonly (number | string)[] | undefined;
  while (r.next()) {
    switch (r.field) {
      case TENSOR_TYPE.elemType:
        dtypeCode = r.int();
        break;
      case TENSOR_TYPE.shape:
        refuseSecond(r, dims, 'shape');
        dims = r.message('shape', -1, readShape);
        break;
      default:
        r.skip();
    }
  }
  return { dtypeCode, dims };
}

function readShape(r: Reader): (number | string)[] {
  const dims: (number | string)[] = [];
  while (r.next()) {
    if (r.field === SHAPE.dim) {
      dims.push(r.message('dim', dims.length, readDimension));
    } else {
      r.skip();
    }
  }
  return dims;
}

function readDimension(r: Reader): number | string {
  let dim: number | string = '';
  while (r.next()) {
    switch (r.field) {
      case DIMENSION.value: {
        const size = r.int();
        if (!Number.isSafeInteger(size) || size < -1) {
          throw r.error(`a shape has a dimension of ${size}`);
        }
        // Some exporters mark a free dimension by -1; ONNX Runtime reads it so too.
        dim = size === -1 ? '' : size;
        break;
      }
      case DIMENSION.param:
        dim = r.string();
        break;
      default:
        r.skip();
    }
  }
  return dim;
}

/** Throws where a message that may be there once was `found` already. */
export function refuseSecond(r: Reader, found: unknown, what: string): void {
  if (found !== undefined) {
    throw r.error(`the ${what} is given twice`);
  }
}
