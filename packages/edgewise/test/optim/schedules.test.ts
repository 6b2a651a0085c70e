import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  constantSchedule,
  cosineLiZhuangOrabonaSchedule,
  cosineRestartsSchedule,
  cosineSchedule,
  exponentialLiZhuangOrabonaSchedule,
  exponentialSchedule,
  expRangeSchedule,
  findSchedule,
  inverseSqrtSchedule,
  linearSchedule,
  multiStepSchedule,
  oneCycleMomentum,
  oneCycleSchedule,
  oneOverSqrtTSchedule,
  oneOverTSchedule,
  polynomialSchedule,
  type Schedule,
  schedules,
  stepSchedule,
  swaCyclicSchedule,
  swaPiecewiseSchedule,
  triangular2Schedule,
  triangularSchedule,
  warmupCosineSchedule,
  warmupSchedule,
  wsdSchedule,
} from '../../src/optim/index.ts';

type Settings = Readonly<Record<string, number>> & {
  readonly milestones: readonly number[];
  readonly anneal: 'cos' | 'linear';
  readonly three_phase?: boolean;
};

interface Recorded {
  readonly schedule: string;
  readonly hyperparameters: Settings;
  readonly lr: readonly number[];
  readonly momentum?: readonly number[];
}

const file: { schedules: Recorded[]; formula_schedules: { schedules: Recorded[] } } = JSON.parse(
  readFileSync(new URL('../fixtures/optimizers/schedules.json', import.meta.url), 'utf8'),
);
const recorded = [...file.schedules, ...file.formula_schedules.schedules];

const cycleShape = (h: Settings) => ({
  total: h.total_steps,
  rise: h.pct_start,
  threePhase: h.three_phase ?? false,
  anneal: h.anneal === 'cos' ? ('cosine' as const) : h.anneal,
});

/** Our schedule with the settings of a recorded one. */
const ours: Readonly<Record<string, (h: Settings) => Schedule>> = {
  step: (h) => stepSchedule.make({ lr: h.base_lr, gamma: h.gamma, every: h.step_size }),
  multistep: (h) => multiStepSchedule.make({ lr: h.base_lr, gamma: h.gamma, milestones: h.milestones }),
  exponential: (h) => exponentialSchedule.make({ lr: h.base_lr, gamma: h.gamma }),
  linear: (h) =>
    linearSchedule.make({
      lr: h.base_lr,
      startFactor: h.start_factor,
      endFactor: h.end_factor,
      total: h.total_iters,
    }),
  polynomial: (h) => polynomialSchedule.make({ lr: h.base_lr, total: h.total_iters, power: h.power }),
  cosine: (h) => cosineSchedule.make({ lr: h.base_lr, min: h.eta_min, total: h.T_max }),
  cosine_restarts: (h) =>
    cosineRestartsSchedule.make({ lr: h.base_lr, min: h.eta_min, first: h.T_0, growth: h.T_mult }),
  one_cycle: (h) =>
    oneCycleSchedule.make({ lr: h.max_lr, ...cycleShape(h), div: h.div_factor, finalDiv: h.final_div_factor }),
  cyclic_triangular: (h) => triangularSchedule.make({ lr: h.max_lr, min: h.min_lr, up: h.step_size_up }),
  cyclic_triangular2: (h) =>
    triangular2Schedule.make({ lr: h.max_lr, min: h.min_lr, up: h.step_size_up, down: h.step_size_down }),
  warmup_cosine: (h) => warmupCosineSchedule.make({ lr: h.base_lr, min: h.min_lr, warmup: h.warmup, total: h.total }),
  inverse_sqrt: (h) => inverseSqrtSchedule.make({ lr: h.base_lr, warmup: h.warmup }),
  wsd_linear: (h) =>
    wsdSchedule.make({
      lr: h.base_lr,
      min: h.min_lr,
      warmup: h.warmup,
      total: h.total,
      decayShare: h.decay_steps / h.total,
    }),
  exponential_li_zhuang_orabona: (h) =>
    exponentialLiZhuangOrabonaSchedule.make({ lr: h.base_lr, beta: h.beta, total: h.total }),
  cosine_li_zhuang_orabona: (h) => cosineLiZhuangOrabonaSchedule.make({ lr: h.base_lr, total: h.total }),
  // In steps of an epoch, with averaging from the middle of 40.
  swa_piecewise: (h) =>
    swaPiecewiseSchedule.make({
      lr: h.base_lr,
      total: 2 * h.swa_start_epoch,
      startShare: 0.5,
      swaFactor: h.swa_lr / h.base_lr,
    }),
  swa_cyclic: (h) => swaCyclicSchedule.make({ lr: h.alpha1, swaFactor: h.alpha2 / h.alpha1, cycle: h.cycle }),
};

