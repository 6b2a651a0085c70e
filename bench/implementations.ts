/** Who takes part: our side and the peers, how their workers are started, and which are present on this machine. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from './worker_process.ts';
import type { Workload } from './workloads.ts';

/** One participant. */
export interface Implementation {
  name: string;
  command(threads: number): Command;
  /** Whether it takes part at all in this workload at this thread count; a library that merely fails at it says so itself. */
  covers(workload: Workload, threads: number): boolean;
}

/** What `peers/torch_worker.py --info` tells. */
export interface TorchInfo {
  torch: string;
  numpy: string;
  python: string;
  cpu_capability: string;
  blas: string[];
  matmul_gflops: number;
}

/** The peers found, PyTorch's description where it is among them, and one sentence for each that is left out. */
export interface Found {
  implementations: Implementation[];
  torch?: TorchInfo;
  skipped: string[];
}

const here = dirname(fileURLToPath(import.meta.url));

function node(name: string, file: string, mostThreads: number): Implementation {
  return {
    name,
    covers: (_, threads) => threads <= mostThreads,
    command: () => ({
      command: process.execPath,
      args: ['--expose-gc', '--import', 'tsx', join(here, file)],
      // Without the path aliases of the sources: `edgewise` is then the built package.
      env: { TSX_TSCONFIG_PATH: join(here, 'tsconfig.run.json') },
    }),
  };
}

/** Libraries that read their thread count from the environment read it here; PyTorch is told again by the worker. */
function pythonEnvironment(threads: number): Record<string, string> {
  const count = String(threads);
  const env = { OMP_NUM_THREADS: count, OPENBLAS_NUM_THREADS: count, MKL_NUM_THREADS: count };
  const blas = process.env.EDGEWISE_BENCH_BLAS;
  return blas ? { ...env, LD_LIBRARY_PATH: [blas, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':') } : env;
}

function python(
  name: string,
  interpreter: string,
  file: string,
  covers: (workload: Workload) => boolean,
): Implementation {
  return {
    name,
    covers,
    command: (threads) => ({
      command: interpreter,
      args: [join(here, 'peers', file)],
      env: pythonEnvironment(threads),
    }),
  };
}

function tryInfo(interpreter: string): TorchInfo | undefined {
  try {
    const out = execFileSync(interpreter, [join(here, 'peers', 'torch_worker.py'), '--info'], {
      env: { ...process.env, ...pythonEnvironment(1) },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return JSON.parse(out) as TorchInfo;
  } catch {
    return undefined;
  }
}

/**
 * Finds our side and the peers. PyTorch over the reference BLAS is left out unless `allowReferenceBlas`: its matrix products are
 * then 15 times slower than with OpenBLAS, and a ratio against that would say nothing.
 */
export function find(wanted: string[] | undefined, allowReferenceBlas: boolean): Found {
  const skipped: string[] = [];
  const implementations: Implementation[] = [node('edgewise', 'ours_worker.ts', Number.POSITIVE_INFINITY)];
  const want = (name: string) => wanted === undefined || wanted.includes(name);
  const candidates = [process.env.EDGEWISE_BENCH_PYTHON, '/usr/bin/python3', 'python3'].filter((c) => c !== undefined);

  let torch: TorchInfo | undefined;
  if (want('pytorch')) {
    const interpreter = candidates.find((candidate) => {
      torch = tryInfo(candidate);
      return torch !== undefined;
    });
    const fast = torch?.blas.some((path) => /openblas|mkl|blis|atlas/.test(path));
    if (interpreter === undefined || torch === undefined) {
      skipped.push('pytorch: no Python with torch found (Debian: apt-get install python3-torch libopenblas0-openmp).');
    } else if (!fast && !allowReferenceBlas) {
      skipped.push(
        `pytorch: it runs on the reference BLAS (${torch.matmul_gflops} GFLOP/s), which is no fair peer. ` +
          'Debian: apt-get install libopenblas0-openmp. --allow-reference-blas measures it all the same.',
      );
      torch = undefined;
    } else {
      implementations.push(
        python(fast ? 'pytorch' : 'pytorch-reference-blas', interpreter, 'torch_worker.py', () => true),
      );
    }
  }
  if (want('memcpy')) {
    const interpreter = candidates.find((candidate) => !candidate.includes('/') || existsSync(candidate));
    if (interpreter === undefined) skipped.push('memcpy: no Python found.');
    else implementations.push(python('memcpy', interpreter, 'memcpy_worker.py', (w) => w.model === 'adan'));
  }
  // Both are single-threaded in Node, so they are set against our single thread only.
  if (want('jax-js')) implementations.push(node('jax-js', 'peers/jax_worker.ts', 1));
  if (want('tfjs-wasm')) implementations.push(node('tfjs-wasm', 'peers/tfjs_worker.ts', 1));
  return { implementations, torch, skipped };
}

/** Names that `--peers` takes. */
export const peerNames = ['pytorch', 'memcpy', 'jax-js', 'tfjs-wasm'];
