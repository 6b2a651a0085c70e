import fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { afterAll, describe, test } from 'vitest';
import { ortDevice } from '../../src/runtime/index.ts';
import type { OpCase, Sample } from './cases/case.ts';
import { checkDerivatives, checkDevice, checkParts, checkValues, type Figures } from './check.ts';

/** The same samples every time. */
const SEED = 20250711;

const show = (name: string, sample: Sample) =>
  `${name} on ${sample.inputs.map((x) => `[${x.shape.join(', ')}]`).join(' ')}`;

/**
 * Runs every case through values, derivatives and ONNX Runtime. With EDGEWISE_FIGURES set, prints the largest errors met.
 */
export function runOpSuite(family: string, cases: readonly OpCase[]): void {
  const figures: Figures = new Map();
  const device = ortDevice(ort, { provider: 'cpu', threads: 1 });
  afterAll(async () => {
    await device.dispose();
    if (process.env.EDGEWISE_FIGURES) {
      for (const [what, { error, at }] of [...figures].sort())
        console.log(`${family}: ${what}: ${error.toExponential(1)} (${at})`);
    }
  });
  describe(family, () => {
    for (const { name, samples, runs = 10, skip } of cases) {
      const seeds = fc.noShrink(fc.integer({ min: 0, max: 2 ** 31 - 1 }));
      // Unbiased: with few runs the usual preference for small values would leave scalars only.
      const parameters = { seed: SEED, numRuns: runs, unbiased: true };
      test(`${name}: values and derivatives`, () => {
        fc.assert(
          fc.property(samples, seeds, (sample, seed) => {
            checkValues(sample, seed, show(name, sample), figures);
            checkParts(sample, seed, show(name, sample), figures);
            checkDerivatives(sample, seed, show(name, sample), figures);
          }),
          parameters,
        );
      });
      for (const dtype of ['float32', 'float64'] as const) {
        const reason = dtype === 'float64' ? skip?.float64 : undefined;
        test.skipIf(reason)(`${name}: ONNX Runtime in ${dtype}${reason ? ` (${reason})` : ''}`, async () => {
          await fc.assert(
            fc.asyncProperty(samples, seeds, (sample, seed) =>
              checkDevice(device, dtype, sample, seed, show(name, sample), figures),
            ),
            parameters,
          );
        });
      }
    }
  });
}
