import type { InferenceSession } from 'onnxruntime-common';
import { vjp } from '../autodiff/index.ts';
import { fuse } from '../compile/fuse.ts';
import { lowerToOnnx } from '../compile/lower.ts';
import { simplify } from '../compile/simplify.ts';
import { writeOnnx } from '../onnx/write.ts';
import { channelAffine } from '../tensor/ops/batch-norm.ts';
import { conv } from '../tensor/ops/conv.ts';
import { relu } from '../tensor/ops/elementwise.ts';
import { input } from '../tensor/tensor.ts';
import type { OrtModule } from './ort.ts';

const known = new WeakMap<OrtModule, Promise<number>>();

/**
 * Size of the channel blocks in the convolution layout (NCHWc) of ONNX Runtime's CPU provider on this machine: 8 or 16 by what
 * the processor has, 1 where there is no such layout. ONNX Runtime writes these operators into models it optimises for one
 * machine and reads them back, but does not document them, so they are used only after they have computed everything we use them
 * for rightly.
 */
export function channelBlockOf(ort: OrtModule): Promise<number> {
  const found = known.get(ort) ?? detect(ort);
  known.set(ort, found);
  return found;
}

async function detect(ort: OrtModule): Promise<number> {
  const plain = await compute(ort, 1).catch(() => undefined);
  if (plain === undefined) return 1;
  for (const block of [8, 16]) {
    // A model with the wrong block size, or for a build without the layout, is refused.
    const blocked = await compute(ort, block).catch(() => undefined);
    if (blocked?.every((result, k) => agree(result, plain[k]))) return block;
  }
  return 1;
}

const agree = (a: Float32Array, b: Float32Array): boolean => {
  const top = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.length === b.length && b.every((value, i) => Math.abs(value - a[i]) <= 1e-4 * top);
};

/** One of each: convolution, depthwise convolution, their gradients, and a scaled sum that ends in ReLU. */
async function compute(ort: OrtModule, channelBlock: number): Promise<Float32Array[]> {
  // 20 channels leave the last block half full: another block size cannot give the right result.
  const [x, w, d] = [input('x', [8, 20, 16, 16]), input('w', [24, 20, 3, 3]), input('d', [20, 1, 5, 5])];
  const v = input('v', [20]);
  const outputs = [conv(x, w, { padding: 1 }), conv(x, d, { padding: 2, groups: 20 })];
  const graph = [...outputs, ...vjp(outputs, [x, w, d], outputs), relu(channelAffine(x, v, v))];
  const inputs = [x, w, d, v];
  const model = lowerToOnnx(inputs, fuse(simplify(graph), { channelBlock }), { channelBlock });
  const session = await ort.InferenceSession.create(writeOnnx(model), quiet);
  const numbers = (count: number) => Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 31) / 16 - 1);
  const feeds = ['x', 'w', 'd', 'v'].map((name, i) => [
    name,
    new ort.Tensor('float32', numbers(inputs[i].size), inputs[i].shape),
  ]);
  const results = await session.run(Object.fromEntries(feeds));
  await session.release();
  // Every output of the graph is float32.
  return graph.map((_, k) => results[`output${k}`].data as Float32Array);
}

const quiet: InferenceSession.SessionOptions = {
  executionProviders: ['cpu'],
  graphOptimizationLevel: 'disabled',
  intraOpNumThreads: 1,
  logSeverityLevel: 4,
};
