/** @file Schedules that rise and fall: restarts, one cycle, triangles, and those that weights are averaged under. */
import { ConfigError } from '../../base/errors.ts';
import { choice, flag, integer, number, type Schema } from '../hyperparameters.ts';
import { checkFloor, cosine, defineSchedule, lr, min, total } from './schedule.ts';

/** I. Loshchilov, F. Hutter, "SGDR", arXiv 1608.03983; PyTorch's `CosineAnnealingWarmRestarts`. */
export const cosineRestartsSchedule = defineSchedule(
  'cosineRestarts',
  'min + (η - min)(1 + cos(π k/c))/2 at step k = 0, 1, ... of a cycle of c steps; the first cycle has c = T0 steps, each other one m times as many as the one before. Without an end.',
  {
    lr,
    min,
    first: integer({ default: 1000, min: 1, unit: 'steps', doc: 'Steps T0 of the first cycle.' }),
    growth: integer({ default: 1, min: 1, doc: 'Factor m by which cycles get longer.' }),
  },
  ({ lr, min, first, growth }) => {
    checkFloor('cosineRestarts', lr, min);
    return (t) => {
      let [k, length] = [t - 1, first];
      if (growth === 1) k %= length;
      else
        while (k >= length) {
          k -= length;
          length *= growth;
        }
      return cosine(lr, min, k / length);
    };
  },
);

const cycle = {
  total,
  rise: number({ default: 0.3, above: 0, below: 1, doc: 'Share p of the steps at whose end the top is reached.' }),
  threePhase: flag({
    default: false,
    doc: 'Fall as long as it rose, back to where it started, and only then to the end; p is below 1/2 then.',
  }),
  anneal: choice({ choices: ['cosine', 'linear'], default: 'cosine', doc: 'Course of rise and fall.' }),
} satisfies Schema;

/** Values at the ends of phases; phases end at `ends`, in steps from 0 that need not be whole. */
function annealed(
  { name, total, rise, threePhase, anneal }: { name: string; total: number } & CycleShape,
  levels: readonly number[],
): (t: number) => number {
  const top = rise * total - 1;
  const ends = threePhase ? [0, top, 2 * top, total - 1] : [0, top, total - 1];
  if (ends.some((end, i) => i > 0 && end <= ends[i - 1]))
    throw new ConfigError(
      `schedule ${name}: a rise of ${rise} of ${total} steps${threePhase ? ' and a fall as long' : ''} leaves no step for one of the phases; choose another rise or more steps.`,
    );
  return (t) => {
    const k = Math.min(t - 1, total - 1);
    const i = ends.findIndex((end, j) => j > 0 && k <= end);
    const x = (k - ends[i - 1]) / (ends[i] - ends[i - 1]);
    const [from, to] = [levels[i - 1], levels[i]];
    return anneal === 'cosine' ? cosine(from, to, x) : from + (to - from) * x;
  };
}

interface CycleShape {
  readonly rise: number;
  readonly threePhase: boolean;
  readonly anneal: 'cosine' | 'linear';
}

/** L. Smith, N. Topin, "Super-Convergence", arXiv 1708.07120; PyTorch's `OneCycleLR`, whose phases end between steps. */
export const oneCycleSchedule = defineSchedule(
  'oneCycle',
  'Rises from η/d to η at step pT, falls to η/(d D) at step T and stays there; in three phases first back to η/d at step 2pT - 1. Momentum goes the other way: oneCycleMomentum.',
  {
    lr,
    ...cycle,
    div: number({ default: 25, min: 1, doc: 'Factor d by which the first rate is below η.' }),
    finalDiv: number({ default: 1e4, min: 1, doc: 'Factor D by which the last rate is below the first.' }),
  },
  ({ lr, div, finalDiv, ...shape }) => {
    const start = lr / div;
    const end = start / finalDiv;
    return annealed({ name: 'oneCycle', ...shape }, shape.threePhase ? [start, lr, start, end] : [start, lr, end]);
  },
);

/**
 * The momentum, or Adam's β1, that goes with {@link oneCycleSchedule} of the same shape; no learning rate. For
 * `optimizer.set` before each step.
 */
export const oneCycleMomentum = defineSchedule(
  'oneCycleMomentum',
  'Falls from high to low while the rate rises, rises back while it falls; stays high in the last of three phases.',
  {
    ...cycle,
    high: number({ default: 0.95, min: 0, below: 1, doc: 'Momentum at the first and last step.' }),
    low: number({ default: 0.85, min: 0, below: 1, doc: 'Momentum where the rate is largest.' }),
  },
  ({ high, low, ...shape }) => {
    if (low > high)
      throw new ConfigError(
        `schedule oneCycleMomentum: low ${low} is above high ${high}; momentum falls from high to low.`,
      );
    return annealed(
      { name: 'oneCycleMomentum', ...shape },
      shape.threePhase ? [high, low, high, high] : [high, low, high],
    );
  },
);

