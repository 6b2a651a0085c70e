/**
 * Where a run keeps its files. The training loop writes through {@link RunStore} and so runs in Node (a folder,
 * `node/store.ts`) and in a page (memory, or what a page offers) alike.
 */
import { ConfigError, EdgewiseError } from '../base/errors.ts';

/** Why a {@link StoreError} was thrown. */
export type StoreErrorCode =
  /** No such file or folder. */
  | 'not-found'
  /** A file is there that must not be. */
  | 'exists'
  /** The device is full, or a quota or size limit is reached. */
  | 'no-space'
  /** The file system does not allow it (permissions, read-only device). */
  | 'permission'
  /** Another process writes this run. */
  | 'locked'
  /** A file is shorter than it was, or its content is not what was written. */
  | 'damaged'
  /** The store is closed. */
  | 'closed'
  /** Anything else the file system reports. */
  | 'io';

/** A run's file could not be read or written. What was stored before is untouched. */
export class StoreError extends EdgewiseError {
  override readonly name = 'StoreError';
  readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The pieces of a file, written after each other. They must not change before the write has finished. */
export type Chunks = Uint8Array | readonly Uint8Array[];

/**
 * Named files of one run. Names are relative paths with `/` between their parts, such as
 * `checkpoints/step-00001200.safetensors`; folders come into being with their first file. Calls take effect in the order
 * in which they were made. Every method rejects with {@link StoreError} where the file system refuses, and with
 * {@link ConfigError} for a name that is not a plain relative path.
 */
export interface RunStore {
  /** What to call this store in messages: the folder's path, or `memory`. */
  readonly location: string;
  /** The whole content of a file. */
  read(name: string): Promise<Uint8Array>;
  /** Length in bytes, or undefined where there is no such file. */
  size(name: string): Promise<number | undefined>;
  /** Names of the files directly in `folder` (default: the run folder itself), sorted. Empty where there is no such folder. */
  list(folder?: string): Promise<string[]>;
  /**
   * Writes a file so that at every moment, also after a crash or a full disk, its name stands for the whole old
   * content or the whole new one.
   */
  writeAtomic(name: string, content: Chunks): Promise<void>;
  /**
   * Adds `content` to the end of a file that is `length` bytes long; bytes beyond that (the torn end of an append that was cut
   * off) are dropped first. `length` 0 begins the file anew. If the append fails, the file is cut back to `length`.
   *
   * @returns The new length.
   * @throws StoreError `damaged` where the file is shorter than `length`.
   */
  append(name: string, length: number, content: Chunks): Promise<number>;
  /** Cuts a file to `length` bytes. Throws StoreError `damaged` where it is shorter. */
  truncate(name: string, length: number): Promise<void>;
  /** Removes a file; nothing happens where there is none. */
  remove(name: string): Promise<void>;
  /** Makes everything appended so far survive a power failure. */
  sync(): Promise<void>;
  /** Ends writing: waits for what is under way, releases files and the lock. Further writes are refused. */
  close(): Promise<void>;
}

/**
 * Checks that `name` is a plain relative path: parts of printable characters between single slashes, none beginning with a
 * dot (stores keep such names for themselves).
 *
 * @throws ConfigError otherwise.
 */
export function checkFileName(name: string): string {
  const plain = name
    .split('/')
    .every((part) => part !== '' && !part.startsWith('.') && !/[\p{Cc}\\:*?"<>|]/u.test(part));
  if (!plain) {
    throw new ConfigError(
      `A run's files are named by plain relative paths such as checkpoints/x.safetensors, got ${JSON.stringify(name)}.`,
    );
  }
  return name;
}

/** Sum of the lengths of `content`, in bytes. */
export function byteLength(content: Chunks): number {
  return content instanceof Uint8Array ? content.length : content.reduce((sum, chunk) => sum + chunk.length, 0);
}

/** `content` as a list. */
export function toChunks(content: Chunks): readonly Uint8Array[] {
  return content instanceof Uint8Array ? [content] : content;
}

/** The error of a read of a file that is not there; the same sentence for every store. */
export function notFound(location: string, name: string): StoreError {
  return new StoreError('not-found', `There is no file ${name} in ${location}.`);
}

/** The error of a file that has lost bytes; the same sentence for every store. */
export function tooShort(location: string, name: string, size: number, length: number): StoreError {
  return new StoreError(
    'damaged',
    `${name} in ${location} has ${size} bytes where ${length} were written; it was changed or lost by something else.`,
  );
}

/** A run kept in memory: for pages, tests and runs whose files nobody wants. */
export class MemoryRunStore implements RunStore {
  readonly location = 'memory';
  readonly #files = new Map<string, { bytes: Uint8Array; length: number }>();
  #closed = false;

  async read(name: string): Promise<Uint8Array> {
    const file = this.#files.get(checkFileName(name));
    if (!file) throw notFound(this.location, name);
    return file.bytes.slice(0, file.length);
  }

  async size(name: string): Promise<number | undefined> {
    return this.#files.get(checkFileName(name))?.length;
  }

  async list(folder?: string): Promise<string[]> {
    const prefix = folder === undefined ? '' : `${checkFileName(folder)}/`;
    return [...this.#files.keys()]
      .filter((name) => name.startsWith(prefix) && !name.includes('/', prefix.length))
      .sort();
  }

  async writeAtomic(name: string, content: Chunks): Promise<void> {
    this.#checkWritable(name);
    const bytes = joinChunks(content);
    this.#files.set(name, { bytes, length: bytes.length });
  }

  async append(name: string, length: number, content: Chunks): Promise<number> {
    this.#checkWritable(name);
    const file = this.#files.get(name) ?? { bytes: new Uint8Array(0), length: 0 };
    if (file.length < length) throw tooShort(this.location, name, file.length, length);
    const end = length + byteLength(content);
    if (end > file.bytes.length) {
      const grown = new Uint8Array(Math.max(end, 2 * file.bytes.length));
      grown.set(file.bytes.subarray(0, length));
      file.bytes = grown;
    }
    let at = length;
    for (const chunk of toChunks(content)) {
      file.bytes.set(chunk, at);
      at += chunk.length;
    }
    file.length = end;
    this.#files.set(name, file);
    return end;
  }

  async truncate(name: string, length: number): Promise<void> {
    this.#checkWritable(name);
    const file = this.#files.get(name);
    if (!file) throw notFound(this.location, name);
    if (file.length < length) throw tooShort(this.location, name, file.length, length);
    file.length = length;
  }

  async remove(name: string): Promise<void> {
    this.#checkWritable(name);
    this.#files.delete(name);
  }

  async sync(): Promise<void> {}

  async close(): Promise<void> {
    this.#closed = true;
  }

  #checkWritable(name: string): void {
    checkFileName(name);
    if (this.#closed) throw new StoreError('closed', `The run store is closed; ${name} was not written.`);
  }
}

function joinChunks(content: Chunks): Uint8Array {
  const bytes = new Uint8Array(byteLength(content));
  let at = 0;
  for (const chunk of toChunks(content)) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** A file that grows: pieces are collected in memory and written together by {@link flush}. */
export class LogFile {
  readonly name: string;
  readonly #store: RunStore;
  #written: number;
  #pending: Uint8Array[] = [];
  #pendingLength = 0;
  /** The flush under way; the next one waits for it. */
  #flushing: Promise<void> = Promise.resolve();

  private constructor(store: RunStore, name: string, length: number) {
    this.#store = store;
    this.name = name;
    this.#written = length;
  }

  /**
   * Begins an empty file.
   *
   * @throws StoreError `exists` where it is there already.
   */
  static async create(store: RunStore, name: string): Promise<LogFile> {
    if ((await store.size(name)) !== undefined) {
      throw new StoreError('exists', `${name} is already in ${store.location}; a new run needs a folder of its own.`);
    }
    await store.append(name, 0, []);
    return new LogFile(store, name, 0);
  }

  /**
   * Goes on after the first `length` bytes of a file, dropping the rest.
   *
   * @throws StoreError `damaged` where it is shorter.
   */
  static async resume(store: RunStore, name: string, length: number): Promise<LogFile> {
    await store.truncate(name, length);
    return new LogFile(store, name, length);
  }

  /** Length in bytes once everything pushed is written. */
  get length(): number {
    return this.#written + this.#pendingLength;
  }

  /** Adds a piece; written by the next {@link flush}. */
  push(piece: Uint8Array): void {
    this.#pending.push(piece);
    this.#pendingLength += piece.length;
  }

  /** Writes what was pushed. Where that fails the pieces are kept, and the next call tries again. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.catch(() => {}).then(() => this.#flushNow());
    return this.#flushing;
  }

  async #flushNow(): Promise<void> {
    const count = this.#pending.length;
    if (count === 0) return;
    const pieces = this.#pending.slice(0, count);
    const end = await this.#store.append(this.name, this.#written, pieces);
    this.#pending = this.#pending.slice(count);
    this.#pendingLength -= end - this.#written;
    this.#written = end;
  }
}
