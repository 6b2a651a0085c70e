/** @file PyTorch's optimizers in a process of their own, one step at a time. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Rule } from './rules.ts';

interface Reply {
  readonly ok: boolean;
  readonly message?: string;
  readonly version?: string;
  readonly milliseconds?: Readonly<Record<string, readonly number[]>>;
}

export class TorchOptimizers {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: ((reply: Reply | undefined) => void)[] = [];
  version: string | undefined;

  private constructor() {
    const script = fileURLToPath(new URL('../peers/torch_optim.py', import.meta.url));
    const env = { ...process.env, OMP_NUM_THREADS: '1' };
    this.#child = spawn('/usr/bin/python3', [script], { stdio: ['pipe', 'pipe', 'ignore'], env });
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#waiting.shift()?.(JSON.parse(line)));
    for (const event of ['error', 'close'])
      this.#child.on(event, () => {
        for (const resolve of this.#waiting.splice(0)) resolve(undefined);
      });
    this.#child.stdin.on('error', () => {});
  }

  /** Undefined, with a sentence on the standard error, where there is no PyTorch. */
  static async start(): Promise<TorchOptimizers | undefined> {
    const peer = new TorchOptimizers();
    try {
      await peer.setup({ name: 'SGD', arguments: { lr: 1 } }, 100, 1);
      return peer;
    } catch {
      console.error('PyTorch is left out: no Python with torch found (Debian: apt-get install python3-torch).');
      return undefined;
    }
  }

  async setup(
    { name, arguments: given }: NonNullable<Rule['torch']>,
    parameters: number,
    tensors: number,
  ): Promise<void> {
    const { version } = await this.#ask({ op: 'setup', name, arguments: given, parameters, tensors, threads: 1 });
    this.version = version;
  }

  /** Milliseconds of one step by the faster of its paths: the loop over tensors, or the multi-tensor one. */
  async step(): Promise<number> {
    const { milliseconds = {} } = await this.#ask({ op: 'step', count: 1 });
    return Math.min(...Object.values(milliseconds).flat());
  }

  async drop(): Promise<void> {
    await this.#ask({ op: 'drop' });
  }

  close(): void {
    this.#child.kill();
  }

  async #ask(request: object): Promise<Reply> {
    const reply = await new Promise<Reply | undefined>((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    });
    if (!reply?.ok) throw new Error(reply?.message ?? 'the PyTorch process ended');
    return reply;
  }
}