const triangle = {
  lr,
  min: number({ default: 0, min: 0, doc: 'Learning rate that every cycle starts and ends at.' }),
  up: integer({ default: 1000, min: 1, unit: 'steps', doc: 'Steps s1 from min to the top.' }),
  down: integer({ default: 0, min: 0, unit: 'steps', doc: 'Steps s2 from the top back to min. 0: as many as up.' }),
} satisfies Schema;

/** Height of the triangle at step k of all, in [0, 1], and the number of the cycle, from 0. */
function heightAt(k: number, up: number, down: number): { height: number; cycle: number } {
  const length = up + (down || up);
  const cycle = Math.floor(k / length);
  const at = k - cycle * length;
  return { cycle, height: at <= up ? at / up : (length - at) / (length - up) };
}

/** L. Smith, arXiv 1506.01186; PyTorch's `CyclicLR` with mode `triangular`. */
export const triangularSchedule = defineSchedule(
  'triangular',
  'Rises from min to η in s1 steps, falls back in s2, and so on without an end.',
  triangle,
  ({ lr, min, up, down }) => {
    checkFloor('triangular', lr, min);
    return (t) => min + (lr - min) * heightAt(t - 1, up, down).height;
  },
);

/** L. Smith, arXiv 1506.01186; PyTorch's `CyclicLR` with mode `triangular2`. */
export const triangular2Schedule = defineSchedule(
  'triangular2',
  'As triangular, each cycle half as high as the one before.',
  triangle,
  ({ lr, min, up, down }) => {
    checkFloor('triangular2', lr, min);
    return (t) => {
      const { height, cycle } = heightAt(t - 1, up, down);
      return min + (lr - min) * height * 2 ** -cycle;
    };
  },
);

/** L. Smith, arXiv 1506.01186; PyTorch's `CyclicLR` with mode `exp_range`. */
export const expRangeSchedule = defineSchedule(
  'expRange',
  'As triangular, its height times γ^(t - 1).',
  { ...triangle, gamma: number({ default: 0.9999, above: 0, max: 1, doc: 'Factor γ on the height at every step.' }) },
  ({ lr, min, up, down, gamma }) => {
    checkFloor('expRange', lr, min);
    return (t) => min + (lr - min) * heightAt(t - 1, up, down).height * gamma ** (t - 1);
  },
);

const swaFactor = (value: number, doc: string) => number({ default: value, above: 0, max: 1, doc });

/** P. Izmailov et al., UAI 2018, arXiv 1803.05407, section 3.1. */
export const swaCyclicSchedule = defineSchedule(
  'swaCyclic',
  '(1 - τ) η + τ r η with τ = (((t - 1) mod c) + 1)/c: falls in a straight line within each cycle of c steps, without an end. Average after every c steps, where the rate is smallest.',
  {
    lr,
    cycle: integer({ default: 1000, min: 1, unit: 'steps', doc: 'Steps c of a cycle.' }),
    swaFactor: swaFactor(0.1, 'Rate r at the end of each cycle, as a share of η.'),
  },
  ({ lr, cycle, swaFactor }) =>
    (t) => {
      const x = (((t - 1) % cycle) + 1) / cycle;
      return (1 - x) * lr + x * swaFactor * lr;
    },
);

/** P. Izmailov et al., UAI 2018, arXiv 1803.05407, schedule of the code; Gadam's too (arXiv 2003.01247). */
export const swaPiecewiseSchedule = defineSchedule(
  'swaPiecewise',
  'η until half of S, in a straight line down to r η at 9/10 of S, and r η from there on. Averaging starts at S, a share of all steps.',
  {
    lr,
    total,
    startShare: number({ default: 0.75, above: 0, max: 1, doc: 'Where averaging starts, S, as a share of all steps.' }),
    swaFactor: swaFactor(0.5, 'Rate r while weights are averaged, as a share of η.'),
  },
  ({ lr, total, startShare, swaFactor }) =>
    (t) => {
      const x = (t - 1) / (startShare * total);
      if (x <= 0.5) return lr;
      return x <= 0.9 ? lr * (1 - ((1 - swaFactor) * (x - 0.5)) / 0.4) : swaFactor * lr;
    },
);
