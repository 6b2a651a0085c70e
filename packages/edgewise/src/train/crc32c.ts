/**
 * CRC-32C (Castagnoli), the checksum of TFRecord files and of our checkpoints. Reflected polynomial 0x82F63B78,
 * as in RFC 3720 (iSCSI), section 12.1.
 */

const POLYNOMIAL = 0x82f63b78;

/** Eight 256-entry tables after each other, for eight bytes per iteration ("slicing-by-8", Kounavis & Berry 2005). */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let i = 256; i < tables.length; i++) {
    const previous = tables[i - 256];
    tables[i] = (previous >>> 8) ^ tables[previous & 0xff];
  }
  return tables;
}

/**
 * CRC-32C of `bytes`, as an unsigned 32-bit integer.
 *
 * @param bytes The data; read, not kept.
 * @param previous The checksum of the data before `bytes`, to sum over several pieces. Default 0: nothing before.
 */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  const t = TABLES;
  let crc = ~previous;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    crc ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    crc =
      t[1792 + (crc & 0xff)] ^
      t[1536 + ((crc >>> 8) & 0xff)] ^
      t[1280 + ((crc >>> 16) & 0xff)] ^
      t[1024 + (crc >>> 24)] ^
      t[768 + bytes[i + 4]] ^
      t[512 + bytes[i + 5]] ^
      t[256 + bytes[i + 6]] ^
      t[bytes[i + 7]];
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ t[(crc ^ bytes[i]) & 0xff];
  return ~crc >>> 0;
}

/** `crc` rotated right by 15 bits plus a constant: the form in which TFRecord files store it, so that sums of sums stay sound. */
export function maskCrc32c(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
