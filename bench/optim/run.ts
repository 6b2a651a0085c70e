/**
 * Speed of optimizer steps, alone: `npm run bench:optim -- [--parameters N] [--rounds N] [--only NAME,...] [--json FILE] [--no-torch]`.
 *
 * Every round copies a vector as long as the parameters, by the engine's memmove and by a kernel of ours, and then takes
 * one step with each optimizer, so that all see the same machine; a rule's share is its bytes a second over those of the
 * faster copy (read and written bytes both count). Small models are measured by many steps at a time.
 */
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import {
  compileUpdate,
  NOMINALS,
  symbolAt,
  type UpdateGraph,
  VectorSpace,
} from '../../packages/edgewise/src/kernels/index.ts';
import {
  createOptimizer,
  type Optimizer,
  parameterVector,
  stateBytes,
} from '../../packages/edgewise/src/optim/index.ts';
import { ParamLayout } from '../../packages/edgewise/src/params/layout.ts';
import type { ParamVector } from '../../packages/edgewise/src/params/vector.ts';
import { uniform } from '../data.ts';
import { rules as all, type Rule } from './rules.ts';
import { TorchOptimizers } from './torch.ts';

const { values: options } = parseArgs({
  options: {
    parameters: { type: 'string', default: '25000000' },
    rounds: { type: 'string', default: '15' },
    json: { type: 'string' },
    only: { type: 'string' },
    'no-torch': { type: 'boolean', default: false },
  },
});
const parameters = Number(options.parameters);
const rounds = Number(options.rounds);
if (!(Number.isInteger(parameters) && parameters >= 1000 && Number.isInteger(rounds) && rounds >= 3)) {
  console.error('--parameters takes a whole number from 1000, --rounds one from 3.');
  process.exit(2);
}

const only = options.only?.split(',');
const rules = only ? all.filter(({ name }) => only.some((part) => name.startsWith(part))) : all;
if (rules.length === 0) {
  console.error(`--only ${options.only} names no rule; there are ${all.map(({ name }) => name).join('; ')}.`);
  process.exit(2);
}
const peer = options['no-torch'] ? undefined : await TorchOptimizers.start();

interface Times {
  readonly min: number;
  readonly median: number;
}

function summary(times: readonly number[]): Times {
  const sorted = [...times].sort((a, b) => a - b);
  return { min: sorted[0], median: sorted[sorted.length >> 1] };
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

/** A step of any kind. Gradients asked for again are those of before: only the update is timed. */
async function timedStep(optimizer: Optimizer): Promise<number> {
  const start = performance.now();
  if (optimizer.needsStepWith) await optimizer.stepWith(() => 1, { loss: 1 });
  else optimizer.step({ loss: 1 });
  return performance.now() - start;
}

/** `to ← from` as an update. */
function copyKernel(space: VectorSpace, from: ParamVector, to: ParamVector): () => void {
  const [first, second] = NOMINALS.map((nominal): UpdateGraph => {
    const symbol = symbolAt('element', 'from', nominal);
    return { nominal, vectors: { from: symbol }, scalars: {}, writes: { to: symbol }, results: {}, guards: [] };
  });
  const window = (vector: ParamVector) => ({ byteOffset: vector.byteOffset, view: () => vector.data });
  const segments = [{ offset: 0, length: from.layout.size, rows: 1 }];
  const bound = compileUpdate([first, second], 'float32').bind(
    { segments, vectors: { from: window(from), to: window(to) }, scalars: {}, results: {} },
    space,
  );
  return () => bound.run();
}

async function measureLarge() {
  const tensors = 50;
  const layout = new ParamLayout(
    Array.from({ length: tensors }, (_, i) => ({ name: `p${i}`, shape: [Math.round(parameters / tensors)] })),
  );
  const space = new VectorSpace({ reserve: VectorSpace.bytesFor(layout.size, 'float32', 4) + 65536 });
  const [theta, grad, from, to] = Array.from({ length: 4 }, () => parameterVector(space, layout, 'float32'));
  theta.data.set(uniform(layout.size, 1));
  grad.data.set(uniform(layout.size, 2, 0.01));
  from.data.set(grad.data);
  const copyByKernel = copyKernel(space, from, to);
  const rows = [];
  // A few at a time: the state of all of them together need not fit into 4 GiB.
  for (let first = 0; first < rules.length; first += 4) {
    const part = rules.slice(first, first + 4);
    const settings = ({ values }: Rule) => ({ values: { lr: 1e-4, ...values } });
    const own = new VectorSpace({
      reserve:
        VectorSpace.bytesFor(layout.size, 'float32', 2) +
        part.reduce((sum, rule) => sum + stateBytes(rule.definition, settings(rule), layout, 'float32'), 0),
    });
    const [parameter, gradient] = [parameterVector(own, layout, 'float32'), parameterVector(own, layout, 'float32')];
    parameter.data.set(theta.data);
    gradient.data.set(grad.data);
    const made = part.map((rule) => ({
      rule,
      optimizer: createOptimizer(rule.definition, settings(rule), { theta: parameter, grad: gradient, space: own }),
      times: [] as number[],
    }));
    const copies: [number[], number[]] = [[], []];
    for (let round = -3; round < rounds; round++) {
      const copy = [timed(() => to.data.set(from.data)), timed(copyByKernel)];
      if (round >= 0) for (const [i, list] of copies.entries()) list.push(copy[i]);
      for (const { optimizer, times } of made) {
        const time = await timedStep(optimizer);
        if (round >= 0) times.push(time);
      }
    }
    const [moved, ours] = copies.map(summary);
    const copy = { min: Math.min(moved.min, ours.min), median: Math.min(moved.median, ours.median) };
    const rate = (bytes: number, milliseconds: number) => (bytes * layout.count) / milliseconds / 1e6;
    for (const { rule, optimizer, times } of made) {
      const step = summary(times);
      const bytes = optimizer.bytesPerParameter;
      rows.push({
        rule: rule.name,
        stages: optimizer.stages,
        bytesPerParameter: bytes,
        nsPerParameter: { min: (step.min * 1e6) / layout.count, median: (step.median * 1e6) / layout.count },
        gigabytesPerSecond: rate(bytes, step.median),
        copyGigabytesPerSecond: rate(8, copy.median),
        shareOfCopy: {
          ofMedians: rate(bytes, step.median) / rate(8, copy.median),
          ofMinima: rate(bytes, step.min) / rate(8, copy.min),
        },
        torch: await besideTorch(rule, optimizer, layout.count, tensors),
      });
    }
  }
  return rows;
}

/** Our step and PyTorch's by turns, in one run. */
async function besideTorch(rule: Rule, optimizer: Optimizer, count: number, tensors: number) {
  if (!peer || !rule.torch) return undefined;
  await peer.setup(rule.torch, count, tensors);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = -2; round < Math.min(rounds, 7); round++) {
    const [mine, their] = [await timedStep(optimizer), await peer.step()];
    if (round < 0) continue;
    ours.push(mine);
    theirs.push(their);
  }
  await peer.drop();
  const [own, other] = [summary(ours).median, summary(theirs).median];
  return { name: rule.torch.name, nsPerParameter: (other * 1e6) / count, ratio: own / other };
}

