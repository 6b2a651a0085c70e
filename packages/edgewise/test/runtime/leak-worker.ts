/**
 * Trains a small network for many steps, then calls a program as often, and prints the resident memory after every thousandth, one JSON object a line.
 * Usage: node --expose-gc leak-worker.ts STEPS FOLDER
 */
import { Key, uniform } from '../../src/base/random.ts';
import { Batches, twoMoons } from '../../src/data/index.ts';
import { buildModel } from '../../src/models/index.ts';
import { openDevice } from '../../src/node/device.ts';
import { openRunStore } from '../../src/node/store.ts';
import { createOptimizer, findOptimizer } from '../../src/optim/index.ts';
import { sharpness } from '../../src/probes/sharpness.ts';
import { add, tanh } from '../../src/tensor/ops/elementwise.ts';
import { matmul } from '../../src/tensor/ops/matmul.ts';
import { input } from '../../src/tensor/tensor.ts';
import { Network, objectiveFor, Trainer } from '../../src/train/index.ts';

const [steps, folder] = [Number(process.argv[2]), process.argv[3]];
const { gc } = globalThis;
if (!gc) throw new Error('start with --expose-gc');

/** Prints the memory this process holds once everything that can be collected was. */
function report(what: string, step: number): void {
  gc?.();
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
  console.log(JSON.stringify({ what, step, rss, heapUsed, external, arrayBuffers }));
}

/** Lets what was collected be freed: memory that native code shares with JavaScript is, a turn of the event loop later. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) {
    gc?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const device = await openDevice('cpu', { threads: 1 });

async function train(): Promise<void> {
  const key = Key.fromSeed(1);
  const data = twoMoons({ key, count: 400 });
  const batches = new Batches(data, { batchSize: 20, key: key.split('data') });
  const network = new Network({
    model: buildModel('mlp', { inputShape: [2], classes: 2 }, { widths: [16, 16], dropout: 0.1 }),
    objective: objectiveFor(data),
    device,
    key: key.split('init'),
  });
  const optimizer = createOptimizer(
    findOptimizer('adan'),
    { values: { lr: 1e-3, maxGradNorm: 1 } as never },
    { theta: network.params, grad: network.gradient, space: network.space },
  );
  const store = await openRunStore(folder, { access: 'write' });
  const probe = await sharpness({ network, batches, optimizer, examples: 100, every: 100, key: key.split('probe') });
  const trainer = await Trainer.create({
    network,
    optimizer,
    schedule: () => 1e-3,
    batches,
    test: new Batches(data, { batchSize: 100, key, shuffle: false }),
    steps,
    key: key.split('draws'),
    microBatch: 10,
    evalEvery: 50,
    checkpointEvery: 50,
    probes: [probe],
    store,
    now: () => performance.now(),
    onStep: ({ step }) => {
      if (step % 1000 === 0) report('training', step);
    },
  });
  await trainer.run();
  await trainer.dispose();
  await store.close();
}

async function call(): Promise<void> {
  const [x, w] = [input('x', [16, 16]), input('w', [16, 16])];
  const program = await device.compile([x, w], [tanh(matmul(x, w)), add(x, w)]);
  const memory = () => uniform(Key.fromSeed(3), new Float32Array(16 * 16));
  const bound = program.bind(
    new Map([
      [x, memory()],
      [w, memory()],
    ]),
    [memory(), memory()],
  );
  for (let step = 1; step <= steps; step++) {
    await bound.run();
    if (step % 1000 === 0) {
      await settle();
      report('calls', step);
    }
  }
  await program.dispose();
}

/** Programs are compiled and disposed of again and again. */
async function compile(): Promise<void> {
  const x = input('x', [8, 8]);
  for (let step = 1; step <= steps / 50; step++) {
    const program = await device.compile([x], [tanh(matmul(x, add(x, step)))]);
    await program.run(new Map([[x, new Float32Array(64)]]));
    await program.dispose();
    if (step % 20 === 0) {
      await settle();
      report('programs', step);
    }
  }
}

await train();
await call();
await compile();
await device.dispose();
