/** Protobuf messages as sequences of fields: a bounds-checked reader, and a writer that copies large blobs once. */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { ConfigError, FormatError } from '../base/errors.ts';

/** The largest protobuf message any implementation reads. */
export const MAX_MESSAGE_BYTES = 2 ** 31 - 1;

/**
 * Walks the fields of a message and of the messages inside it. `next` steps to a field, then exactly one of the
 * typed methods takes its value. Nothing is believed before it is checked: every error is a `FormatError` with the
 * path of the message and the offset in the file.
 */
export class MessageReader<Context> {
  /** Number of the field `next` stepped to. */
  field = 0;
  /** What the functions that read with this reader share. */
  readonly context: Context;
  #wire: WireType = WireType.Varint;
  #end: number;
  readonly #bytes: Uint8Array;
  readonly #in: BinaryReader;
  /** Label and index of the messages around the current one; only the first `#depth` count. */
  readonly #labels: string[] = [];
  readonly #indices: number[] = [];
  #depth = 0;

  private constructor(bytes: Uint8Array, context: Context) {
    this.context = context;
    this.#bytes = bytes;
    this.#in = new BinaryReader(bytes);
    this.#end = bytes.length;
  }

  /** Result of `read` on the message that fills `bytes`. */
  static read<T, Context>(bytes: Uint8Array, context: Context, read: (reader: MessageReader<Context>) => T): T {
    const reader = new MessageReader(bytes, context);
    try {
      return read(reader);
    } catch (error) {
      // What BinaryReader throws on bytes it cannot read; a TypeError would be a mistake of ours.
      if (error instanceof RangeError || (error instanceof Error && error.constructor === Error)) {
        throw reader.error(error.message);
      }
      throw error;
    }
  }

  /** A `FormatError` that says where the reader stands. */
  error(problem: string): FormatError {
    let path = '';
    for (let i = 0; i < this.#depth; i++) {
      const index = this.#indices[i];
      path += `${i > 0 ? '.' : ''}${this.#labels[i]}${index === -1 ? '' : `[${index}]`}`;
    }
    const offset = Math.min(this.#in.pos, this.#bytes.length);
    // Names and shapes in it come from the file, and may be as long as the file.
    const brief = problem.length > 400 ? `${problem.slice(0, 400)}...` : problem;
    return new FormatError(`Not a readable ONNX model: ${path === '' ? '' : `${path}: `}${brief} (byte ${offset}).`);
  }

  /** Steps to the next field of the current message; false at its end. */
  next(): boolean {
    const pos = this.#in.pos;
    if (pos >= this.#end) {
      if (pos > this.#end) {
        throw this.error(`field ${this.field} runs past the end of its message`);
      }
      return false;
    }
    const [field, wire] = this.#in.tag();
    this.field = field;
    this.#wire = wire;
    return true;
  }

  /** Passes over the field's value. */
  skip(): void {
    if (this.#wire === WireType.LengthDelimited) {
      this.bytes();
    } else {
      this.#in.skip(this.#wire, this.field);
    }
  }

  /**
   * Result of `read` on the message in this field, which must take all of its fields.
   * `label` and `index` (-1 where there is only one) name it in errors.
   */
  message<T>(label: string, index: number, read: (reader: MessageReader<Context>) => T): T {
    this.#expect(WireType.LengthDelimited);
    const length = this.#length();
    const outer = this.#end;
    this.#end = this.#in.pos + length;
    this.#labels[this.#depth] = label;
    this.#indices[this.#depth++] = index;
    const value = read(this);
    this.#depth--;
    this.#end = outer;
    return value;
  }

  /** An int64, int32, bool or enum as a number: exact up to 2^53, the nearest double beyond. */
  int(): number {
    this.#expect(WireType.Varint);
    return this.#int();
  }

  /** Appends one integer, or a packed run of them. */
  ints(to: number[]): void {
    if (this.#wire !== WireType.LengthDelimited) {
      to.push(this.int());
      return;
    }
    const end = this.#length() + this.#in.pos;
    while (this.#in.pos < end) {
      to.push(this.#int());
    }
    this.#packedEnd(end);
  }

  /** A float32. */
  float(): number {
    this.#expect(WireType.Bit32);
    return this.#in.float();
  }

  /** Appends one float32, or a packed run of them. */
  floats(to: number[]): void {
    if (this.#wire !== WireType.LengthDelimited) {
      to.push(this.float());
      return;
    }
    const end = this.#length() + this.#in.pos;
    while (this.#in.pos < end) {
      to.push(this.#in.float());
    }
    this.#packedEnd(end);
  }

  /** Text; throws where it is not UTF-8. */
  string(): string {
    this.#expect(WireType.LengthDelimited);
    const start = this.#in.pos;
    this.#length();
    this.#in.pos = start;
    try {
      return this.#in.string(true);
    } catch {
      throw this.error(`field ${this.field} is not UTF-8 text`);
    }
  }

  /** Text for people only: what is not UTF-8 becomes U+FFFD. */
  looseString(): string {
    this.#expect(WireType.LengthDelimited);
    const start = this.#in.pos;
    this.#length();
    this.#in.pos = start;
    return this.#in.string(false);
  }

  /** A view of the bytes in this field. */
  bytes(): Uint8Array {
    this.#expect(WireType.LengthDelimited);
    const length = this.#length();
    const start = this.#in.pos;
    this.#in.pos = start + length;
    return this.#bytes.subarray(start, start + length);
  }

  /** A view of the encoded elements of a repeated number field: a packed run, or the single element written here. */
  encoded(element: WireType): Uint8Array {
    if (this.#wire === WireType.LengthDelimited) {
      return this.bytes();
    }
    this.#expect(element);
    return this.#in.skip(element, this.field);
  }

  #int(): number {
    const first = this.#bytes[this.#in.pos];
    if (first < 0x80) {
      this.#in.pos++;
      return first;
    }
    return Number(this.#in.int64());
  }

  /** Length of what follows, known to fit the current message. */
  #length(): number {
    const start = this.#in.pos;
    const length = this.#in.uint32();
    const size = this.#in.pos - start;
    if (size > 5 || (size === 5 && this.#bytes[this.#in.pos - 1] > 0x0f)) {
      throw this.error(`field ${this.field} claims a length beyond 32 bits`);
    }
    const left = this.#end - this.#in.pos;
    if (length > left) {
      throw this.error(`field ${this.field} claims ${length} bytes where ${Math.max(left, 0)} are left`);
    }
    return length;
  }

  #packedEnd(end: number): void {
    if (this.#in.pos !== end) {
      throw this.error(`the last element of field ${this.field} runs past the field's end`);
    }
  }

  #expect(wire: WireType): void {
    if (this.#wire !== wire) {
      throw this.error(`field ${this.field} has wire type ${this.#wire} where ${wire} is due`);
    }
  }
}

/** Blobs at least this long go into the result by reference, and are copied once, at the end. */
const BLOB_BYTES = 512;

/** Writes a message field by field; tensor data is copied once however deep it sits. */
export class MessageWriter {
  readonly #out = new BinaryWriter();
  readonly #pieces: Uint8Array[] = [];
  #pieceBytes = 0;
  #forks = 0;

