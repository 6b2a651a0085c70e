/** @file Ops of an update on plain numbers: what the host computes, and what kernels call where SIMD has no instruction. */
import { erf } from '../tensor/ops/erf.ts';

type Fn = (...x: number[]) => number;

const bool = (value: boolean): number => (value ? 1 : 0);

/** By op name of `tensor/ops`; booleans are 0 and 1. */
export const functions: Readonly<Record<string, Fn>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => a ** b,
  mod: (a, b) => a - b * Math.floor(a / b),
  // Math.max and Math.min propagate NaN.
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  equal: (a, b) => bool(a === b),
  greater: (a, b) => bool(a > b),
  greaterEqual: (a, b) => bool(a >= b),
  less: (a, b) => bool(a < b),
  lessEqual: (a, b) => bool(a <= b),
  logicalAnd: (a, b) => bool(a !== 0 && b !== 0),
  logicalOr: (a, b) => bool(a !== 0 || b !== 0),
  logicalXor: (a, b) => bool((a !== 0) !== (b !== 0)),
  logicalNot: (a) => bool(a === 0),
  neg: (a) => -a,
  abs: Math.abs,
  sign: Math.sign,
  sqrt: Math.sqrt,
  reciprocal: (a) => 1 / a,
  floor: Math.floor,
  ceil: Math.ceil,
  round: (x) => {
    const low = Math.floor(x);
    return x - low === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(x);
  },
  isFinite: (a) => bool(Number.isFinite(a)),
  isNaN: (a) => bool(Number.isNaN(a)),
  where: (c, a, b) => (c !== 0 ? a : b),
  exp: Math.exp,
  log: Math.log,
  log1p: Math.log1p,
  expm1: Math.expm1,
  sin: Math.sin,
  cos: Math.cos,
  atan: Math.atan,
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  erf,
};

/** Results of these are booleans. */
export const predicates: ReadonlySet<string> = new Set([
  'equal',
  'greater',
  'greaterEqual',
  'less',
  'lessEqual',
  'logicalAnd',
  'logicalOr',
  'logicalXor',
  'logicalNot',
  'isFinite',
  'isNaN',
]);
