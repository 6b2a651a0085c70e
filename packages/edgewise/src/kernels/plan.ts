/**
 * @file Splits an update into passes over the vector ("stages") and numbers computed on the host between them.
 *
 * Stages are split only where elements depend on a reduction over elements. All writes happen in the last stage, so
 * that every stage reads the values from before the update and a guard can refuse it as a whole; what several stages
 * need is recomputed, which costs less memory traffic than storing and reading it. A reduction that no write waits for
 * (how far the weights moved) shares the pass with the writes.
 */
import type { Level } from './domain.ts';
import { Builder, type Expression, isReduction, rankOf, type Update } from './expression.ts';

/** A total over elements that a stage yields. */
export interface StageReduction {
  /** The reduction as the host knows it. */
  readonly total: Expression;
  /** What is reduced. */
  readonly arg: Expression;
}

/** One pass over the vector. */
export interface Stage {
  readonly reductions: readonly StageReduction[];
  /** New elements by vector name; none but in the last stage. */
  readonly writes: readonly (readonly [name: string, value: Expression])[];
  /** Vectors read, by name. */
  readonly reads: readonly string[];
  /** Vectors read or written. */
  readonly vectors: readonly string[];
  /** Host numbers that are the same for all elements. */
  readonly globals: readonly Expression[];
  /** Host numbers of a tensor or a row. */
  readonly locals: readonly Expression[];
  /** The finest thing a pass has to tell apart: tensors or rows; 'global' where it may run over tensors without a stop. */
  readonly grain: Level;
}

export interface Plan {
  readonly update: Update;
  readonly stages: readonly Stage[];
  /** Host computations before each stage and, last, after all of them; in order of dependence. */
  readonly host: readonly (readonly Expression[])[];
  /** Whether tensors must be told apart: some number depends on a tensor's elements. */
  readonly perTensor: boolean;
}

const overElements = (x: Expression): boolean => isReduction(x.op) && x.args[0].level === 'element';

export function planUpdate(update: Update): Plan {
  const roots = { early: [...update.writes.values(), ...update.guards], late: [...update.results.values()] };
  const early = reach(roots.early);
  const all = reach([...roots.early, ...roots.late]);
  const feedsReduction = new Set([...all].filter(overElements).flatMap((x) => [...reach(x.args)].filter(overElements)));
  const sinks = (x: Expression) => !early.has(x) && !feedsReduction.has(x);

  // time(x) = number of stages that must have run before x can be computed.
  const natural = times(all, (x, argTime) => (overElements(x) ? argTime + 1 : argTime));
  const last = Math.max(
    0,
    ...roots.early.map((x) => natural.get(x)!),
    ...[...all].filter((x) => overElements(x) && !sinks(x)).map((x) => natural.get(x)! - 1),
  );
  const time = times(all, (x, argTime) =>
    overElements(x) ? (sinks(x) ? Math.max(last, argTime) : argTime) + 1 : argTime,
  );
  const end = Math.max(last, ...[...all].filter(overElements).map((x) => time.get(x)! - 1));

  const reductionsOf = (stage: number) =>
    [...all]
      .filter((x) => overElements(x) && time.get(x) === stage + 1)
      .map((total) => ({ total, arg: total.args[0] }));
  const stages = Array.from({ length: end + 1 }, (_, i) =>
    makeStage(reductionsOf(i), i === end ? [...update.writes] : []),
  );
  const onHost = (x: Expression) => x.level !== 'element' && x.args.length > 0 && !overElements(x);
  const host = Array.from({ length: end + 2 }, (_, i) =>
    [...all].filter((x) => onHost(x) && time.get(x) === i).sort((a, b) => a.id - b.id),
  );
  const perTensor = [...all].some(
    (x) => isReduction(x.op) && (x.level !== 'global' || x.args[0].level === 'tensor' || x.args[0].level === 'row'),
  );
  return { update, stages, host, perTensor };
}

/** Everything `roots` depend on, themselves included. */
function reach(roots: readonly Expression[]): Set<Expression> {
  const seen = new Set<Expression>();
  const stack = [...roots];
  for (let x = stack.pop(); x !== undefined; x = stack.pop()) {
    if (seen.has(x)) continue;
    seen.add(x);
    stack.push(...x.args);
  }
  return seen;
}

