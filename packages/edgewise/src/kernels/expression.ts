/**
 * @file Expressions of an update kernel: the tensor graph with levels in place of shapes, simplified.
 *
 * Rewrites are exact, or change rounding only: a division of elements by a tame number becomes a product with its
 * reciprocal, and tame factors of elements are collected into one, both computed on the host in float64.
 */
import { EdgewiseError, ShapeError } from '../base/errors.ts';
import { constantValues, inputName, type Tensor, topological } from '../tensor/tensor.ts';
import { LEVELS, type Level, levelOf, type UpdateGraph } from './domain.ts';
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

/** Hash-consed expressions. */
class Builder {
  readonly #known = new Map<string, Expression>();

  #intern(key: string, make: (id: number) => Expression): Expression {
    const known = this.#known.get(key);
    if (known) return known;
    const made = make(this.#known.size);
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

  reduce(op: Reduction, arg: Expression, level: Level): Expression {
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
    const level = finest(args);
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
        return isScaled(a) ? this.apply('mul', a.args[0], this.apply('neg', a.args[1])) : undefined;
      case 'mul': {
        if (rankOf(a.level) < rankOf(b.level)) return this.apply('mul', b, a);
        if (is(b, 1)) return a;
        if (is(a, 1)) return b;
        if (is(b, -1)) return this.apply('neg', a);
        if (a.level !== 'element' || !isFactor(b)) return undefined;
        if (a.op === 'neg') return this.apply('mul', a.args[0], this.apply('neg', b));
        return isScaled(a) ? this.apply('mul', a.args[0], this.apply('mul', a.args[1], b)) : undefined;
      }
      case 'div':
        if (is(b, 1)) return a;
        return a.level === 'element' && isFactor(b) ? this.apply('mul', a, this.apply('reciprocal', b)) : undefined;
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
      case 'logicalNot':
        return a.op === 'logicalNot' ? a.args[0] : undefined;
      default:
        return undefined;
    }
  }
}

const is = (x: Expression, value: number): boolean => x.op === 'constant' && x.value === value;

/** A number below element level that may be regrouped. */
const isFactor = (x: Expression): boolean => x.level !== 'element' && x.tame;

/** Elements times one factor. */
const isScaled = (x: Expression): boolean => x.op === 'mul' && x.level === 'element' && isFactor(x.args[1]);

/** An update in expressions. */
export interface Update {
  readonly writes: ReadonlyMap<string, Expression>;
  readonly results: ReadonlyMap<string, Expression>;
  readonly guards: readonly Expression[];
}

/**
 * Translates the tensor graph of an update.
 * @throws ShapeError for a shape that is none of the nominal ones, EdgewiseError for an op kernels do not have.
 */
export function translate(graph: UpdateGraph): Update {
  const { nominal } = graph;
  const build = new Builder();
  const known = new Map<Tensor, Expression>();
  for (const [name, symbol] of Object.entries(graph.vectors))
    known.set(symbol, build.leaf('vector', name, 'element', false));
  for (const [name, { symbol, tame }] of Object.entries(graph.scalars))
    known.set(symbol, build.leaf('scalar', name, levelOf(symbol, nominal), tame));

  const visit = (root: Tensor): Expression => {
    for (const tensor of topological([root])) if (!known.has(tensor)) known.set(tensor, node(tensor));
    return known.get(root)!;
  };

  const node = (tensor: Tensor): Expression => {
    const args = tensor.inputs.map((x) => known.get(x)!);
    const { name } = tensor.op;
    const level = levelOf(tensor, nominal);
    const values = constantValues(tensor);
    if (values) {
      if (values.length === 1) return build.constant(values[0], tensor.dtype === 'bool');
      throw new ShapeError(
        `Update rule: ${tensor} is a table; kernels take constants of one value only. Feed it as a scalar or a slot.`,
      );
    }
    if (inputName(tensor) !== undefined)
      throw new EdgewiseError(
        `Update rule: the input '${inputName(tensor)}' is none of the rule's symbols; use those the rule is given.`,
      );
    if (isReduction(name)) return reduction(name, tensor, args[0], level);
    switch (name) {
      case 'stopGradient':
        return args[0];
      case 'cast':
        if (tensor.dtype === 'bool')
          return args[0].bool ? args[0] : build.apply('logicalNot', build.apply('equal', args[0], build.constant(0)));
        if (tensor.dtype !== 'float64') break;
        return args[0].bool ? build.apply('where', args[0], build.constant(1), build.constant(0)) : args[0];
      case 'reshape':
      case 'expand':
        // Broadcasting is implied; only a change of what the quantity belongs to would matter.
        if (name === 'expand' || args[0].level === level) return args[0];
        break;
      case 'clip': {
        const { low, high } = tensor.attrs as { readonly low: number; readonly high: number };
        return build.apply('minimum', build.apply('maximum', args[0], build.constant(low)), build.constant(high));
      }
      case 'square':
        return build.apply('mul', args[0], args[0]);
      case 'relu':
        return build.apply('maximum', args[0], build.constant(0));
      case 'mod': {
        const [a, b] = args;
        return build.apply('sub', a, build.apply('mul', b, build.apply('floor', build.apply('div', a, b))));
      }
    }
    if (name in functions) return build.apply(name, ...args);
    if (tensor.op.decompose) return visit(tensor.op.decompose(tensor.inputs, tensor.attrs));
    throw new EdgewiseError(
      `Update rule: op '${name}' (${tensor}) is not available in update kernels; use elementwise ops and sum, max and min.`,
    );
  };

  const reduction = (name: Reduction, tensor: Tensor, arg: Expression, level: Level): Expression => {
    const { shape } = tensor.inputs[0];
    const { axes } = tensor.attrs as { readonly axes: readonly number[] };
    const reduced = axes.filter((axis) => shape[axis] !== 1);
    if (reduced.length === 0) return arg;
    // Rows and tensors are nested: what is left must be a prefix of [tensors, rows, columns].
    const kept = shape.flatMap((extent, axis) => (extent !== 1 && !axes.includes(axis) ? [axis] : []));
    if (kept.some((axis, i) => axis !== i)) {
      throw new ShapeError(
        `Update rule: ${name} over axes ${axes.join(', ')} of ${tensor.inputs[0]}; kernels reduce over axis 2 (a row), axes 1 and 2 (a tensor) or all.`,
      );
    }
    return build.reduce(name, arg, level);
  };

  const translated = (tensors: Readonly<Record<string, Tensor>>) =>
    new Map(Object.entries(tensors).map(([name, tensor]) => [name, visit(tensor)]));
  return { writes: translated(graph.writes), results: translated(graph.results), guards: graph.guards.map(visit) };
}
