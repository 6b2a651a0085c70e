/** @file Our ops in TensorFlow.js. */
import * as tf from '@tensorflow/tfjs';
import type { Tensor as Symbol } from 'edgewise';
import type { ArrayLibrary } from 'edgewise/optim';

type Op = (inputs: readonly tf.Tensor[], node: Symbol) => tf.Tensor;

const unary =
  (f: (x: tf.Tensor) => tf.Tensor): Op =>
  ([x]) =>
    f(x);
const binary =
  (f: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor): Op =>
  ([a, b]) =>
    f(a, b);
/** Attributes of an op, as the graph's vocabulary fixes them. */
const attrsOf = <A>(node: Symbol): A => node.attrs as A;

const reduction =
  (f: (x: tf.Tensor, axes: number[], keepDims: boolean) => tf.Tensor): Op =>
  ([x], node) => {
    const { axes, keepDims } = attrsOf<{ readonly axes: readonly number[]; readonly keepDims: boolean }>(node);
    // No axes means all to TensorFlow.js, and none to us.
    return axes.length === 0 ? x.clone() : f(x, [...axes], keepDims);
  };

/** A result that shares nothing with what it was made from. */
const clone = (x: tf.Tensor): tf.Tensor => x.clone();

const ops: Readonly<Record<string, Op>> = {
  abs: unary(tf.abs),
  atan: unary(tf.atan),
  ceil: unary(tf.ceil),
  cos: unary(tf.cos),
  erf: unary(tf.erf),
  exp: unary(tf.exp),
  expm1: unary(tf.expm1),
  floor: unary(tf.floor),
  // Infinite and NaN less themselves are NaN, which equals nothing. Not every backend has tf.isFinite.
  isFinite: unary((x) => tf.equal(tf.sub(x, x), 0)),
  isNaN: unary((x) => tf.notEqual(x, x)),
  log: unary(tf.log),
  log1p: unary(tf.log1p),
  logicalNot: unary((x) => tf.logicalNot(x)),
  neg: unary(tf.neg),
  reciprocal: unary(tf.reciprocal),
  relu: unary(tf.relu),
  round: unary(tf.round),
  sigmoid: unary(tf.sigmoid),
  sign: unary(tf.sign),
  sin: unary(tf.sin),
  softplus: unary(tf.softplus),
  sqrt: unary(tf.sqrt),
  square: unary(tf.square),
  step: unary((x) => tf.step(x, 0)),
  stopGradient: unary(clone),
  tanh: unary(tf.tanh),
  add: binary(tf.add),
  div: binary(tf.div),
  equal: binary(tf.equal),
  greater: binary(tf.greater),
  greaterEqual: binary(tf.greaterEqual),
  less: binary(tf.less),
  lessEqual: binary(tf.lessEqual),
  logicalAnd: binary((a, b) => tf.logicalAnd(a, b)),
  logicalOr: binary((a, b) => tf.logicalOr(a, b)),
  logicalXor: binary((a, b) => tf.logicalXor(a, b)),
  maximum: binary(tf.maximum),
  minimum: binary(tf.minimum),
  mod: binary((a, b) => tf.sub(a, tf.mul(b, tf.floor(tf.div(a, b))))),
  mul: binary(tf.mul),
  pow: binary(tf.pow),
  sub: binary(tf.sub),
  where: ([condition, a, b]) => tf.where(condition, a, b),
  max: reduction(tf.max),
  min: reduction(tf.min),
  prod: reduction(tf.prod),
  sum: reduction(tf.sum),
  cast: ([x], { dtype }) =>
    dtype === 'bool' ? tf.notEqual(x, 0) : dtype.startsWith('int') ? tf.cast(x, 'int32') : tf.cast(x, 'float32'),
  clip: ([x], node) => {
    const { low, high } = attrsOf<{ readonly low: number; readonly high: number }>(node);
    return tf.clipByValue(x, low, high);
  },
  expand: ([x], { shape }) => tf.broadcastTo(x, [...shape]),
  matmul: ([a, b], node) => {
    const { transposeA, transposeB } = attrsOf<{ readonly transposeA: boolean; readonly transposeB: boolean }>(node);
    return tf.matMul(a, b, transposeA, transposeB);
  },
  reshape: ([x], { shape }) => tf.reshape(x, [...shape]),
  transpose: ([x], node) =>
    tf.transpose(x, [...attrsOf<{ readonly permutation: readonly number[] }>(node).permutation]),
};

/** TensorFlow.js as what runs a rule. */
export const library: ArrayLibrary<tf.Tensor> = {
  name: 'TensorFlow.js',
  array: (values, shape, boolean) =>
    tf.tensor(boolean ? Uint8Array.from(values) : Float32Array.from(values), [...shape], boolean ? 'bool' : 'float32'),
  fill: (shape, value) => tf.fill([...shape], value),
  ops,
  values: (x) => x.dataSync(),
  read: (scalars) => tf.tidy(() => [...tf.stack(scalars.map((x) => tf.reshape(tf.cast(x, 'float32'), []))).dataSync()]),
  keep: clone,
  release: (x) => x.dispose(),
};