/** A network of 1,000 parameters in four tensors, and one of 4 in one: the difference is what parameters cost, the rest is fixed. */
const small = {
  1000: [
    { name: 'a', shape: [20, 32] },
    { name: 'b', shape: [32] },
    { name: 'c', shape: [32, 10] },
    { name: 'd', shape: [8] },
  ],
  4: [{ name: 'a', shape: [4] }],
} as const;

async function measureSmall({ definition, values }: Rule, size: 4 | 1000) {
  const layout = new ParamLayout(small[size]);
  const space = new VectorSpace();
  const [theta, grad] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
  grad.fill(0.01);
  const begun = performance.now();
  const optimizer = createOptimizer(definition, { values: { lr: 1e-4, ...values } }, { theta, grad, space });
  for (let k = 0; k < 2; k++) await timedStep(optimizer);
  const createMilliseconds = performance.now() - begun;
  const step = { lr: 1e-4, loss: 1 };
  const many = async (count: number) => {
    if (optimizer.needsStepWith) for (let i = 0; i < count; i++) await optimizer.stepWith(() => 1, step);
    else for (let i = 0; i < count; i++) optimizer.step(step);
  };
  await many(20_000);
  const times: number[] = [];
  for (let i = 0; i < 200; i++) {
    const start = performance.now();
    await many(250);
    times.push(((performance.now() - start) / 250) * 1000);
  }
  return { microseconds: summary(times), createMilliseconds, codeBytes: optimizer.codeBytes };
}

const pad = (text: string | number, width: number) =>
  typeof text === 'number' ? text.toFixed(2).padStart(width) : text.padEnd(width);

console.log(
  `${cpus()[0].model}, ${cpus().length} CPUs, Node ${process.version}, load ${loadavg()[0].toFixed(1)}; ${parameters} parameters, ${rounds} rounds\n`,
);
const smallRows = [];
for (const rule of rules)
  smallRows.push({ rule: rule.name, thousand: await measureSmall(rule, 1000), four: await measureSmall(rule, 4) });
const largeRows = await measureLarge();
console.log(
  `${pad('rule', 28)} passes  B/param  ns/param min  median   GB/s  copy GB/s  share (medians) (minima)   PyTorch ns  ours/PyTorch`,
);
for (const row of largeRows) {
  console.log(
    `${pad(row.rule, 28)} ${String(row.stages).padStart(6)} ${String(row.bytesPerParameter).padStart(8)} ${pad(row.nsPerParameter.min, 13)} ${pad(row.nsPerParameter.median, 7)} ${pad(row.gigabytesPerSecond, 6)} ${pad(row.copyGigabytesPerSecond, 10)} ${pad(row.shareOfCopy.ofMedians, 16)} ${pad(row.shareOfCopy.ofMinima, 8)} ${row.torch ? `${pad(row.torch.nsPerParameter, 12)} ${pad(row.torch.ratio, 13)}` : ''}`,
  );
}
console.log(
  `\n${pad('rule', 28)} step at 1,000 parameters, µs min  median   at 4: min  median   compile ms   code bytes`,
);
for (const { rule, thousand, four } of smallRows) {
  console.log(
    `${pad(rule, 28)} ${pad(thousand.microseconds.min, 33)} ${pad(thousand.microseconds.median, 7)} ${pad(four.microseconds.min, 11)} ${pad(four.microseconds.median, 7)} ${pad(thousand.createMilliseconds, 12)} ${String(thousand.codeBytes).padStart(12)}`,
  );
}
if (options.json) {
  const environment = {
    cpu: cpus()[0].model,
    cpus: cpus().length,
    node: process.version,
    load: loadavg(),
    parameters,
    rounds,
    torch: peer?.version,
  };
  writeFileSync(options.json, `${JSON.stringify({ environment, large: largeRows, small: smallRows }, undefined, 2)}\n`);
}
peer?.close();
