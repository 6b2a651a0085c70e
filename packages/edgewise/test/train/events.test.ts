import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { crc32c, maskCrc32c } from '../../src/train/crc32c.ts';
import {
  EVENT_FILE_VERSION,
  EventLog,
  encodeEvent,
  eventFileName,
  frameRecord,
  histogramOf,
  type TrainingEvent,
} from '../../src/train/events.ts';
import { eventsLengthAtStep, readEvents } from '../../src/train/events-reader.ts';
import { MemoryRunStore } from '../../src/train/store.ts';

const bytesOf = (...parts: (string | number[])[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => (typeof part === 'string' ? [...Buffer.from(part, 'latin1')] : part)));

const hex = (text: string): number[] => [...Buffer.from(text.replaceAll(' ', ''), 'hex')];

/**
 * The two records of an event file that TensorFlow 2 wrote for `tf.summary.scalar("accuracy", 0.99, step=77)`, as dumped in
 * TensorBoard's own tests.
 */
const TENSORFLOW_VERSION_RECORD = bytesOf(
  hex('1800000000000000 a37f4b22'),
  hex('09 0000803899d6d741 1a0d'),
  'brain.Event:2',
  hex('124b36ab'),
);
const TENSORFLOW_SCALAR_RECORD = bytesOf(
  hex('3200000000000000 241956ec'),
  hex('09 c405b73d99d6d741 104d 2a25 0a23 0a08'),
  'accuracy',
  hex('420a 0801 1200 2204 a4707d3f 4a0b 0a09 0a07'),
  'scalars',
  hex('a55b6433'),
);

/** CRC-32C bit by bit, straight from the definition. */
function bitwiseCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe('crc32c', () => {
  it('gives the values of RFC 3720, B.4', () => {
    const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(ascending)).toBe(0x46dd794e);
    expect(crc32c(ascending.toReversed())).toBe(0x113fdb5c);
    expect(crc32c(bytesOf('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(0))).toBe(0);
  });

  it('masks as TensorFlow does', () => {
    expect(maskCrc32c(crc32c(bytesOf([0x1a, 0x11], 'CRC test, one two')))).toBe(0x5794d08a);
  });

  it('agrees with the bitwise definition, whole and in pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (bytes, at) => {
        const cut = Math.min(at, bytes.length);
        expect(crc32c(bytes)).toBe(bitwiseCrc32c(bytes));
        expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(crc32c(bytes));
      }),
    );
  });
});

const finite = fc.double({ noNaN: true, noDefaultInfinity: true });
const arbitraryEvent: fc.Arbitrary<TrainingEvent> = fc.record({
  wallTime: fc.double({ min: 0, max: 1e10, noNaN: true }),
  step: fc.maxSafeInteger(),
  values: fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant('scalar' as const),
        tag: fc.string({ minLength: 1, unit: 'grapheme' }),
        value: fc.float(),
      }),
      fc.record({
        kind: fc.constant('histogram' as const),
        tag: fc.string({ minLength: 1 }),
        histogram: fc.array(finite).map((values) => histogramOf(values, 4)),
      }),
    ),
    { maxLength: 5 },
  ),
});

