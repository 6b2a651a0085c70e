import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileProgram } from '../support/program.ts';

/** Where Debian's package `chromium` puts its software Vulkan driver, and the loader that finds it. */
const CHROMIUM = '/usr/lib/chromium';
const ICD = join(CHROMIUM, 'vk_swiftshader_icd.json');

/** The environment in which a Vulkan driver is found, or undefined where there is none. */
function driver(): Record<string, string> | undefined {
  if (process.env.VK_ICD_FILENAMES) return {};
  if (!existsSync(ICD) || !existsSync(join(CHROMIUM, 'libvulkan.so.1'))) return undefined;
  return { LD_LIBRARY_PATH: CHROMIUM, VK_ICD_FILENAMES: ICD };
}

interface Gradient {
  readonly loss: number;
  readonly correct: number;
  readonly gradients: Readonly<Record<string, readonly number[]>>;
  readonly buffers: readonly number[];
}

interface Line {
  readonly name: string;
  readonly cpu: Gradient;
  readonly gpu: Gradient;
}

const TOLERANCE = 1e-3;

/** Largest distance between two lists, as a share of the largest element of the first. */
function distance(expected: readonly number[], actual: readonly number[]): number {
  expect(actual).toHaveLength(expected.length);
  const size = expected.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
  const apart = expected.reduce((largest, x, i) => Math.max(largest, Math.abs(x - actual[i])), 0);
  return apart === 0 ? 0 : apart / size;
}

const env = driver();

describe('WebGPU on a software Vulkan driver', () => {
  it.skipIf(!env)(
    `${env ? '' : `skipped: no Vulkan driver, VK_ICD_FILENAMES is not set and there is no ${ICD} (Debian: apt-get install chromium); `}gives the gradients of the CPU`,
    // A software driver compiles every shader for the CPU.
    { timeout: 400_000 },
    async () => {
      const program = await compileProgram(join(import.meta.dirname, 'webgpu-worker.ts'));
      try {
        const models = ['mlp', 'convnet', 'residual', 'transformer'];
        const child = spawn(process.execPath, [program.path, ...models], {
          env: { ...process.env, ...env },
          stdio: ['ignore', 'pipe', 'pipe'],
        });
        let [output, errors] = ['', ''];
        child.stdout.on('data', (data) => {
          output += data;
        });
        child.stderr.on('data', (data) => {
          errors += data;
        });
        const [code] = await once(child, 'close');
        expect({ code, errors }).toEqual({ code: 0, errors: '' });
        // Every line was written by the worker as a Line.
        const lines = output
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as Line);
        expect(lines.map(({ name }) => name)).toEqual(models);
        let different = false;
        for (const { name, cpu, gpu } of lines) {
          expect(cpu.loss, name).toBeGreaterThan(1);
          expect(Math.abs(gpu.loss - cpu.loss), name).toBeLessThan(TOLERANCE);
          expect(gpu.correct, name).toBe(cpu.correct);
          if (cpu.buffers.length > 0) expect(distance(cpu.buffers, gpu.buffers), name).toBeLessThan(TOLERANCE);
          for (const [parameter, gradient] of Object.entries(cpu.gradients)) {
            expect(Math.max(...gradient.map(Math.abs)), `${name}: ${parameter}`).toBeGreaterThan(1e-6);
            const apart = distance(gradient, gpu.gradients[parameter]);
            expect(apart, `${name}: ${parameter}`).toBeLessThan(TOLERANCE);
            different ||= apart > 0;
          }
        }
        // Equal to the last bit everywhere would mean that the CPU had computed both.
        expect(different).toBe(true);
      } finally {
        await program.remove();
      }
    },
  );
});
