/**
 * @file The numbers of an update that do not belong to elements: bias corrections, trust ratios, step sizes.
 * Computed in float64, each by a closure made once; no graph is walked during a step.
 */
import type { Level } from './domain.ts';
import type { Expression } from './expression.ts';
import { functions } from './functions.ts';

/** Values of an expression: one, one a class of tensors, or one a row. */
export type Register = Float64Array;

/** What there is one of at each level during a step. Classes are sets of tensors that all numbers of the step are the same for. */
export interface Extents {
  classes: number;
  rows: number;
  /** Class of each row. */
  rowClass: Int32Array;
}

export type Instruction = () => void;

/**
 * The instruction that computes `x` from the registers of its arguments.
 * @param extents Read at each run.
 */
export function hostInstruction(x: Expression, registerOf: (x: Expression) => Register, extents: Extents): Instruction {
  const out = registerOf(x);
  const args = x.args.map(registerOf);
  if (x.op === 'sum' || x.op === 'max' || x.op === 'min') return reduction(x, out, args[0], extents);
  const f = functions[x.op];
  if (x.level === 'global') return globalInstruction(x.op, f, out, args);
  if (x.level === 'tensor') return tensorInstruction(f, out, args, x, extents);
  const places = x.args.map((arg) => placeOf(arg.level));
  const values = new Array<number>(args.length);
  return () => {
    for (let i = 0; i < extents.rows; i++) {
      for (let k = 0; k < args.length; k++) values[k] = args[k][places[k](i, extents)];
      out[i] = f(...values);
    }
  };
}

/** Over classes of tensors; an argument that holds for all is read with stride 0. */
function tensorInstruction(
  f: (...x: number[]) => number,
  out: Register,
  [a, b, c]: readonly Register[],
  { args }: Expression,
  extents: Extents,
): Instruction {
  const [sa, sb, sc] = args.map((arg) => (arg.level === 'global' ? 0 : 1));
  if (c) {
    return () => {
      for (let i = 0; i < extents.classes; i++) out[i] = f(a[i * sa], b[i * sb], c[i * sc]);
    };
  }
  if (b) {
    return () => {
      for (let i = 0; i < extents.classes; i++) out[i] = f(a[i * sa], b[i * sb]);
    };
  }
  return () => {
    for (let i = 0; i < extents.classes; i++) out[i] = f(a[i * sa]);
  };
}

function globalInstruction(
  name: string,
  f: (...x: number[]) => number,
  out: Register,
  [a, b, c]: readonly Register[],
): Instruction {
  // The commonest ones without an indirect call: a step of a small model is as long as these take.
  switch (name) {
    case 'add':
      return () => {
        out[0] = a[0] + b[0];
      };
    case 'sub':
      return () => {
        out[0] = a[0] - b[0];
      };
    case 'mul':
      return () => {
        out[0] = a[0] * b[0];
      };
    case 'div':
      return () => {
        out[0] = a[0] / b[0];
      };
  }
  if (c) {
    return () => {
      out[0] = f(a[0], b[0], c[0]);
    };
  }
  if (b) {
    return () => {
      out[0] = f(a[0], b[0]);
    };
  }
  return () => {
    out[0] = f(a[0]);
  };
}

/** Where the i-th row finds an argument. */
function placeOf(level: Level): (i: number, extents: Extents) => number {
  if (level === 'global') return () => 0;
  if (level === 'row') return (i) => i;
  return (i, { rowClass }) => rowClass[i];
}

/** Over numbers of rows or tensors; those of elements are reduced by stages. */
function reduction(x: Expression, out: Register, arg: Register, extents: Extents): Instruction {
  const [start, combine] = folds[x.op];
  const from = x.args[0].level;
  const place = x.level === 'global' ? () => 0 : (i: number) => extents.rowClass[i];
  return () => {
    out.fill(start, 0, x.level === 'global' ? 1 : extents.classes);
    const n = from === 'row' ? extents.rows : extents.classes;
    for (let i = 0; i < n; i++) {
      const at = place(i);
      out[at] = combine(out[at], arg[i]);
    }
  };
}

/** Neutral element and combination of each reduction. */
export const folds: Readonly<Record<string, readonly [number, (a: number, b: number) => number]>> = {
  sum: [0, (a, b) => a + b],
  max: [Number.NEGATIVE_INFINITY, (a, b) => Math.max(a, b)],
  min: [Number.POSITIVE_INFINITY, (a, b) => Math.min(a, b)],
};
