/** @file The IDX format of MNIST and its successors (http://yann.lecun.com/exdb/mnist, "file formats"). */
import { FormatError } from '../base/errors.ts';
import { type Shape, showShape } from '../tensor/shape.ts';
import type { ClassificationData } from './dataset.ts';
import { gunzip, isGzip, MAX_DECOMPRESSED } from './gzip.ts';

/** Type codes (third byte of a file) and how to read one element; multi-byte elements are big-endian. */
const TYPES = {
  8: { name: 'uint8', bytes: 1 },
  9: { name: 'int8', bytes: 1 },
  11: { name: 'int16', bytes: 2 },
  12: { name: 'int32', bytes: 4 },
  13: { name: 'float32', bytes: 4 },
  14: { name: 'float64', bytes: 8 },
} as const;

export type IdxDType = (typeof TYPES)[keyof typeof TYPES]['name'];

/** An array read from an IDX file. */
export interface IdxArray {
  /** What to call the file in messages. */
  readonly label: string;
  readonly dtype: IdxDType;
  readonly shape: Shape;
  /** Row-major; a window of the file for single-byte types. */
  readonly data: Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array;
}

/**
 * Reads an uncompressed IDX file. FormatError naming `label` for anything else: a wrong magic number, an unknown type, or
 * a length that is not exactly what the header announces.
 */
export function parseIdx(bytes: Uint8Array, label: string): IdxArray {
  if (isGzip(bytes)) throw new FormatError(`${label} is compressed with gzip; read it with readIdx.`);
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== 0) {
    const start = Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    throw new FormatError(`${label}: an IDX file starts with the bytes 00 00, a type and a rank, not with '${start}'.`);
  }
  const type = TYPES[bytes[2] as keyof typeof TYPES] as (typeof TYPES)[keyof typeof TYPES] | undefined;
  if (type === undefined) {
    throw new FormatError(
      `${label}: the IDX type ${bytes[2]} at offset 2 is unknown; known are ${Object.keys(TYPES).join(', ')}.`,
    );
  }
  const rank = bytes[3];
  const start = 4 + 4 * rank;
  if (rank === 0 || bytes.length < start) {
    throw new FormatError(
      `${label}: an IDX header of rank ${rank} (offset 3) needs at least one extent of 4 bytes each; the file has ${bytes.length} bytes.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
  // With a zero among the extents the product is zero however large the others are.
  const length = shape.includes(0) ? 0 : shape.reduce((a, b) => a * b, 1);
  if (start + length * type.bytes !== bytes.length) {
    const shown = rank <= 8 ? showShape(shape) : `of rank ${rank}`;
    throw new FormatError(
      `${label}: the IDX header announces ${type.name} ${shown}, ${length * type.bytes} bytes after offset ${start}, but ${bytes.length - start} bytes follow.`,
    );
  }
  return { label, dtype: type.name, shape, data: elements(type.name, bytes, start, length) };
}

/** Reads an IDX file, plain or compressed with gzip; `limit` bounds its decompressed size in bytes. */
export async function readIdx(bytes: Uint8Array, label: string, limit = MAX_DECOMPRESSED): Promise<IdxArray> {
  return parseIdx(isGzip(bytes) ? await gunzip(bytes, label, limit) : bytes, label);
}

/**
 * Images and labels of two IDX files as a data set. Images of rank 3 `[count, height, width]` get one channel; rank 4
 * `[count, channels, height, width]` and rank 2 `[count, features]` are taken as they are.
 *
 * @param classes Number of classes; default one more than the largest label.
 */
export function idxDataset(
  name: string,
  images: IdxArray,
  labels: IdxArray,
  options: { classes?: number; classNames?: readonly string[] } = {},
): ClassificationData {
  const [count, ...extents] = images.shape;
  if (!(images.data instanceof Uint8Array) || extents.length < 1 || extents.length > 3) {
    throw new FormatError(
      `${images.label} holds ${images.dtype} ${showShape(images.shape.slice(0, 8))}; images are uint8 of rank 2, 3 or 4.`,
    );
  }
  if (!(labels.data instanceof Uint8Array) || labels.shape.length !== 1) {
    throw new FormatError(
      `${labels.label} holds ${labels.dtype} ${showShape(labels.shape.slice(0, 8))}; labels are uint8 of rank 1.`,
    );
  }
  if (labels.data.length !== count) {
    throw new FormatError(`${images.label} has ${count} images, but ${labels.label} has ${labels.data.length} labels.`);
  }
  const values = Int32Array.from(labels.data);
  const classes = options.classes ?? options.classNames?.length ?? values.reduce((a, b) => Math.max(a, b), 0) + 1;
  const wrong = values.findIndex((label) => label >= classes);
  if (wrong >= 0) {
    throw new FormatError(
      `${labels.label}: label ${values[wrong]} of example ${wrong} (offset ${8 + wrong}) is outside [0, ${classes}).`,
    );
  }
  return {
    kind: 'classification',
    name,
    count,
    shape: extents.length === 2 ? [1, ...extents] : extents,
    inputs: images.data,
    labels: values,
    classes,
    ...(options.classNames ? { classNames: options.classNames } : {}),
  };
}

function elements(dtype: IdxDType, bytes: Uint8Array, start: number, length: number): IdxArray['data'] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (dtype) {
    case 'uint8':
      return new Uint8Array(bytes.buffer, bytes.byteOffset + start, length);
    case 'int8':
      return new Int8Array(bytes.buffer, bytes.byteOffset + start, length);
    case 'int16':
      return Int16Array.from({ length }, (_, i) => view.getInt16(start + 2 * i));
    case 'int32':
      return Int32Array.from({ length }, (_, i) => view.getInt32(start + 4 * i));
    case 'float32':
      return Float32Array.from({ length }, (_, i) => view.getFloat32(start + 4 * i));
    case 'float64':
      return Float64Array.from({ length }, (_, i) => view.getFloat64(start + 8 * i));
  }
}
