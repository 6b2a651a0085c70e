/** `npm run bench`: measures our side against its peers, interleaved, and writes `bench/results`. See README.md. */
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { find, peerNames } from './implementations.ts';
import { type Measurement, measureGroup, type Plan } from './measure.ts';
import { environment, type Row, rowsOf, table, write } from './report.ts';
import { workloads } from './workloads.ts';

const usage = `npm run bench -- [filter] [options]

  filter                   regular expression on workload names, e.g. resnet20 or hvp
  --threads 1,2            thread counts to measure (default 1,2)
  --rounds N               turns each participant takes (default 9; 3 with --quick)
  --peers a,b              only these peers: ${peerNames.join(', ')}
  --quick                  short turns of 100 instead of 400 ms, 3 rounds
  --allow-reference-blas   measure PyTorch even where it runs on the reference BLAS (15 times slower products)
  --help                   this text

workloads: ${workloads.map((w) => w.name).join(', ')}`;

function fail(message: string): never {
  console.error(`${message}\n\n${usage}`);
  process.exit(2);
}

function options() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        threads: { type: 'string', default: '1,2' },
        rounds: { type: 'string' },
        peers: { type: 'string' },
        quick: { type: 'boolean', default: false },
        'allow-reference-blas': { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (positionals.length > 1) fail(`One filter is enough; got ${positionals.join(' ')}.`);
    return { ...values, filter: positionals[0] };
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

function positiveIntegers(text: string, name: string): number[] {
  const numbers = text.split(',').map(Number);
  if (!numbers.every((n) => Number.isInteger(n) && n > 0))
    fail(`--${name} takes positive whole numbers; got "${text}".`);
  return numbers;
}

function filtered(filter: string | undefined) {
  if (filter === undefined) return workloads;
  let pattern: RegExp;
  try {
    pattern = new RegExp(filter);
  } catch {
    return fail(`The filter "${filter}" is not a regular expression.`);
  }
  const chosen = workloads.filter((w) => pattern.test(w.name));
  return chosen.length > 0 ? chosen : fail(`No workload matches "${filter}".`);
}

const given = options();
if (given.help) {
  console.log(usage);
  process.exit(0);
}
const threadCounts = positiveIntegers(given.threads, 'threads');
const rounds = given.rounds === undefined ? (given.quick ? 3 : 9) : positiveIntegers(given.rounds, 'rounds')[0];
const plan: Plan = { rounds, turnMs: given.quick ? 100 : 400 };
const peers = given.peers?.split(',');
const unknown = peers?.find((p) => !peerNames.includes(p));
if (unknown !== undefined) fail(`Unknown peer "${unknown}".`);
const chosen = filtered(given.filter);
const most = Math.max(...threadCounts);
if (most > availableParallelism()) fail(`${most} threads are more than the ${availableParallelism()} cores here.`);

const loadAtStart = loadavg();
const { implementations, torch, skipped } = find(peers, given['allow-reference-blas']);
for (const line of skipped) console.error(`skipped ${line}`);
if (loadAtStart[0] > 0.5)
  console.error(`The load average is ${loadAtStart[0].toFixed(2)}: other jobs run here, and the numbers will suffer.`);

const recorded = { threads: threadCounts, ...plan, filter: given.filter ?? null, peers: peers ?? peerNames, skipped };
const rows: Row[] = [];
const measurements: Measurement[] = [];
for (const threads of threadCounts) {
  for (const model of new Set(chosen.map((w) => w.model))) {
    const group = chosen.filter((w) => w.model === model);
    const results = await measureGroup(group, threads, implementations, plan, (line) => console.error(line));
    measurements.push(...results);
    rows.push(...rowsOf(results));
    // Shown and kept as they come, so that a run that is cut off has not measured for nothing.
    console.error(`\n${table(rowsOf(results))}\n`);
    write(rows, environment(rows, measurements, recorded, torch, loadAtStart), false);
  }
}
console.log(`\n${table(rows)}\n`);
const full =
  chosen.length === workloads.length && !given.quick && peers === undefined && threadCounts.includes(1) && most > 1;
const file = write(rows, environment(rows, measurements, recorded, torch, loadAtStart), full);
console.log(`Written to ${file}.`);
