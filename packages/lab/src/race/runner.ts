/** @file Where trials are run: in this process, or in several others at once. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { ConfigError, EdgewiseError } from 'edgewise';
import { runTrial, type TrialContext, TrialInterrupted, type TrialResult, type TrialSpec } from './trial.ts';

export type Progress = Parameters<NonNullable<TrialContext['onStep']>>[0];

/** Runs trials, `jobs` at a time. */
export interface Runner {
  readonly jobs: number;
  /** @throws TrialInterrupted when `stop` fires, and what the trial throws. */
  run(spec: TrialSpec, stop: AbortSignal, onStep: (progress: Progress) => void): Promise<TrialResult>;
  close(): Promise<void>;
}

/** One trial at a time, in this process, with all cores. */
export const localRunner = (now: () => number): Runner => ({
  jobs: 1,
  run: (spec, stop, onStep) => runTrial(spec, { now, stop, onStep }),
  close: async () => {},
});

type Request = { readonly kind: 'run'; readonly spec: TrialSpec } | { readonly kind: 'stop' };
type Reply =
  | { readonly kind: 'done'; readonly result: TrialResult }
  | { readonly kind: 'failed'; readonly error: 'interrupted' | 'config' | 'other'; readonly message: string }
  | { readonly kind: 'progress'; readonly progress: Progress };

/** Milliseconds between two reports of a worker. */
const REPORT_EVERY = 200;

/**
 * `jobs` trials at a time, each in a process of its own with one thread.
 *
 * @param script Node program that calls {@link serveTrials} when it is given `args`.
 */
export function forkedRunner(jobs: number, script: string, args: readonly string[]): Runner {
  const idle: ChildProcess[] = [];
  const all = new Set<ChildProcess>();
  const start = (): ChildProcess => {
    const child = fork(script, [...args], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    all.add(child);
    child.once('exit', () => all.delete(child));
    return child;
  };
  return {
    jobs,
    run: async (spec, stop, onStep) => {
      const child = idle.pop() ?? start();
      const send = (request: Request) => {
        if (child.connected) child.send(request);
      };
      const onStop = () => send({ kind: 'stop' });
      const single = { ...spec, config: { ...spec.config, threads: 1 } };
      try {
        return await new Promise<TrialResult>((resolve, reject) => {
          const settle = (act: () => void) => {
            child.off('message', onMessage);
            child.off('exit', onExit);
            act();
          };
          const onMessage = (message: unknown) => {
            // Only our own worker speaks on this channel.
            const reply = message as Reply;
            if (reply.kind === 'progress') onStep(reply.progress);
            else {
              idle.push(child);
              settle(() => (reply.kind === 'done' ? resolve(reply.result) : reject(errorOf(reply))));
            }
          };
          const onExit = (code: number | null, signal: string | null) =>
            settle(() =>
              reject(
                new EdgewiseError(
                  `The process of ${spec.id} ended with ${signal ?? `code ${code}`}; finished trials are kept, resume the race to go on.`,
                ),
              ),
            );
          child.on('message', onMessage);
          child.on('exit', onExit);
          stop.addEventListener('abort', onStop, { once: true });
          send({ kind: 'run', spec: single });
          if (stop.aborted) onStop();
        });
      } finally {
        stop.removeEventListener('abort', onStop);
      }
    },
    close: async () => {
      await Promise.all(
        [...all].map(async (child) => {
          const ended = once(child, 'exit');
          if (child.connected) child.disconnect();
          await ended;
        }),
      );
    },
  };
}

function errorOf({ error, message }: Extract<Reply, { kind: 'failed' }>): Error {
  switch (error) {
    case 'interrupted':
      return new TrialInterrupted(message);
    case 'config':
      return new ConfigError(message);
    case 'other':
      return new Error(message);
  }
}

/** The other side of {@link forkedRunner}: runs what it is told until its parent lets go of it. */
export async function serveTrials(now: () => number): Promise<void> {
  if (!process.send) throw new ConfigError('edgewise race --worker is for the race itself to start.');
  const reply = (message: Reply) => {
    if (process.connected) process.send?.(message);
  };
  let stop = new AbortController();
  // Ctrl-C reaches every process of the terminal; the parent decides.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
  process.on('message', async (message: unknown) => {
    const request = message as Request;
    if (request.kind === 'stop') {
      stop.abort();
      return;
    }
    stop = new AbortController();
    let reported = 0;
    const onStep = (progress: Progress) => {
      if (now() - reported < REPORT_EVERY) return;
      reported = now();
      reply({ kind: 'progress', progress });
    };
    try {
      reply({ kind: 'done', result: await runTrial(request.spec, { now, stop: stop.signal, onStep }) });
    } catch (error) {
      const known = error instanceof EdgewiseError;
      const kind = error instanceof TrialInterrupted ? 'interrupted' : known ? 'config' : 'other';
      const text = error instanceof Error ? (known ? error.message : (error.stack ?? error.message)) : String(error);
      reply({ kind: 'failed', error: kind, message: text });
    }
  });
  await once(process, 'disconnect');
  // A trial under way is of no use to anyone now.
  process.exit(0);
}
