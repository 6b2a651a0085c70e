/**
 * Speed of optimizer steps, alone: `npx tsx bench/optim.ts [--parameters N] [--rounds N] [--json FILE]`.
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
} from '../packages/edgewise/src/kernels/index.ts';
import {
  adam,
  adamw,
  adan,
  clipGlobalNorm,
  clipValue,
  createOptimizer,
  type Optimizer,
  type OptimizerDefinition,
  parameterVector,
  sgd,
} from '../packages/edgewise/src/optim/index.ts';
import { ParamLayout } from '../packages/edgewise/src/params/layout.ts';
import type { ParamVector } from '../packages/edgewise/src/params/vector.ts';
import { uniform } from './data.ts';

interface Rule {
  readonly name: string;
  readonly definition: OptimizerDefinition;
  readonly values: Readonly<Record<string, number | boolean | string | readonly number[]>>;
}

const rules: readonly Rule[] = [
  { name: 'sgd', definition: sgd, values: {} },
  { name: 'sgd, momentum', definition: sgd, values: { momentum: 0.9, weightDecay: 1e-4 } },
  { name: 'sgd, Nesterov', definition: sgd, values: { momentum: 0.9, nesterov: true } },
  { name: 'sgd, clipped norm', definition: clipGlobalNorm(sgd), values: { momentum: 0.9, clipNorm: 1 } },
  { name: 'sgd, clipped value', definition: clipValue(sgd), values: { momentum: 0.9, clipValue: 1 } },
  { name: 'adam', definition: adam, values: {} },
  { name: 'adam, amsgrad', definition: adam, values: { amsgrad: true } },
  { name: 'adamw', definition: adamw, values: {} },
  { name: 'adan', definition: adan, values: { weightDecay: 0.02 } },
  { name: 'adan, no proximal', definition: adan, values: { weightDecay: 0.02, proximal: false } },
  { name: 'adan, clipped norm', definition: adan, values: { weightDecay: 0.02, maxGradNorm: 1 } },
  { name: 'adan, movement budget', definition: adan, values: { weightDecay: 0.02, movementBudget: 1e9 } },
];

const { values: options } = parseArgs({
  options: {
    parameters: { type: 'string', default: '25000000' },
    rounds: { type: 'string', default: '15' },
    json: { type: 'string' },
  },
});
const parameters = Number(options.parameters);
const rounds = Number(options.rounds);
if (!(Number.isInteger(parameters) && parameters >= 1000 && Number.isInteger(rounds) && rounds >= 3)) {
  console.error('--parameters takes a whole number from 1000, --rounds one from 3.');
  process.exit(2);
}

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

function measureLarge() {
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
  return rules
    .flatMap((_, i) => (i % 4 === 0 ? [rules.slice(i, i + 4)] : []))
    .flatMap((part) => {
      // A few at a time: the state of all of them together need not fit into 4 GiB.
      const own = new VectorSpace({ reserve: VectorSpace.bytesFor(layout.size, 'float32', 2 + 4 * part.length) });
      const [parameter, gradient] = [parameterVector(own, layout, 'float32'), parameterVector(own, layout, 'float32')];
      parameter.data.set(theta.data);
      gradient.data.set(grad.data);
      const made = part.map((rule) => ({
        rule,
        optimizer: createOptimizer(
          rule.definition,
          { values: { lr: 1e-4, ...rule.values } },
          { theta: parameter, grad: gradient, space: own },
        ),
        times: [] as number[],
      }));
      const copies: [number[], number[]] = [[], []];
      for (let round = -3; round < rounds; round++) {
        const copy = [timed(() => to.data.set(from.data)), timed(copyByKernel)];
        if (round >= 0) for (const [i, list] of copies.entries()) list.push(copy[i]);
        for (const { optimizer, times } of made) {
          const time = timed(() => optimizer.step());
          if (round >= 0) times.push(time);
        }
      }
      const [moved, ours] = copies.map(summary);
      const copy = { min: Math.min(moved.min, ours.min), median: Math.min(moved.median, ours.median) };
      const rate = (bytes: number, milliseconds: number) => (bytes * layout.count) / milliseconds / 1e6;
      return made.map(({ rule, optimizer, times }) => {
        const step = summary(times);
        const bytes = optimizer.bytesPerParameter;
        return {
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
        };
      });
    });
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

function measureSmall({ definition, values }: Rule, size: 4 | 1000) {
  const layout = new ParamLayout(small[size]);
  const space = new VectorSpace();
  const [theta, grad] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
  grad.fill(0.01);
  let optimizer: Optimizer | undefined;
  const create = timed(() => {
    optimizer = createOptimizer(definition, { values: { lr: 1e-4, ...values } }, { theta, grad, space });
    optimizer.step();
    optimizer.step();
  });
  const step = { lr: 1e-4 };
  const many = (count: number) => {
    for (let i = 0; i < count; i++) optimizer?.step(step);
  };
  many(20_000);
  const times = Array.from({ length: 200 }, () => (timed(() => many(250)) / 250) * 1000);
  return { microseconds: summary(times), createMilliseconds: create, codeBytes: optimizer?.codeBytes ?? 0 };
}

const pad = (text: string | number, width: number) =>
  typeof text === 'number' ? text.toFixed(2).padStart(width) : text.padEnd(width);

console.log(
  `${cpus()[0].model}, ${cpus().length} CPUs, Node ${process.version}, load ${loadavg()[0].toFixed(1)}; ${parameters} parameters, ${rounds} rounds\n`,
);
const smallRows = rules.map((rule) => ({
  rule: rule.name,
  thousand: measureSmall(rule, 1000),
  four: measureSmall(rule, 4),
}));
const largeRows = measureLarge();
console.log(`${pad('rule', 24)} passes  B/param  ns/param min  median   GB/s  copy GB/s  share (medians) (minima)`);
for (const row of largeRows) {
  console.log(
    `${pad(row.rule, 24)} ${String(row.stages).padStart(6)} ${String(row.bytesPerParameter).padStart(8)} ${pad(row.nsPerParameter.min, 13)} ${pad(row.nsPerParameter.median, 7)} ${pad(row.gigabytesPerSecond, 6)} ${pad(row.copyGigabytesPerSecond, 10)} ${pad(row.shareOfCopy.ofMedians, 16)} ${pad(row.shareOfCopy.ofMinima, 8)}`,
  );
}
console.log(
  `\n${pad('rule', 24)} step at 1,000 parameters, µs min  median   at 4: min  median   compile ms   code bytes`,
);
for (const { rule, thousand, four } of smallRows) {
  console.log(
    `${pad(rule, 24)} ${pad(thousand.microseconds.min, 33)} ${pad(thousand.microseconds.median, 7)} ${pad(four.microseconds.min, 11)} ${pad(four.microseconds.median, 7)} ${pad(thousand.createMilliseconds, 12)} ${String(thousand.codeBytes).padStart(12)}`,
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
  };
  writeFileSync(options.json, `${JSON.stringify({ environment, large: largeRows, small: smallRows }, undefined, 2)}\n`);
}
