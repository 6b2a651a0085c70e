/** From measurements to rows, a table, `latest.json` and `environment.json`. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, loadavg, release, totalmem, type } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TorchInfo } from './implementations.ts';
import { type Measurement, median, quantile } from './measure.ts';
import { hvpOverGradAim } from './workloads.ts';

/** One comparison, as it stands in `latest.json`. Times are milliseconds an iteration. */
export interface Row {
  name: string;
  threads: number;
  /** Median of ours; null where our side has no case yet or fails. */
  ours_ms: number | null;
  /** The other side; `own gradient` in the rows that set a Hessian-vector product against the gradient. */
  peer: string | null;
  peer_ms: number | null;
  /** ours_ms / peer_ms. */
  ratio: number | null;
  /** Quartiles of the ratios taken round by round. */
  ratio_iqr: [number, number] | null;
  ours_iqr_ms: [number, number] | null;
  peer_iqr_ms: [number, number] | null;
  ours_min_ms: number | null;
  peer_min_ms: number | null;
  /** Largest ratio aimed for. */
  aim: number | null;
  /** Other load during the turns, in cores (median); `disturbed` where it competed with the measured threads. */
  foreign_cores: number | null;
  disturbed: boolean;
  note: string | null;
}

function row(
  ours: Measurement | undefined,
  peer: Measurement | undefined,
  name: string,
  peerName: string | null,
  aim: number | null,
): Row {
  const round = (x: number | undefined) => (x === undefined ? null : Number(x.toPrecision(5)));
  const pair = (x: [number, number] | undefined): [number, number] | null => (x ? [round(x[0])!, round(x[1])!] : null);
  const comparable = ours?.ms !== undefined && peer?.ms !== undefined && !ours.note && !peer.note;
  const ratios = comparable
    ? [...ours.byRound].flatMap(([r, ms]) => (peer.byRound.has(r) ? [ms / peer.byRound.get(r)!] : []))
    : [];
  const both = [ours, peer].filter((m) => m !== undefined);
  const foreign = both.map((m) => m.foreign).filter((f) => f !== undefined);
  const notes = [ours?.note && `edgewise: ${ours.note}`, peer?.note && `${peerName}: ${peer.note}`].filter(Boolean);
  return {
    name,
    threads: both[0].threads,
    ours_ms: round(ours?.ms),
    peer: peerName,
    peer_ms: round(peer?.ms),
    ratio: comparable ? round(ours.ms! / peer.ms!) : null,
    ratio_iqr: ratios.length > 0 ? pair([quantile(ratios, 0.25), quantile(ratios, 0.75)]) : null,
    ours_iqr_ms: pair(ours?.quartiles),
    peer_iqr_ms: pair(peer?.quartiles),
    ours_min_ms: round(ours?.fastest),
    peer_min_ms: round(peer?.fastest),
    aim: round(aim ?? undefined),
    foreign_cores: foreign.length > 0 ? Number(median(foreign).toFixed(2)) : null,
    disturbed: both.some((m) => m.disturbed),
    note: notes.length > 0 ? notes.join(' | ') : null,
  };
}

/** Rows of one group: ours against each peer, then our Hessian-vector product against our gradient. */
export function rowsOf(measurements: Measurement[]): Row[] {
  const rows: Row[] = [];
  const own = measurements.filter((m) => m.implementation === 'edgewise');
  for (const ours of own) {
    const peers = measurements.filter((m) => m.workload === ours.workload && m !== ours);
    for (const peer of peers) {
      const aim = ours.workload.aims.find((a) => a.peer === peer.implementation)?.ratio ?? null;
      rows.push(row(ours, peer, ours.workload.name, peer.implementation, aim));
    }
    if (peers.length === 0) rows.push(row(ours, undefined, ours.workload.name, null, null));
  }
  const [gradient, product] = ['grad', 'hvp'].map((kind) =>
    own.find((m) => m.workload.kind === kind && m.ms !== undefined),
  );
  if (gradient && product) rows.push(row(product, gradient, product.workload.name, 'own gradient', hvpOverGradAim));
  return rows;
}

/** `1 thread`, `2 threads`. */
export const threadText = (threads: number): string => `${threads} thread${threads === 1 ? '' : 's'}`;

