/** @file Computes graphs op by op with the functions of an array library; what depends on numbers only is computed here, in float64. */
import { EdgewiseError } from '../base/errors.ts';
import type { Shape } from '../tensor/shape.ts';
import { constantValues, inputName, type Tensor, topological } from '../tensor/tensor.ts';
import type { GraphFeeds, GraphRunner } from './graph-run.ts';

/** What an array library offers. No function consumes its arguments; each returns a new reference. */
export interface ArrayLibrary<T> {
  /** Its name, in messages. */
  readonly name: string;
  /** An array of floating-point numbers, or of booleans (given as 0 and 1). */
  array(values: readonly number[], shape: Shape, boolean: boolean): T;
  /** An array of floating-point numbers filled with one. */
  fill(shape: Shape, value: number): T;
  /** Ops by the name of ours; `node` has shapes and attributes. Those it does not have are computed here, in float64. */
  readonly ops: Readonly<Record<string, (inputs: readonly T[], node: Tensor) => T>>;
  /** The elements of an array, booleans as 0 and 1. */
  values(x: T): ArrayLike<number>;
  /** The numbers in arrays of shape [], if possible in one transfer. */
  read(scalars: readonly T[]): readonly number[];
  keep(x: T): T;
  release(x: T): void;
}

/** Runs graphs with an array library. */
export function libraryRunner<T>(library: ArrayLibrary<T>): GraphRunner<T> {
  return {
    compute: (arrays, numbers, given) => compute(library, arrays, numbers, given),
    fill: library.fill,
    keep: library.keep,
    release: library.release,
  };
}

function compute<T>(
  library: ArrayLibrary<T>,
  arrays: readonly Tensor[],
  numbers: readonly Tensor[],
  given: GraphFeeds<T>,
): { arrays: T[]; numbers: number[] } {
  // Where numbers have to be read anyway, all arithmetic on them is done here.
  const exact = numbers.length > 0;
  const host = new Map<Tensor, number>();
  const device = new Map<Tensor, T>();
  const made: T[] = [];
  const own = (x: T): T => {
    made.push(x);
    return x;
  };
  const onDevice = (tensor: Tensor): T => {
    const known = device.get(tensor);
    if (known !== undefined) return known;
    const value = host.get(tensor);
    if (value === undefined) throw new EdgewiseError(`${library.name}: ${tensor} was not computed.`);
    const array = own(library.array([value], [], tensor.dtype === 'bool'));
    device.set(tensor, array);
    return array;
  };
  try {
    const boundary = new Set(given.keys());
    for (const tensor of topological([...arrays, ...numbers], boundary)) {
      const value = given.get(tensor);
      if (typeof value === 'number') host.set(tensor, value);
      else if (value !== undefined) device.set(tensor, value);
      else {
        const number = hostValue(tensor, host);
        if (number !== undefined) host.set(tensor, number);
        else {
          const array = own(deviceValue(library, tensor, onDevice));
          if (exact && tensor.shape.length === 0) host.set(tensor, library.read([array])[0]);
          else device.set(tensor, array);
        }
      }
    }
    const away = numbers.filter((tensor) => !host.has(tensor));
    const read = away.length > 0 ? library.read(away.map(onDevice)) : [];
    const readAt = new Map(away.map((tensor, i) => [tensor, read[i]]));
    return {
      arrays: arrays.map((tensor) => library.keep(onDevice(tensor))),
      numbers: numbers.map((tensor) => host.get(tensor) ?? readAt.get(tensor) ?? Number.NaN),
    };
  } finally {
    for (const x of made) library.release(x);
  }
}

/** The value of a number that depends on numbers only. */
function hostValue(tensor: Tensor, host: ReadonlyMap<Tensor, number>): number | undefined {
  const { op, inputs, attrs, dtype, shape } = tensor;
  if (shape.length > 0) return undefined;
  const values = constantValues(tensor);
  if (values) return values[0];
  if (inputs.length === 0 || !op.evaluate) return undefined;
  const known = inputs.flatMap((x) => {
    const value = host.get(x);
    return value === undefined ? [] : [{ dtype: x.dtype, shape: x.shape, data: Float64Array.of(value) }];
  });
  return known.length === inputs.length ? op.evaluate(known, attrs, { dtype, shape })[0] : undefined;
}

function deviceValue<T>(library: ArrayLibrary<T>, tensor: Tensor, onDevice: (tensor: Tensor) => T): T {
  const { op, inputs, shape, dtype } = tensor;
  const values = constantValues(tensor);
  if (values) {
    const [first] = values;
    if (values.length === 1 && dtype !== 'bool') return library.fill(shape, first);
    const { size } = tensor;
    return library.array(
      values.length === size ? values : new Array<number>(size).fill(first),
      shape,
      dtype === 'bool',
    );
  }
  const name = inputName(tensor);
  if (name !== undefined) throw new EdgewiseError(`${library.name}: '${name}' was given no value.`);
  const apply = Object.hasOwn(library.ops, op.name) ? library.ops[op.name] : undefined;
  if (apply) return apply(inputs.map(onDevice), tensor);
  if (op.evaluate) {
    const data = inputs.map((x) => ({
      dtype: x.dtype,
      shape: x.shape,
      data: Float64Array.from(library.values(onDevice(x))),
    }));
    return library.array([...op.evaluate(data, tensor.attrs, tensor)], shape, dtype === 'bool');
  }
  if (op.decompose) {
    // The parts of a decomposition are new nodes behind the inputs, which are known.
    const given = new Map(inputs.map((x) => [x, onDevice(x)]));
    return compute(library, [op.decompose(inputs, tensor.attrs)], [], given).arrays[0];
  }
  throw new EdgewiseError(
    `The op '${op.name}' of this rule has no counterpart in ${library.name}; use another optimizer, or Edgewise's own trainer.`,
  );
}