/** Ids grow with dependence, so one pass in order of ids settles everything. */
function times(
  nodes: ReadonlySet<Expression>,
  rule: (x: Expression, argTime: number) => number,
): Map<Expression, number> {
  const time = new Map<Expression, number>();
  for (const x of [...nodes].sort((a, b) => a.id - b.id))
    time.set(x, rule(x, Math.max(0, ...x.args.map((arg) => time.get(arg)!))));
  return time;
}

function makeStage(reductions: Stage['reductions'], writes: Stage['writes']): Stage {
  const reads = new Set<string>();
  const globals = new Set<Expression>();
  const locals = new Set<Expression>();
  const seen = new Set<Expression>();
  const visit = (x: Expression) => {
    if (seen.has(x)) return;
    seen.add(x);
    if (x.op === 'vector') reads.add(x.name!);
    else if (x.level === 'element') x.args.forEach(visit);
    else if (x.op !== 'constant') (x.level === 'global' ? globals : locals).add(x);
  };
  for (const { arg } of reductions) visit(arg);
  for (const [, value] of writes) visit(value);
  const parts = [...locals, ...reductions.map(({ total }) => total)].map((x) => x.level);
  const finest = parts.reduce<Level>(
    (level, part) => (rankOf(part) > rankOf(level) ? part : level),
    reductions.length > 0 ? 'tensor' : 'global',
  );
  return {
    reductions,
    writes,
    reads: [...reads].sort(),
    vectors: [...new Set([...reads, ...writes.map(([name]) => name)])].sort(),
    globals: [...globals],
    locals: [...locals],
    grain: finest,
  };
}

/**
 * A text that is equal for updates that compile to the same kernels; it names inputs and outputs and contains every
 * constant.
 */
export function fingerprint(update: Update): string {
  const numbers = new Map<Expression, number>();
  const lines: string[] = [];
  const visit = (x: Expression): number => {
    const known = numbers.get(x);
    if (known !== undefined) return known;
    const args = x.args.map(visit);
    const number = numbers.size;
    numbers.set(x, number);
    lines.push(
      `${x.op} ${x.name ?? ''} ${x.op === 'constant' ? (Object.is(x.value, -0) ? '-0' : x.value) : ''} ${x.level} ${x.bool} ${x.tame} (${args})`,
    );
    return number;
  };
  const named = (kind: string, map: ReadonlyMap<string, Expression>) =>
    [...map].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, x]) => `${kind} ${name} = ${visit(x)}`);
  const outputs = [
    ...named('write', update.writes),
    ...named('result', update.results),
    ...update.guards.map((x) => `guard ${visit(x)}`),
  ];
  return [...lines, ...outputs].join('\n');
}

/** Conditions of a stage that the host decides, other than by row: where their values are known, the stage is simpler. */
export const conditionsOf = (stage: Stage): readonly Expression[] =>
  [...stage.globals, ...stage.locals].filter((x) => x.bool && x.level !== 'row');

/**
 * The stage under known values of some of its conditions. Branches not taken are gone, with what only they read; a
 * vector that would be written as it is read is not touched at all.
 */
export function specialize(stage: Stage, known: ReadonlyMap<Expression, boolean>): Stage {
  if (known.size === 0) return stage;
  const build = new Builder({ firstId: LAST_ID, regroup: false });
  const done = new Map<Expression, Expression>();
  const visit = (x: Expression): Expression => {
    const value = known.get(x);
    if (value !== undefined) return build.constant(value ? 1 : 0, true);
    if (x.level !== 'element' || x.args.length === 0) return x;
    const seen = done.get(x);
    if (seen) return seen;
    const made = build.apply(x.op, ...x.args.map(visit));
    done.set(x, made);
    return made;
  };
  const reductions = stage.reductions.map(({ total, arg }) => ({ total, arg: visit(arg) }));
  const writes = stage.writes.map(([name, value]) => [name, visit(value)] as const);
  return makeStage(
    reductions,
    writes.filter(([name, value]) => value.op !== 'vector' || value.name !== name),
  );
}

/** Above the ids of all expressions of an update. */
const LAST_ID = 2 ** 30;
