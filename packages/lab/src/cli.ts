/** @file The `edgewise` command: reads arguments, runs the command asked for, turns errors into one sentence and an exit code. */
import { EdgewiseError } from 'edgewise';
import { StoreError } from 'edgewise/train';
import { dryRun } from './commands/dry-run.ts';
import { exportHelp, exportRun } from './commands/export.ts';
import { optimizersHelp, optimizersMain } from './commands/optimizers.ts';
import { RunFailed, train } from './commands/train.ts';
import { parseTrainArguments, trainHelp } from './config/command.ts';
import { catalog } from './run/catalog.ts';

const HELP = `Usage: edgewise <command> [flags]

Commands:
  train                       train a network; everything about it is kept in a run folder
  export <run> <model.onnx>   write a trained network as an ONNX model for inference
  race [plan.json]            race optimizers on the same terms; tables, JSON and figures
  optimizers [words...]       what there is; also: show NAME, the page of one; check FILE..., against recordings

edgewise <command> --help tells more about each.
`;

const helpWidth = (): number => Math.min(process.stdout.columns ?? 100, 120);

/** Exit codes: 0 done, 1 something failed, 2 wrong input, 130 interrupted (143 by SIGTERM) with the state saved. */
async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv;
  const { stdout, stderr } = process;
  if (command === undefined || command === '--help' || command === '-h' || command === 'help') {
    (command === undefined ? stderr : stdout).write(HELP);
    return command === undefined ? 2 : 0;
  }
  const wantsHelp = rest.includes('--help') || rest.includes('-h');
  switch (command) {
    case 'train': {
      if (wantsHelp) {
        stdout.write(trainHelp(catalog, rest, helpWidth()));
        return 0;
      }
      const request = await parseTrainArguments(rest, catalog);
      if (request.dryRun) {
        await dryRun(request.config, stdout, process.env);
        return 0;
      }
      return interruptibly(async (stop) => {
        const { reason } = await train(request, { stream: stdout, env: process.env, now: Date.now, stop });
        return reason !== 'interrupted';
      });
    }
    case 'export':
      if (wantsHelp) stdout.write(exportHelp(helpWidth()));
      else await exportRun(rest, stdout);
      return 0;
    case 'race': {
      // Drawing needs a DOM, which the other commands do not pay for.
      const { isRaceWorker, parseRaceArguments, race, raceHelp, raceWorker } = await import('./commands/race.ts');
      if (isRaceWorker(rest)) {
        await raceWorker();
        return 0;
      }
      if (wantsHelp) {
        stdout.write(raceHelp(helpWidth()));
        return 0;
      }
      const request = parseRaceArguments(rest);
      return interruptibly((stop) => race(request, { stream: stdout, env: process.env, now: Date.now, stop }));
    }
    case 'optimizers':
      if (wantsHelp) stdout.write(optimizersHelp(rest, helpWidth()));
      else return optimizersMain(rest, { stream: stdout, env: process.env });
      return 0;
    default: {
      stderr.write(`edgewise: there is no command '${command}'; there are train, export, race and optimizers.\n`);
      return 2;
    }
  }
}

/** Exit code of `work`, which resolves to whether it came to its end, and not to that of an interrupt. */
async function interruptibly(work: (stop: AbortSignal) => Promise<boolean>): Promise<number> {
  const interrupt = new Interrupt();
  try {
    return (await work(interrupt.signal)) ? 0 : interrupt.exitCode;
  } finally {
    interrupt.release();
  }
}

/** The first Ctrl-C, SIGTERM or closed pipe asks the run to end after the step under way; the second Ctrl-C or SIGTERM ends the process. */
class Interrupt {
  /** 128 and the number of the signal, as shells have it. */
  exitCode = 130;
  readonly #controller = new AbortController();
  readonly #handlers = {
    SIGINT: () => this.#ask(130),
    SIGTERM: () => this.#ask(143),
  };

  constructor() {
    for (const [signal, handler] of Object.entries(this.#handlers)) process.on(signal, handler);
    process.stdout.on('error', this.#onOutputError);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  release(): void {
    for (const [signal, handler] of Object.entries(this.#handlers)) process.off(signal, handler);
  }

  #ask(exitCode: number): void {
    if (this.#controller.signal.aborted) process.exit(exitCode);
    this.exitCode = exitCode;
    this.#controller.abort();
  }

  /** Whoever read the progress is gone, as `head` is after its lines. The listener stays: later writes fail too. */
  readonly #onOutputError = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE') throw error;
    this.#controller.abort();
  };
}

/** Whether what went wrong is in what the user gave, and not in the run or the machine. */
function isWrongInput(error: EdgewiseError): boolean {
  return !(error instanceof RunFailed) && !(error instanceof StoreError && error.code === 'no-space');
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  // A mistake of the user's or of the surroundings has a sentence; anything else is a defect of ours and shows where.
  const known = error instanceof EdgewiseError;
  process.stderr.write(`edgewise: ${known ? error.message : error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = known && isWrongInput(error) ? 2 : 1;
}
