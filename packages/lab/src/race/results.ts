/** @file What a race found: who was tuned to what, what the final runs reached, and how their epochs compare. */

import { findOptimizer } from 'edgewise/optim';
import type { SettingValue } from '../config/setting.ts';
import type { TrainConfig } from '../config/settings.ts';
import { type Comparison, compare, type Reached } from './claim.ts';
import { tunedOf } from './draws.ts';
import { drawsOf, type Entrant, type RacePlan } from './plan.ts';
import type { CurvePoint, TrialResult, TrialSpec } from './trial.ts';

/** A trial that was run. */
export interface TrialRecord extends TrialResult {
  /** Other trials ran at the same time, so that its seconds say less. */
  readonly shared: boolean;
  /** Number of the environment it was run in. */
  readonly environment: number;
}

export type Trials = Readonly<Record<string, TrialRecord>>;

/** Several runs of the same settings. */
export interface Spread {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** What tuning chose for an entrant. */
export interface Winner {
  readonly label: string;
  /** Epochs of the trials. */
  readonly epochs: number;
  /** Number of the best trial; null where every one diverged. */
  readonly trial: number | null;
  /** Values of what was tuned. */
  readonly values: Readonly<Record<string, SettingValue>>;
  /** On the held-out part of the training set. */
  readonly loss: number | null;
  readonly accuracy: number | null;
  readonly trials: number;
  readonly diverged: number;
  /** Names of what is the smallest or largest value of all that were tried: a wider range might have been better. */
  readonly atEdge: readonly string[];
}

/** Final runs of an entrant in one budget, on the test set. */
export interface Final {
  readonly label: string;
  /** Epochs of the whole run. */
  readonly epochs: number;
  /** Runs that finished, and those that diverged; the spreads are over the former. */
  readonly finished: number;
  readonly diverged: number;
  readonly loss: Spread | null;
  readonly accuracy: Spread | null;
  /** Of training, without evaluations. */
  readonly seconds: Spread | null;
}

export interface Summary {
  readonly winners: readonly Winner[];
  readonly finals: readonly Final[];
  /** Of budgets in which a run diverged, nothing is compared. */
  readonly claim: {
    readonly reference: string;
    readonly loss: readonly Comparison[];
    /** Empty where nothing is classified. */
    readonly accuracy: readonly Comparison[];
  };
}

/** Lengths of tuning trials, each once. */
export const tuningLengths = ({ tuningEpochs, budgets }: RacePlan): readonly number[] =>
  tuningEpochs === null ? budgets : [tuningEpochs];

const tuningId = ({ label }: Entrant, epochs: number, trial: number): string =>
  `tuning/${label}/${epochs}-epochs/trial-${trial}`;

const finalId = ({ label }: Entrant, epochs: number, seed: number): string =>
  `final/${label}/${epochs}-epochs/seed-${seed}`;

const common = ({ entrants, evaluationsPerEpoch }: RacePlan) => ({
  dataSeed: entrants[0].config.seed,
  evaluationsPerEpoch,
});

const lasting = (config: TrainConfig, epochs: number): TrainConfig => ({ ...config, epochs, steps: null });

/** Every tuning trial. Those of all entrants take turns, so that an unfinished race has treated them alike. */
export function tuningSpecs(plan: RacePlan): TrialSpec[] {
  const { seed } = plan.entrants[0].config;
  return tuningLengths(plan).flatMap((epochs) => {
    const draws = plan.entrants.map((entrant) => drawsOf(plan, entrant));
    return Array.from({ length: plan.trials }, (_, trial) => trial).flatMap((trial) =>
      plan.entrants.flatMap((entrant, i) =>
        draws[i].length === 0
          ? []
          : [
              {
                id: tuningId(entrant, epochs, trial),
                config: lasting(draws[i][trial], epochs),
                holdOut: { share: plan.validation, seed },
                ...common(plan),
              },
            ],
      ),
    );
  });
}

/** Every final run, of the entrants that have settings to run with. */
export function finalSpecs(plan: RacePlan, trials: Trials): TrialSpec[] {
  const winners = winnersOf(plan, trials);
  return plan.budgets.flatMap((epochs) =>
    plan.seeds.flatMap((seed) =>
      plan.entrants.flatMap((entrant) => {
        const config = settingsFor(plan, entrant, epochs, winners);
        return config
          ? [{ id: finalId(entrant, epochs, seed), config: { ...lasting(config, epochs), seed }, ...common(plan) }]
          : [];
      }),
    ),
  );
}

function settingsFor(
  plan: RacePlan,
  entrant: Entrant,
  epochs: number,
  winners: readonly Winner[],
): TrainConfig | undefined {
  if (entrant.tune.length === 0) return entrant.config;
  const winner = winners.find((one) => one.label === entrant.label && one.epochs === (plan.tuningEpochs ?? epochs));
  return winner && winner.trial !== null ? drawsOf(plan, entrant)[winner.trial] : undefined;
}

const last = ({ curve }: TrialResult): CurvePoint => curve[curve.length - 1];

/** Whether `a` is strictly better: by accuracy, where equal by loss; or by loss alone. */
function beats(a: CurvePoint, b: CurvePoint, select: RacePlan['select']): boolean {
  const [accuracyA, accuracyB] = [a.accuracy, b.accuracy];
  if (select === 'accuracy' && accuracyA !== null && accuracyB !== null && accuracyA !== accuracyB)
    return accuracyA > accuracyB;
  return a.loss < b.loss;
}

/** The best of each entrant's trials in each length; only of tunings that are complete. The earlier of two that are equal. */
export function winnersOf(plan: RacePlan, trials: Trials): Winner[] {
  return tuningLengths(plan).flatMap((epochs) =>
    plan.entrants.flatMap((entrant): Winner[] => {
      const draws = drawsOf(plan, entrant);
      const results = draws.map((_, trial) => trials[tuningId(entrant, epochs, trial)]);
      if (draws.length === 0 || results.some((result) => result === undefined)) return [];
      let best: number | null = null;
      results.forEach((result, trial) => {
        if (result.status === 'diverged') return;
        if (best === null || beats(last(result), last(results[best]), plan.select)) best = trial;
      });
      const { optimizer } = best === null ? entrant.config : draws[best];
      const { hyperparameters } = findOptimizer(optimizer.name);
      const tuned = tunedOf(optimizer.name, hyperparameters, entrant.tune);
      const names = [...new Set(tuned.map(({ name }) => name))];
      const valueOf = (config: TrainConfig, { name, index }: { name: string; index?: number }): number => {
        const value = config.optimizer[name];
        return Number(index !== undefined && Array.isArray(value) ? value[index] : value);
      };
      const edges = tuned.filter((one) => {
        const tried = draws.map((config) => valueOf(config, one));
        const chosen = best === null ? Number.NaN : tried[best];
        return draws.length > 2 && (chosen === Math.min(...tried) || chosen === Math.max(...tried));
      });
      return [
        {
          label: entrant.label,
          epochs,
          trial: best,
          values: best === null ? {} : Object.fromEntries(names.map((name) => [name, optimizer[name]])),
          loss: best === null ? null : last(results[best]).loss,
          accuracy: best === null ? null : last(results[best]).accuracy,
          trials: results.length,
          diverged: results.filter(({ status }) => status === 'diverged').length,
          atEdge: edges.map(({ name, index }) => (index === undefined ? name : `${name}.${index}`)),
        },
      ];
    }),
  );
}

export function spreadOf(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  return {
    mean: values.reduce((sum, value) => sum + value, 0) / values.length,
    low: Math.min(...values),
    high: Math.max(...values),
  };
}

/** Final runs of an entrant in one budget, as far as they were run, in the order of the seeds. */
export const finalRuns = (plan: RacePlan, trials: Trials, entrant: Entrant, epochs: number): TrialRecord[] =>
  plan.seeds.flatMap((seed) => trials[finalId(entrant, epochs, seed)] ?? []);

export function summarize(plan: RacePlan, trials: Trials): Summary {
  const finals = plan.entrants.flatMap((entrant) =>
    plan.budgets.flatMap((epochs): Final[] => {
      const runs = finalRuns(plan, trials, entrant, epochs);
      if (runs.length === 0) return [];
      const ends = runs.filter(({ status }) => status === 'finished').map(last);
      return [
        {
          label: entrant.label,
          epochs,
          finished: ends.length,
          diverged: runs.length - ends.length,
          loss: spreadOf(ends.map(({ loss }) => loss)),
          accuracy: spreadOf(ends.flatMap(({ accuracy }) => accuracy ?? [])),
          seconds: spreadOf(ends.map(({ seconds }) => seconds)),
        },
      ];
    }),
  );
  const curveOf = (label: string, what: 'loss' | 'accuracy'): Reached[] =>
    finals.flatMap((final) => {
      const value = final[what]?.mean;
      return final.label === label && final.diverged === 0 && value !== undefined
        ? [{ epochs: final.epochs, value }]
        : [];
    });
  const others = plan.entrants.map(({ label }) => label).filter((label) => label !== plan.reference);
  const comparisons = (what: 'loss' | 'accuracy'): Comparison[] =>
    compare(
      curveOf(plan.reference, what),
      others.map((label) => ({ label, curve: curveOf(label, what) })),
      what === 'loss' ? 'lower' : 'higher',
    );
  return {
    winners: winnersOf(plan, trials),
    finals,
    claim: { reference: plan.reference, loss: comparisons('loss'), accuracy: comparisons('accuracy') },
  };
}
