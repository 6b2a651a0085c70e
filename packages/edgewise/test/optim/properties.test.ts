/** @file What theory says of single rules, for any gradients: equivalent forms, bounds on steps, invariances. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  clipGlobalNorm,
  clipValue,
  findOptimizer,
  type OptimizerDefinition,
  type OptimizerSettings,
  sgd,
} from '../../src/optim/index.ts';
import { type Engine, type Rig, rig } from './support.ts';

const PARAMS = [
  { name: 'w', shape: [2, 3], tags: ['weight'] },
  { name: 'b', shape: [3], tags: ['bias'] },
];
const SIZE = 9;

function make(
  name: string | OptimizerDefinition,
  values: Readonly<Record<string, unknown>>,
  start: readonly number[],
  engine: Engine = 'interpreter',
  groups: OptimizerSettings['groups'] = [],
): Rig {
  const definition = typeof name === 'string' ? findOptimizer(name) : name;
  const made = rig(engine, definition, { values: values as OptimizerSettings['values'], groups }, PARAMS);
  made.theta.set('w', start.slice(0, 6));
  made.theta.set('b', start.slice(6));
  return made;
}

const point = ({ theta }: Rig): number[] => [...theta.view('w'), ...theta.view('b')];

/** One step; returns what it added. */
function step(made: Rig, gradient: readonly number[], lr?: number): number[] {
  const before = point(made);
  made.grad.set('w', gradient.slice(0, 6));
  made.grad.set('b', gradient.slice(6));
  made.optimizer.step({ lr });
  return point(made).map((x, i) => x - before[i]);
}

const length = (x: readonly number[]): number => Math.hypot(...x);

/** A component of any size between 1e-6 and 1e6, or 0. */
const component = fc
  .tuple(fc.constantFrom(-1, 0, 1), fc.double({ min: -6, max: 6, noNaN: true }))
  .map(([sign, exponent]) => sign * 10 ** exponent);
const vector = fc.array(component, { minLength: SIZE, maxLength: SIZE });
const history = fc.array(vector, { minLength: 1, maxLength: 8 });
const tame = fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: SIZE, maxLength: SIZE });
const rate = fc.double({ min: 1e-4, max: 1, noNaN: true });
/** Squares of what is left of a gradient after some steps do not underflow. */
const decay = fc.oneof(fc.constant(0), fc.double({ min: 0.01, max: 0.99, noNaN: true }));
const zero = new Array<number>(SIZE).fill(0);

describe("Nesterov's method in three forms", () => {
  test('extrapolation, estimation from gradients, and the form of frameworks visit the same points', () => {
    fc.assert(
      fc.property(
        tame,
        fc.double({ min: 1e-3, max: 0.1, noNaN: true }),
        fc.double({ min: 0.01, max: 0.95, noNaN: true }),
        (start, lr, momentum) => {
          const forms = [
            make('agd', { lr, momentum }, start),
            make('nme', { lr, momentum }, start),
            make('sgd', { lr, momentum, nesterov: true }, start),
          ];
          for (let k = 0; k < 15; k++) {
            // A gradient that depends on the point, and on the step as noise does.
            for (const made of forms)
              step(
                made,
                point(made).map((x, i) => Math.sin(x) + 0.3 * x + 0.5 * Math.cos(3 * k + i)),
              );
            const [a, b, c] = forms.map(point);
            for (let i = 0; i < SIZE; i++) {
              expect(Math.abs(a[i] - b[i])).toBeLessThan(1e-12);
              expect(Math.abs(a[i] - c[i])).toBeLessThan(1e-12);
            }
          }
        },
      ),
      { seed: 11, numRuns: 15 },
    );
  });

  test('the evaluated point is a gradient step from the trained one, also where the rate changes', async () => {
    const made = make('agd', { lr: 0.1, momentumSchedule: 'convex' }, zero);
    for (const [k, lr] of [0.1, 0.05, 0.2, 0.01].entries()) {
      const y = point(made);
      const gradient = y.map((_, i) => Math.sin(7 * k + i));
      step(made, gradient, lr);
      const x = await made.optimizer.atEvaluated(() => point(made));
      for (let i = 0; i < SIZE; i++) expect(x[i]).toBeCloseTo(y[i] - lr * gradient[i], 14);
    }
  });

  test('convex quadratics within the bound 2 L ‖x_0 - x*‖² / (t + 1)² of theory', async () => {
    for (const momentumSchedule of ['convex', 'fista']) {
      const curvature = Array.from({ length: SIZE }, (_, i) => 10 ** (-i / 2));
      const start = Array.from({ length: SIZE }, (_, i) => Math.cos(i) * 3);
      const made = make('agd', { lr: 1, momentumSchedule }, start);
      for (let t = 1; t <= 300; t++) {
        step(
          made,
          point(made).map((x, i) => curvature[i] * x),
        );
        const loss = await made.optimizer.atEvaluated(() =>
          point(made).reduce((sum, x, i) => sum + (curvature[i] * x * x) / 2, 0),
        );
        expect(loss, `${momentumSchedule}, step ${t}`).toBeLessThanOrEqual((2 * length(start) ** 2) / (t + 1) ** 2);
      }
    }
  });
});

