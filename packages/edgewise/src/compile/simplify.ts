import { decode, encode, isFloat } from '../tensor/dtype.ts';
import { evaluate } from '../tensor/evaluate.ts';
import * as ew from '../tensor/ops/elementwise.ts';
import {
  concat,
  concatOp,
  expand,
  expandOp,
  pad,
  padOp,
  reshape,
  transpose,
  transposeOp,
} from '../tensor/ops/layout.ts';
import { matmul, matmulOp } from '../tensor/ops/matmul.ts';
import { sameShape } from '../tensor/shape.ts';
import { constant, constantOp, isA, type Tensor, topological, uniformValue } from '../tensor/tensor.ts';
import { rewrite } from './expand.ts';

/** Constants larger than this are left to the device: folding them would grow the model. */
const foldLimit = 4096;

/**
 * Algebraic clean-up, value by value: constants folded, neutral operations and double reshapes removed, repeats
 * (`expand`) folded into the broadcasting of their user, transposes into products. Equal sub-expressions are one
 * node already, and nodes nobody uses are never reached.
 */
export function simplify(outputs: readonly Tensor[]): Tensor[] {
  let current = [...outputs];
  // Each pass can expose new work for the next; graphs settle in two or three.
  for (let pass = 0; pass < 8; pass++) {
    const next = rewrite(current, simplifyNode);
    if (next.every((node, i) => node === current[i])) break;
    current = next;
  }
  return current;
}

function simplifyNode(node: Tensor): Tensor {
  const simpler = foldConstants(node) ?? rules[node.op.name]?.(node);
  return simpler === undefined || simpler === node ? node : simpler;
}

function foldConstants(node: Tensor): Tensor | undefined {
  if (node.inputs.length === 0 || !node.op.evaluate || !node.inputs.every((x) => isA(x, constantOp))) return undefined;
  if (node.op === expandOp || node.op.name === 'reshape') {
    const value = uniformValue(node.inputs[0]);
    if (value !== undefined) return constant(value, node.shape, node.dtype);
  }
  if (node.size > foldLimit || node.inputs.some((x) => x.size > foldLimit)) return undefined;
  const [data] = evaluate([node], new Map());
  // Rounded as the device would, so that folding does not change values.
  return constant(decode(encode(data, node.dtype), node.dtype), node.shape, node.dtype);
}

type Rule = (node: Tensor) => Tensor | undefined;

const to = (x: Tensor, node: Tensor) => (sameShape(x.shape, node.shape) ? x : expand(x, node.shape));

/** Reads through an expand whose repetition the other operand, or the result, brings anyway. */
function withoutRepeats(node: Tensor, rebuild: (inputs: readonly Tensor[]) => Tensor): Tensor | undefined {
  const shrunk = node.inputs.map((x) => {
    const value = uniformValue(x);
    if (value !== undefined && x.rank > 0) return constant(value, [], x.dtype);
    return isA(x, expandOp) ? x.inputs[0] : x;
  });
  if (shrunk.every((x, i) => x === node.inputs[i])) return undefined;
  for (const candidate of [
    shrunk,
    ...node.inputs.map((_, i) => node.inputs.map((x, k) => (k === i ? shrunk[k] : x))),
  ]) {
    if (candidate.every((x, i) => x === node.inputs[i])) continue;
    const rebuilt = rebuild(candidate);
    if (sameShape(rebuilt.shape, node.shape)) return rebuilt;
  }
  return undefined;
}

const binaryRule =
  (f: (a: Tensor, b: Tensor) => Tensor, rule: (a: Tensor, b: Tensor, node: Tensor) => Tensor | undefined): Rule =>
  (node) => {
    const [a, b] = node.inputs;
    return rule(a, b, node) ?? withoutRepeats(node, ([x, y]) => f(x, y));
  };

const negated = (x: Tensor) => (x.op.name === 'neg' ? x.inputs[0] : undefined);

/** x and c of x·c with a uniform constant c. */
function scaled(x: Tensor): { of: Tensor; by: number } | undefined {
  if (x.op.name !== 'mul') return undefined;
  const [a, b] = x.inputs;
  const [ca, cb] = [uniformValue(a), uniformValue(b)];
  if (cb !== undefined && sameShape(a.shape, x.shape)) return { of: a, by: cb };
  if (ca !== undefined && sameShape(b.shape, x.shape)) return { of: b, by: ca };
  return undefined;
}

