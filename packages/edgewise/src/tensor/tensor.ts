import { ShapeError } from '../base/errors.ts';
import type { DType } from './dtype.ts';
import type { Lowering } from './lowering.ts';
import { checkShape, type Shape, sameShape, showShape, sizeOf } from './shape.ts';

/** What an op yields: element type and extents. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** Constant settings of an op, part of a node's identity: plain numbers (any), strings, booleans, arrays, tensors. */
export type Attrs = object;

/** A derivative seed that is absent stands for zeros. */
export type MaybeTensor = Tensor | undefined;

/**
 * The one definition of an op: shape rule, float64 reference, ONNX lowering and derivative.
 * Either `evaluate` and `lower` are given, or `decompose`, which says the op in terms of others.
 */
export interface OpDef<A extends Attrs = Attrs> {
  /** Unique name, lower camel case. */
  readonly name: string;
  /** Result type; throws {@link ShapeError} naming the op and the shapes. */
  infer(inputs: readonly Tensor[], attrs: A): TensorType;
  /** Float64 reference: input elements in row-major order → output elements. */
  evaluate?(inputs: readonly Values[], attrs: A, type: TensorType): Float64Array;
  /** Emits ONNX nodes and returns the name of the result. */
  lower?(to: Lowering, inputs: readonly string[], node: Tensor<A>): string;
  /** The same value in terms of other ops; must agree with what `infer` says. */
  decompose?(inputs: readonly Tensor[], attrs: A): Tensor;
  /** Execution providers and dtypes without the kernel `lower` wants, which get the decomposition instead. */
  readonly decomposeOn?: readonly string[];
  /**
   * Pulls the output's cotangent back to every input; undefined where an input gets none.
   * `needed[i]` tells whether anybody asks for input i: expensive parts may be left out.
   */
  vjp?(node: Tensor<A>, cotangent: Tensor, needed: readonly boolean[]): readonly MaybeTensor[];
  /** Pushes tangents of the inputs (at least one present) forward. */
  jvp?(node: Tensor<A>, tangents: readonly MaybeTensor[]): MaybeTensor;
  /** Piecewise constant: all derivatives are zero. */
  readonly flat?: boolean;
}

/** Elements of a tensor in the reference interpreter, whatever the dtype (bool as 0 and 1). */
export interface Values extends TensorType {
  readonly data: Float64Array;
}

/** A symbol: the result of an op on other symbols. Nothing is computed until it is compiled. Immutable and hash-consed. */
export class Tensor<A extends Attrs = Attrs> implements TensorType {
  /** Increases with creation, so inputs always have smaller ids than their users. */
  readonly id: number;
  readonly op: OpDef<A>;
  readonly inputs: readonly Tensor[];
  readonly attrs: A;
  readonly shape: Shape;
  readonly dtype: DType;

  /** @internal Use ops; they intern their nodes. */
  constructor(id: number, op: OpDef<A>, inputs: readonly Tensor[], attrs: A, type: TensorType) {
    this.id = id;
    this.op = op;
    this.inputs = inputs;
    this.attrs = attrs;
    this.shape = type.shape;
    this.dtype = type.dtype;
  }

  get rank(): number {
    return this.shape.length;
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  /** Nodes appear in attributes (the body of a map); there they stand for their identity. */
  toJSON(): string {
    return `#${this.id}`;
  }

  toString(): string {
    return `${this.op.name}#${this.id} ${this.dtype}${showShape(this.shape)}`;
  }
}

let nextId = 0;
const interned = new Map<string, WeakRef<Tensor>>();
const forget = new FinalizationRegistry<string>((key) => {
  if (interned.get(key)?.deref() === undefined) interned.delete(key);
});

/** The node for `op` on `inputs` with `attrs`; the same one every time. */
export function apply<A extends Attrs>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A): Tensor<A> {
  const key = `${op.name}(${inputs.map((input) => input.id).join()})${JSON.stringify(attrs, exactly)}`;
  return intern(key, () => {
    const type = op.infer(inputs, attrs);
    return new Tensor(nextId++, op, inputs, attrs, type);
  });
}

/** JSON writes -0 as 0 and what is not finite as null, which would make different nodes one. */
function exactly(_: string, value: unknown): unknown {
  return typeof value === 'number' && (Object.is(value, -0) || !Number.isFinite(value))
    ? `${Object.is(value, -0) ? '-0' : value}`
    : value;
}

function intern<A extends Attrs>(key: string, make: () => Tensor<A>): Tensor<A> {
  const known = interned.get(key)?.deref();
  // The key holds the op's name and attributes, so what is found has this attribute type.
  if (known !== undefined) return known as Tensor<A>;
  const made = make();
  // Interned nodes are handed out at their own type again (above); the table itself does not look at attributes.
  interned.set(key, new WeakRef(made as unknown as Tensor));
  forget.register(made, key);
  return made;
}

interface InputAttrs extends TensorType {
  readonly name: string;
}

/** A named leaf fed at run time. */
export const inputOp: OpDef<InputAttrs> = {
  name: 'input',
  infer: (_, attrs) => attrs,
};

