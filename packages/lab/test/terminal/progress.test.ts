import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  describeSharpness,
  type Progress,
  progressBar,
  progressHeader,
  progressRow,
  renderSummary,
  statusLines,
} from '../../src/terminal/progress.ts';
import { type Screen, visibleWidth } from '../../src/terminal/style.ts';

const screen = (width: number, color = false): Screen => ({ width, color, interactive: true });

const progress: Progress = {
  step: 1130,
  steps: 4690,
  epoch: 2.41,
  epochs: 10,
  loss: 0.042137,
  accuracy: 0.98713,
  testLoss: 0.0391,
  testAccuracy: 0.9891,
  lr: 9.8e-4,
  examplesPerSecond: 12_345,
  secondsElapsed: 41,
  secondsLeft: 130,
  sharpness: { value: 182.44, residual: 0.031, threshold: 2197 },
};

describe('the status', () => {
  it('says how far the run is, where it stands, and how sharp the loss is', () => {
    expect(statusLines(progress, screen(120))).toEqual([
      '█████▊░░░░░░░░░░░░░░░░░░ 24 %  epoch 2.41 of 10  step 1,130 of 4,690  41 s elapsed  2m10s left',
      'loss 0.04214  accuracy 98.71 %  test accuracy 98.91 %  lr 9.8e-4  12,300 examples/s',
      'sharpness 182.4 ± 0.031, 8 % of the stability threshold 2,197',
    ]);
  });

  it('leaves out what is not known', () => {
    expect(statusLines({ step: 7, epoch: 0.1, secondsElapsed: 0.5 }, screen(120))).toEqual([
      'epoch 0.10  step 7  0.5 s elapsed',
    ]);
    expect(describeSharpness({ value: 3 })).toBe('sharpness 3');
  });

  it('drops what does not fit, last first', () => {
    expect(statusLines(progress, screen(60))).toEqual([
      '█████▊░░░░░░░░░░░░░░░░░░ 24 %  epoch 2.41 of 10',
      'loss 0.04214  accuracy 98.71 %  test accuracy 98.91 %',
      'sharpness 182.4 ± 0.031, 8 % of the stability threshold 2,1…',
    ]);
  });

  it('colours the sharpness by its distance to the threshold, and a loss that is not finite', () => {
    const colored = (value: number): string =>
      statusLines({ ...progress, sharpness: { value, threshold: 100 } }, screen(120, true))[2];
    expect(colored(50).startsWith('\x1b[32m')).toBe(true);
    expect(colored(95).startsWith('\x1b[33m')).toBe(true);
    expect(colored(150).startsWith('\x1b[31m')).toBe(true);
    expect(colored(-5)).toMatch(/^sharpness -5/);
    expect(statusLines({ ...progress, loss: Number.NaN }, screen(120, true))[1]).toContain('\x1b[31mloss NaN\x1b[39m');
  });

  it('fits any screen', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 130 }), fc.boolean(), fc.double(), (width, color, number) => {
        const any = { ...progress, loss: number, lr: number, secondsLeft: number, sharpness: { value: number } };
        for (const line of statusLines(any, screen(width, color))) {
          expect(visibleWidth(line)).toBeLessThanOrEqual(width);
        }
      }),
    );
  });
});

describe('the table', () => {
  it('has a line of names and a line for each state', () => {
    const early = { step: 5, epoch: 0.011, loss: 2.31, accuracy: 0.1, lr: 1e-5, secondsElapsed: 0.4 };
    expect(
      [progressHeader, progressRow.bind(null, progress), progressRow.bind(null, early)].map((f) => f(screen(120))),
    ).toEqual([
      'epoch     step     loss  accuracy  test loss  test acc       lr  sharpness  of edge    time',
      ' 2.41    1,130  0.04214   98.71 %    0.03910   98.91 %   9.8e-4      182.4      8 %    41 s',
      '0.011        5    2.310   10.00 %          -         -     1e-5          -        -   0.4 s',
    ]);
  });

  it('shows all but the test loss on 80 columns', () => {
    expect(progressHeader(screen(80))).toBe(
      'epoch     step     loss  accuracy  test acc       lr  sharpness  of edge    time',
    );
  });

  it('holds the preconditioned sharpness to the threshold where there is one', () => {
    const sharpness = { value: 182.44, preconditioned: 1100, threshold: 2200 };
    expect(progressRow({ ...progress, sharpness }, screen(80))).toContain('    50 %');
    expect(describeSharpness({ ...sharpness, residual: 0.5 })).toBe(
      'sharpness 182.4 ± 0.5; preconditioned 1,100, 50 % of the stability threshold 2,200',
    );
  });

  it('drops the least important columns on a narrow screen, the same in both', () => {
    expect([progressHeader(screen(60)), progressRow(progress, screen(60))]).toEqual([
      'epoch     step     loss  accuracy  test acc    time',
      ' 2.41    1,130  0.04214   98.71 %   98.91 %    41 s',
    ]);
    for (let width = 15; width < 120; width++) {
      expect(visibleWidth(progressRow(progress, screen(width, true)))).toBeLessThanOrEqual(width);
      expect(visibleWidth(progressHeader(screen(width)))).toBe(visibleWidth(progressRow(progress, screen(width))));
    }
  });
});

it('progressBar fills in eighths', () => {
  expect(progressBar(0, 4)).toBe('░░░░');
  expect(progressBar(0.5, 4)).toBe('██░░');
  expect(progressBar(0.78125, 4)).toBe('███▏');
  expect(progressBar(1, 4)).toBe('████');
  expect(progressBar(7, 4)).toBe('████');
  expect(progressBar(-1, 4)).toBe('░░░░');
});

it('renderSummary aligns values', () => {
  expect(
    renderSummary(
      [
        ['test accuracy', '99.1 %'],
        ['run', 'runs/1'],
      ],
      screen(80),
    ),
  ).toBe('test accuracy  99.1 %\nrun            runs/1');
  expect(renderSummary([], screen(80))).toBe('');
});
