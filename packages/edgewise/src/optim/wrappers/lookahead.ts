/**
 * @file Lookahead: fast weights that any optimizer moves, slow ones that follow every few steps.
 *
 * M. Zhang, J. Lucas, G. Hinton, J. Ba, "Lookahead Optimizer: k steps forward, 1 step back", NeurIPS 2019, arXiv 1907.08610. Rule of the
 * authors' code, whose slow weights start where the fast ones do. Its `pullback` of the momentum overwrites its own copy and is done here
 * as the paper means it.
 */
import { ConfigError } from '../../base/errors.ts';
import { add, equal, mod, mul, sub } from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { OptimizerDefinition, SlotSpec, Update } from '../definition.ts';
import {
  type ChoiceParameter,
  type CountParameter,
  choice,
  count,
  type NumberParameter,
  number,
  type Schema,
  type Values,
} from '../hyperparameters.ts';
import { type AnyPhase, type AnySymbols, withHyperparameters } from './gradient.ts';
import type { Wrapper } from './wrapper.ts';

const hyperparameters = {
  lookaheadSteps: count({
    default: 5,
    min: 1,
    unit: 'steps',
    doc: 'Steps k of the fast weights between two of the slow ones; usually 5 to 10.',
    search: { low: 3, high: 20, scale: 'log' },
  }),
  lookaheadAlpha: number({
    default: 0.8,
    above: 0,
    max: 1,
    doc: "Share α of the way to the fast weights that the slow ones go. 0.8 in the authors' code, 0.5 in the paper; 1 leaves the fast weights where they are.",
    search: { low: 0.2, high: 0.9, scale: 'linear' },
  }),
  lookaheadMomentum: choice({
    choices: ['none', 'reset', 'pullback'],
    default: 'none',
    doc: 'What becomes of the momentum when the slow weights step: `none` keeps it, `reset` sets it to zero, `pullback` mixes it with what it was at their last step, as the weights are.',
  }),
} as const;

interface Added extends Schema {
  readonly lookaheadSteps: CountParameter;
  readonly lookaheadAlpha: NumberParameter;
  readonly lookaheadMomentum: ChoiceParameter<'none' | 'reset' | 'pullback'>;
}

/** Slots that hold the momentum of a rule, by the names rules have for it. */
const MOMENTUM = ['b', 'm'];
const copyOf = (slot: string): string => `lookahead.${slot}`;
const COUNT = 'lookahead.count';
const SLOW = 'slow';

/**
 * `base` moving fast weights, which every k-th step are put back to slow ones that went the share α towards them. The slow weights are
 * what is evaluated and exported. Adds `lookaheadSteps`, `lookaheadAlpha`, `lookaheadMomentum`.
 *
 * A tensor without a gradient in a step of the slow weights keeps its fast and slow weights until the next one.
 * @throws ConfigError where `base` evaluates an average of its own, or measures how far it went from where it started.
 */
export function lookahead<H extends Schema, S extends string, C extends string>(
  base: OptimizerDefinition<H, S, C>,
): OptimizerDefinition<H & Added, S | 'slow', C> {
  // One more slot and more hyper-parameters, which the rule of `base` does not read.
  return around(base) as unknown as OptimizerDefinition<H & Added, S | 'slow', C>;
}

function around(base: OptimizerDefinition): OptimizerDefinition {
  const schema = withHyperparameters(base, hyperparameters);
  refuse(base);
  const momentum = MOMENTUM.filter((name) => name in base.slots);
  const defaults = Object.fromEntries(momentum.map((name) => [copyOf(name), pulledBack(base, name)]));
  return {
    ...base,
    name: `${base.name}+lookahead`,
    aliases: [],
    title: `Lookahead around ${base.title}`,
    formula: `${base.formula.trimEnd()}\n${formula.trimStart()}`,
    hyperparameters: schema,
    slots: { ...base.slots, [SLOW]: { doc: 'slow weights', init: () => 'theta' as const }, ...defaults },
    scalars: { ...base.scalars, [COUNT]: { per: 'optimizer', doc: 'steps since the last one of the slow weights' } },
    check(values) {
      base.check?.(values);
      const { lookaheadMomentum: mode }: Values<Schema> = values;
      if (mode !== 'none' && momentum.length === 0)
        throw new ConfigError(
          `${base.name}: lookaheadMomentum is ${String(mode)}, but the optimizer keeps no momentum called ${MOMENTUM.join(' or ')}; leave it at none.`,
        );
    },
    // With α = 1 nothing but a reset of the momentum moves; otherwise the threshold depends on k as well.
    stability: (values) =>
      values.lookaheadAlpha === 1 && values.lookaheadMomentum !== 'reset' ? base.stability?.(values) : undefined,
    restart: base.restart && {
      slots: [...base.restart.slots, ...Object.keys(defaults)],
      scalars: base.restart.scalars,
    },
    evaluated: ({ slots }) => slots[SLOW],
    phases: [...base.phases, counting, following(momentum)],
  };
}

