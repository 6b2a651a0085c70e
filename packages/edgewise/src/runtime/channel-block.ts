import type { InferenceSession } from 'onnxruntime-common';
import { type LowerOptions, lowerToOnnx } from '../compile/lower.ts';
import { writeOnnx } from '../onnx/write.ts';
import { conv } from '../tensor/ops/conv.ts';
import { input } from '../tensor/tensor.ts';
import type { OrtModule } from './ort.ts';

const known = new WeakMap<OrtModule, Promise<number>>();

/**
 * Size of the channel blocks in the convolution layout (NCHWc) of ONNX Runtime's CPU provider on this machine: 8 or 16 by what
 * the processor has, 1 where there is no such layout. ONNX Runtime writes these operators into models it optimises for one
 * machine and reads them back, but does not document them, so they are used only after they have computed a convolution rightly.
 */
export function channelBlockOf(ort: OrtModule): Promise<number> {
  const found = known.get(ort) ?? detect(ort);
  known.set(ort, found);
  return found;
}

async function detect(ort: OrtModule): Promise<number> {
  for (const block of [8, 16]) {
    // A model with the wrong block size, or for a build without the layout, is refused.
    if (await computesRightly(ort, block).catch(() => false)) return block;
  }
  return 1;
}

async function computesRightly(ort: OrtModule, block: number): Promise<boolean> {
  // Channels that fill 16-blocks and leave the last of 3 blocks of 8 half full: another block size cannot give the right result.
  const [x, w] = [input('x', [2, 20, 16, 16]), input('w', [24, 20, 3, 3])];
  const y = conv(x, w, { padding: 1 });
  const numbers = (count: number) => Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 31) / 16 - 1);
  const [xs, ws] = [numbers(x.size), numbers(w.size)];
  const run = async (options: LowerOptions) => {
    const session = await ort.InferenceSession.create(writeOnnx(lowerToOnnx([x, w], [y], options)), quiet);
    const results = await session.run({
      x: new ort.Tensor('float32', xs, x.shape),
      w: new ort.Tensor('float32', ws, w.shape),
    });
    await session.release();
    // The model's one output, which is float32.
    return results.output0.data as Float32Array;
  };
  const blocked = await run({ channelBlock: block });
  const plain = await run({});
  return plain.length === blocked.length && plain.every((value, i) => Math.abs(value - blocked[i]) < 1e-3);
}

const quiet: InferenceSession.SessionOptions = {
  executionProviders: ['cpu'],
  intraOpNumThreads: 1,
  logSeverityLevel: 4,
};
