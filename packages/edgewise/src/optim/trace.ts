/** @file From a definition and its settings to symbolic updates. */
import { EdgewiseError } from '../base/errors.ts';
import { type Level, type Nominal, symbolAt, type UpdateGraph } from '../kernels/index.ts';
import type { ParamLayout } from '../params/layout.ts';
import { add, mul, type Operand } from '../tensor/ops/elementwise.ts';
import { constant, type Tensor } from '../tensor/tensor.ts';
import type { OptimizerDefinition, Refusal, RuleSymbols, Update } from './definition.ts';
import type { Assignment } from './groups.ts';
import type { Schema } from './hyperparameters.ts';
import { hyperName, type NumberTable, RESTART, reportName, STEP, stateName, UPDATES, WHEN } from './numbers.ts';

/** What a rule is traced under. */
export interface Context<H extends Schema> {
  readonly definition: OptimizerDefinition<H>;
  /** Slots there are under the settings. */
  readonly slots: readonly string[];
  /** Those among them that are not laid out as the parameters. */
  readonly shaped: ReadonlyMap<string, ParamLayout>;
  readonly numbers: NumberTable<H>;
  readonly assignments: readonly Assignment<H>[];
  /** What the rule asked about its hyper-parameters, and the answers it was built on. */
  readonly answers: Map<string, { readonly name: string; readonly value: number; readonly answer: boolean }>;
}

/** Whether `name` equals `value` for every tensor. */
export function isEverywhere<H extends Schema>(
  assignments: readonly Assignment<H>[],
  name: string,
  value: number,
): boolean {
  return assignments.every(({ values }) => values[name] === value);
}

/** Symbols of a rule, by the names updates know them under. */
export interface Symbolized<H extends Schema> {
  readonly symbols: RuleSymbols<H, string, string>;
  readonly vectors: Readonly<Record<string, Tensor>>;
  readonly scalars: Readonly<Record<string, Tensor>>;
}

/** @param symbol Makes the symbol of a vector ('element') or a number. */
export function symbolize<H extends Schema>(
  { definition, slots, numbers, assignments, answers }: Context<H>,
  symbol: (level: Level, name: string) => Tensor,
): Symbolized<H> {
  const vectors = Object.fromEntries(['theta', 'grad', ...slots].map((name) => [name, symbol('element', name)]));
  const scalars = Object.fromEntries([...numbers.levels].map(([name, level]) => [name, symbol(level, name)]));
  const scaled = (rate: Tensor) => ('lrScale' in scalars ? mul(rate, scalars.lrScale) : rate);
  const [first] = assignments;
  const hyper = Object.entries(definition.hyperparameters).map(([name, parameter]) => {
    if (name === 'lr') return [name, scaled(scalars.lr)];
    if (parameter.kind === 'numbers') return [name, parameter.default.map((_, i) => scalars[hyperName(name, i)])];
    if (parameter.kind === 'number' || parameter.kind === 'integer') return [name, scalars[hyperName(name)]];
    // What decides how the update is built is the same for all tensors.
    return [name, first ? first.values[name] : parameter.default];
  });
  const pick = (names: readonly string[], from: Readonly<Record<string, Tensor>>, key: (name: string) => string) =>
    Object.fromEntries(names.map((name) => [name, from[key(name)]]));
  const symbols: RuleSymbols<H, string, string> = {
    theta: vectors.theta,
    grad: vectors.grad,
    slots: strict(
      definition.name,
      'slot',
      pick(slots, vectors, (name) => name),
    ),
    scalars: strict(definition.name, 'scalar', pick(Object.keys(definition.scalars ?? {}), scalars, stateName)),
    // Each entry was made as the kind of its hyper-parameter says.
    h: Object.fromEntries(hyper) as RuleSymbols<H, string, string>['h'],
    t: add(scalars[UPDATES in scalars ? UPDATES : STEP], 1),
    step: add(scalars[STEP], 1),
    baseLr: scaled(scalars.baseLr),
    lrScale: scalars.lrScale ?? constant(1, [], 'float64'),
    loss: scalars.loss,
    size: scalars.size,
    rows: scalars.rows,
    columns: scalars.columns,
    rank: scalars.rank,
    is(name, value) {
      const answer = isEverywhere(assignments, name, value);
      answers.set(`${name} ${value}`, { name, value, answer });
      return answer;
    },
  };
  return { symbols, vectors, scalars };
}

export interface TracedUpdate {
  readonly graph: UpdateGraph;
  readonly refusals: readonly Refusal[];
}

/** A rule, or the condition of a phase. */
export type Rule<H extends Schema> = (
  s: RuleSymbols<H, string, string>,
) => Update<string, string> & { readonly when?: Tensor };

/** Traces what `rule` returns at nominal extents. */
export function traceUpdate<H extends Schema>(whole: Context<H>, nominal: Nominal, rule: Rule<H>): TracedUpdate {
  const context = { ...whole, slots: whole.slots.filter((name) => !whole.shaped.has(name)) };
  const { symbols, vectors, scalars } = symbolize(context, (level, name) => symbolAt(level, name, nominal));
  const { theta, slots, scalars: state, refuse = [], restart, report, when } = rule(symbols);
  const results = {
    ...prefixed(stateName, state),
    ...prefixed(reportName, report),
    ...(restart && { [RESTART]: restart }),
    ...(when && { [WHEN]: when }),
  };
  for (const name of Object.keys(results)) {
    if (name.startsWith('state.') && !(name in scalars))
      throw new EdgewiseError(`${context.definition.name}: its rule writes '${name}', which is none of its scalars.`);
  }
  const graph = {
    nominal,
    vectors,
    scalars: Object.fromEntries(
      Object.entries(scalars).map(([name, symbol]) => [name, { symbol, tame: context.numbers.tame.has(name) }]),
    ),
    writes: writesOf(context, { theta, slots }),
    results,
    guards: refuse.map(({ when }) => when),
  };
  return { graph, refusals: refuse };
}

/** New elements by vector name. @throws EdgewiseError for a slot that does not exist. */
export function writesOf<H extends Schema>(
  { definition, slots: known }: Context<H>,
  { theta, slots }: Pick<Update<string, string>, 'theta' | 'slots'>,
): Record<string, Tensor> {
  const writes = { ...(theta && { theta }), ...prefixed((name) => name, slots) };
  for (const name of Object.keys(writes)) {
    if (name !== 'theta' && !known.includes(name))
      throw new EdgewiseError(
        `${definition.name}: its rule writes '${name}', which is no slot under these hyper-parameters.`,
      );
  }
  return writes;
}

function prefixed(
  prefix: (name: string) => string,
  record: Readonly<Partial<Record<string, Operand>>> = {},
): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(record).flatMap(([name, x]) =>
      x === undefined ? [] : [[prefix(name), typeof x === 'number' ? constant(x, [], 'float64') : x]],
    ),
  );
}

/** A record that says so where something is read that it does not have. */
function strict(optimizer: string, kind: string, record: Record<string, Tensor>): Record<string, Tensor> {
  return new Proxy(record, {
    get(target, name) {
      if (typeof name === 'symbol' || name in target) return Reflect.get(target, name);
      throw new EdgewiseError(
        `${optimizer}: its rule reads the ${kind} '${name}', which it does not have under these hyper-parameters.`,
      );
    },
  });
}
