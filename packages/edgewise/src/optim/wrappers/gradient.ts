/** @file Definitions made from definitions. */
import { ConfigError } from '../../base/errors.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { OptimizerDefinition, RuleSymbols, Update } from '../definition.ts';
import type { NumberParameter, Schema } from '../hyperparameters.ts';

/** A changed gradient, and what the step then refuses and reports beside what it does already. */
export interface ChangedGradient extends Pick<Update<never, never>, 'refuse' | 'report'> {
  readonly grad: Tensor;
}

/**
 * `base` with the gradient it steps along changed by `change`, unless the hyper-parameter `name`, which is added, is 0.
 * Where a step evaluates several gradients, that is the last one: what leads there (the ascent of SAM) sees the gradient
 * itself.
 * @throws ConfigError where `base` has the hyper-parameter already, or updates different tensors by different phases,
 *   none of which sees the whole gradient.
 */
export function changeGradient<H extends Schema, S extends string, C extends string, N extends string>(
  base: OptimizerDefinition<H, S, C>,
  name: N,
  parameter: NumberParameter,
  change: (s: RuleSymbols<Schema, string, string>, value: Tensor) => ChangedGradient,
): OptimizerDefinition<H & Record<N, NumberParameter>, S, C> {
  if (name in base.hyperparameters)
    throw new ConfigError(`${base.name} has a hyper-parameter '${name}' already; wrap it once.`);
  const erased: OptimizerDefinition = base;
  if (erased.phases.some(({ only, over }) => only !== undefined || over === 'tensors')) {
    throw new ConfigError(
      `${base.name} updates some tensors by one rule and some by another; ${name} needs a rule that sees them all. Wrap an optimizer that has one.`,
    );
  }
  const target = erased.phases.findLastIndex(({ evaluate }) => evaluate !== undefined);
  const phases = erased.phases.map((phase, i) => {
    if (i !== target) return phase;
    const update = (s: RuleSymbols<Schema, string, string>) => {
      if (s.is(name, 0)) return phase.update(s);
      const value: unknown = s.h[name];
      // A number by its declaration, so a symbol in a rule.
      const { grad, refuse = [], report } = change(s, value as Tensor);
      const inner = phase.update({ ...s, grad });
      return { ...inner, refuse: [...refuse, ...(inner.refuse ?? [])], report: { ...inner.report, ...report } };
    };
    return { ...phase, update };
  });
  const made: OptimizerDefinition = {
    ...erased,
    name: `${base.name}+${name}`,
    aliases: [],
    hyperparameters: { ...base.hyperparameters, [name]: parameter },
    phases,
  };
  // The same definition with one more hyper-parameter, which its own rule does not read.
  return made as unknown as OptimizerDefinition<H & Record<N, NumberParameter>, S, C>;
}