describe('bounds on steps', () => {
  test('Generalized SignSGD: η / √(1 - β2), which the first step reaches', () => {
    fc.assert(
      fc.property(history, rate, decay, decay, (gradients, lr, b1, b2) => {
        const made = make('generalizedSignSgd', { lr, betas: [b1, b2], eps: 1e-300 }, zero);
        const bound = lr / Math.sqrt(1 - b2);
        for (const [k, gradient] of gradients.entries()) {
          for (const [i, x] of step(made, gradient).entries()) {
            expect(Math.abs(x)).toBeLessThanOrEqual(bound * (1 + 1e-9));
            if (k === 0 && gradient[i] !== 0) expect(Math.abs(x)).toBeGreaterThan(bound * (1 - 1e-9));
          }
        }
      }),
      { seed: 11, numRuns: 100 },
    );
  });

  test('Generalized SignSGD without memory of squares is signSGD with momentum', () => {
    const made = make('generalizedSignSgd', { lr: 0.1, betas: [0.5, 0], eps: 1e-300 }, zero);
    let m = 0;
    for (const g of [3, -1, -1, -0.1, 5]) {
      m = 0.5 * m + 0.5 * g;
      expect(step(made, new Array<number>(SIZE).fill(g))[0]).toBeCloseTo(-0.1 * Math.sign(m), 12);
    }
  });

  /** η (1 - β1)/(1 - β1^t) Σ_{j < t} (β1/β2)^j. */
  const adamaxBound = (b1: number, b2: number, t: number): number =>
    ((1 - b1) / (1 - b1 ** t)) * Array.from({ length: t }, (_, j) => (b1 / b2) ** j).reduce((sum, x) => sum + x, 0);

  test('Adamax: η (1 - β1)/(1 - β1^t) Σ (β1/β2)^j, reached by gradients that shrink as the maximum fades', () => {
    const between = fc.double({ min: 0.5, max: 0.999, noNaN: true });
    fc.assert(
      fc.property(history, rate, decay, between, (gradients, lr, b1, b2) => {
        const made = make('adamax', { lr, betas: [b1, b2], eps: 1e-300 }, zero);
        for (const [k, gradient] of gradients.entries()) {
          const bound = lr * adamaxBound(b1, b2, k + 1);
          for (const x of step(made, gradient)) expect(Math.abs(x)).toBeLessThanOrEqual(bound * (1 + 1e-9));
        }
      }),
      { seed: 11, numRuns: 100 },
    );
    const [lr, b1, b2] = [0.1, 0.9, 0.95];
    const made = make('adamax', { lr, betas: [b1, b2], eps: 1e-300 }, zero);
    for (let t = 1; t <= 40; t++) {
      const moved = step(made, new Array<number>(SIZE).fill(b2 ** t));
      expect(-moved[0] / (lr * adamaxBound(b1, b2, t))).toBeCloseTo(1, 9);
    }
    expect(adamaxBound(b1, b2, 1000)).toBeCloseTo((1 - b1) / (1 - b1 / b2), 9);
  });

  const momenta = fc.constantFrom(
    {},
    { momentum: 0.9 },
    { momentum: 0.9, nesterov: true },
    { momentum: 0.5, dampening: 0.5 },
  );

  test('clipped updates are no longer than c, nor than η times the direction', () => {
    fc.assert(
      fc.property(
        history,
        rate,
        fc.double({ min: 1e-3, max: 10, noNaN: true }),
        momenta,
        (gradients, lr, c, momentum) => {
          const clipped = make('sgdClip', { lr, clippingParam: c, ...momentum }, zero);
          const theory = make('sgdClip', { lr, clippingParam: c, form: 'theory', ...momentum }, zero);
          const plain = make('sgd', { lr, ...momentum }, zero);
          for (const gradient of gradients) {
            const free = step(plain, gradient);
            for (const [made, bound] of [
              [clipped, c],
              [theory, lr * c],
            ] as const) {
              const moved = step(made, gradient);
              // What is added to a point that has moved far is rounded to its size.
              const slack = 1e-9 * (length(point(made)) + bound);
              expect(length(moved)).toBeLessThanOrEqual(Math.min(bound, length(free)) + slack);
              if (length(free) < bound * (1 - 1e-6)) expect(length(moved)).toBeGreaterThan(length(free) - slack);
            }
          }
        },
      ),
      { seed: 11, numRuns: 60 },
    );
  });

  test('normalised steps have the length η, or 0 for a zero gradient', () => {
    fc.assert(
      fc.property(vector, rate, (gradient, lr) => {
        const moved = step(make('sgdNormalized', { lr, eps: 0 }, zero), gradient);
        expect(length(moved)).toBeCloseTo(gradient.some((x) => x !== 0) ? lr : 0, 12);
      }),
      { seed: 11, numRuns: 100 },
    );
  });
});