/** Relative; what is recorded as 0 must be 0. */
function expectRecorded(curve: Schedule, values: readonly number[]): void {
  expect(values.length).toBeGreaterThanOrEqual(20);
  for (const [i, expected] of values.entries())
    expect(Math.abs(curve(i + 1) - expected), `step ${i + 1}`).toBeLessThanOrEqual(1e-12 * expected);
}

test('every recorded sequence is compared', () => {
  expect(recorded).toHaveLength(18);
  expect(recorded.map(({ schedule }) => schedule).filter((name) => !(name in ours))).toEqual([]);
});

test.each(recorded)('$schedule $hyperparameters equals the recorded rates', ({ schedule, hyperparameters, lr }) => {
  expectRecorded(ours[schedule](hyperparameters), lr);
});

test.each(recorded.filter(({ momentum }) => momentum))(
  '$schedule $hyperparameters equals the recorded momentum',
  ({ hyperparameters: h, momentum = [] }) => {
    expectRecorded(oneCycleMomentum.make({ ...cycleShape(h), low: h.base_momentum, high: h.max_momentum }), momentum);
  },
);

describe('closed forms', () => {
  test('constant', () => {
    expect([1, 7, 1e6].map(constantSchedule.make({ lr: 0.3 }))).toEqual([0.3, 0.3, 0.3]);
  });
  test('warm-up reaches the rate at step w', () => {
    const rate = warmupSchedule.make({ lr: 0.4, warmup: 4 });
    expect([1, 2, 3, 4, 5, 100].map(rate)).toEqual([0.1, 0.2, expect.closeTo(0.3, 15), 0.4, 0.4, 0.4]);
    expect(warmupSchedule.make({ lr: 0.4, warmup: 0 })(1)).toBe(0.4);
  });
  test('a warm-up of 0 is none', () => {
    expect(warmupCosineSchedule.make({ lr: 0.2, warmup: 0, total: 10 })(10)).toBeCloseTo(0, 15);
    expect(inverseSqrtSchedule.make({ lr: 0.2, warmup: 0 })(4)).toBe(0.1);
  });
  test('1/t and 1/√t', () => {
    expect(oneOverTSchedule.make({ lr: 0.3, alpha: 0.5 })(4)).toBeCloseTo(0.1, 15);
    expect(oneOverSqrtTSchedule.make({ lr: 0.3, alpha: 1 })(4)).toBeCloseTo(0.1, 15);
    expect(oneOverTSchedule.make({ lr: 0.3, alpha: 0 })(1e6)).toBe(0.3);
  });
  test('inverse square root is the formula of the paper', () => {
    const [d, w] = [512, 4000];
    const rate = inverseSqrtSchedule.make({ lr: (d * w) ** -0.5, warmup: w });
    for (const t of [1, 50, 3999, 4000, 4001, 100_000])
      expect(rate(t) / (d ** -0.5 * Math.min(t ** -0.5, t * w ** -1.5))).toBeCloseTo(1, 12);
  });
  test('the three decays of wsd', () => {
    const make = (decayShape: 'linear' | 'oneMinusSqrt' | 'exponential') =>
      wsdSchedule.make({ lr: 1, min: 0.01, warmup: 10, total: 100, decayShare: 0.2, decayShape });
    // A quarter of the way: x = 1/4.
    expect(make('linear')(85)).toBeCloseTo(0.01 + 0.99 * 0.75, 15);
    expect(make('oneMinusSqrt')(85)).toBeCloseTo(0.01 + 0.99 * 0.5, 15);
    expect(make('exponential')(90)).toBeCloseTo(0.1, 15);
    expect(make('exponential')(91) / make('exponential')(90)).toBeCloseTo(0.01 ** (1 / 20), 14);
    for (const shape of ['linear', 'oneMinusSqrt', 'exponential'] as const) {
      expect([5, 10, 80].map(make(shape))).toEqual([0.5, 1, 1]);
      expect(make(shape)(100)).toBeCloseTo(0.01, 15);
    }
    expect(wsdSchedule.make({ lr: 1, total: 10, decayShare: 0 })(10)).toBe(1);
  });
  test('an exponential range is a triangle whose height shrinks', () => {
    const shape = { lr: 1, min: 0.2, up: 3, down: 5 };
    const [range, triangle] = [expRangeSchedule.make({ ...shape, gamma: 0.9 }), triangularSchedule.make(shape)];
    for (let t = 1; t <= 40; t++) expect(range(t) - 0.2).toBeCloseTo((triangle(t) - 0.2) * 0.9 ** (t - 1), 14);
    expect([1, 4, 9, 12].map(triangle)).toEqual([0.2, 1, 0.2, 1]);
  });
  test('the exponential of Li, Zhuang and Orabona ends at η β/T', () => {
    expect(exponentialLiZhuangOrabonaSchedule.make({ lr: 0.3, beta: 20, total: 1000 })(1000)).toBeCloseTo(0.006, 14);
  });
  test('one cycle has its top where momentum is lowest', () => {
    const shape = { total: 100, rise: 0.31 };
    const [rate, momentum] = [oneCycleSchedule.make({ lr: 2, ...shape }), oneCycleMomentum.make(shape)];
    const steps = Array.from({ length: 100 }, (_, i) => i + 1);
    const top = steps.reduce((best, t) => (rate(t) > rate(best) ? t : best));
    expect(top).toBe(31);
    expect([rate(1), rate(31), rate(100)]).toEqual([expect.closeTo(0.08, 15), 2, expect.closeTo(8e-6, 18)]);
    expect([momentum(1), momentum(31), momentum(100)]).toEqual([0.95, expect.closeTo(0.85, 15), 0.95]);
  });
});

