/** The harness's end of a worker process: start it, ask it, know how much processor time it used, end it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Reply, Request } from './protocol.ts';

/** A command line and what it needs in its environment. */
export interface Command {
  command: string;
  args: string[];
  env: Record<string, string>;
}

/** The worker did not answer within its limit and was killed. */
export class TimedOut extends Error {}

/** A child process that answers one JSON line with one JSON line. */
export class WorkerProcess {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[] = [];
  readonly #complaints: string[] = [];

  constructor({ command, args, env }: Command) {
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#waiting.shift()?.resolve(JSON.parse(line) as Reply);
    });
    createInterface({ input: this.#child.stderr }).on('line', (line) => {
      this.#complaints.push(line);
      if (this.#complaints.length > 20) this.#complaints.shift();
    });
    const fail = (error: Error) => {
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    };
    this.#child.on('error', fail);
    this.#child.stdin.on('error', fail);
    // `close` comes after the streams have ended, so that the complaints are complete.
    this.#child.on('close', (code, signal) => {
      fail(new Error(`The worker ended (${signal ?? `exit code ${code}`}). ${this.#complaints.join('\n')}`));
    });
  }

  /** Sends a request; rejects with `TimedOut` after `limitMs` and kills the worker then. */
  async ask(request: Request, limitMs: number): Promise<Reply> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Reply>((resolve, reject) => {
        this.#waiting.push({ resolve, reject });
        timer = setTimeout(() => {
          this.kill();
          reject(new TimedOut(`No answer within ${limitMs / 1000} s.`));
        }, limitMs);
        this.#child.stdin.write(`${JSON.stringify(request)}\n`);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Processor seconds used so far by all threads of the worker; 0 where the system does not tell. */
  processorSeconds(): number {
    try {
      const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return (Number(fields[11]) + Number(fields[12])) / TICKS;
    } catch {
      return 0;
    }
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Ends the worker in order, or by force after ten seconds. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    await this.ask({ op: 'close' }, 10_000).catch(() => this.kill());
    this.#child.stdin.end();
    await ended;
  }
}

/** Clock ticks a second in /proc; 100 on every Linux that Node supports. */
const TICKS = 100;

/** Processor seconds the whole machine has been busy, stolen time included; undefined where the system does not tell. */
export function machineBusySeconds(): number | undefined {
  try {
    const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
      .split('\n', 1)[0]
      .split(/\s+/)
      .slice(1)
      .map(Number);
    return (user + nice + system + irq + softirq + steal) / TICKS;
  } catch {
    return undefined;
  }
}
