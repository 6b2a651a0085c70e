/** @file Our ops in jax-js, whose functions consume the references they are given. */
import { numpy as np } from '@jax-js/jax';
import type { Tensor as Symbol } from 'edgewise';
import type { ArrayLibrary } from 'edgewise/optim';

type Op = (inputs: readonly np.Array[], node: Symbol) => np.Array;

const unary =
  (f: (x: np.Array) => np.Array): Op =>
  ([x]) =>
    f(x.ref);
const binary =
  (f: (a: np.Array, b: np.Array) => np.Array): Op =>
  ([a, b]) =>
    f(a.ref, b.ref);
/** Attributes of an op, as the graph's vocabulary fixes them. */
const attrsOf = <A>(node: Symbol): A => node.attrs as A;

const reduction =
  (f: (x: np.Array, axes: number[], keepdims: boolean) => np.Array): Op =>
  ([x], node) => {
    const { axes, keepDims } = attrsOf<{ readonly axes: readonly number[]; readonly keepDims: boolean }>(node);
    return axes.length === 0 ? x.ref : f(x.ref, [...axes], keepDims);
  };

const ops: Readonly<Record<string, Op>> = {
  abs: unary(np.abs),
  atan: unary(np.atan),
  ceil: unary(np.ceil),
  cos: unary(np.cos),
  exp: unary(np.exp),
  expm1: unary(np.expm1),
  floor: unary(np.floor),
  isFinite: unary(np.isfinite),
  isNaN: unary(np.isnan),
  log: unary(np.log),
  log1p: unary(np.log1p),
  logicalNot: unary(np.logicalNot),
  neg: unary(np.negative),
  reciprocal: unary(np.reciprocal),
  sign: unary(np.sign),
  sin: unary(np.sin),
  sqrt: unary(np.sqrt),
  square: unary(np.square),
  stopGradient: unary((x) => x),
  tanh: unary(np.tanh),
  add: binary(np.add),
  div: binary(np.trueDivide),
  equal: binary(np.equal),
  greater: binary(np.greater),
  greaterEqual: binary(np.greaterEqual),
  less: binary(np.less),
  lessEqual: binary(np.lessEqual),
  logicalAnd: binary(np.logicalAnd),
  logicalOr: binary(np.logicalOr),
  logicalXor: binary(np.logicalXor),
  maximum: binary(np.maximum),
  minimum: binary(np.minimum),
  mul: binary(np.multiply),
  pow: binary(np.power),
  sub: binary(np.subtract),
  where: ([condition, a, b]) => np.where(condition.ref, a.ref, b.ref),
  max: reduction((x, axis, keepdims) => np.max(x, axis, { keepdims })),
  min: reduction((x, axis, keepdims) => np.min(x, axis, { keepdims })),
  prod: reduction((x, axis, keepdims) => np.prod(x, axis, { keepdims })),
  sum: reduction((x, axis, keepdims) => np.sum(x, axis, { keepdims })),
  cast: ([x], { dtype }) => x.ref.astype(dtype === 'bool' ? np.bool : dtype.startsWith('int') ? np.int32 : np.float32),
  expand: ([x], { shape }) => np.broadcastTo(x.ref, [...shape]),
  matmul: ([a, b], node) => {
    const { transposeA, transposeB } = attrsOf<{ readonly transposeA: boolean; readonly transposeB: boolean }>(node);
    return np.matmul(transposeA ? np.matrixTranspose(a.ref) : a.ref, transposeB ? np.matrixTranspose(b.ref) : b.ref);
  },
  reshape: ([x], { shape }) => np.reshape(x.ref, [...shape]),
  transpose: ([x], node) =>
    np.transpose(x.ref, [...attrsOf<{ readonly permutation: readonly number[] }>(node).permutation]),
};

/** jax-js as what runs a rule. */
export const library: ArrayLibrary<np.Array> = {
  name: 'jax-js',
  array: (values, shape, boolean) =>
    boolean
      ? np.array(Int32Array.from(values), { shape: [...shape] }).astype(np.bool)
      : np.array(Float32Array.from(values), { shape: [...shape] }),
  fill: (shape, value) => np.full([...shape], value, { dtype: np.float32 }),
  ops,
  values: (x) => Array.from(x.ref.dataSync(), Number),
  read: (scalars) => scalars.map((x) => Number(x.ref.dataSync()[0])),
  keep: (x) => x.ref,
  release: (x) => x.dispose(),
};