/** How rates move from step to step after a given one: down to the end, then not at all. */
const falling: readonly [name: string, rate: Schedule, from: number, end: number][] = [
  ['linear', linearSchedule.make({ total: 50, endFactor: 0.1 }), 1, 51],
  ['cosine', cosineSchedule.make({ total: 50, min: 1e-4 }), 1, 51],
  ['warmupCosine', warmupCosineSchedule.make({ total: 50, warmup: 9 }), 9, 50],
  ['polynomial', polynomialSchedule.make({ total: 50, power: 2.5, min: 1e-5 }), 1, 51],
  ['wsd', wsdSchedule.make({ total: 50, warmup: 9, decayShare: 0.82, decayShape: 'oneMinusSqrt' }), 9, 50],
  ['oneCycle', oneCycleSchedule.make({ total: 50, rise: 0.2 }), 10, 50],
  ['oneCycle in three phases', oneCycleSchedule.make({ total: 50, rise: 0.2, threePhase: true }), 10, 50],
  ['cosineLiZhuangOrabona', cosineLiZhuangOrabonaSchedule.make({ total: 50 }), 1, 50],
  ['exponentialLiZhuangOrabona', exponentialLiZhuangOrabonaSchedule.make({ total: 50 }), 1, 50],
  ['swaPiecewise', swaPiecewiseSchedule.make({ total: 50, startShare: 0.8 }), 21, 37],
];

test.each(falling)('%s falls to its end and stays there', (_, rate, from, end) => {
  for (let t = from; t < end; t++) expect(rate(t + 1), `after step ${t}`).toBeLessThan(rate(t));
  for (const t of [end + 1, end + 7, 1e6]) expect(rate(t)).toBe(rate(end));
  for (let t = 2; t <= from; t++) expect(rate(t)).toBeGreaterThanOrEqual(rate(t - 1));
});

test.each([
  ['exponential', exponentialSchedule],
  ['oneOverT', oneOverTSchedule],
  ['oneOverSqrtT', oneOverSqrtTSchedule],
  ['inverseSqrt', inverseSqrtSchedule],
] as const)('%s falls without an end', (_, { make }) => {
  const rate = make({});
  for (const t of [1, 2, 30, 1000, 20_000]) {
    expect(rate(t + 1)).toBeLessThan(rate(t));
    expect(rate(t)).toBeGreaterThan(0);
  }
});