describe('relative clipping of scale-invariant weights', () => {
  /** Gradient of a function of θ/‖θ‖ at θ. */
  function gradientOf(theta: readonly number[], k: number): number[] {
    const size = length(theta);
    const unit = theta.map((x) => x / size);
    const slope = unit.map((x, i) => 5 * Math.sin(3 * x + i) + 4 * Math.cos(5 * k + 2 * i));
    const along = slope.reduce((sum, x, i) => sum + x * unit[i], 0);
    return slope.map((x, i) => (x - along * unit[i]) / size);
  }

  const setting = fc.record({
    start: tame.filter((x) => length(x) > 0.5),
    lr: fc.double({ min: 1e-3, max: 0.2, noNaN: true }),
    weightDecay: fc.double({ min: 1e-3, max: 0.5, noNaN: true }),
    clipFactor: fc.double({ min: 0.1, max: 4, noNaN: true }),
    c: fc.double({ min: 0.1, max: 10, noNaN: true }),
  });
  const close = (a: readonly number[], b: readonly number[], scale: number) => {
    for (let i = 0; i < SIZE; i++) expect(Math.abs(a[i] - b[i])).toBeLessThan(1e-9 * scale);
  };

  test('weights times c with rate times c² and decay over c² take the same path times c', () => {
    fc.assert(
      fc.property(setting, ({ start, lr, weightDecay, clipFactor, c }) => {
        const one = make('siSgd', { lr, weightDecay, clipFactor }, start);
        const other = make(
          'siSgd',
          { lr: c * c * lr, weightDecay: weightDecay / (c * c), clipFactor },
          start.map((x) => c * x),
        );
        for (let k = 0; k < 10; k++) {
          for (const made of [one, other]) step(made, gradientOf(point(made), k));
          expect(other.optimizer.report.clipped).toBeCloseTo(one.optimizer.report.clipped, 9);
        }
        close(
          point(other),
          point(one).map((x) => c * x),
          Math.max(1, c) * length(start),
        );
      }),
      { seed: 11, numRuns: 30 },
    );
  });

  test('a loss times c with rate over c and decay times c takes the same path', () => {
    fc.assert(
      fc.property(setting, ({ start, lr, weightDecay, clipFactor, c }) => {
        const one = make('siSgd', { lr, weightDecay, clipFactor }, start);
        const other = make('siSgd', { lr: lr / c, weightDecay: weightDecay * c, clipFactor }, start);
        for (let k = 0; k < 10; k++) {
          step(one, gradientOf(point(one), k));
          step(
            other,
            gradientOf(point(other), k).map((x) => c * x),
          );
        }
        close(point(other), point(one), length(start));
      }),
      { seed: 11, numRuns: 30 },
    );
  });

  test('a clipped step is √(2Cηλ) of the weights, beside the decay; per tensor, of the tensor', () => {
    const [lr, weightDecay, clipFactor] = [0.1, 0.2, 0.5];
    const start = [1, 2, 3, 4, 5, 6, 0.1, 0.2, 0.3];
    const shrink = 1 - lr * weightDecay;
    const huge = start.map((_, i) => 1e3 * Math.cos(i));
    const ratio = Math.sqrt(2 * clipFactor * lr * weightDecay);
    for (const per of ['model', 'tensor']) {
      const made = make('siSgd', { lr, weightDecay, clipFactor, per }, start);
      step(made, huge);
      const moved = point(made).map((x, i) => x - shrink * start[i]);
      if (per === 'model') expect(length(moved)).toBeCloseTo(ratio * length(start), 10);
      else {
        expect(length(moved.slice(0, 6))).toBeCloseTo(ratio * length(start.slice(0, 6)), 10);
        expect(length(moved.slice(6))).toBeCloseTo(ratio * length(start.slice(6)), 10);
      }
    }
  });

  test('a tensor that is all zero stays so', () => {
    const start = [1, 2, 3, 4, 5, 6, 0, 0, 0];
    const made = make('siSgd', { lr: 0.1, per: 'tensor' }, start, 'float64 kernel');
    expect(
      step(
        made,
        start.map((_, i) => i + 1),
      ).slice(6),
    ).toEqual([0, 0, 0]);
  });
});

