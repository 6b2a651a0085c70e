/**
 * @file What every optimizer promises. A new one gets all of it with one row; a test that does not apply is skipped with
 * a reason, which the test's name shows.
 */
import { describe, expect, test } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import {
  completeValues,
  type Optimizer,
  type OptimizerDefinition,
  type OptimizerSettings,
  type StepReport,
} from '../../src/optim/index.ts';
import type { Gradients, Reference } from './references/reference.ts';
import { ENGINES, type Engine, type Rig, rig } from './support.ts';

type Value = number | boolean | string | readonly number[];
export type Given = Readonly<Record<string, Value>>;

export interface SuiteRow {
  readonly definition: OptimizerDefinition;
  /** Another transcription of the rule. */
  readonly reference: Reference;
  /** Settings under which every option makes a difference; defaults where left out. */
  readonly base?: Given;
  /** For each hyper-parameter another value that must change the result, with what else it needs. Every one must be here. */
  readonly changes: Readonly<Record<string, Value | Given>>;
  /** Options whose effect this suite's gradients do not show, with the test that does. They are among `changes` all the same. */
  readonly elsewhere?: Readonly<Record<string, string>>;
  /** Settings that find the minimum of a convex quadratic within 2,000 steps, at the point that is evaluated. */
  readonly quadratic: Given;
  /** Distance to the minimum allowed, 2e-3 by default; say why where it is more. */
  readonly quadraticTolerance?: number;
  /** A numeric option that may differ by group, and under which tensors stay independent of each other; none where there is none. */
  readonly groupOption?: string;
  /**
   * Settings under which one non-finite component makes the step be refused (a norm is taken) instead of spoiling that component only;
   * `always` where that is so under all settings.
   */
  readonly refusesNonFinite?: Given | 'always';
  readonly skip?: readonly { readonly test: TestName; readonly reason: string }[];
}

const TESTS = [
  'equals the scalar reference',
  'every option changes the result',
  'gradients are not touched',
  'resumes to the bit',
  'frozen and absent parameters keep every bit',
  'the order of parameters does not matter',
  'padding stays zero',
  'zero, tiny and huge gradients',
  'non-finite gradients',
  'a constant schedule equals none',
  'finds the minimum of a quadratic',
  'hyper-parameters set live act as from the start',
  'groups act as separate optimizers',
] as const;
export type TestName = (typeof TESTS)[number];

const PARAMS = [
  { name: 'w', shape: [3, 5], tags: ['weight'] },
  { name: 'b', shape: [3], tags: ['bias'] },
  { name: 'k', shape: [2, 2, 4], tags: ['weight'] },
  { name: 's', shape: [], tags: ['norm'] },
];
const TOLERANCE: Readonly<Record<Engine, number>> = {
  interpreter: 1e-12,
  'float64 kernel': 1e-11,
  'float32 kernel': 2e-4,
};

/** Pseudo-random gradients, the same for the same step and parameter. */
function gradient(step: number, name: string, length: number, scale = 1): number[] {
  const values = new Float32Array(length);
  normal(Key.fromSeed(7).split('gradient', name, step + 1), values);
  return Array.from(values, (x) => Math.fround(x * scale));
}

const initial = (name: string, length: number): number[] => gradient(-1, name, length);

function setUp(
  engine: Engine,
  { definition }: SuiteRow,
  values: Given,
  more: Omit<OptimizerSettings, 'values'> = {},
  params: typeof PARAMS = PARAMS,
): Rig {
  const made = rig(engine, definition, { values: values as OptimizerSettings['values'], ...more }, params);
  for (const { name, length } of made.layout.segments) made.theta.set(name, initial(name, length));
  return made;
}

/** Loss told to step k. */
const lossAt = (k: number): number => 2 + Math.sin(k);

/** Further gradients of a step differ from the first, and by what is asked for. */
const furtherName = (name: string, what: string, call: number): string => `${name}/${what}/${call}`;

/** Takes one step, of whatever kind. Further gradients are pseudo-random too. */
async function take(
  { optimizer, grad, layout }: Rig,
  k: number,
  { absent, scale, lr }: { readonly absent?: readonly string[]; readonly scale?: number; readonly lr?: number } = {},
): Promise<StepReport> {
  let calls = 0;
  const evaluate = (what: string): number => {
    calls++;
    for (const { name, length } of layout.segments)
      grad.set(name, gradient(k, furtherName(name, what, calls), length, scale));
    return lossAt(k) + 0.25;
  };
  const inputs = { lr, absent, loss: lossAt(k) };
  return optimizer.needsStepWith ? optimizer.stepWith(evaluate, inputs) : optimizer.step(inputs);
}

