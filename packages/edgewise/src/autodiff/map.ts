/** @file The same graph for every example of a batch, and per-example gradients on top of it. */
import { ShapeError } from '../base/errors.ts';
import { isFloat } from '../tensor/dtype.ts';
import { evaluate, inputsOf } from '../tensor/evaluate.ts';
import { int, ints } from '../tensor/lowering.ts';
import { concat, reshape } from '../tensor/ops/layout.ts';
import { sum } from '../tensor/ops/reduce.ts';
import { sizeOf } from '../tensor/shape.ts';
import { expectShape, input, make, type OpDef, type Tensor } from '../tensor/tensor.ts';
import { jvp } from './forward.ts';
import { vjp } from './reverse.ts';
import { expectScalar, grad } from './transforms.ts';

interface MapAttrs {
  /** What is computed for one example. */
  readonly body: Tensor;
  /** Symbols of the body, one for each input of the op. */
  readonly symbols: readonly Tensor[];
  /** How many of the inputs carry the examples on their first axis; the others are the same for all. */
  readonly mapped: number;
  readonly count: number;
}

const mapOp: OpDef<MapAttrs> = {
  name: 'map',
  infer: (_, { body, count }) => ({ dtype: body.dtype, shape: [count, ...body.shape] }),
  evaluate: (inputs, { body, symbols, mapped, count }) => {
    const out = new Float64Array(count * body.size);
    for (let i = 0; i < count; i++) {
      const given = symbols.map((symbol, k): [Tensor, Float64Array] => {
        const { data } = inputs[k];
        return [symbol, k < mapped ? data.subarray(i * symbol.size, (i + 1) * symbol.size) : data];
      });
      out.set(evaluate([body], new Map(given))[0], i * body.size);
    }
    return out;
  },
  lower: (to, inputs, { attrs }) => {
    const { body, symbols, mapped } = attrs;
    const shared = symbols.slice(mapped).map((symbol, k): [Tensor, string] => [symbol, inputs[mapped + k]]);
    return to.node(
      'Scan',
      inputs.slice(0, mapped),
      { num_scan_inputs: int(mapped), scan_input_axes: ints(new Array(mapped).fill(0)) },
      {
        body: { attr: 'body', inputs: symbols.slice(0, mapped), shared, outputs: [body] },
      },
    );
  },
  vjp: (node, g, needed) => {
    const { body, symbols, mapped, count } = node.attrs;
    const seed = placeholder(body);
    return node.inputs.map((_, k) => {
      if (!needed[k] || !isFloat(symbols[k].dtype)) return undefined;
      const [pulled] = vjp([body], [symbols[k]], [seed]);
      const each = mapWith(pulled, [...symbols.slice(0, mapped), seed, ...symbols.slice(mapped)], mapped + 1, count, [
        ...node.inputs.slice(0, mapped),
        g,
        ...node.inputs.slice(mapped),
      ]);
      return k < mapped ? each : sum(each, { axes: 0 });
    });
  },
  jvp: (node, tangents) => {
    const { body, symbols, mapped, count } = node.attrs;
    const moving = symbols.flatMap((symbol, k) => {
      const tangent = tangents[k];
      return tangent ? [{ symbol, tangent, seed: placeholder(symbol), k }] : [];
    });
    const [pushed] = jvp(
      [body],
      moving.map(({ symbol }) => symbol),
      moving.map(({ seed }) => seed),
    );
    const each = moving.filter(({ k }) => k < mapped);
    const shared = moving.filter(({ k }) => k >= mapped);
    return mapWith(
      pushed,
      [
        ...symbols.slice(0, mapped),
        ...each.map(({ seed }) => seed),
        ...symbols.slice(mapped),
        ...shared.map(({ seed }) => seed),
      ],
      mapped + each.length,
      count,
      [
        ...node.inputs.slice(0, mapped),
        ...each.map(({ tangent }) => tangent),
        ...node.inputs.slice(mapped),
        ...shared.map(({ tangent }) => tangent),
      ],
    );
  },
};

let placeholders = 0;

/** A symbol private to one body: its name says nothing and never meets a user's. */
function placeholder(like: Tensor): Tensor {
  return input(`map.${placeholders++}`, like.shape, like.dtype);
}

function mapWith(
  body: Tensor,
  symbols: readonly Tensor[],
  mapped: number,
  count: number,
  inputs: readonly Tensor[],
): Tensor {
  return make(mapOp, inputs, { body, symbols: [...symbols], mapped, count });
}

/**
 * Computes `body`, a graph for one example, for every example of a batch: [...] → [count, ...].
 * Differentiable as any op. It runs one example after the other; where a graph can be written for the whole batch, that is faster.
 *
 * @param examples for each symbol of the body that differs between examples, the tensor with all of them on its first axis.
 * @throws ShapeError where a batch does not match its symbol, or batches differ in size.
 */
export function mapExamples(body: Tensor, examples: ReadonlyMap<Tensor, Tensor>): Tensor {
  const symbols = [...examples.keys()];
  const batches = [...examples.values()];
  const count = batches[0]?.shape[0];
  if (count === undefined)
    throw new ShapeError('mapExamples: no examples were given; name at least one symbol and its batch.');
  symbols.forEach((symbol, k) => {
    expectShape('mapExamples', `the batch of ${symbol}`, batches[k], [count, ...symbol.shape]);
  });
  // Everything else the body reads from outside is the same for all examples.
  const shared = inputsOf([body]).filter((x) => !examples.has(x));
  const inner = shared.map(placeholder);
  return mapWith(
    substitute(body, new Map(shared.map((x, k) => [x, inner[k]]))),
    [...symbols, ...inner],
    symbols.length,
    count,
    [...batches, ...shared],
  );
}

/** `root` with some symbols replaced by others of the same type. */
export function substitute(root: Tensor, replacements: ReadonlyMap<Tensor, Tensor>): Tensor {
  const done = new Map<Tensor, Tensor>(replacements);
  const stack = [root];
  for (let tensor = stack.at(-1); tensor !== undefined; tensor = stack.at(-1)) {
    const missing = done.has(tensor) ? [] : tensor.inputs.filter((x) => !done.has(x));
    if (missing.length > 0) {
      stack.push(...missing);
      continue;
    }
    stack.pop();
    if (done.has(tensor)) continue;
    const inputs = tensor.inputs.map((x) => done.get(x)!);
    done.set(tensor, inputs.every((x, i) => x === tensor.inputs[i]) ? tensor : make(tensor.op, inputs, tensor.attrs));
  }
  return done.get(root)!;
}

/**
 * Gradient of each example's loss: [count, d], row i holding the gradients in the order of `wrt`, flattened.
 *
 * @param loss scalar loss of one example, written on symbols without a batch axis.
 * @param examples the batch for each symbol that differs between examples, as in {@link mapExamples}.
 */
export function perExampleGrad(loss: Tensor, wrt: readonly Tensor[], examples: ReadonlyMap<Tensor, Tensor>): Tensor {
  expectScalar('perExampleGrad', loss);
  const flat = grad(loss, wrt).map((g) => reshape(g, [sizeOf(g.shape)]));
  return mapExamples(concat(flat), examples);
}
