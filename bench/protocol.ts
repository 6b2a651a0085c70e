/**
 * The worker protocol. Each (workload, threads, implementation) lives in its own process, started once and driven by JSON lines:
 * one request line in, one reply line out. Set-up and warm-up are therefore outside the timing, thread counts are fixed where a
 * library fixes them at start, and implementations can take turns.
 *
 * ```
 * -> {"op":"setup","workload":{...},"threads":1}      <- {"ok":true,"check":{"loss":2.31,...}}
 * -> {"op":"run","iterations":5}                      <- {"ok":true,"times_ms":[...]}
 * -> {"op":"close"}                                   <- {"ok":true}, then the process ends
 *                                   on any failure:   <- {"ok":false,"kind":"unsupported"|"error","message":"..."}
 * ```
 */
import { createInterface } from 'node:readline';
import type { Workload } from './workloads.ts';

/** One request, as it stands on a line of the worker's standard input. */
export type Request =
  | { op: 'setup'; workload: Workload; threads: number }
  | { op: 'run'; iterations: number }
  | { op: 'close' };

/** One reply. `unsupported` says that the library lacks something the workload needs; `error` is everything else. */
export type Reply =
  | { ok: true; check?: Record<string, number>; times_ms?: number[] }
  | { ok: false; kind: 'unsupported' | 'error'; message: string };

/** A workload made ready to be iterated in this process. */
export interface Session {
  /**
   * Values that every implementation must agree on to 0.1 %, computed from the initial parameters before any timing:
   * `grad`: `loss`, `grad_norm`. `step`: `loss`, `loss_2` (the loss after two updates). `hvp`: `hvp_norm` (‖Hv‖) and `alignment` (vᵀHv / ‖v‖‖Hv‖).
   * `update`: `moved` (‖θ_2 - θ_0‖ after two updates, with gradient sets 0 and 1).
   */
  check(): Promise<Record<string, number>>;
  /** One iteration, finished (results in memory) when the promise resolves. */
  iterate(): Promise<void>;
  /** Frees what the session holds. */
  close(): Promise<void>;
}

/** Makes a session; throws `Unsupported` where the library cannot do the workload. */
export type Setup = (workload: Workload, threads: number) => Promise<Session>;

/** A workload at a thread count, ready to be set up: what a worker process is made from. */
export interface Case {
  name: string;
  threads: number;
  setup(): Promise<Session>;
}

/** Thrown by a set-up whose library cannot do the workload; the message is printed in the report. */
export class Unsupported extends Error {}

/** Serves requests on standard input until `close`; `find` turns a workload into a case of this implementation. */
export function serve(find: (workload: Workload, threads: number) => Case): void {
  const collectGarbage = (globalThis as { gc?: () => void }).gc;
  let session: Session | undefined;

  const handle = async (request: Request): Promise<Reply> => {
    switch (request.op) {
      case 'setup': {
        session = await find(request.workload, request.threads).setup();
        return { ok: true, check: await session.check() };
      }
      case 'run': {
        if (session === undefined) throw new Error('The worker was asked to run before it was set up.');
        const { iterate } = session;
        const times: number[] = [];
        collectGarbage?.();
        for (let i = 0; i < request.iterations; i++) {
          const start = performance.now();
          await iterate();
          times.push(performance.now() - start);
        }
        return { ok: true, times_ms: times };
      }
      case 'close': {
        await session?.close();
        return { ok: true };
      }
    }
  };

  // Libraries print banners; standard output belongs to the protocol.
  console.log = console.info = console.error;
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  let queue = Promise.resolve();
  lines.on('line', (line) => {
    queue = queue.then(async () => {
      const request = JSON.parse(line) as Request;
      const reply = await handle(request).catch(
        (error: unknown): Reply => ({
          ok: false,
          kind: error instanceof Unsupported ? 'unsupported' : 'error',
          message: error instanceof Error ? error.message : String(error),
        }),
      );
      process.stdout.write(`${JSON.stringify(reply)}\n`, () => {
        if (request.op === 'close') process.exit(0);
      });
    });
  });
  lines.on('close', () => process.exit(0));
}
