/** @file From a rule traced on nominal shapes [tensors, rows, columns] to a graph over the tensors of a model. */
import { EdgewiseError } from '../base/errors.ts';
import { type Level, levelOf, type Nominal } from '../kernels/index.ts';
import type { Segment } from '../params/layout.ts';
import type { DType } from '../tensor/dtype.ts';
import { add, cast, maximum, minimum, mul, type Operand } from '../tensor/ops/elementwise.ts';
import { expand } from '../tensor/ops/layout.ts';
import type { ReduceAttrs } from '../tensor/ops/reduce.ts';
import { type Shape, sameShape, showShape } from '../tensor/shape.ts';
import { constant, constantValues, make, type Tensor, topological } from '../tensor/tensor.ts';

/** What elements, and what numbers (one for all, or one a tensor), are computed in. */
export interface Precision {
  readonly elements: DType;
  readonly numbers: DType;
}

/** How partial results of the segments are joined where a reduction goes over all of them. */
const JOIN: Readonly<Record<string, (a: Operand, b: Operand) => Tensor>> = {
  sum: add,
  max: maximum,
  min: minimum,
  prod: mul,
};

const isFloat = ({ dtype }: Tensor): boolean => dtype.startsWith('float');
const isReduction = ({ op }: Tensor): boolean => op.name in JOIN;

/** `x` in `dtype` where it is a floating-point number. */
const inFloat = (x: Tensor, dtype: DType): Tensor => (isFloat(x) ? cast(x, dtype) : x);

/** `op` of `node` on other inputs: computed in the dtype of the elements where one of them is an element, handed out in that of the result. */
function remade(node: Tensor, inputs: readonly Tensor[], compute: DType, result: DType): Tensor {
  if (node.op.name === 'cast')
    return node.dtype.startsWith('float') ? castTo(inputs[0], result) : make(node.op, inputs, node.attrs);
  const made = make(
    node.op,
    inputs.map((x) => inFloat(x, compute)),
    node.attrs,
  );
  return inFloat(made, result);
}

const castTo = (x: Tensor, dtype: DType): Tensor => (x.dtype === dtype ? x : cast(x, dtype));

/** Extents of what belongs to each thing of `level` in a segment: a row is everything under one index of the first axis. */
function shapeAt(level: Level, { shape }: Segment): Shape {
  if (level === 'element') return shape;
  if (level === 'row' && shape.length > 1) return shape.map((extent, axis) => (axis === 0 ? extent : 1));
  return [];
}

/** Translates a rule traced on nominal shapes. What belongs to all is one tensor; the rest is one a segment. */
export class NominalTranslation {
  readonly #nominal: Nominal;
  readonly #segments: readonly Segment[];
  readonly #precision: Precision;
  readonly #known: Map<Tensor, readonly Tensor[]>;

  /** @param known Real tensors of the rule's symbols. */
  constructor(
    nominal: Nominal,
    segments: readonly Segment[],
    precision: Precision,
    known: ReadonlyMap<Tensor, readonly Tensor[]>,
  ) {
    this.#nominal = nominal;
    this.#segments = segments;
    this.#precision = precision;
    this.#known = new Map(known);
  }

