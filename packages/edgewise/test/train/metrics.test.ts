import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError, FormatError } from '../../src/base/errors.ts';
import {
  METRICS_FILE,
  METRICS_SCHEMA_FILE,
  type MetricFields,
  MetricsLog,
  metricSeries,
  metricsLengthAtStep,
  readMetricFields,
  readMetrics,
  TIMING_FILE,
  TRAINING_FIELDS,
} from '../../src/train/metrics.ts';
import { MemoryRunStore, type RunStore } from '../../src/train/store.ts';
import { bytes, text } from './store-suite.ts';

const FIELDS: MetricFields = {
  loss: { unit: 'nats', doc: 'Mean loss.' },
  seconds: { unit: 's', doc: 'Time.', wallClock: true },
  'probe/sharpness': { unit: '1', doc: 'Largest Hessian eigenvalue.' },
};

const readAll = async (store: RunStore, name: string): Promise<string> => text(await store.read(name));

describe('MetricsLog', () => {
  it('writes deterministic values and timings to a file each, in declared order', async () => {
    const store = new MemoryRunStore();
    const log = await MetricsLog.create(store, FIELDS);
    log.record({ seconds: 1.5, step: 1, 'probe/sharpness': 20, loss: 0.1 + 0.2 });
    log.record({ step: 1, loss: Number.NaN, 'probe/sharpness': null });
    log.record({ step: 2, loss: -0, seconds: Number.POSITIVE_INFINITY });
    log.record({ step: 2, seconds: undefined });
    await log.flush();
    expect(await readAll(store, METRICS_FILE)).toBe(
      '{"step":1,"loss":0.30000000000000004,"probe/sharpness":20}\n' +
        '{"step":1,"loss":null,"probe/sharpness":null}\n' +
        '{"step":2,"loss":-0}\n',
    );
    expect(await readAll(store, TIMING_FILE)).toBe('{"step":1,"seconds":1.5}\n{"step":2,"seconds":null}\n');
    expect(await readMetricFields(store)).toEqual(FIELDS);
    expect(JSON.parse(await readAll(store, METRICS_SCHEMA_FILE))).toMatchObject({
      format: 'edgewise-metrics/1',
      files: { 'timing.jsonl': { seconds: { unit: 's', doc: 'Time.' } } },
    });
  });

  it('refuses undeclared names and steps that go back', async () => {
    const log = await MetricsLog.create(new MemoryRunStore(), FIELDS);
    expect(() => log.record({ step: 1, lsos: 1 })).toThrow('The metric lsos was not declared; did you mean loss?');
    log.record({ step: 5, loss: 1 });
    expect(() => log.record({ step: 4, loss: 1 })).toThrow(/got 4 after 5/);
    expect(() => log.record({ step: 5.5, loss: 1 })).toThrow(ConfigError);
    for (const name of ['step', 'a b', '/a', 'a//b', '', '__proto__']) {
      const fields = Object.fromEntries([[name, { unit: '1', doc: 'x' }]]);
      await expect(MetricsLog.create(new MemoryRunStore(), fields)).rejects.toThrow(ConfigError);
    }
    await expect(MetricsLog.create(new MemoryRunStore(), TRAINING_FIELDS)).resolves.toBeInstanceOf(MetricsLog);
  });

  it('ends up, cut off anywhere and resumed, with the metrics of an uninterrupted run to the byte', async () => {
    const value = (step: number): number => Math.sin(step) / 3;
    const run = async (log: MetricsLog, from: number, to: number, clock: number): Promise<void> => {
      for (let step = from; step <= to; step++) log.record({ step, loss: value(step), seconds: clock * step });
      await log.flush();
    };
    const whole = new MemoryRunStore();
    await run(await MetricsLog.create(whole, FIELDS), 1, 20, 1);
    const expected = await readAll(whole, METRICS_FILE);
    for (let cut = 0; cut < 40; cut++) {
      const store = new MemoryRunStore();
      const log = await MetricsLog.create(store, FIELDS);
      await run(log, 1, 8, 2);
      const { position } = log;
      await run(log, 9, 12, 2);
      await store.truncate(METRICS_FILE, (await store.read(METRICS_FILE)).length - cut);
      await run(await MetricsLog.resume(store, FIELDS, position), 9, 20, 3);
      expect(await readAll(store, METRICS_FILE)).toBe(expected);
      const timing = readMetrics(await store.read(TIMING_FILE));
      expect(timing.records.map((record) => record.seconds)).toEqual(
        Array.from({ length: 20 }, (_, i) => (i + 1) * (i < 8 ? 2 : 3)),
      );
    }
  });

  it('adds new quantities to the schema when a run is resumed with them', async () => {
    const store = new MemoryRunStore();
    const log = await MetricsLog.create(store, { loss: FIELDS.loss });
    await MetricsLog.resume(store, { seconds: FIELDS.seconds }, log.position);
    expect(await readMetricFields(store)).toEqual({ loss: FIELDS.loss, seconds: FIELDS.seconds });
  });

  it('does not resume into files that were changed', async () => {
    const store = new MemoryRunStore();
    const log = await MetricsLog.create(store, FIELDS);
    log.record({ step: 1, loss: 1, seconds: 1 });
    await log.flush();
    const { position } = log;
    await store.writeAtomic(METRICS_FILE, bytes('{"step":1,"loss":1}  \n'));
    await expect(MetricsLog.resume(store, FIELDS, position)).rejects.toThrow(FormatError);
    await store.writeAtomic(METRICS_FILE, bytes('x'));
    await expect(MetricsLog.resume(store, FIELDS, position)).rejects.toMatchObject({ code: 'damaged' });
  });
});

