/** On what a run was made: versions, machine, revision. Written beside its results so that they can be judged and repeated. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** What `environment.json` of a run holds. What cannot be found out is null. */
export interface Environment {
  readonly versions: {
    readonly edgewise: string | null;
    readonly node: string;
    /** The V8 engine, which compiles the update kernels. */
    readonly v8: string;
    readonly 'onnxruntime-node': string | null;
  };
  readonly machine: {
    /** Such as `linux`, as `process.platform`. */
    readonly platform: string;
    /** Of the operating system's kernel. */
    readonly release: string;
    /** Such as `x64`, as `process.arch`. */
    readonly arch: string;
    readonly cpu: string | null;
    /** Logical cores. */
    readonly cores: number;
    /** Bytes. */
    readonly memory: number;
  };
  /** The commit checked out in the working folder; null where that is no git checkout. */
  readonly git: {
    readonly revision: string;
    /** Whether tracked files differ from it. */
    readonly dirty: boolean;
  } | null;
}

/**
 * Finds out about this machine. Never fails: what is unknown is null.
 *
 * @param folder Where to look for a git checkout. Default: the working folder.
 */
export async function describeEnvironment(folder: string = process.cwd()): Promise<Environment> {
  const here = dirname(fileURLToPath(import.meta.url));
  const [edgewise, onnxruntime, git] = await Promise.all([
    versionAbove(here, 'edgewise'),
    installedVersion('onnxruntime-node'),
    gitState(folder),
  ]);
  const cores = cpus();
  return {
    versions: {
      edgewise,
      node: process.versions.node,
      v8: process.versions.v8,
      'onnxruntime-node': onnxruntime,
    },
    machine: {
      platform: platform(),
      release: release(),
      arch: arch(),
      cpu: cores[0]?.model.trim() || null,
      cores: cores.length,
      memory: totalmem(),
    },
    git,
  };
}

/** The version of package `name`, from the `package.json` nearest above `folder` that carries this name. */
async function versionAbove(folder: string, name: string): Promise<string | null> {
  for (let at = folder; ; at = dirname(at)) {
    try {
      const manifest: unknown = JSON.parse(await readFile(join(at, 'package.json'), 'utf8'));
      if (typeof manifest === 'object' && manifest !== null && 'name' in manifest && manifest.name === name) {
        return 'version' in manifest && typeof manifest.version === 'string' ? manifest.version : null;
      }
    } catch {
      // No manifest here; the one that counts is further up.
    }
    if (at === dirname(at)) return null;
  }
}

async function installedVersion(name: string): Promise<string | null> {
  try {
    return await versionAbove(dirname(createRequire(import.meta.url).resolve(name)), name);
  } catch {
    return null;
  }
}

async function gitState(folder: string): Promise<Environment['git']> {
  try {
    const git = async (...args: string[]): Promise<string> => {
      const { stdout } = await promisify(execFile)('git', args, {
        cwd: folder,
        timeout: 10_000,
        maxBuffer: 64 << 20,
        // A status must not take the index lock from a git that works beside us.
        env: { ...process.env, GIT_OPTIONAL_LOCKS: '0' },
      });
      return stdout.trim();
    };
    const revision = await git('rev-parse', '--verify', 'HEAD');
    return { revision, dirty: (await git('status', '--porcelain', '--untracked-files=no')) !== '' };
  } catch {
    return null;
  }
}