describe('writing events', () => {
  it('writes the version record to the byte as TensorFlow does', () => {
    const wallTime = new DataView(TENSORFLOW_VERSION_RECORD.buffer).getFloat64(13, true);
    expect(encodeEvent({ wallTime, step: 0, fileVersion: EVENT_FILE_VERSION, values: [] })).toEqual(
      TENSORFLOW_VERSION_RECORD,
    );
  });

  it('refuses what the format cannot hold', () => {
    const event = { wallTime: 1, step: 1, values: [] };
    expect(() => encodeEvent({ ...event, step: 1.5 })).toThrow(ConfigError);
    expect(() => encodeEvent({ ...event, wallTime: Number.NaN })).toThrow(/wall time must be finite.*NaN/);
    expect(() => encodeEvent({ ...event, values: [{ kind: 'scalar', tag: '', value: 1 }] })).toThrow(/empty/);
  });

  it('keeps scalars that are not finite or beyond float32', () => {
    const values = [Number.NaN, Number.POSITIVE_INFINITY, 1e300, -1e-60].map(
      (value, i) => ({ kind: 'scalar', tag: `${i}`, value }) as const,
    );
    const [read] = readEvents(encodeEvent({ wallTime: 1, step: 1, values })).events;
    expect(read.values.map((value) => value.kind === 'scalar' && value.value)).toEqual([
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.POSITIVE_INFINITY,
      -0,
    ]);
  });

  const python = spawnSync('python3', ['--version']).status === 0;
  it.skipIf(!python)('is read by an independent reader (skipped where python3 is absent)', async () => {
    const store = new MemoryRunStore();
    const log = await EventLog.create(store, 1_700_000_000.25);
    log.scalars(0, 1_700_000_001, { 'train/loss': 2.25, 'train/accuracy': 0.1 });
    log.scalars(300, 1_700_000_002.5, { 'test/accuracy': 0.987, tiny: 1e-40, negative: -3, 'Größe/λ': 7 });
    const histogram = histogramOf(Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i) * i));
    log.add({ wallTime: 1_700_000_003, step: 2 ** 40, values: [{ kind: 'histogram', tag: 'weights', histogram }] });
    log.add({ wallTime: 1_700_000_004, step: -1, values: [] });
    await log.flush();
    const bytes = await store.read(log.position.file);
    const folder = mkdtempSync(join(tmpdir(), 'edgewise-events-'));
    try {
      writeFileSync(join(folder, 'events'), bytes);
      const output = execFileSync('python3', [join(import.meta.dirname, 'read_events.py'), join(folder, 'events')]);
      expect(JSON.parse(output.toString())).toEqual(JSON.parse(JSON.stringify(readEvents(bytes).events)));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('reading events', () => {
  it('reads what TensorFlow 2 wrote', () => {
    const bytes = bytesOf([...TENSORFLOW_VERSION_RECORD], [...TENSORFLOW_SCALAR_RECORD]);
    const file = readEvents(bytes);
    expect(file.damage).toBeUndefined();
    expect(file.length).toBe(bytes.length);
    expect(file.events[0].fileVersion).toBe('brain.Event:2');
    expect(file.events[1]).toEqual({
      wallTime: 1599759606.859727,
      step: 77,
      values: [{ kind: 'scalar', tag: 'accuracy', value: Math.fround(0.99) }],
    });
  });

  it('reads tensors stored as repeated fields, histograms of the plugin, and names what it does not know', () => {
    const value = (tag: string, tensor: number[], plugin: string): number[] => {
      const name = [...Buffer.from(tag)];
      const data = [...Buffer.from(plugin)];
      const metadata = [0x0a, data.length + 2, 0x0a, data.length, ...data];
      const body = [0x0a, name.length, ...name, 0x42, tensor.length, ...tensor, 0x4a, metadata.length, ...metadata];
      return [0x0a, body.length, ...body];
    };
    const doubles = (...numbers: number[]): number[] => [...new Uint8Array(Float64Array.from(numbers).buffer)];
    const summary = [
      ...value('a', [0x08, 1, 0x2d, ...hex('0000c03f')], 'scalars'),
      ...value('b', [0x08, 2, 0x32, 8, ...doubles(2.5)], 'scalars'),
      ...value('c', [0x08, 9, 0x52, 1, 7], 'scalars'),
      ...value('d', [0x08, 2, 0x22, 48, ...doubles(-1, 0, 3, 0, 1, 5)], 'histograms'),
      ...value('e', [0x08, 7], 'images'),
    ];
    const record = frameRecord(
      Uint8Array.from([0x2a, 0x80 | (summary.length & 0x7f), summary.length >> 7, ...summary]),
    );
    const file = readEvents(record);
    expect(file.damage).toBeUndefined();
    expect(file.events[0].values).toEqual([
      { kind: 'scalar', tag: 'a', value: 1.5 },
      { kind: 'scalar', tag: 'b', value: 2.5 },
      { kind: 'scalar', tag: 'c', value: 7 },
      {
        kind: 'histogram',
        tag: 'd',
        histogram: { min: -1, max: 1, count: 8, sum: 1, sumOfSquares: 2, bucketLimits: [0, 1], buckets: [3, 5] },
      },
      { kind: 'other', tag: 'e', plugin: 'images' },
    ]);
  });

  it('gives back what was written', () => {
    fc.assert(
      fc.property(fc.array(arbitraryEvent, { maxLength: 6 }), (events) => {
        const bytes = bytesOf(...events.map((event) => [...encodeEvent(event)]));
        const file = readEvents(bytes);
        expect(file.events).toEqual(events);
        expect(file).toMatchObject({ length: bytes.length });
        expect(file.damage).toBeUndefined();
      }),
    );
  });

  it('stops at a record cut short and at one that was changed, and says where', () => {
    const first = encodeEvent({ wallTime: 1, step: 1, values: [{ kind: 'scalar', tag: 'loss', value: 1 }] });
    const second = encodeEvent({ wallTime: 2, step: 2, values: [{ kind: 'scalar', tag: 'loss', value: 0.5 }] });
    const whole = bytesOf([...first], [...second]);
    for (let length = first.length + 1; length < whole.length; length++) {
      const file = readEvents(whole.subarray(0, length), 'x.tfevents');
      expect(file.events).toHaveLength(1);
      expect(file.length).toBe(first.length);
      expect(file.damage?.kind).toBe('truncated');
      expect(file.damage?.message).toContain(`x.tfevents: the record at offset ${first.length} is cut short`);
    }
    for (let at = 0; at < whole.length; at++) {
      const changed = whole.slice();
      changed[at] ^= 1 << (at % 8);
      const file = readEvents(changed);
      expect(file.events).toHaveLength(at < first.length ? 0 : 1);
      expect(file.damage?.kind).toBe('corrupt');
    }
  });

  it('takes any bytes without throwing, with true checksums too', () => {
    const run = (bytes: Uint8Array): void => {
      const file = readEvents(bytes);
      expect(file.damage === undefined).toBe(file.length === bytes.length);
      expect(file.events).toHaveLength(file.ends.length);
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), run));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (message) => run(frameRecord(message))));
    const flip = fc.tuple(arbitraryEvent, fc.nat(), fc.nat(255)).map(([event, at, value]) => {
      const message = encodeEvent(event).slice(12, -4);
      message[at % message.length] = value;
      return frameRecord(message);
    });
    fc.assert(fc.property(flip, run), { numRuns: 500 });
  });

  it('does not believe a length of 2^63', () => {
    const head = bytesOf(hex('0000000000000080'));
    const crc = new Uint8Array(Uint32Array.of(maskCrc32c(crc32c(head))).buffer);
    const file = readEvents(bytesOf([...head], [...crc], [0, 0, 0, 0]));
    expect(file.damage?.kind).toBe('truncated');
    expect(file.damage?.message).toContain('claims 9223372036854775808 bytes, 4 are left');
  });
});