const rules: Readonly<Record<string, Rule>> = {
  add: binaryRule(ew.add, (a, b, node) => {
    if (uniformValue(a) === 0) return to(b, node);
    if (uniformValue(b) === 0) return to(a, node);
    if (a === b && isFloat(a.dtype)) return ew.mul(a, 2);
    const [na, nb] = [negated(a), negated(b)];
    return nb ? ew.sub(a, nb) : na ? ew.sub(b, na) : besides(a, b);
  }),
  sub: binaryRule(ew.sub, (a, b, node) => {
    if (uniformValue(b) === 0) return to(a, node);
    if (uniformValue(a) === 0) return to(ew.neg(b), node);
    const nb = negated(b);
    return nb && ew.add(a, nb);
  }),
  mul: binaryRule(ew.mul, (a, b, node) => {
    const [ca, cb] = [uniformValue(a), uniformValue(b)];
    if (ca === 1) return to(b, node);
    if (cb === 1) return to(a, node);
    if (isFloat(node.dtype) && ca === -1) return to(ew.neg(b), node);
    if (isFloat(node.dtype) && cb === -1) return to(ew.neg(a), node);
    const [c, x] = ca === undefined ? [cb, a] : [ca, b];
    const inner = c === undefined || !isFloat(node.dtype) ? undefined : scaled(x);
    if (inner && c !== undefined) return to(ew.mul(inner.of, inner.by * c), node);
    const [na, nb] = [negated(a), negated(b)];
    if (na && nb) return ew.mul(na, nb);
    return undefined;
  }),
  div: binaryRule(ew.div, (a, b, node) => (uniformValue(b) === 1 ? to(a, node) : undefined)),
  maximum: binaryRule(ew.maximum, () => undefined),
  minimum: binaryRule(ew.minimum, () => undefined),
  greater: binaryRule(ew.greater, () => undefined),
  less: binaryRule(ew.less, () => undefined),
  equal: binaryRule(ew.equal, () => undefined),
  pow: binaryRule(ew.pow, (a, b, node) => {
    const power = uniformValue(b);
    if (!sameShape(a.shape, node.shape)) return undefined;
    if (power === 1) return a;
    if (power === 2) return ew.mul(a, a);
    if (power === 0.5) return ew.sqrt(a);
    return power === -1 ? ew.reciprocal(a) : undefined;
  }),
  where: (node) => {
    const [condition, a, b] = node.inputs;
    const known = uniformValue(condition);
    if (known !== undefined) return to(known === 0 ? b : a, node);
    return a === b ? to(a, node) : withoutRepeats(node, ([c, x, y]) => ew.where(c, x, y));
  },
  neg: (node) => {
    const [x] = node.inputs;
    const inner = scaled(x);
    return (
      negated(x) ??
      (x.op.name === 'sub'
        ? ew.sub(x.inputs[1], x.inputs[0])
        : inner && isFloat(x.dtype)
          ? ew.mul(inner.of, -inner.by)
          : undefined)
    );
  },
  reshape: (node) => {
    const [x] = node.inputs;
    if (x.op.name === 'reshape') return reshape(x.inputs[0], node.shape);
    // A repeat along a leading or inner axis survives a reshape that only adds or drops extents of 1.
    return undefined;
  },
  transpose: (node) => {
    if (!isA(node, transposeOp)) return undefined;
    const [x] = node.inputs;
    const { permutation } = node.attrs;
    if (isA(x, transposeOp)) {
      const inner = x.attrs.permutation;
      return transpose(
        x.inputs[0],
        permutation.map((axis) => inner[axis]),
      );
    }
    // Moving only axes of extent 1 moves no element.
    const moving = permutation.filter((axis) => x.shape[axis] !== 1);
    return moving.every((axis, i) => i === 0 || axis > moving[i - 1]) ? reshape(x, node.shape) : undefined;
  },
  concat: (node) => {
    if (!isA(node, concatOp)) return undefined;
    const { axis } = node.attrs;
    const parts = node.inputs.flatMap((x) => (isA(x, concatOp) && x.attrs.axis === axis ? x.inputs : [x]));
    return parts.length === node.inputs.length ? undefined : concat(parts, axis);
  },
  expand: (node) => (isA(node.inputs[0], expandOp) ? expand(node.inputs[0].inputs[0], node.shape) : undefined),
  matmul: (node) => {
    if (!isA(node, matmulOp)) return undefined;
    const [a, b] = node.inputs;
    const [ta, tb] = [lastTwoSwapped(a), lastTwoSwapped(b)];
    if (!ta && !tb) return undefined;
    return matmul(ta ?? a, tb ?? b, {
      transposeA: node.attrs.transposeA !== (ta !== undefined),
      transposeB: node.attrs.transposeB !== (tb !== undefined),
    });
  },
};

/** A tensor that stands between zeros along one axis, and nothing else. */
function betweenZeros(x: Tensor): { of: Tensor; axis: number; from: number; to: number } | undefined {
  if (!isA(x, padOp) || x.attrs.value !== 0) return undefined;
  const { low, high, interior } = x.attrs;
  const padded = low.flatMap((n, axis) => (n !== 0 || high[axis] !== 0 ? [axis] : []));
  const [axis] = padded;
  if (padded.length !== 1 || low[axis] < 0 || high[axis] < 0 || interior.some((gap) => gap > 0)) return undefined;
  return { of: x.inputs[0], axis, from: low[axis], to: x.shape[axis] - high[axis] };
}

/** The sum of two tensors that fill neighbouring parts of one axis: what the gradient of a split is made of. */
function besides(a: Tensor, b: Tensor): Tensor | undefined {
  const [p, q] = [betweenZeros(a), betweenZeros(b)];
  if (!p || !q || p.axis !== q.axis || !sameShape(a.shape, b.shape)) return undefined;
  const [first, second] = p.from < q.from ? [p, q] : [q, p];
  if (first.to !== second.from) return undefined;
  const { axis } = first;
  const at = (n: number) => a.shape.map((_, i) => (i === axis ? n : 0));
  return pad(concat([first.of, second.of], axis), { low: at(first.from), high: at(a.shape[axis] - second.to) });
}

/** The operand of a transpose that swaps just the last two axes. */
function lastTwoSwapped(x: Tensor): Tensor | undefined {
  if (!isA(x, transposeOp)) return undefined;
  const { permutation } = x.attrs;
  const n = permutation.length;
  const swaps = permutation.every((axis, i) => axis === (i === n - 1 ? n - 2 : i === n - 2 ? n - 1 : i));
  return swaps ? x.inputs[0] : undefined;
}

/** How many nodes (inputs and constants apart) a graph has, by op. */
export function countOps(outputs: readonly Tensor[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const node of topological(outputs)) {
    if (node.inputs.length > 0) counts.set(node.op.name, (counts.get(node.op.name) ?? 0) + 1);
  }
  return counts;
}
