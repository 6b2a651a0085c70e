/** @file From the tensor graph of an update to expressions. */
import { EdgewiseError, ShapeError } from '../base/errors.ts';
import { constantValues, inputName, type Tensor, topological } from '../tensor/tensor.ts';
import { type Level, levelOf, type UpdateGraph } from './domain.ts';
import { Builder, type Expression, isReduction, type Reduction, type Update } from './expression.ts';
import { functions } from './functions.ts';

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
    }
    if (name in functions) return build.apply(name, ...args);
    if (tensor.op.decompose) return visit(tensor.op.decompose(tensor.inputs, tensor.attrs));
    throw new EdgewiseError(
      `Update rule: op '${name}' (${tensor}) is not available in update kernels; use elementwise ops and sum, max and min.`,
    );
  };

  const reduction = (name: Reduction, tensor: Tensor, arg: Expression, level: Level): Expression => {
    // Attributes of the op are those its name says.
    const { axes } = tensor.attrs as { readonly axes: readonly number[] };
    if (axes.every((axis) => tensor.inputs[0].shape[axis] === 1)) return arg;
    return build.reduce(name, arg, level);
  };

  const guards = graph.guards.map((tensor) => {
    const guard = visit(tensor);
    if (guard.bool && guard.level === 'global') return guard;
    throw new ShapeError(
      `Update rule: the guard ${tensor} must be one boolean for all; compare, and reduce over all tensors.`,
    );
  });
  const translated = (tensors: Readonly<Record<string, Tensor>>) =>
    new Map(Object.entries(tensors).map(([name, tensor]) => [name, visit(tensor)]));
  return { writes: translated(graph.writes), results: translated(graph.results), guards };
}