/** A symbol whose value is given at run time under `name`. The same name, shape and dtype is the same symbol. */
export function input(name: string, shape: Shape, dtype: DType = 'float32'): Tensor {
  checkShape(`input '${name}'`, shape);
  return erase(apply(inputOp, [], { name, shape: [...shape], dtype }));
}

/** The name `tensor` is fed under, or undefined where it is not an input. */
export function inputName(tensor: Tensor): string | undefined {
  return isA(tensor, inputOp) ? tensor.attrs.name : undefined;
}

interface ConstantAttrs extends TensorType {
  /** Elements, or one number that fills the tensor. Non-finite numbers are written as strings so that they survive JSON. */
  readonly values: readonly (number | string)[];
}

/** A leaf with known elements. */
export const constantOp: OpDef<ConstantAttrs> = {
  name: 'constant',
  infer: (_, attrs) => attrs,
};

/** A constant tensor: one number repeated, or `sizeOf(shape)` elements in row-major order. Meant for small tables; feed large data as inputs. */
export function constant(value: number | ArrayLike<number>, shape: Shape = [], dtype: DType = 'float32'): Tensor {
  checkShape('constant', shape);
  const list = typeof value === 'number' ? [value] : Array.from(value);
  if (typeof value !== 'number' && list.length !== sizeOf(shape)) {
    throw new ShapeError(
      `constant: ${list.length} elements do not fill shape ${showShape(shape)}; give ${sizeOf(shape)}, or one number.`,
    );
  }
  if (dtype.startsWith('int')) {
    const bad = list.find((element) => !Number.isInteger(element));
    if (bad !== undefined)
      throw new ShapeError(`constant: ${bad} is not an ${dtype}; give whole numbers, or cast the other operand.`);
  }
  const uniform = list.length > 0 && list.every((element) => Object.is(element, list[0]));
  const values = (uniform ? list.slice(0, 1) : list).map((x) =>
    Number.isFinite(x) && !Object.is(x, -0) ? x : Object.is(x, -0) ? '-0' : String(x),
  );
  return erase(apply(constantOp, [], { values, shape: [...shape], dtype }));
}

/** The elements of a constant (one where all are equal), or undefined where `tensor` is not a constant. */
export function constantValues(tensor: Tensor): readonly number[] | undefined {
  return isA(tensor, constantOp) ? tensor.attrs.values.map(Number) : undefined;
}

/** The number a constant is filled with, or undefined where it is not a uniform constant. */
export function uniformValue(tensor: Tensor): number | undefined {
  const values = constantValues(tensor);
  return values?.length === 1 ? values[0] : undefined;
}

/** Whether `tensor` was made by `op`; narrows its attributes. */
export function isA<A extends Attrs>(tensor: Tensor, op: OpDef<A>): tensor is Tensor & Tensor<A> {
  return (tensor.op as unknown) === op;
}

/** Forgets the attribute type: what graphs are made of. */
export function erase<A extends Attrs>(tensor: Tensor<A>): Tensor {
  // OpDef<A> takes A in argument position only, and an op is only ever called with its own node's attributes.
  return tensor as unknown as Tensor;
}

/** Runs an op definition and forgets the attribute type: the usual last line of an op's public function. */
export function make<A extends Attrs>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A): Tensor {
  return erase(apply(op, inputs, attrs));
}

/** Throws unless `tensor` has exactly the given shape. */
export function expectShape(op: string, what: string, tensor: Tensor, shape: Shape): void {
  if (!sameShape(tensor.shape, shape)) {
    throw new ShapeError(`${op}: ${what} has shape ${showShape(tensor.shape)}, but ${showShape(shape)} is wanted.`);
  }
}

/** Throws unless all tensors have one dtype; returns it. */
export function commonDtype(op: string, tensors: readonly Tensor[]): DType {
  const [first, ...rest] = tensors;
  for (const other of rest) {
    if (other.dtype !== first.dtype) {
      throw new ShapeError(
        `${op}: dtypes ${tensors.map((t) => t.dtype).join(' and ')} differ (shapes ${tensors.map((t) => showShape(t.shape)).join(', ')}); cast one of them.`,
      );
    }
  }
  return first.dtype;
}

/** Throws unless `tensor` holds floating-point numbers. */
export function expectFloat(op: string, tensor: Tensor): void {
  if (!tensor.dtype.startsWith('float')) {
    throw new ShapeError(
      `${op}: got ${tensor.dtype}${showShape(tensor.shape)}, but floating-point numbers are wanted; cast first.`,
    );
  }
}

/** Every node that `outputs` depend on, inputs before users; does not look behind tensors of `boundary`. */
export function topological(outputs: readonly Tensor[], boundary?: ReadonlySet<Tensor>): Tensor[] {
  const seen = new Map<number, Tensor>();
  const stack = [...outputs];
  for (let tensor = stack.pop(); tensor !== undefined; tensor = stack.pop()) {
    if (seen.has(tensor.id)) continue;
    seen.set(tensor.id, tensor);
    if (!boundary?.has(tensor)) stack.push(...tensor.inputs);
  }
  return [...seen.values()].sort((a, b) => a.id - b.id);
}
