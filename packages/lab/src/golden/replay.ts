/** @file Takes the steps of a recorded case and says how far they lead from what was recorded. */
import { EdgewiseError } from 'edgewise';
import { VectorSpace } from 'edgewise/kernels';
import { createOptimizer, interpretOptimizer, parameterVector } from 'edgewise/optim';
import { ParamLayout, ParamVector } from 'edgewise/params';
import type { GoldenCase, GoldenFile } from './format.ts';
import type { Subject } from './subjects.ts';

/** How a rule is run. */
export type Engine = 'interpreter' | 'float64 kernel' | 'float32 kernel';
export const ENGINES: readonly Engine[] = ['interpreter', 'float64 kernel', 'float32 kernel'];

export interface Agreement {
  /** Largest error of any value over all steps, relative to the value or, where that is larger, to {@link FLOOR} of the largest one of its tensor. */
  readonly error: number;
  /** Where it was: step (from 1) and sequence. */
  readonly where: string;
}

/** Values this small beside others of the same tensor and step are held to the error of those. */
const FLOOR = 1e-6;

function vectorsFor(engine: Engine, layout: ParamLayout, { definition, settings }: Subject) {
  if (engine === 'interpreter') {
    const [theta, grad] = [new ParamVector(layout, 'float64'), new ParamVector(layout, 'float64')];
    return { theta, grad, optimizer: interpretOptimizer(definition, settings, { theta, grad }) };
  }
  const dtype = engine === 'float64 kernel' ? 'float64' : 'float32';
  const space = new VectorSpace();
  const [theta, grad] = [parameterVector(space, layout, dtype), parameterVector(space, layout, dtype)];
  return { theta, grad, optimizer: createOptimizer(definition, settings, { theta, grad, space }) };
}

/**
 * Replays the first `steps` steps of a case.
 * @throws EdgewiseError where the rule takes more gradients than were recorded, or refuses a step that was taken.
 */
export async function replay(
  engine: Engine,
  file: GoldenFile,
  entry: GoldenCase,
  subject: Subject,
  steps = entry.steps,
): Promise<Agreement> {
  const layout = new ParamLayout(file.param_shapes.map((shape, i) => ({ name: `p${i}`, shape })));
  const { theta, grad, optimizer } = vectorsFor(engine, layout, subject);
  for (const [i, values] of entry.initial.entries()) theta.set(`p${i}`, values);
  let worst: Agreement = { error: 0, where: 'nowhere' };
  const compare = (actual: readonly ArrayLike<number>[], expected: readonly (readonly number[])[], where: string) => {
    expected.forEach((list, i) => {
      const floor = Math.max(FLOOR * Math.max(...list.map(Math.abs)), 1e-12);
      list.forEach((value, j) => {
        const error = Math.abs(actual[i][j] - value) / Math.max(Math.abs(value), floor);
        if (Number.isNaN(error) || error > worst.error)
          worst = { error: Number.isNaN(error) ? Number.POSITIVE_INFINITY : error, where };
      });
    });
  };
  const point = () => layout.segments.map(({ name }) => theta.view(name));
  let used = 0;
  const feed = (gradients: readonly (readonly number[] | null)[] | undefined): string[] => {
    if (!gradients) throw new EdgewiseError(`Case ${entry.id}: the rule asks for a gradient that was not recorded.`);
    return gradients.flatMap((values, i) => {
      // What the memory of an absent gradient holds must not matter.
      if (values === null) grad.view(`p${i}`).fill(Number.NaN);
      else grad.set(`p${i}`, values);
      return values === null ? [`p${i}`] : [];
    });
  };
  for (let k = 0; k < steps; k++) {
    const where = (sequence: string) => `step ${k + 1}, ${sequence}`;
    const own = used;
    const absent = feed(entry.gradients[used++]);
    const evaluate = (what: string): number => {
      if (what !== 'loss') feed(entry.hessian_gradients?.find(({ before_step }) => before_step === k + 1)?.gradient);
      else {
        const ahead = entry.perturbed ?? entry.half_step;
        // A gradient asked for again, after another kind, is the step's own.
        if (!ahead && entry.hessian_gradients) feed(entry.gradients[own]);
        else {
          if (ahead) compare(point(), ahead[k], where(entry.perturbed ? 'perturbed' : 'half_step'));
          feed(entry.gradients[used++]);
        }
      }
      return Number.NaN;
    };
    await optimizer.stepWith(evaluate, {
      lr: entry.lr_per_step?.[k],
      absent: absent.length > 0 ? absent : undefined,
    });
    for (const { after_step, call } of entry.events ?? [])
      if (after_step === k + 1 && call === 'restart') optimizer.restart();
    compare(point(), entry.params[k], where('params'));
    const averaged = entry.averaged?.[k];
    if (averaged) await optimizer.atEvaluated(() => compare(point(), averaged, where('averaged')));
    for (const [sequence, name] of Object.entries(subject.watch ?? {})) {
      if (sequence === 'base') {
        const slot = optimizer.slots[name];
        if (entry.base)
          compare(
            layout.segments.map((segment) => slot.view(segment.name)),
            entry.base[k],
            where('base'),
          );
      } else if (sequence === 'd' || sequence === 'gamma_next' || sequence === 'n_averaged') {
        const expected = entry[sequence]?.[k];
        if (expected !== undefined) compare([optimizer.scalarState()[name]], [[expected]], where(sequence));
      }
    }
  }
  return worst;
}
