/** @file The `edgewise` command: reads arguments, runs the command asked for, turns errors into one sentence and an exit code. */
import { EdgewiseError } from 'edgewise';
import { exportRun } from './commands/export.ts';
import { train } from './commands/train.ts';
import { parseTrainArguments, trainHelp } from './config/command.ts';
import { catalog } from './run/catalog.ts';

const HELP = `Usage: edgewise <command> [flags]

Commands:
  train                       train a network; everything about it is kept in a run folder
  export <run> <model.onnx>   write a trained network as an ONNX model for inference

edgewise <command> --help tells more about each.
`;

/** Exit codes: 0 done, 1 something failed, 2 wrong input, 130 interrupted. */
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
        stdout.write(trainHelp(catalog, rest, Math.min(stdout.columns ?? 100, 120)));
        return 0;
      }
      const request = await parseTrainArguments(rest, catalog);
      const { signal, release } = stopOnInterrupt();
      try {
        const { reason } = await train(request, { stream: stdout, env: process.env, now: Date.now, stop: signal });
        return reason === 'interrupted' ? 130 : 0;
      } finally {
        release();
      }
    }
    case 'export':
      return exportRun(rest, stdout);
    default: {
      stderr.write(`edgewise: there is no command '${command}'; there are train and export.\n`);
      return 2;
    }
  }
}

/** The first Ctrl-C asks the run to end after the step under way, the second one ends the process. */
function stopOnInterrupt(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const ask = () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  process.on('SIGINT', ask);
  process.on('SIGTERM', ask);
  return {
    signal: controller.signal,
    release: () => {
      process.off('SIGINT', ask);
      process.off('SIGTERM', ask);
    },
  };
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  // A mistake of the user's or of the surroundings has a sentence; anything else is a defect of ours and shows where.
  const known = error instanceof EdgewiseError;
  process.stderr.write(`edgewise: ${known ? error.message : error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = known ? (error.name === 'NonFiniteError' ? 1 : 2) : 1;
}
