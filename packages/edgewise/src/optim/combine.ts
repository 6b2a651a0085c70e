/**
 * @file Several optimizers at once, each for some of the parameters: Muon for matrices, AdamW for the rest. The combination is a
 * definition like any other.
 */
import { ConfigError } from '../base/errors.ts';
import type { Segment } from '../params/layout.ts';
import { div, mul } from '../tensor/ops/elementwise.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { defineOptimizer, type OptimizerDefinition, type Phase, type RuleSymbols, type Update } from './definition.ts';
import type { Schema, Values } from './hyperparameters.ts';

/** An optimizer for some parameters. */
export interface Part {
  readonly definition: OptimizerDefinition;
  /** Parameters it is for, of those that no part before it took; the last part takes what is left and has none. */
  readonly takes?: (segment: Segment) => boolean;
}

type Symbols = RuleSymbols<Schema, string, string>;
type AnyUpdate = Update<string, string>;

/** `weightDecay` of the part `adamw` as `adamwWeightDecay`. */
const prefixed = (part: string, name: string): string => {
  const word = part.replace(/[^a-zA-Z0-9]+(.)/g, (_, letter: string) => letter.toUpperCase());
  return `${word}${name[0].toUpperCase()}${name.slice(1)}`;
};

/** Where a part finds what is its own in the combination. */
interface Place {
  readonly definition: OptimizerDefinition;
  readonly mine: (segment: Segment) => boolean;
  readonly first: boolean;
  readonly hyper: (name: string) => string;
  readonly slots: ReadonlyMap<string, string>;
  readonly scalar: (name: string) => string;
}

/**
 * `parts` as one optimizer. Hyper-parameters of the first part keep their names; those of the others get the name of their optimizer in
 * front (`adamwLr`, `adamwWeightDecay`). The schedule and the `lrScale` of groups act on the learning rates of all parts alike.
 *
 * State of different parts shares memory where it starts from the same value. Norms that a rule takes over all parameters are taken over
 * those of its part.
 * @throws ConfigError for fewer than two parts, for two of the same optimizer (use groups), for a part that has no condition and is not the
 *   last, and for rules that evaluate several gradients a step or evaluate the model elsewhere: put those around the combination.
 */
export function combine(parts: readonly Part[]): OptimizerDefinition {
  const names = parts.map(({ definition }) => definition.name);
  const label = names.join(' + ');
  if (parts.length < 2) throw new ConfigError(`combine: ${parts.length} part is given; give two or more.`);
  for (const [i, { definition, takes }] of parts.entries()) {
    if (names.indexOf(definition.name) !== i)
      throw new ConfigError(
        `combine: ${definition.name} is given twice; give its other settings as a group of parameters.`,
      );
    if ((takes === undefined) !== (i === parts.length - 1))
      throw new ConfigError(
        `combine: ${definition.name} ${takes ? 'is the last part and has a condition; the last takes what is left' : 'has no condition, so nothing is left for the parts after it'}.`,
      );
    if (definition.phases.filter(({ evaluate }) => evaluate !== undefined).length > 1)
      throw new ConfigError(
        `combine: ${definition.name} evaluates several gradients a step, which the other parts would have to share; use it alone, or put its wrapper around the combination.`,
      );
    if (definition.evaluated)
      throw new ConfigError(
        `combine: ${definition.name} evaluates the model at another point than the one trained; average the combination instead.`,
      );
  }
  const storage = new Map<string, { readonly of: { readonly place: string; readonly slot: string }[] }>();
  const places = parts.map(({ definition, takes }, i): Place => {
    const before = parts.slice(0, i).map((part) => part.takes);
    return {
      definition,
      first: i === 0,
      mine: (segment) => (takes?.(segment) ?? true) && !before.some((earlier) => earlier?.(segment)),
      hyper: (name) => (i === 0 ? name : prefixed(definition.name, name)),
      scalar: (name) => `${definition.name}.${name}`,
      slots: shareSlots(definition, storage),
    };
  });
  const valuesOf = ({ definition, hyper }: Place, values: Values<Schema>): Values<Schema> =>
    Object.fromEntries(Object.keys(definition.hyperparameters).map((name) => [name, values[hyper(name)]]));
  const place = (name: string): Place => places[names.indexOf(name)];
  const specs = [...storage].map(([key, { of }]) => {
    const users = of.map((user) => ({ place: place(user.place), spec: place(user.place).definition.slots[user.slot] }));
    const [{ place: only, spec }] = users;
    const { init, shape } = spec;
    return [
      key,
      {
        doc: users.map((user) => user.spec.doc).join('; '),
        when: (values: Values<Schema>) => users.some((user) => user.spec.when?.(valuesOf(user.place, values)) ?? true),
        ...(init && { init: (values: Values<Schema>) => init(valuesOf(only, values)) }),
        ...(shape && {
          shape: (segment: Segment, values: Values<Schema>) =>
            only.mine(segment) ? shape(segment, valuesOf(only, values)) : [0],
        }),
      },
    ] as const;
  });
  return defineOptimizer({
    name: names.join('+'),
    title: parts.map(({ definition }) => definition.title).join(' and '),
    source: parts[0].definition.source,
    family: parts[0].definition.family,
    formula: parts.map(({ definition }) => `${definition.name}:\n${definition.formula.trim()}`).join('\n\n'),
    use: `Each optimizer for the parameters it suits: ${label}.`,
    batchScaling: parts[0].definition.batchScaling,
    hyperparameters: Object.fromEntries(
      places.flatMap(({ definition, hyper }) =>
        Object.entries(definition.hyperparameters).map(([name, parameter]) => [hyper(name), parameter]),
      ),
    ) as Schema,
    slots: Object.fromEntries(specs),
    scalars: Object.fromEntries(
      places.flatMap((each) =>
        Object.entries(each.definition.scalars ?? {}).map(([name, spec]) => {
          const { init } = spec;
          return [
            each.scalar(name),
            { ...spec, ...(init && { init: (values: Values<Schema>) => init(valuesOf(each, values)) }) },
          ];
        }),
      ),
    ),
    counter: parts.every(({ definition }) => definition.counter === 'optimizer') ? 'optimizer' : 'tensor',
    check(values) {
      for (const each of places) each.definition.check?.(valuesOf(each, values));
    },
    restart: {
      slots: places.flatMap(({ definition, slots }) =>
        (definition.restart?.slots ?? []).map((name) => slots.get(name) ?? name),
      ),
      scalars: places.flatMap(({ definition, scalar }) => (definition.restart?.scalars ?? []).map(scalar)),
    },
    phases: [...places.slice(1).flatMap(guardsOf), ...places.flatMap(phasesOf)],
  });
}

