/**
 * @file A step of Muon on hidden matrices, on ONNX Runtime and in PyTorch by turns, both in float32 on one thread.
 *
 * Run: npx tsx bench/matrix.ts [turns]
 */
import { spawn } from 'node:child_process';
import { cpus, loadavg } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { VectorSpace } from '../packages/edgewise/src/kernels/index.ts';
import { openDevice } from '../packages/edgewise/src/node/index.ts';
import { createOptimizer, deviceTensors, muon, parameterVector } from '../packages/edgewise/src/optim/index.ts';
import { ParamLayout } from '../packages/edgewise/src/params/layout.ts';
import { uniform } from './data.ts';

/** The matrices of a transformer block of width 256, and one of a convolution, flattened. */
const SHAPES = [
  [768, 256],
  [256, 256],
  [1024, 256],
  [256, 1024],
  [64, 576],
] as const;

const turns = Number(process.argv[2] ?? 15);
if (!(Number.isInteger(turns) && turns >= 3)) {
  console.error('bench/matrix.ts takes a whole number of turns from 3.');
  process.exit(2);
}

/** PyTorch in a process of its own. */
function torch() {
  const script = fileURLToPath(new URL('peers/torch_muon.py', import.meta.url));
  const env = { ...process.env, OMP_NUM_THREADS: '1' };
  const child = spawn('/usr/bin/python3', [script], { stdio: ['pipe', 'pipe', 'ignore'], env });
  const waiting: ((line: string | undefined) => void)[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => waiting.shift()?.(line));
  for (const event of ['error', 'close'])
    child.on(event, () => {
      for (const resolve of waiting.splice(0)) resolve(undefined);
    });
  child.stdin.on('error', () => {});
  return {
    ask: (request: object) =>
      new Promise<string | undefined>((resolve) => {
        waiting.push(resolve);
        child.stdin.write(`${JSON.stringify(request)}\n`);
      }),
    end: () => child.stdin.end(),
  };
}

const layout = new ParamLayout(SHAPES.map((shape, i) => ({ name: `w${i}`, shape })));
const space = new VectorSpace();
const [theta, grad] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
theta.data.set(uniform(layout.size, 1, 0.05));
grad.data.set(uniform(layout.size, 2, 0.01));
const device = await openDevice('cpu', { threads: 1 });
const optimizer = createOptimizer(muon, {}, { theta, grad, space, tensors: deviceTensors(device) });
const peer = torch();
const version = JSON.parse((await peer.ask({ op: 'setup', shapes: SHAPES, threads: 1 })) ?? '{}').version;
if (!version) console.error('PyTorch is left out: no Python with torch found (Debian: apt-get install python3-torch).');

const [ours, theirs]: [number[], number[]] = [[], []];
// The first two turns compile and warm up.
for (let turn = -2; turn < turns; turn++) {
  const start = performance.now();
  await optimizer.stepWith(() => 0);
  const taken = performance.now() - start;
  const answer = version && JSON.parse((await peer.ask({ op: 'step' })) ?? '{}').milliseconds;
  if (turn < 0) continue;
  ours.push(taken);
  if (answer) theirs.push(answer);
}
peer.end();
await device.dispose();

const show = (name: string, times: readonly number[]) => {
  const sorted = [...times].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  console.log(`${name.padEnd(16)} ${sorted[0].toFixed(2)} ms at best, ${median.toFixed(2)} ms median`);
  return sorted[0];
};
console.log(`Muon on ${layout.count} parameters, ${turns} turns, ${cpus()[0].model}, load ${loadavg()[0].toFixed(1)}`);
const best = show('edgewise', ours);
if (theirs.length > 0) console.log(`ratio of the best: ${(best / show(`PyTorch ${version}`, theirs)).toFixed(2)}`);