describe('reading metrics', () => {
  it('gives back what was recorded, exactly', async () => {
    const number = fc.double();
    const record = fc.record({ loss: number, seconds: number, 'probe/sharpness': number }, { requiredKeys: ['loss'] });
    await fc.assert(
      fc.asyncProperty(fc.array(record, { maxLength: 5 }), async (records) => {
        const store = new MemoryRunStore();
        const log = await MetricsLog.create(store, FIELDS);
        for (const [step, values] of records.entries()) log.record({ step, ...values });
        await log.flush();
        const file = readMetrics(await store.read(METRICS_FILE));
        expect(file.damage).toBeUndefined();
        const finite = (x: number) => (Number.isFinite(x) ? x : null);
        expect(file.records).toEqual(
          records.map(({ seconds, ...values }, step) => ({
            step,
            ...Object.fromEntries(Object.entries(values).map(([name, x]) => [name, finite(x)])),
          })),
        );
      }),
    );
  });

  it('stops at the first line that is no record and says why', () => {
    const good = '{"step":1,"loss":2}\n';
    for (const [bad, kind, why] of [
      ['{"step":2,"lo', 'truncated', 'line 2 (at offset 20) is cut short'],
      ['{"step":2,"lo\n', 'corrupt', 'line 2 (at offset 20) is no record'],
      ['[]\n', 'corrupt', 'not an object'],
      ['null\n', 'corrupt', 'not an object'],
      ['{"loss":1}\n', 'corrupt', '"step" is not a whole number'],
      ['{"step":1.5}\n', 'corrupt', '"step" is not a whole number'],
      ['{"step":0}\n', 'corrupt', 'step 0 after step 1'],
      ['{"step":2,"loss":"high"}\n', 'corrupt', '"loss" is neither a finite number nor null'],
      ['{"step":2,"loss":1e999}\n', 'corrupt', '"loss" is neither a finite number nor null'],
      ['{"step":2,"loss":{}}\n', 'corrupt', '"loss" is neither'],
      ['\n', 'corrupt', 'is no record'],
    ]) {
      const file = readMetrics(bytes(good + bad + good), 'm.jsonl');
      if (kind === 'truncated') expect(readMetrics(bytes(good + bad), 'm.jsonl').damage?.kind).toBe('truncated');
      else expect(file.damage?.kind).toBe('corrupt');
      expect(file).toMatchObject({ records: [{ step: 1, loss: 2 }], length: good.length, ends: [good.length] });
      if (kind === 'corrupt') expect(file.damage?.message).toContain(why);
      expect(file.damage?.message).toMatch(/^m\.jsonl: /);
    }
  });

  it('takes any bytes without throwing', () => {
    fc.assert(fc.property(fc.uint8Array(), (content) => void readMetrics(content)));
    const line = bytes('{"step":1,"loss":2.5e-3,"a":null}\n');
    fc.assert(
      fc.property(fc.nat(line.length - 1), fc.nat(255), (at, value) => {
        const changed = Uint8Array.from([...line, ...line]);
        changed[at] = value;
        const file = readMetrics(changed);
        expect(file.damage === undefined).toBe(file.length === changed.length);
      }),
    );
  });

  it('finds the cut for a step, and a series', () => {
    const content = '{"step":0,"a":1}\n{"step":2,"b":1}\n{"step":2,"a":null}\n{"step":5,"a":3}\n';
    const file = readMetrics(bytes(content));
    expect(content.slice(0, metricsLengthAtStep(file, 2))).toBe(content.slice(0, content.indexOf('{"step":5')));
    expect(metricsLengthAtStep(file, -1)).toBe(0);
    expect(metricsLengthAtStep(file, 9)).toBe(content.length);
    expect(metricSeries(file.records, 'a')).toEqual({ steps: [0, 2, 5], values: [1, Number.NaN, 3] });
    expect(metricSeries(file.records, 'toString')).toEqual({ steps: [], values: [] });
  });

  it('says what is wrong with a schema', async () => {
    const store = new MemoryRunStore();
    for (const [content, why] of [
      ['{', 'is not JSON'],
      ['null', 'its format is undefined'],
      ['{"format":"edgewise-metrics/2"}', 'its format is edgewise-metrics/2'],
      ['{"format":"edgewise-metrics/1","files":{}}', 'has no fields for metrics.jsonl'],
      [
        '{"format":"edgewise-metrics/1","files":{"metrics.jsonl":{"loss":3},"timing.jsonl":{}}}',
        'gives no unit and doc for loss',
      ],
    ]) {
      await store.writeAtomic(METRICS_SCHEMA_FILE, bytes(content));
      await expect(readMetricFields(store)).rejects.toThrow(FormatError);
      await expect(readMetricFields(store)).rejects.toThrow(why);
    }
  });
});
