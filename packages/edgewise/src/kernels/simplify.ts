/**
 * @file Moves tame factors of elements to where they cost nothing: `(a·p + b·q) / d · s` needs no product with s if p
 * and q are computed as p·s and q·s on the host. Results change by rounding only.
 */
import { Builder, type Expression, isFactor, isScaled, type Update } from './expression.ts';

/** `x · s` written without a product of its own, and how many products that adds elsewhere. */
interface Absorbed {
  readonly x: Expression;
  readonly added: number;
}

export function simplify(update: Update): Update {
  const uses = countUses(update);
  const build = new Builder();
  const known = new Map<Expression, Expression>();

  const visit = (x: Expression): Expression => {
    const done = known.get(x);
    if (done) return done;
    const made = rewrite(x);
    known.set(x, made);
    return made;
  };

  const rewrite = (x: Expression): Expression => {
    if (x.op === 'constant') return build.constant(x.value!, x.bool);
    if (x.op === 'vector' || x.op === 'scalar') return build.leaf(x.op, x.name!, x.level, x.tame);
    if (x.op === 'sum' || x.op === 'max' || x.op === 'min') return build.reduce(x.op, visit(x.args[0]), x.level);
    if (isScaled(x)) {
      const absorbed = absorb(x.args[0], visit(x.args[1]));
      if (absorbed && absorbed.added <= 1) return absorbed.x;
    }
    if (x.op === 'div' && x.level === 'element') return quotient(x, undefined)!.x;
    return build.apply(x.op, ...x.args.map(visit));
  };

  /** `x · s`, if x is read nowhere else and has a place for s. */
  const absorb = (x: Expression, s: Expression): Absorbed | undefined => {
    if (uses.get(x) !== 1) return undefined;
    if (isScaled(x))
      return { x: build.apply('mul', visit(x.args[0]), build.apply('mul', visit(x.args[1]), s)), added: 0 };
    if (x.op === 'div' && x.level === 'element') return quotient(x, s);
    if (x.op !== 'add' && x.op !== 'sub') return undefined;
    const parts = x.args.map((arg) => absorb(arg, s));
    if (parts.every((part) => part === undefined)) return undefined;
    const [a, b] = parts.map((part, i) => part ?? { x: build.apply('mul', visit(x.args[i]), s), added: 1 });
    return { x: build.apply(x.op, a.x, b.x), added: a.added + b.added };
  };

  /** A quotient times s; undefined where its numerator has no place for s. */
  const quotient = (x: Expression, s: Expression | undefined): Absorbed | undefined => {
    const [numerator, denominator] = x.args;
    // n / (y/q + r) = n q / (y + r q)
    const unscaled = withoutScale(denominator);
    if (unscaled) {
      const absorbed = absorb(numerator, s ? build.apply('mul', unscaled.q, s) : unscaled.q);
      if (absorbed && absorbed.added <= 1)
        return { x: build.apply('div', absorbed.x, unscaled.x), added: absorbed.added - 1 };
    }
    if (!s) return { x: build.apply('div', ...x.args.map(visit)), added: 0 };
    const absorbed = absorb(numerator, s);
    return absorbed && { x: build.apply('div', absorbed.x, visit(denominator)), added: absorbed.added };
  };

  /** Of a denominator `y/q + r`, `y + r q` and q. */
  const withoutScale = (x: Expression): { x: Expression; q: Expression } | undefined => {
    if (x.op !== 'add' || x.level !== 'element' || uses.get(x) !== 1) return undefined;
    const r = x.args.find(isFactor);
    const scaled = x.args.find((arg) => isScaled(arg) && uses.get(arg) === 1 && arg.args[1].op === 'reciprocal');
    if (!r || !scaled) return undefined;
    const q = visit(scaled.args[1].args[0]);
    return { x: build.apply('add', visit(scaled.args[0]), build.apply('mul', q, visit(r))), q };
  };

  const visitAll = (map: ReadonlyMap<string, Expression>) => new Map([...map].map(([name, x]) => [name, visit(x)]));
  return { writes: visitAll(update.writes), results: visitAll(update.results), guards: update.guards.map(visit) };
}

/** How often each expression is read, by others or as an output. */
function countUses({ writes, results, guards }: Update): Map<Expression, number> {
  const uses = new Map<Expression, number>();
  const count = (x: Expression) => {
    const before = uses.get(x) ?? 0;
    uses.set(x, before + 1);
    if (before === 0) x.args.forEach(count);
  };
  for (const x of [...writes.values(), ...results.values(), ...guards]) count(x);
  return uses;
}