test('cycles repeat', () => {
  const restarts = cosineRestartsSchedule.make({ first: 7, min: 1e-4 });
  const triangle = triangularSchedule.make({ up: 3, down: 4 });
  const swa = swaCyclicSchedule.make({ cycle: 7, swaFactor: 0.2 });
  for (let t = 1; t <= 70; t++)
    for (const rate of [restarts, triangle, swa]) expect(rate(t + 7)).toBeCloseTo(rate(t), 17);
  // Averaging is done after whole cycles, at the smallest rate.
  expect(swa(14)).toBeCloseTo(2e-4, 17);
  const growing = cosineRestartsSchedule.make({ first: 3, growth: 3 });
  const starts = Array.from({ length: 200 }, (_, i) => i + 1).filter((t) => growing(t) === 1e-3);
  expect(starts).toEqual([1, 4, 13, 40, 121]);
});

test('rates are pure functions of the step, between 0 and the largest', () => {
  for (const { name, make } of schedules) {
    const lr = 0.25;
    const [a, b] = [make({ lr }), make({ lr })];
    const steps = Array.from({ length: 1300 }, (_, i) => i + 1);
    expect([...steps].reverse().map(a).reverse()).toEqual(steps.map(b));
    const rates = [...steps, 1e6, Number.MAX_SAFE_INTEGER].map(a);
    expect(Math.min(...rates), name).toBeGreaterThanOrEqual(0);
    expect(Math.max(...rates), name).toBeLessThanOrEqual(lr * (1 + 1e-15));
  }
});

test('rates are proportional to η, so that an optimizer can have several', () => {
  fc.assert(
    fc.property(fc.constantFrom(...schedules), fc.integer({ min: 1, max: 2000 }), (schedule, t) => {
      expect(schedule.make({ lr: 3 })(t)).toBeCloseTo(3 * schedule.make({ lr: 1 })(t), 13);
    }),
  );
});

test('names are unique and say what they are', () => {
  expect(new Set(schedules.map(({ name }) => name)).size).toBe(22);
  for (const { name } of schedules) expect(findSchedule(name).name).toBe(name);
});

test('settings that do not fit are refused', () => {
  expect(() => findSchedule('cosin')).toThrow(/no schedule 'cosin'; did you mean 'cosine'\?/);
  expect(() => findSchedule('zzzzzzzzzzzz')).toThrow(/there are constant, warmup, linear, cosine/);
  expect(() => findSchedule('cosine').make({ totl: 3 })).toThrow(
    /schedule cosine has no hyper-parameter 'totl'; did you mean 'total'\?/,
  );
  for (const name of ['cosine', 'warmupCosine', 'polynomial', 'wsd', 'cosineRestarts', 'triangular', 'expRange'])
    expect(() => findSchedule(name).make({ lr: 0.1, min: 0.2 })).toThrow(/min 0.2 is above lr 0.1/);
  expect(() => warmupCosineSchedule.make({ warmup: 10, total: 10 })).toThrow(/warmup is 10 of 10 steps/);
  expect(() => wsdSchedule.make({ warmup: 10, total: 12, decayShare: 0.25 })).toThrow(
    /a warm-up of 10 and a decay of 3 steps are longer than the 12 in total/,
  );
  expect(() => wsdSchedule.make({ decayShape: 'exponential' })).toThrow(/min is 0, which no exponential decay reaches/);
  expect(() => oneCycleSchedule.make({ total: 3 })).toThrow(/a rise of 0.3 of 3 steps leaves no step/);
  expect(() => oneCycleSchedule.make({ rise: 0.6, threePhase: true })).toThrow(/and a fall as long leaves no step/);
  expect(() => oneCycleMomentum.make({ low: 0.9, high: 0.8 })).toThrow(/low 0.9 is above high 0.8/);
  expect(() => exponentialLiZhuangOrabonaSchedule.make({ beta: 20, total: 10 })).toThrow(
    /beta is 20, more than the 10/,
  );
  expect(() => multiStepSchedule.make({ milestones: [5, 3] })).toThrow(
    /milestones are 5, 3; give whole numbers in rising order/,
  );
  expect(() => stepSchedule.make({ every: 0 })).toThrow(/every is 0; give a whole number of at least 1/);
  expect(() => constantSchedule.make({ lr: 0 })).toThrow(/lr is 0; give a number above 0/);
  for (const { make } of [...schedules, oneCycleMomentum]) {
    expect(() => make({})(0)).toThrow(/step 0 was asked for/);
    expect(() => make({})(1.5)).toThrow(/steps are whole numbers/);
  }
});