/** Names of the memory each slot of `definition` lies in. Slots that start from zero share it with those of the parts before. */
function shareSlots(
  definition: OptimizerDefinition,
  storage: Map<string, { readonly of: { readonly place: string; readonly slot: string }[] }>,
): Map<string, string> {
  const mine = new Map<string, string>();
  const free = [...storage].filter(([key]) => key.startsWith('shared.'));
  for (const [slot, { init, shape }] of Object.entries(definition.slots)) {
    const user = { place: definition.name, slot };
    if (init || shape) {
      const key = `${definition.name}.${slot}`;
      storage.set(key, { of: [user] });
      mine.set(slot, key);
      continue;
    }
    const used = free.shift();
    const key = used?.[0] ?? `shared.${[...storage.keys()].filter((name) => name.startsWith('shared.')).length}`;
    if (used) used[1].of.push(user);
    else storage.set(key, { of: [user] });
    mine.set(slot, key);
  }
  return mine;
}

/** Conditions under which a later part refuses a step, asked before any part moves. */
function guardsOf(place: Place): Phase<Schema, string, string>[] {
  return place.definition.phases
    .filter(({ over }) => over !== 'tensors')
    .slice(0, 1)
    .map((phase) => ({
      only: (segment) => place.mine(segment) && (phase.only?.(segment) ?? true),
      update: (s) => ({ refuse: phase.update(inside(place, s)).refuse }),
    }));
}

function phasesOf(place: Place): Phase<Schema, string, string>[] {
  const { definition, mine, first } = place;
  return definition.phases.map(({ evaluate, over, only, when, update, undo, ...rest }) => ({
    ...rest,
    // The gradient is that of the beginning of the step, for all parts.
    ...(first && evaluate !== undefined && { evaluate }),
    over,
    only: (segment) => mine(segment) && (only ? only(segment) : over !== 'tensors' || segment.shape.length > 1),
    ...(when && { when: (s: Symbols) => when(inside(place, s)) }),
    update: (s) => outside(place, update(inside(place, s))),
    ...(undo && { undo: (s: Symbols) => outside(place, undo(inside(place, s))) }),
  }));
}

/** The symbols of the combination as the part's own. */
function inside({ definition, first, hyper, slots, scalar }: Place, s: Symbols): Symbols {
  const h: Record<string, unknown> = Object.fromEntries(
    Object.keys(definition.hyperparameters).map((name) => [name, s.h[hyper(name)]]),
  );
  // A hyper-parameter called lr is a number, so a symbol in a rule.
  const own = h.lr as Tensor;
  const baseLr = first ? s.baseLr : mul(own, s.lrScale);
  if (!first) h.lr = mul(div(s.h.lr as Tensor, s.baseLr), baseLr);
  return {
    ...s,
    h: h as Symbols['h'],
    baseLr,
    t: definition.counter === 'optimizer' ? s.step : s.t,
    slots: lazily((name) => s.slots[slots.get(name) ?? name]),
    scalars: lazily((name) => s.scalars[scalar(name)]),
    is: (name, value) => s.is(hyper(name), value),
  };
}

/** What the part writes, by the names of the combination. */
function outside({ definition, first, slots, scalar }: Place, update: AnyUpdate): AnyUpdate {
  const renamed = <T>(record: Readonly<Record<string, T>>, name: (own: string) => string): Record<string, T> =>
    Object.fromEntries(Object.entries(record).map(([own, value]) => [name(own), value]));
  // What is not written stays left out: a phase over tensors may not even name it.
  return {
    ...update,
    ...(update.slots && { slots: renamed(update.slots, (own) => slots.get(own) ?? own) }),
    ...(update.scalars && { scalars: renamed(update.scalars, scalar) }),
    ...(update.report && { report: renamed(update.report, (own) => (first ? own : prefixed(definition.name, own))) }),
  };
}

/** A record whose entries are looked up when they are read: those a rule does not have under its settings are never. */
function lazily(read: (name: string) => Tensor): Record<string, Tensor> {
  return new Proxy<Record<string, Tensor>>(
    {},
    { get: (_, name) => (typeof name === 'string' ? read(name) : undefined) },
  );
}
