/**
 * A stand-in for a training run, to be killed: deterministic numbers instead of gradients, real checkpoints, metrics and events. Goes on
 * from the newest checkpoint. Usage: crash-writer.ts FOLDER STEPS
 */
import { openRunStore } from '../../src/node/store.ts';
import { tensorFrom, tensorView } from '../../src/params/tensor-values.ts';
import { loadCheckpoint, saveCheckpoint } from '../../src/train/checkpoint.ts';
import { parseLogPosition, RunLogs } from '../../src/train/logs.ts';
import { TRAINING_FIELDS } from '../../src/train/metrics.ts';

const [folder, steps] = [process.argv[2], Number(process.argv[3])];
const store = await openRunStore(folder, { access: 'write' });
const weights = new Float32Array(20_000).fill(1);
const momentum = new Float32Array(weights.length);
let step = 0;
let logs: RunLogs;
const seconds = (): number => performance.now() / 1000;
const loaded = await loadCheckpoint(store);
for (const warning of loaded?.warnings ?? []) console.log(`warning: ${warning}`);

if (loaded) {
  step = loaded.step;
  for (const [name, into] of [['weights', weights] as const, ['momentum', momentum] as const]) {
    const tensor = loaded.file.tensors.get(name);
    const values = tensor && tensorView(tensor);
    if (!(values instanceof Float32Array)) throw new Error(`no ${name}`);
    into.set(values);
  }
  logs = await RunLogs.resume(store, TRAINING_FIELDS, parseLogPosition(loaded.state, loaded.name));
} else {
  logs = await RunLogs.begin(store, TRAINING_FIELDS, seconds());
}
console.log(`from ${step}`);
while (step < steps) {
  step++;
  for (let i = 0; i < weights.length; i++) {
    momentum[i] = 0.9 * momentum[i] + Math.fround(0.1 * (weights[i] - (i % 7)));
    weights[i] -= 0.01 * momentum[i];
  }
  logs.record({ step, 'train/loss': weights[step % weights.length], seconds: seconds() }, seconds());
  if (step % 3 === 0) await logs.flush();
  if (step % 5 === 0 || step === steps) {
    await logs.flush();
    await saveCheckpoint(store, {
      step,
      tensors: [tensorFrom('weights', [weights.length], weights), tensorFrom('momentum', [momentum.length], momentum)],
      state: logs.position,
    });
  }
}
await store.close();
console.log('done');