  /** One tensor where the quantity is one for all, else one a segment. */
  at(root: Tensor): readonly Tensor[] {
    for (const tensor of topological([root], new Set(this.#known.keys())))
      if (!this.#known.has(tensor)) this.#known.set(tensor, this.#node(tensor));
    return this.#known.get(root)!;
  }

  /** The elements of each segment, repeated where the quantity is one a row, a tensor or for all. */
  elements(root: Tensor): Tensor[] {
    const parts = this.at(root);
    return this.#segments.map((segment, k) => {
      const part = inFloat(parts[this.#level(root) === 'global' ? 0 : k], this.#precision.elements);
      return sameShape(part.shape, segment.shape) ? part : expand(part, segment.shape);
    });
  }

  #level(tensor: Tensor): Level {
    return levelOf(tensor, this.#nominal);
  }

  #dtype(level: Level): DType {
    return level === 'global' || level === 'tensor' ? this.#precision.numbers : this.#precision.elements;
  }

  #node(tensor: Tensor): readonly Tensor[] {
    const level = this.#level(tensor);
    const values = constantValues(tensor);
    if (values) {
      if (values.length !== 1)
        throw new EdgewiseError(
          `Update rule: ${tensor} is a table of constants; use numbers and the symbols it is given.`,
        );
      const dtype = isFloat(tensor) ? this.#dtype(level) : tensor.dtype;
      return this.#each(level, (segment) => constant(values[0], segment ? shapeAt(level, segment) : [], dtype));
    }
    if (tensor.inputs.length === 0)
      throw new EdgewiseError(`Update rule: ${tensor} has no value; use the symbols the rule is given.`);
    if (tensor.op.name === 'expand' || tensor.op.name === 'reshape') {
      const [x] = tensor.inputs;
      return this.#each(level, (segment, k) => {
        const part = inFloat(this.#part(x, k), this.#dtype(level));
        const wanted = segment ? shapeAt(level, segment) : [];
        return sameShape(part.shape, wanted) ? part : expand(part, wanted);
      });
    }
    if (isReduction(tensor)) return this.#reduction(tensor, level);
    if (!tensor.op.evaluate && tensor.op.decompose) return this.at(tensor.op.decompose(tensor.inputs, tensor.attrs));
    const levels = [level, ...tensor.inputs.filter(isFloat).map((x) => this.#level(x))];
    const compute = levels.some((each) => each === 'element' || each === 'row')
      ? this.#precision.elements
      : this.#precision.numbers;
    return this.#each(level, (segment, k) => {
      const inputs = tensor.inputs.map((x) => this.#part(x, k));
      const made = remade(tensor, inputs, compute, this.#dtype(level));
      const wanted = segment ? shapeAt(level, segment) : [];
      if (!sameShape(made.shape, wanted))
        throw new EdgewiseError(
          `Update rule: ${tensor} has shape ${showShape(made.shape)} in a tensor where ${showShape(wanted)} is wanted; use elementwise ops and reductions, or a phase over tensors.`,
        );
      return made;
    });
  }

  #reduction(tensor: Tensor, to: Level): readonly Tensor[] {
    const [x] = tensor.inputs;
    const from = this.#level(x);
    const parts = this.at(x);
    if (from === to) return parts;
    const within = from === 'row' || from === 'element';
    const partial = parts.map((part) => {
      if (!within) return part;
      const axes = part.shape.map((_, axis) => axis).filter((axis) => to !== 'row' || axis > 0 || part.rank < 2);
      const attrs: ReduceAttrs = { axes, keepDims: to === 'row' && part.rank > 1 };
      return inFloat(make(tensor.op, [part], attrs), this.#dtype(to));
    });
    if (to !== 'global') return partial;
    const [first, ...rest] = partial;
    if (first === undefined) return [constant(0, [], this.#precision.numbers)];
    return [rest.reduce((total, part) => JOIN[tensor.op.name](total, part), first)];
  }

  #part(tensor: Tensor, k: number): Tensor {
    return this.#known.get(tensor)![this.#level(tensor) === 'global' ? 0 : k];
  }

  #each(level: Level, make_: (segment: Segment | undefined, k: number) => Tensor): readonly Tensor[] {
    return level === 'global' ? [make_(undefined, 0)] : this.#segments.map((segment, k) => make_(segment, k));
  }
}

/** Outputs of a rule traced on a tensor's own shape, in `precision`; what has no axes is a number. */
export function inPrecision(
  outputs: readonly Tensor[],
  given: ReadonlyMap<Tensor, Tensor>,
  { elements, numbers }: Precision,
): Tensor[] {
  const known = new Map(given);
  const dtypeOf = ({ rank }: Tensor) => (rank === 0 ? numbers : elements);
  for (const tensor of topological(outputs, new Set(given.keys()))) {
    if (known.has(tensor)) continue;
    const values = constantValues(tensor);
    if (values) {
      const data = values.length === 1 ? values[0] : values;
      known.set(tensor, constant(data, tensor.shape, isFloat(tensor) ? dtypeOf(tensor) : tensor.dtype));
      continue;
    }
    const inputs = tensor.inputs.map((x) => known.get(x)!);
    const floats = [tensor, ...tensor.inputs.filter(isFloat)];
    const compute = floats.some(({ rank }) => rank > 0) ? elements : numbers;
    known.set(tensor, remade(tensor, inputs, compute, dtypeOf(tensor)));
  }
  return outputs.map((output) => known.get(output)!);
}
