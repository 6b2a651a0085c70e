/** @file The diagonal an optimizer divides its steps by, at its present state. */
import type { Segment } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import { evaluate } from '../tensor/evaluate.ts';
import { div } from '../tensor/ops/elementwise.ts';
import { expand } from '../tensor/ops/layout.ts';
import { input, type Tensor } from '../tensor/tensor.ts';
import type { RuleSymbols } from './definition.ts';
import type { Schema } from './hyperparameters.ts';
import { extentsOf, STEP, UPDATES } from './numbers.ts';
import { type Context, symbolize } from './trace.ts';

/**
 * Writes P to `out`, tensor by tensor, by the interpreter. A tensor with a learning rate of its own has P divided by its factor, so that
 * one threshold holds for all.
 */
export function writePreconditioner<H extends Schema>(
  context: Context<H>,
  rule: (s: RuleSymbols<H, string, string>) => Tensor,
  segments: readonly Segment[],
  vectors: Readonly<Record<string, ParamVector>>,
  out: ParamVector,
): void {
  const { at, levels } = context.numbers;
  segments.forEach((segment, index) => {
    const { rows, columns } = extentsOf(segment);
    const shape = [rows, columns];
    const traced = symbolize(context, (level, name) => input(name, level === 'element' ? shape : [], 'float64'));
    const diagonal = rule(traced.symbols);
    const given = new Map<Tensor, ArrayLike<number>>();
    for (const [name, symbol] of Object.entries(traced.vectors)) given.set(symbol, vectors[name].view(segment.name));
    for (const [name, symbol] of Object.entries(traced.scalars)) {
      const value = at[name][levels.get(name) === 'tensor' ? index : 0];
      // Rules call the step under way t, which is one more than there were; here the last one is meant.
      given.set(symbol, [name === STEP || name === UPDATES ? value - 1 : value]);
    }
    const { lrScale } = traced.scalars;
    const scaled = lrScale ? div(diagonal, lrScale) : diagonal;
    out.set(segment.name, evaluate([expand(scaled, shape)], given)[0]);
  });
}