  string(field: number, value: string): void {
    this.#out.tag(field, WireType.LengthDelimited).string(value);
  }

  /** Integer within ±2^63; 2^63 itself, which int64 lacks, becomes 2^63 - 1. */
  int(field: number, value: number): void {
    this.#out.tag(field, WireType.Varint);
    if (value >= 0 && value < 2 ** 32) {
      this.#out.uint32(value);
    } else {
      this.#out.int64(value >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(value));
    }
  }

  float(field: number, value: number): void {
    this.#out.tag(field, WireType.Bit32).float(value);
  }

  /** Bytes; long ones must stay unchanged until `finish`. */
  bytes(field: number, value: Uint8Array): void {
    this.#out.tag(field, WireType.LengthDelimited);
    if (this.#forks > 0 || value.length < BLOB_BYTES) {
      this.#out.bytes(value);
    } else {
      this.#out.uint32(value.length);
      this.#append([value], value.length);
    }
  }

  /** A message in a field. Say that it `holdsBlobs` where long `bytes` may be in it. */
  message(field: number, holdsBlobs: boolean, write: (writer: MessageWriter) => void): void {
    this.#out.tag(field, WireType.LengthDelimited);
    if (!holdsBlobs || this.#forks > 0) {
      this.#forks++;
      this.#out.fork();
      write(this);
      this.#out.join();
      this.#forks--;
      return;
    }
    const inner = new MessageWriter();
    write(inner);
    const { pieces, length } = inner.#close();
    this.#out.uint32(length);
    this.#append(pieces, length);
  }

  /** The message, as one array. */
  finish(): Uint8Array<ArrayBuffer> {
    const { pieces, length } = this.#close();
    const result = new Uint8Array(length);
    let offset = 0;
    for (const piece of pieces) {
      result.set(piece, offset);
      offset += piece.length;
    }
    return result;
  }

  #append(pieces: readonly Uint8Array[], length: number): void {
    this.#flush();
    for (const piece of pieces) {
      this.#pieces.push(piece);
    }
    this.#pieceBytes += length;
  }

  #flush(): void {
    const small = this.#out.finish();
    this.#pieces.push(small);
    this.#pieceBytes += small.length;
  }

  #close(): { pieces: readonly Uint8Array[]; length: number } {
    this.#flush();
    if (this.#pieceBytes > MAX_MESSAGE_BYTES) {
      throw new ConfigError(
        `The ONNX model takes ${this.#pieceBytes} bytes; protobuf messages end at ${MAX_MESSAGE_BYTES}: keep the weights in a file of their own.`,
      );
    }
    return { pieces: this.#pieces, length: this.#pieceBytes };
  }
}
