/** @file Definitions made from definitions: what their makers share, and changing the gradient a rule steps along. */
import { ConfigError } from '../../base/errors.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { OptimizerDefinition, Phase, RuleSymbols, ScalarSpec, Update } from '../definition.ts';
import type { NumberParameter, Schema } from '../hyperparameters.ts';

export type AnySymbols = RuleSymbols<Schema, string, string>;
export type AnyPhase = Phase<Schema, string, string>;

/** A phase whose gradient only leads to the point where the one to step along is taken: it is never changed. */
export interface Ascent extends AnyPhase {
  readonly ascent: true;
}

/** Whether a phase works on some tensors only, or on one after the other. */
export const isPart = ({ only, over }: AnyPhase): boolean => only !== undefined || over === 'tensors';

/** The hyper-parameters of `base` and `added`. @throws ConfigError where it has one of those already. */
export function withHyperparameters(base: OptimizerDefinition, added: Schema): Schema {
  for (const name of Object.keys(added))
    if (name in base.hyperparameters)
      throw new ConfigError(`${base.name} has a hyper-parameter '${name}' already; wrap it once.`);
  return { ...base.hyperparameters, ...added };
}

/** A changed gradient, and what the step then refuses and reports beside what it does already. */
export interface ChangedGradient extends Pick<Update<never, never>, 'refuse' | 'report'> {
  readonly grad: Tensor;
}

/** What a change needs to know of the whole gradient. */
export interface Measured extends Pick<Update<never, never>, 'refuse' | 'report'> {
  /** One number for all, each. */
  readonly numbers: Readonly<Record<string, Tensor>>;
}

/** A change of the gradient in two steps, for rules whose phases each see some of the tensors. */
export interface GradientChange {
  /** Names of what `measure` returns. */
  readonly measures?: readonly string[];
  /** Over all tensors. */
  measure?(s: AnySymbols): Measured;
  /** The gradient to step along. @param tensor Whether the symbols have a single tensor's own shape. */
  change(s: AnySymbols, numbers: Readonly<Record<string, Tensor>>, tensor: boolean): Tensor;
}

/** A change made from a hyper-parameter's value. */
export interface ValuedChange extends Omit<GradientChange, 'change'> {
  change(s: AnySymbols, value: Tensor, numbers: Readonly<Record<string, Tensor>>): Tensor;
}

/**
 * `base` with the gradients of the loss that it steps along changed by `how`, unless `off` says that the settings ask for no change.
 * What leads to the point of such a gradient (the ascent of SAM), and gradients of anything else, stay as they are.
 *
 * Where phases of `base` are for some tensors each, what the change must know of all is measured by a phase of its own.
 * @param label What to call the change, in names and messages.
 * @throws ConfigError where `base` steps along no gradient of the loss itself.
 */