function refuse(base: OptimizerDefinition): void {
  if (base.evaluated)
    throw new ConfigError(
      `lookahead: ${base.name} evaluates a point of its own that is not the one trained, and would lose it whenever the slow weights step. Wrap an optimizer that evaluates what it trains.`,
    );
  const defaults = Object.fromEntries(
    Object.entries(base.hyperparameters).map(([name, { default: value }]) => [name, value]),
  );
  if (Object.values(base.slots).some((spec) => spec.init?.(defaults as Values<Schema>) === 'theta'))
    throw new ConfigError(
      `lookahead: ${base.name} keeps the point it started from and steps by how far it went since, which is no longer known once the slow weights put it back. Wrap an optimizer without such memory.`,
    );
}

function pulledBack({ slots }: OptimizerDefinition, name: string): SlotSpec<Schema> {
  const { doc, when } = slots[name];
  return {
    doc: `${doc}, at the last step of the slow weights`,
    when: (values) => values.lookaheadMomentum === 'pullback' && (when?.(values) ?? true),
  };
}

/** Its own count, since a restart of the rule sets those of the steps back. */
const counting: AnyPhase = {
  update: ({ scalars, h }) => ({ scalars: { [COUNT]: mod(add(scalars[COUNT], 1), Number(h.lookaheadSteps)) } }),
};

const following = (momentum: readonly string[]): AnyPhase => ({
  when: ({ scalars }) => equal(scalars[COUNT], 0),
  update(s): Update<string, string> {
    const { theta, slots, h, is } = s;
    const mode: unknown = h.lookaheadMomentum;
    // Written so that α = 1 changes no bit.
    const mix = (fast: Tensor, slow: Tensor) => {
      const alpha = numberOf(h.lookaheadAlpha);
      return is('lookaheadAlpha', 1) ? fast : add(mul(alpha, fast), mul(sub(1, alpha), slow));
    };
    const kept = momentum.filter((name) => name in slots);
    const changed = kept.flatMap((name): [string, Tensor | number][] => {
      if (mode === 'reset') return [[name, 0]];
      if (mode !== 'pullback') return [];
      const mixed = mix(slots[name], slots[copyOf(name)]);
      return [
        [name, mixed],
        [copyOf(name), mixed],
      ];
    });
    const slow = mix(theta, slots[SLOW]);
    return { theta: slow, slots: { [SLOW]: slow, ...Object.fromEntries(changed) } };
  },
});

/** Numbers by their declaration are symbols in a rule. */
const numberOf = (x: AnySymbols['h'][string]): Tensor => x as unknown as Tensor;

const formula = `
every k steps:
  φ = α θ + (1 - α) φ;  θ = φ                    φ = θ_0 before the first; evaluated
  b = 0                                          reset
  b = α b + (1 - α) b_φ;  b_φ = b                pullback
`;

export const lookaheadWrapper: Wrapper = {
  name: 'lookahead',
  title: 'Lookahead',
  source: {
    title: 'Lookahead Optimizer: k steps forward, 1 step back',
    authors: 'Zhang, Lucas, Hinton, Ba',
    year: 2019,
    arxiv: '1907.08610',
    reference: 'github.com/michaelrzhang/lookahead lookahead_pytorch.py, commit c4fd85f',
  },
  formula,
  use: 'A steadier trajectory at the cost of one more copy of the weights; lets the inner optimizer take larger steps. The slow weights are evaluated and exported.',
  hyperparameters,
  wrap: around,
};