const number = (x: number | null) => (x === null ? '-' : x >= 100 ? x.toFixed(0) : x.toPrecision(3));

/** A table for the terminal, notes below it. */
export function table(rows: Row[]): string {
  const header = ['workload', 'threads', 'ours ms', 'peer', 'peer ms', 'ours/peer', 'quartiles', 'aim', ''];
  const body = rows.map((r) => [
    r.name,
    String(r.threads),
    number(r.ours_ms),
    r.peer ?? '-',
    number(r.peer_ms),
    number(r.ratio),
    r.ratio_iqr ? r.ratio_iqr.map(number).join('-') : '',
    r.aim === null ? '' : `<= ${r.aim.toPrecision(3)}`,
    // A disturbed row proves nothing about an aim.
    r.disturbed ? 'disturbed' : r.aim === null || r.ratio === null ? '' : r.ratio <= r.aim ? 'met' : 'missed',
  ]);
  const widths = header.map((_, i) => Math.max(...[header, ...body].map((cells) => cells[i].length)));
  const line = (cells: string[]) =>
    cells
      .map((cell, i) => (i === 0 || i === 3 || i > 6 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd();
  const notes = new Set(
    rows.flatMap((r) => r.note?.split(' | ').map((note) => `  ${r.name}, ${threadText(r.threads)}, ${note}`) ?? []),
  );
  return [line(header), ...body.map(line), ...(notes.size > 0 ? ['', 'notes', ...notes] : [])].join('\n');
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function packageVersion(name: string): string {
  // Not by resolve('<name>/package.json'): packages with an exports map refuse that.
  const paths = createRequire(join(root, 'package.json')).resolve.paths(name) ?? [];
  for (const path of paths) {
    try {
      return (JSON.parse(readFileSync(join(path, name, 'package.json'), 'utf8')) as { version: string }).version;
    } catch {}
  }
  return 'absent';
}

function revision(): string {
  try {
    const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
    return (
      git('rev-parse', 'HEAD') + (git('status', '--porcelain', '--', 'packages', 'bench') === '' ? '' : ' (modified)')
    );
  } catch {
    return 'unknown';
  }
}

/** Everything a reader needs to judge the numbers: machine, versions, date, load, options. */
export function environment(
  rows: Row[],
  measurements: Measurement[],
  options: Record<string, unknown>,
  torch: TorchInfo | undefined,
  loadAtStart: number[],
): Record<string, unknown> {
  const foreign = rows.map((r) => r.foreign_cores).filter((f) => f !== null);
  return {
    date: new Date().toISOString(),
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: cpus().length,
      memory_gib: Math.round(totalmem() / 2 ** 30),
      system: `${type()} ${release()} ${process.arch}`,
    },
    load: {
      load_average_at_start: loadAtStart,
      load_average_at_end: loadavg(),
      foreign_cores_median: foreign.length > 0 ? median(foreign) : null,
      disturbed_rows: rows.filter((r) => r.disturbed).length,
    },
    versions: {
      edgewise: revision(),
      node: process.version,
      'onnxruntime-node': packageVersion('onnxruntime-node'),
      '@jax-js/jax': packageVersion('@jax-js/jax'),
      '@tensorflow/tfjs': packageVersion('@tensorflow/tfjs'),
      '@tensorflow/tfjs-backend-wasm': packageVersion('@tensorflow/tfjs-backend-wasm'),
      pytorch: torch ?? 'absent',
    },
    options,
    workloads: Object.fromEntries(measurements.map((m) => [m.workload.name, m.workload.description])),
  };
}

/**
 * Writes the rows and the environment into `bench/results`. Only a full run may be called `latest`; a filtered or quick one goes
 * into `partial.json` (not committed), so that it cannot overwrite a full one.
 */
export function write(rows: Row[], env: Record<string, unknown>, full: boolean): string {
  const folder = join(root, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const names = full ? ['latest.json', 'environment.json'] : ['partial.json', 'partial-environment.json'];
  const json = [
    `[\n${rows.map((r) => `  ${JSON.stringify(r)}`).join(',\n')}\n]\n`,
    `${JSON.stringify(env, null, 2)}\n`,
  ];
  for (const [i, name] of names.entries()) writeFileSync(join(folder, name), json[i]);
  return join('bench', 'results', names[0]);
}