test('AdaGrad-Norm per tensor: a tensor without gradients so far has the step size η / b_0', () => {
  const made = make('adagradNorm', { lr: 0.5, b0: 0.25, per: 'tensor' }, zero, 'float64 kernel');
  step(made, [1, 2, 3, 4, 5, 6, 0, 0, 0]);
  expect(step(made, [...zero.slice(0, 6), 1e-9, 0, 0])[6]).toBeCloseTo((-0.5 / 0.25) * 1e-9, 15);
});

describe.each<Engine>(['interpreter', 'float64 kernel'])('an option that is off in one group only: %s', (engine) => {
  const start = [1, -2, 3, 1, 2, -1, 0.5, 2, -1];
  const gradients = [start.map((x) => 3 * x + 1), start.map((x) => 2 - x), start.map((x) => x * x)];
  const run = (
    name: string | OptimizerDefinition,
    values: Readonly<Record<string, unknown>>,
    groups: OptimizerSettings['groups'] = [],
  ) => {
    const made = make(name, values, start, engine, groups);
    for (const gradient of gradients) step(made, gradient);
    return point(made);
  };
  const cases: readonly [string, string | OptimizerDefinition, string, number, Readonly<Record<string, unknown>>][] = [
    ['clipNorm', clipGlobalNorm(sgd), 'clipNorm', 0.1, {}],
    ['clipValue', clipValue(sgd), 'clipValue', 0.1, {}],
    ['lamb maxGradNorm', 'lamb', 'maxGradNorm', 0.1, { eps: 0.1 }],
    ['lamb normLimit', 'lamb', 'normLimit', 0.1, {}],
    ['adan maxGradNorm', 'adan', 'maxGradNorm', 0.1, { eps: 0.1 }],
    ['siSgd clipFactor', 'siSgd', 'clipFactor', 1e-4, { lr: 0.1, per: 'tensor' }],
    ['siSgd weightDecay', 'siSgd', 'weightDecay', 0.01, { lr: 0.1, clipFactor: 0.01, per: 'tensor' }],
  ];
  test.each(cases)('%s', (_, definition, option, value, more) => {
    const off = run(definition, { ...more, [option]: 0 });
    const on = run(definition, { ...more, [option]: value });
    const mixed = run(definition, { ...more, [option]: value }, [{ match: { tag: 'bias' }, values: { [option]: 0 } }]);
    expect(mixed.slice(0, 6)).not.toEqual(off.slice(0, 6));
    for (let i = 0; i < SIZE; i++) expect(mixed[i]).toBeCloseTo(i < 6 ? on[i] : off[i], 12);
    expect(off.slice(6)).not.toEqual(on.slice(6));
  });

  test('momentum of clipped updates, with dampening', () => {
    const values = { lr: 0.1, clippingParam: 1e6, momentum: 0.9, dampening: 0.5 };
    const mixed = run('sgdClip', values, [{ match: { tag: 'bias' }, values: { momentum: 0 } }]);
    const off = run('sgd', { lr: 0.1 });
    for (let i = 6; i < SIZE; i++) expect(mixed[i]).toBeCloseTo(off[i], 12);
  });

  test('a learning rate of AdaBound, whose bounds follow it', () => {
    const groups: OptimizerSettings['groups'] = [{ match: { tag: 'bias' }, lrScale: 0 }];
    expect(run('adabound', { lr: 0.1, gamma: 10 }, groups).slice(6)).toEqual(start.slice(6));
  });
});
