import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  constantSchedule,
  cosineSchedule,
  findSchedule,
  multiStepSchedule,
  schedules,
  stepSchedule,
  warmupCosineSchedule,
  warmupSchedule,
} from '../../src/optim/index.ts';

interface Recorded {
  readonly schedule: string;
  readonly hyperparameters: Readonly<Record<string, number> & { milestones?: readonly number[] }>;
  readonly lr: readonly number[];
}

const file: { schedules: Recorded[]; formula_schedules: { schedules: Recorded[] } } = JSON.parse(
  readFileSync(new URL('../fixtures/optimizers/schedules.json', import.meta.url), 'utf8'),
);
const recorded = [...file.schedules, ...file.formula_schedules.schedules];

/** Our schedule with the settings of a recorded one. */
const ours: Readonly<Record<string, (h: Recorded['hyperparameters']) => (t: number) => number>> = {
  step: (h) => stepSchedule.make({ lr: h.base_lr, gamma: h.gamma, every: h.step_size }),
  multistep: (h) => multiStepSchedule.make({ lr: h.base_lr, gamma: h.gamma, milestones: h.milestones }),
  cosine: (h) => cosineSchedule.make({ lr: h.base_lr, min: h.eta_min, total: h.T_max }),
  warmup_cosine: (h) => warmupCosineSchedule.make({ lr: h.base_lr, min: h.min_lr, warmup: h.warmup, total: h.total }),
};

test.each(recorded.filter(({ schedule }) => schedule in ours))(
  '$schedule equals the recorded rates',
  ({ schedule, hyperparameters, lr }) => {
    const rate = ours[schedule](hyperparameters);
    expect(lr.length).toBeGreaterThan(20);
    for (const [i, expected] of lr.entries()) expect(Math.abs(rate(i + 1) - expected) / expected).toBeLessThan(1e-12);
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
  });
  test('cosines stay at their floor', () => {
    expect(cosineSchedule.make({ lr: 1, min: 0.25, total: 10 })(1000)).toBe(0.25);
    expect(warmupCosineSchedule.make({ lr: 1, min: 0.25, warmup: 3, total: 10 })(1000)).toBe(0.25);
  });
});

test('rates are pure functions of the step', () => {
  for (const { make } of schedules) {
    const [a, b] = [make({}), make({})];
    const steps = Array.from({ length: 40 }, (_, i) => i + 1);
    expect([...steps].reverse().map(a).reverse()).toEqual(steps.map(b));
    expect(steps.map(a).every((rate) => rate >= 0 && Number.isFinite(rate))).toBe(true);
  }
});

test('settings that do not fit are refused', () => {
  expect(() => findSchedule('cosin')).toThrow(/no schedule 'cosin'; did you mean 'cosine'\?/);
  expect(() => findSchedule('zzzzzzzzzzzz')).toThrow(/there are constant, warmup, cosine/);
  expect(() => findSchedule('cosine').make({ totl: 3 })).toThrow(
    /schedule cosine has no hyper-parameter 'totl'; did you mean 'total'\?/,
  );
  expect(() => cosineSchedule.make({ lr: 0.1, min: 0.2 })).toThrow(/min 0.2 is above lr 0.1/);
  expect(() => warmupCosineSchedule.make({ warmup: 10, total: 10 })).toThrow(/warmup is 10 of 10 steps/);
  expect(() => multiStepSchedule.make({ milestones: [5, 3] })).toThrow(
    /milestones are 5, 3; give whole numbers in rising order/,
  );
  expect(() => stepSchedule.make({ every: 0 })).toThrow(/every is 0; give a whole number of at least 1/);
  expect(() => constantSchedule.make({ lr: 0 })).toThrow(/lr is 0; give a number above 0/);
  expect(() => constantSchedule.make({})(0)).toThrow(/step 0 was asked for/);
  expect(() => constantSchedule.make({})(1.5)).toThrow(/steps are whole numbers/);
});