async function steps(made: Rig, from: number, to: number, options: Parameters<typeof take>[2] = {}): Promise<void> {
  for (let k = from; k < to; k++) {
    for (const { name, length } of made.layout.segments) made.grad.set(name, gradient(k, name, length, options.scale));
    await take(made, k, options);
  }
}

const bits = (rig_: Rig, name: string): string[] =>
  [rig_.theta, ...Object.values(rig_.optimizer.slots)].map((vector) =>
    Buffer.from(new Uint8Array(vector.view(name).slice().buffer)).toString('hex'),
  );
const everything = (made: Rig) => ({
  bits: made.layout.segments.map(({ name }) => bits(made, name)),
  scalars: made.optimizer.scalarState(),
});
const parameters = (made: Rig): number[] => made.layout.segments.flatMap(({ name }) => [...made.theta.view(name)]);

export function runOptimizerSuite(row: SuiteRow): void {
  const { definition } = row;
  const base = row.base ?? {};
  const check = (name: TestName, body: (engine: Engine) => Promise<void>, engines: readonly Engine[] = ENGINES) => {
    const skipped = row.skip?.find((entry) => entry.test === name);
    if (skipped) test.skip(`${name} (${skipped.reason})`, () => {});
    else test.each(engines)(`${name}: %s`, body);
  };

  describe(definition.name, () => {
    check('equals the scalar reference', async (engine) => {
      const agree = (made: Rig, expected: readonly (readonly number[])[], where: string) => {
        for (const [p, { name }] of made.layout.segments.entries()) {
          for (const [i, value] of expected[p].entries()) {
            expect(
              Math.abs(made.theta.view(name)[i] - value) / Math.max(1, Math.abs(value)),
              `${where} ${name}[${i}]`,
            ).toBeLessThan(TOLERANCE[engine]);
          }
        }
      };
      for (const values of [base, ...Object.entries(row.changes).map(([name, value]) => changed(base, name, value))]) {
        const made = setUp(engine, row, values);
        const theta = made.layout.segments.map(({ name, length }) => initial(name, length));
        const complete = completeValues(definition.name, definition.hyperparameters, values) as Given;
        const shapes = made.layout.segments.map(({ shape }) => shape);
        const run = row.reference(theta, complete as Parameters<Reference>[1], shapes);
        const given = (k: number, absent: readonly string[], key: (name: string) => string): Gradients =>
          made.layout.segments.map(({ name, length }) =>
            absent.includes(name) ? undefined : gradient(k, key(name), length),
          );
        for (let k = 0; k < 12; k++) {
          const absent = k === 2 ? ['b'] : k === 5 ? ['w', 's'] : [];
          await steps(made, k, k + 1, { absent });
          let calls = 0;
          run.step(
            given(k, absent, (name) => name),
            Number(complete.lr),
            (what) => {
              calls++;
              return given(k, absent, (name) => furtherName(name, what, calls));
            },
            lossAt(k),
          );
          const evaluated = run.evaluated?.();
          expect(made.optimizer.evaluatesElsewhere).toBe(evaluated !== undefined);
          if (evaluated)
            await made.optimizer.atEvaluated(() => agree(made, evaluated, `evaluated, ${JSON.stringify(values)}`));
        }
        agree(made, theta, JSON.stringify(values));
      }
    });

    check('every option changes the result', async (engine) => {
      expect(Object.keys(row.changes).sort()).toEqual(Object.keys(definition.hyperparameters).sort());
      const result = async (values: Given) => {
        const made = setUp(engine, row, values);
        await steps(made, 0, 6);
        return made.optimizer.atEvaluated(() => parameters(made));
      };
      for (const [name, value] of Object.entries(row.changes)) {
        if (row.elsewhere?.[name]) continue;
        const with_ = changed(base, name, value);
        const { [name]: _, ...without } = with_;
        const before = base[name] === undefined ? without : { ...without, [name]: base[name] };
        const [a, b] = [await result(with_), await result(before)];
        expect(
          a.some((x, i) => Math.abs(x - b[i]) > 1e-7),
          `${name} = ${JSON.stringify(value)}`,
        ).toBe(true);
      }
    });

    check('gradients are not touched', async (engine) => {
      const made = setUp(engine, row, base);
      await steps(made, 0, 3);
      // After a step of several gradients, the memory holds the last one as it was written.
      const further = made.optimizer.furtherEvaluations;
      if (further > 0) return;
      for (const { name, length } of made.layout.segments)
        expect([...made.grad.view(name)]).toEqual(gradient(2, name, length));
    });

    check('resumes to the bit', async (engine) => {
      const whole = setUp(engine, row, base);
      await steps(whole, 0, 3, { absent: ['b'] });
      await steps(whole, 3, 5);
      const saved = JSON.parse(JSON.stringify(whole.optimizer.scalarState()));
      const half = setUp(engine, row, base);
      half.theta.data.set(whole.theta.data);
      for (const [name, slot] of Object.entries(half.optimizer.slots)) slot.data.set(whole.optimizer.slots[name].data);
      half.optimizer.restoreScalars(saved);
      for (const made of [whole, half]) await steps(made, 5, 9);
      expect(everything(half)).toEqual(everything(whole));
    });

    check('frozen and absent parameters keep every bit', async (engine) => {
      const made = setUp(engine, row, base, { frozen: { name: 'k' } });
      await steps(made, 0, 2);
      const [frozen, absent, moving] = [bits(made, 'k'), bits(made, 'w'), bits(made, 'b')];
      made.grad.view('k').fill(Number.NaN);
      await steps(made, 2, 4, { absent: ['w'] });
      expect(bits(made, 'k')).toEqual(frozen);
      expect(bits(made, 'w')).toEqual(absent);
      expect(bits(made, 'b')).not.toEqual(moving);
      const untouched = setUp(engine, row, base);
      expect([...made.theta.view('k')]).toEqual([...untouched.theta.view('k')]);
    });

    check('the order of parameters does not matter', async (engine) => {
      const [one, other] = [
        setUp(engine, row, base),
        setUp(engine, row, base, {}, [PARAMS[2], PARAMS[0], PARAMS[3], PARAMS[1]]),
      ];
      for (const made of [one, other]) await steps(made, 0, 6);
      for (const { name } of PARAMS) {
        const [a, b] = [one.theta.view(name), other.theta.view(name)];
        // Norms over all tensors are added in another order.
        for (let i = 0; i < a.length; i++)
          expect(Math.abs(a[i] - b[i])).toBeLessThan(engine === 'float32 kernel' ? 1e-6 : 1e-14);
      }
    });

    check('padding stays zero', async (engine) => {
      const made = setUp(engine, row, base);
      await steps(made, 0, 5);
      for (const vector of [made.theta, ...Object.values(made.optimizer.slots)]) {
        for (const { offset, length } of vector.layout.segments) {
          expect(
            [...vector.data.subarray(offset + length, Math.ceil((offset + length) / 4) * 4)].every((x) =>
              Object.is(x, 0),
            ),
          ).toBe(true);
        }
      }
    });

    check('zero, tiny and huge gradients', async (engine) => {
      for (const scale of [0, 1e-42, 1e-30, 1e15]) {
        const made = setUp(engine, row, base);
        await steps(made, 0, 6, { scale });
        expect(parameters(made).every(Number.isFinite), `gradients of size ${scale}`).toBe(true);
      }
    });

    check('non-finite gradients', async (engine) => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        if (row.refusesNonFinite !== 'always') {
          const [made, clean] = [setUp(engine, row, base), setUp(engine, row, base)];
          for (const each of [made, clean]) await steps(each, 0, 2);
          for (const { name, length } of made.layout.segments)
            for (const each of [made, clean]) each.grad.set(name, gradient(2, name, length));
          made.grad.view('w')[3] = bad;
          for (const each of [made, clean]) expect((await take(each, 2)).applied).toBe(true);
          // The component itself is spoilt or cut; no other one is.
          made.theta.view('w')[3] = clean.theta.view('w')[3];
          expect(parameters(made)).toEqual(parameters(clean));
        }

        if (row.refusesNonFinite) {
          const guarded = setUp(engine, row, row.refusesNonFinite === 'always' ? base : row.refusesNonFinite);
          await steps(guarded, 0, 2);
          const before = everything(guarded);
          for (const { name, length } of guarded.layout.segments) guarded.grad.set(name, gradient(2, name, length));
          guarded.grad.view('k')[7] = bad;
          expect(await take(guarded, 2)).toEqual({
            applied: false,
            refusal: 'the gradient norm is not finite',
            restarted: false,
          });
          expect(everything(guarded)).toEqual(before);
        }
      }
    });

    check('a constant schedule equals none', async (engine) => {
      const [given, own] = [setUp(engine, row, base), setUp(engine, row, base)];
      await steps(given, 0, 5, { lr: given.optimizer.lr });
      await steps(own, 0, 5);
      expect(everything(given)).toEqual(everything(own));
    });

    check(
      'finds the minimum of a quadratic',
      async (engine) => {
        const { optimizer, theta, grad, layout } = setUp(engine, row, row.quadratic);
        const target = (name: string, i: number) => Math.sin(i + name.length);
        const lr = optimizer.lr;
        const evaluate = (): number => {
          let loss = 0;
          for (const { name, length } of layout.segments) {
            const view = theta.view(name);
            const differences = Array.from({ length }, (_, i) => view[i] - target(name, i));
            for (const [i, x] of differences.entries()) loss += ((1 + (i % 3)) * x * x) / 2;
            grad.set(
              name,
              differences.map((x, i) => (1 + (i % 3)) * x),
            );
          }
          return loss;
        };
        for (let t = 0; t < 2000; t++) {
          const loss = evaluate();
          const inputs = { lr: (lr * (1 + Math.cos((Math.PI * t) / 2000))) / 2, loss };
          if (optimizer.needsStepWith) await optimizer.stepWith(evaluate, inputs);
          else optimizer.step(inputs);
        }
        await optimizer.atEvaluated(() => {
          for (const { name, length } of layout.segments)
            for (let i = 0; i < length; i++)
              expect(Math.abs(theta.view(name)[i] - target(name, i)), `${name}[${i}]`).toBeLessThan(
                row.quadraticTolerance ?? 2e-3,
              );
        });
      },
      ['float64 kernel', 'float32 kernel'],
    );

    check('hyper-parameters set live act as from the start', async (engine) => {
      for (const [name, value] of Object.entries(row.changes)) {
        const values = changed(base, name, value);
        const [live, start] = [setUp(engine, row, base), setUp(engine, row, values)];
        const state = ({ optimizer }: Rig) =>
          Object.entries(optimizer.slots).map(([slot, { layout }]) => `${slot} ${layout.fingerprint}`);
        if (state(live).join() !== state(start).join()) {
          expect(() => live.optimizer.set(values as Parameters<Optimizer['set']>[0])).toThrow(
            /cannot be set while running/,
          );
          continue;
        }
        live.optimizer.set(values as Parameters<Optimizer['set']>[0]);
        for (const made of [live, start]) await steps(made, 0, 5, { lr: live.optimizer.lr });
        expect(parameters(live), name).toEqual(parameters(start));
      }
    });

    check('groups act as separate optimizers', async (engine) => {
      const name = row.groupOption;
      if (name === undefined) return;
      const value = row.changes[name];
      if (typeof value !== 'number') throw new Error(`${name} has no number among the changes`);
      const split = setUp(engine, row, base, {
        groups: [{ match: { tag: ['bias', 'norm'] }, lrScale: 0.5, values: { [name]: value } }],
      });
      const [plain, special] = [setUp(engine, row, base), setUp(engine, row, { ...base, [name]: value })];
      const rate = split.optimizer.lr;
      await steps(split, 0, 6);
      await steps(plain, 0, 6);
      await steps(special, 0, 6, { lr: 0.5 * rate });
      for (const param of ['w', 'k']) expect([...split.theta.view(param)]).toEqual([...plain.theta.view(param)]);
      for (const param of ['b', 's'])
        for (const [i, x] of [...split.theta.view(param)].entries())
          expect(Math.abs(x - special.theta.view(param)[i])).toBeLessThan(engine === 'float32 kernel' ? 1e-6 : 1e-14);
    });
  });
}

/** `base` with one hyper-parameter changed, and what that needs. */
function changed(base: Given, name: string, value: Value | Given): Given {
  return typeof value === 'object' && !Array.isArray(value)
    ? { ...base, ...(value as Given) }
    : { ...base, [name]: value as Value };
}