export function rewriteGradient(
  base: OptimizerDefinition,
  label: string,
  added: Schema,
  off: (s: AnySymbols) => boolean,
  how: GradientChange,
): OptimizerDefinition {
  const hyperparameters = withHyperparameters(base, added);
  const steps = steppingAlongLoss(base.phases);
  const first = steps.indexOf(true);
  if (first < 0)
    throw new ConfigError(
      `${base.name} steps along an average of gradients of parts of the batch, which ${label} cannot reach from outside; put ${label} around the optimizer inside.`,
    );
  const parts = base.phases.some((phase, i) => steps[i] && isPart(phase));
  const apart = parts && how.measure !== undefined;
  const evaluations = base.phases.filter(({ evaluate }, i) => steps[i] && evaluate !== undefined).length;
  if (apart && evaluations > 1)
    throw new ConfigError(
      `${base.name} takes several gradients a step, each for some tensors at a time; ${label} would have to measure each of them. Put ${label} around the optimizers inside.`,
    );

  const key = (name: string) => `${label}.${name}`;
  const stored = (s: AnySymbols) =>
    Object.fromEntries((how.measures ?? []).map((name) => [name, s.scalars[key(name)]]));
  // What a phase does not read is not computed, so only one for each gradient may refuse and report.
  const changed = (phase: AnyPhase, fresh: boolean): AnyPhase => {
    const update = (s: AnySymbols): Update<string, string> => {
      if (off(s)) return phase.update(s);
      const { numbers = {}, refuse = [], report } = (apart ? undefined : how.measure?.(s)) ?? {};
      const grad = how.change(s, apart ? stored(s) : numbers, phase.over === 'tensors');
      const inner = phase.update({ ...s, grad });
      if (!fresh || (refuse.length === 0 && !report)) return inner;
      return { ...inner, refuse: [...refuse, ...(inner.refuse ?? [])], report: { ...inner.report, ...report } };
    };
    return { ...phase, update };
  };
  const measuring: AnyPhase = {
    evaluate: 'loss',
    update(s) {
      if (off(s) || !how.measure) return {};
      const { numbers, refuse, report } = how.measure(s);
      const scalars = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [key(name), value]));
      return { scalars, refuse, report };
    },
  };
  const phases = base.phases.flatMap((phase, i): AnyPhase[] => {
    if (!steps[i]) return [phase];
    const made = changed(phase, i === first || phase.evaluate !== undefined);
    if (!apart) return [made];
    // The measuring phase has asked for the gradient.
    const { evaluate: _, ...rest } = made;
    return i === first ? [measuring, rest] : [rest];
  });
  const scalars: Record<string, ScalarSpec<Schema>> = Object.fromEntries(
    (apart ? (how.measures ?? []) : []).map((name) => [
      key(name),
      { per: 'optimizer', doc: `${name} over all tensors, for ${label}` },
    ]),
  );
  return {
    ...base,
    name: `${base.name}+${label}`,
    aliases: [],
    hyperparameters,
    scalars: { ...base.scalars, ...scalars },
    phases,
  };
}

/** For each phase whether its `grad` is a gradient of the loss that it steps along. */
function steppingAlongLoss(phases: readonly AnyPhase[]): boolean[] {
  let held = 'loss';
  return phases.map((phase) => {
    held = phase.evaluate ?? held;
    return held === 'loss' && !('ascent' in phase);
  });
}

/**
 * `base` with the gradients of the loss that it steps along changed by `change`, unless the hyper-parameter `name`, which is added, is 0.
 * What leads to the point of such a gradient (the ascent of SAM) sees the gradient itself.
 * @param change The change at once, or in two steps for rules whose phases each see some of the tensors only.
 * @throws ConfigError where `base` has the hyper-parameter already, or updates different tensors by different phases, none of which sees
 *   the whole gradient, and `change` is not in two steps.
 */
export function changeGradient<H extends Schema, S extends string, C extends string, N extends string>(
  base: OptimizerDefinition<H, S, C>,
  name: N,
  parameter: NumberParameter,
  change: ((s: AnySymbols, value: Tensor) => ChangedGradient) | ValuedChange,
): OptimizerDefinition<H & Record<N, NumberParameter>, S, C> {
  const erased: OptimizerDefinition = base;
  // A number by its declaration, so a symbol in a rule.
  const valueOf = (s: AnySymbols) => s.h[name] as unknown as Tensor;
  const added = { [name]: parameter };
  const off = (s: AnySymbols) => s.is(name, 0);
  let made: OptimizerDefinition;
  if (typeof change === 'function') {
    if (erased.phases.some(isPart))
      throw new ConfigError(
        `${base.name} updates some tensors by one rule and some by another; ${name} needs a rule that sees them all. Wrap an optimizer that has one.`,
      );
    made = rewriteGradient(erased, name, added, off, {
      measure(s) {
        const { grad, ...rest } = change(s, valueOf(s));
        return { numbers: { grad }, ...rest };
      },
      change: (_, { grad }) => grad,
    });
  } else {
    made = rewriteGradient(erased, name, added, off, {
      ...change,
      change: (s, numbers) => change.change(s, valueOf(s), numbers),
    });
  }
  // The same definition with one more hyper-parameter, which its own rule does not read.
  return made as unknown as OptimizerDefinition<H & Record<N, NumberParameter>, S, C>;
}
