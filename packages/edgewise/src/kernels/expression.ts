/**
 * @file Expressions of an update kernel: the tensor graph with levels in place of shapes.
 *
 * What {@link Builder} simplifies is exact, or changes rounding only: a division of elements by a tame number becomes a
 * product with its reciprocal, and tame factors of elements are collected into one, both computed on the host in float64.
 */
import { LEVELS, type Level } from './domain.ts';
import { functions, predicates } from './functions.ts';

export type Reduction = 'sum' | 'max' | 'min';

export interface Expression {
  readonly id: number;
  /** `vector`, `scalar` or `constant` for leaves, a {@link Reduction}, or an op of `functions`. */
  readonly op: string;
  readonly args: readonly Expression[];
  readonly level: Level;
  readonly bool: boolean;
  /** See {@link ScalarInput.tame}. */
  readonly tame: boolean;
  /** Of a leaf that is an input. */
  readonly name?: string;
  /** Of a constant. */
  readonly value?: number;
}

export const rankOf = (level: Level): number => LEVELS.indexOf(level);

const finest = (args: readonly Expression[]): Level =>
  args.reduce<Level>((level, arg) => (rankOf(arg.level) > rankOf(level) ? arg.level : level), 'global');

export const isReduction = (op: string): op is Reduction => op === 'sum' || op === 'max' || op === 'min';

export interface BuilderOptions {
  /** Number of the first expression made, above those of expressions that will be used as parts. Default 0. */
  readonly firstId?: number;
  /** Whether factors are regrouped, which makes new numbers for the host to compute; true by default. */
  readonly regroup?: boolean;
}

/** Hash-consed expressions. */
export class Builder {
  readonly #known = new Map<string, Expression>();
  readonly #firstId: number;
  readonly #regroup: boolean;

  constructor({ firstId = 0, regroup = true }: BuilderOptions = {}) {
    this.#firstId = firstId;
    this.#regroup = regroup;
  }

  #intern(key: string, make: (id: number) => Expression): Expression {
    const known = this.#known.get(key);
    if (known) return known;
    const made = make(this.#firstId + this.#known.size);
    this.#known.set(key, made);
    return made;
  }

  constant(value: number, bool = false): Expression {
    const key = `constant ${Object.is(value, -0) ? '-0' : value} ${bool}`;
    return this.#intern(key, (id) => ({ id, op: 'constant', args: [], level: 'global', bool, tame: true, value }));
  }

  leaf(op: 'vector' | 'scalar', name: string, level: Level, tame: boolean): Expression {
    return this.#intern(`${op} ${name}`, (id) => ({ id, op, args: [], level, bool: false, tame, name }));
  }

  /** A reduction to `level`; what a sum has as a factor at that level goes before it. */
  reduce(op: Reduction, arg: Expression, level: Level): Expression {
    if (op === 'sum' && this.#regroup && arg.op === 'neg')
      return this.apply('neg', this.reduce(op, arg.args[0], level));
    if (op === 'sum' && this.#regroup && arg.op === 'mul' && rankOf(arg.args[1].level) <= rankOf(level)) {
      return this.apply('mul', this.reduce(op, arg.args[0], level), arg.args[1]);
    }
    return this.#intern(`${op}(${arg.id})${level}`, (id) => ({ id, op, args: [arg], level, bool: false, tame: false }));
  }

  /** `op` on `args`, simplified. */
  apply(op: string, ...args: readonly Expression[]): Expression {
    if (args.every((arg) => arg.op === 'constant')) {
      const value = functions[op](...args.map((arg) => arg.value!));
      return this.constant(value, op === 'where' ? args[1].bool : predicates.has(op));
    }
    return this.#simplified(op, args) ?? this.#plain(op, args);
  }

  #plain(op: string, args: readonly Expression[]): Expression {
    const bool = op === 'where' ? args[1].bool : predicates.has(op);
    // The host computes nothing it was not told to: what becomes equal for all elements is still computed with them.
    const level = this.#regroup ? finest(args) : 'element';
    return this.#intern(`${op}(${args.map((arg) => arg.id).join()})`, (id) => ({
      id,
      op,
      args,
      level,
      bool,
      tame: args.every((arg) => arg.tame),
    }));
  }

  #simplified(op: string, args: readonly Expression[]): Expression | undefined {
    const [a, b] = args;
    switch (op) {
      case 'add':
        if (b.op === 'neg') return this.apply('sub', a, b.args[0]);
        if (a.op === 'neg') return this.apply('sub', b, a.args[0]);
        return undefined;
      case 'sub':
        return b.op === 'neg' ? this.apply('add', a, b.args[0]) : undefined;
      case 'neg':
        if (a.op === 'neg') return a.args[0];
        return this.#regroup && isScaled(a) ? this.apply('mul', a.args[0], this.apply('neg', a.args[1])) : undefined;
      case 'mul': {
        if (rankOf(a.level) < rankOf(b.level)) return this.apply('mul', b, a);
        if (is(b, 1)) return a;
        if (is(a, 1)) return b;
        if (is(b, -1)) return this.apply('neg', a);
        if (!this.#regroup || a.level !== 'element' || !isFactor(b)) return undefined;
        if (a.op === 'neg') return this.apply('mul', a.args[0], this.apply('neg', b));
        return isScaled(a) ? this.apply('mul', a.args[0], this.apply('mul', a.args[1], b)) : undefined;
      }
      case 'div':
        if (is(b, 1)) return a;
        if (!this.#regroup || a.level !== 'element' || !isFactor(b)) return undefined;
        return this.apply('mul', a, this.apply('reciprocal', b));
      case 'reciprocal':
        return a.level === 'element' ? this.apply('div', this.constant(1), a) : undefined;
      case 'pow':
        if (is(b, 1)) return a;
        if (is(b, 2)) return this.apply('mul', a, a);
        if (is(b, 0.5)) return this.apply('sqrt', a);
        if (is(b, -1)) return this.apply('reciprocal', a);
        return undefined;
      case 'where':
        if (a.op === 'constant') return a.value !== 0 ? b : args[2];
        return b === args[2] ? b : undefined;
      case 'logicalAnd':
        if (a.op === 'constant') return a.value !== 0 ? b : a;
        return b.op === 'constant' ? this.apply(op, b, a) : undefined;
      case 'logicalOr':
        if (a.op === 'constant') return a.value !== 0 ? a : b;
        return b.op === 'constant' ? this.apply(op, b, a) : undefined;
      case 'logicalNot':
        return a.op === 'logicalNot' ? a.args[0] : undefined;
      default:
        return undefined;
    }
  }
}

const is = (x: Expression, value: number): boolean => x.op === 'constant' && x.value === value;

/** A number below element level that may be regrouped. */
export const isFactor = (x: Expression): boolean => x.level !== 'element' && x.tame;

/** Elements times one factor. */
export const isScaled = (x: Expression): boolean => x.op === 'mul' && x.level === 'element' && isFactor(x.args[1]);

/** An update in expressions. */
export interface Update {
  readonly writes: ReadonlyMap<string, Expression>;
  readonly results: ReadonlyMap<string, Expression>;
  readonly guards: readonly Expression[];
}