describe('histogramOf', () => {
  it('puts every finite value into the bucket whose limits hold it', () => {
    fc.assert(
      fc.property(fc.array(fc.float(), { maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (values, buckets) => {
        const kept = values.filter(Number.isFinite);
        const histogram = histogramOf(values, buckets);
        expect(histogram.count).toBe(kept.length);
        const limits = histogram.bucketLimits;
        const expected = limits.map(
          (limit, i) => kept.filter((value) => value <= limit && (i === 0 || value > limits[i - 1])).length,
        );
        expect(histogram.buckets).toEqual(expected);
        if (kept.length > 0) {
          expect(histogram.min).toBe(Math.min(...kept));
          expect(histogram.max).toBe(Math.max(...kept));
          expect(limits.at(-1)).toBe(histogram.max);
        }
      }),
    );
  });
});

describe('EventLog', () => {
  it('goes on after a resume as if nothing had been written past the position', async () => {
    const store = new MemoryRunStore();
    const log = await EventLog.create(store, 1000);
    log.scalars(1, 1001, { loss: 3 });
    const position = log.position;
    log.scalars(2, 1002, { loss: 2 });
    await log.flush();
    const resumed = await EventLog.resume(store, position);
    resumed.scalars(2, 1005, { loss: 2 });
    await resumed.flush();
    const file = readEvents(await store.read(eventFileName(1000)));
    expect(file.events.map((event) => [event.step, event.wallTime])).toEqual([
      [0, 1000],
      [1, 1001],
      [2, 1005],
    ]);
    expect(eventsLengthAtStep(file, 1)).toBe(position.length);
    expect(eventsLengthAtStep(file, 2)).toBe(file.length);
    expect(eventsLengthAtStep(file, -1)).toBe(0);
  });

  it('does not write over an event file that is there', async () => {
    const store = new MemoryRunStore();
    await EventLog.create(store, 1000.9);
    await expect(EventLog.create(store, 1000.1)).rejects.toThrow(/is already in memory/);
  });
});
