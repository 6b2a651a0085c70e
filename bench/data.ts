/**
 * The numbers every implementation computes with: a hash of (seed, index), the same in TypeScript and Python, so that check values
 * can be compared. `peers/torch_worker.py` holds the same few lines in NumPy.
 */
import type { ParameterSpec, Workload } from './workloads.ts';

/** Seeds: one for the inputs, one for the targets, then one a parameter tensor and purpose. */
export const seeds = { input: 1, target: 2, parameter: 100, direction: 1000, gradient: [5000, 6000] } as const;

/** MurmurHash3's finalizer over index and seed: 32 well mixed bits. */
function hash(seed: number, index: number): number {
  let h = (Math.imul(index, 0x9e3779b1) + Math.imul(seed, 0x85ebca6b)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** `count` numbers uniform in [-scale, scale). */
export function uniform(count: number, seed: number, scale = 1): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = (hash(seed, i) / 2 ** 31 - 1) * scale;
  return out;
}

/** `count` integers in [0, bound). */
export function integers(count: number, seed: number, bound: number): Int32Array {
  const out = new Int32Array(count);
  for (let i = 0; i < count; i++) out[i] = hash(seed, i) % bound;
  return out;
}

const count = (spec: ParameterSpec) => spec.shape.reduce((a, b) => a * b, 1);

/** Initial value of parameter tensor number `index` of a workload, in PyTorch's layout. */
export function parameterValue(spec: ParameterSpec, index: number): Float32Array {
  if (spec.init === 'uniform') return uniform(count(spec), seeds.parameter + index, spec.scale);
  return new Float32Array(count(spec)).fill(spec.init === 'ones' ? 1 : 0);
}

/** The vector of Hessian-vector products, for parameter tensor number `index`. */
export function directionValue(spec: ParameterSpec, index: number): Float32Array {
  return uniform(count(spec), seeds.direction + index);
}

/** The gradients of the update benchmark: two sets, used in turn, so that gradient differences are not zero. */
export function gradientValue(spec: ParameterSpec, index: number, set: 0 | 1): Float32Array {
  return uniform(count(spec), seeds.gradient[set] + index);
}

/** Model inputs: images and vectors uniform in [-1, 1), or token ids. Targets: class labels, or numbers in [-1, 1). */
export function batchOf(workload: Workload): { input: Float32Array | Int32Array; target: Float32Array | Int32Array } {
  const { model, sizes: s } = workload;
  switch (model) {
    case 'resnet20':
    case 'convnet':
      return {
        input: uniform(s.batch * s.channels * s.side * s.side, seeds.input),
        target: integers(s.batch, seeds.target, s.classes),
      };
    case 'mlp':
      return {
        input: uniform(s.batch * s.inputs, seeds.input),
        target: integers(s.batch, seeds.target, s.classes),
      };
    case 'transformer':
      return {
        input: integers(s.batch * s.sequence, seeds.input, s.classes),
        target: integers(s.batch * s.sequence, seeds.target, s.classes),
      };
    case 'mlp-small':
      return {
        input: uniform(s.batch * s.inputs, seeds.input),
        target: uniform(s.batch * s.outputs, seeds.target),
      };
    case 'adan':
      return { input: new Float32Array(0), target: new Float32Array(0) };
  }
}
