/** @file Races without training: what a trial gives is a formula of its settings. */
import type { Runner } from '../../src/race/runner.ts';
import type { TrialResult, TrialSpec } from '../../src/race/trial.ts';
import { TrialInterrupted } from '../../src/race/trial.ts';

export const signal = (): AbortSignal => new AbortController().signal;

/** A runner that gives `outcome`, and keeps the specs it was given. */
export function fakeRunner(outcome: (spec: TrialSpec) => TrialResult, jobs = 1): Runner & { ran: TrialSpec[] } {
  const ran: TrialSpec[] = [];
  return {
    jobs,
    ran,
    run: async (spec, stop) => {
      // Trials end in another order than they began in.
      await new Promise((resolve) => setTimeout(resolve, jobs > 1 ? (ran.length * 7) % 5 : 0));
      if (stop.aborted) throw new TrialInterrupted('stopped');
      ran.push(spec);
      return outcome(spec);
    },
    close: async () => {},
  };
}

const about = { parameters: 10, stepsPerEpoch: 4, examples: { train: 100, judged: 10 } };

export const finished = (loss: number, accuracy: number | null, epochs = 1): TrialResult => ({
  status: 'finished',
  curve: [
    { step: 2, epoch: epochs / 2, seconds: 1, trainLoss: 2 * loss, loss: 2 * loss, accuracy: accuracy && accuracy / 2 },
    { step: 4, epoch: epochs, seconds: 2, trainLoss: loss, loss, accuracy },
  ],
  ...about,
});

export const diverged: TrialResult = {
  status: 'diverged',
  curve: [],
  diverged: { step: 3, reason: 'the loss is NaN' },
  ...about,
};

/** Best at one learning rate, better with more epochs: loss |log10 lr/best| + 1/epochs, or twice that where slower. */
export function formula({ config }: TrialSpec, best: number, speed = 1): TrialResult {
  const epochs = config.epochs ?? 1;
  const away = Math.abs(Math.log10(Number(config.optimizer.lr) / best));
  const loss = away + 1 / (speed * epochs) + 0.001 * config.seed;
  return finished(loss, 1 / (1 + loss), epochs);
}
