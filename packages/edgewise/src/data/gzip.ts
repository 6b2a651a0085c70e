/** @file Reading gzip through the `DecompressionStream` that browsers and Node share. */
import { FormatError } from '../base/errors.ts';

/** Largest decompressed size taken by default: 1 GiB. */
export const MAX_DECOMPRESSED = 2 ** 30;

/** Whether `bytes` start like a gzip file. */
export function isGzip(bytes: Uint8Array): boolean {
  return bytes.length >= 2 && bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/**
 * The content of a gzip file. FormatError, naming `label`, for a damaged or cut-off file and for one that would decompress to
 * more than `limit` bytes.
 */
export async function gunzip(bytes: Uint8Array, label: string, limit = MAX_DECOMPRESSED): Promise<Uint8Array> {
  const stream = new DecompressionStream('gzip');
  const writer = stream.writable.getWriter();
  const feed = async () => {
    await writer.write(bytes as Uint8Array<ArrayBuffer>); // File contents are never in shared memory.
    await writer.close();
  };
  // What fails on the writing side fails on the reading side too, and is reported there.
  feed().catch(() => {});
  const reader = stream.readable.getReader();
  const chunks: Uint8Array[] = [];
  let total = 0;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      chunks.push(next.value);
      total += next.value.length;
      if (total > limit) break;
    }
  } catch (cause) {
    throw new FormatError(`${label}: the gzip data are damaged or cut off after ${total} decompressed bytes.`, {
      cause,
    });
  }
  if (total > limit) {
    reader.cancel().catch(() => {});
    throw new FormatError(`${label}: the file decompresses to more than the allowed ${limit} bytes.`);
  }
  const out = new Uint8Array(total);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}
