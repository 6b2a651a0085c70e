/** @file The checks every op case goes through. */
import { expect } from 'vitest';
import { grad, hvp, jvp, vjp } from '../../src/autodiff/index.ts';
import { Key } from '../../src/base/random.ts';
import { expandComposites } from '../../src/compile/index.ts';
import type { Device } from '../../src/runtime/index.ts';
import {
  add,
  constant,
  type DType,
  decode,
  encode,
  evaluate,
  input,
  isFloat,
  mul,
  sizeOf,
  square,
  sum,
  type Tensor,
} from '../../src/tensor/index.ts';
import { normal, type Sample } from './cases/case.ts';

/** Largest relative errors met so far, by what was compared. */
export type Figures = Map<string, { error: number; at: string }>;

/** A sample turned into graphs: outputs, a scalar loss over them, and its derivatives. */
interface Problem {
  readonly inputs: readonly Tensor[];
  /** Inputs that are differentiated. */
  readonly wrt: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly floats: readonly Tensor[];
  readonly loss: Tensor | undefined;
  /** A direction for each of `wrt`, and a cotangent for each of `floats`, as symbols. */
  readonly directions: readonly Tensor[];
  readonly cotangents: readonly Tensor[];
  readonly values: Map<Tensor, Float64Array>;
}

function pose(sample: Sample, seed: number, dtype: 'float32' | 'float64'): Problem {
  const key = Key.fromSeed(seed);
  const values = new Map<Tensor, Float64Array>();
  const symbol = (name: string, shape: readonly number[], type: DType, data: Float64Array): Tensor => {
    const x = input(name, shape, type);
    // Rounded to float32 so that every device and precision sees the same numbers.
    values.set(x, isFloat(type) ? Float64Array.from(data, Math.fround) : data);
    return x;
  };
  const inputs = sample.inputs.map(({ shape, draw = normal, dtype: own = dtype }, i) =>
    symbol(`x${i}`, shape, own, draw(key.split('input', i), sizeOf(shape))),
  );
  const wrt = inputs.filter((x, i) => isFloat(x.dtype) && !sample.inputs[i].fixed);
  const built = sample.build(inputs);
  const outputs = Array.isArray(built) ? (built as readonly Tensor[]) : [built as Tensor];
  const floats = outputs.filter((y) => isFloat(y.dtype));
  const random = (name: string, like: readonly Tensor[]) =>
    like.map((x, i) => {
      const data = normal(key.split(name, i), x.size);
      const top = Math.max(1, ...data.map(Math.abs));
      return symbol(
        `${name}${i}`,
        x.shape,
        x.dtype,
        data.map((v) => v / top),
      );
    });
  const directions = random('v', wrt);
  const cotangents = random('w', floats);
  // Linear and quadratic in the outputs, so that second derivatives of linear ops do not vanish.
  const loss = floats
    .map((y, i) => sum(add(mul(cotangents[i], y), mul(square(y), 0.5 / (i + 1)))))
    .reduce<Tensor | undefined>((total, term) => (total ? add(total, term) : term), undefined);
  return { inputs, wrt, outputs, floats, loss, directions, cotangents, values };
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((total, v, i) => total + v * b[i], 0);
const size = (a: ArrayLike<number>) => Math.sqrt(dot(a, a));
const flat = (list: readonly ArrayLike<number>[]) => list.flatMap((part) => Array.from(part));

/** Relative distance of two vectors, in the units of the larger; `natural` keeps the noise of a true zero from counting. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>, natural: number): number {
  return size(Array.from(a).map((v, i) => v - b[i])) / Math.max(size(a), size(b), natural);
}

function record(figures: Figures, what: string, error: number, where: string): void {
  if (!(error <= (figures.get(what)?.error ?? -1))) figures.set(what, { error, at: where });
}

/** Checks that the error is a number below the bound, and remembers it. */
function within(figures: Figures, what: string, error: number, bound: number, where: string): void {
  record(figures, what, error, where);
  expect(error, `${what}: ${where}`).toBeLessThanOrEqual(bound);
}

const STEP = 2e-3;

/** Values against the reference formula, where the sample has one. */
export function checkValues(sample: Sample, seed: number, where: string, figures: Figures): void {
  if (!sample.reference) return;
  const { inputs, outputs, values } = pose(sample, seed, 'float64');
  const wanted = sample.reference(inputs.map((x) => ({ shape: x.shape, data: values.get(x)! })));
  evaluate(outputs, values).forEach((got, k) => {
    expect(got.length, `${where}: elements of output ${k}`).toBe(wanted[k].length);
    for (let i = 0; i < got.length; i++) {
      if (Number.isFinite(wanted[k][i])) continue;
      expect(got[i], `${where}: element ${i} of output ${k}`).toBe(wanted[k][i]);
    }
    const finite = (list: ArrayLike<number>) => Array.from(list).map((v, i) => (Number.isFinite(wanted[k][i]) ? v : 0));
    within(figures, 'value', distance(finite(got), finite(wanted[k]), 1e-3), 1e-12, where);
  });
}

/** What GPU providers get instead of a kernel they lack must be the same function, in its derivatives too. */
export function checkParts(sample: Sample, seed: number, where: string, figures: Figures): void {
  const { wrt, outputs, loss, directions, values } = pose(sample, seed, 'float32');
  const graphs = [...outputs, ...(loss && wrt.length > 0 ? hvp(loss, wrt, directions) : [])];
  const wanted = evaluate(graphs, values);
  for (const provider of ['webgpu', 'cuda']) {
    evaluate(expandComposites(graphs, provider), values).forEach((got, k) => {
      within(
        figures,
        'parts against the whole',
        deviation(got, wanted[k]),
        1e-10,
        `${where}, ${graphs[k]} on ${provider}`,
      );
    });
  }
}

/**
 * Derivatives on the interpreter, in float64: gradient, jvp, hvp and the derivative of the hvp against central differences of sixth
 * order, reverse over reverse against forward over reverse, and the dot-product test.
 */
export function checkDerivatives(sample: Sample, seed: number, where: string, figures: Figures): void {
  const { wrt, floats, loss, directions, cotangents, values } = pose(sample, seed, 'float64');
  if (!loss || wrt.length === 0) return;
  const g = grad(loss, wrt);
  const pushed = jvp(floats, wrt, directions);
  const pulled = vjp(floats, wrt, cotangents);
  const hv = hvp(loss, wrt, directions);
  const slope = g.map((part, i) => sum(mul(part, directions[i]))).reduce((a, b) => add(a, b));
  const twice = grad(slope, wrt);
  const third = jvp(hv, wrt, directions);
  const groups = [floats, [loss], g, pushed, pulled, hv, twice, third];
  const [ys, [l], gs, pushedAt, pulledAt, hvs, twiceAt, thirdAt] = ungroup(evaluate(groups.flat(), values), groups);

  const v = directions.map((d) => values.get(d)!);
  const w = cotangents.map((c) => values.get(c)!);
  const moved = (t: number, along: readonly ArrayLike<number>[]) => {
    const there = new Map(values);
    wrt.forEach((x, i) => {
      there.set(
        x,
        values.get(x)!.map((value, k) => value + t * along[i][k]),
      );
    });
    return there;
  };
  const difference = (of: readonly Tensor[], along: readonly ArrayLike<number>[]) => {
    const [m3, m2, m1, p1, p2, p3] = [-3, -2, -1, 1, 2, 3].map((k) => flat(evaluate(of, moved(k * STEP, along))));
    return m3.map((_, i) => (45 * (p1[i] - m1[i]) - 9 * (p2[i] - m2[i]) + (p3[i] - m3[i])) / (60 * STEP));
  };

  // One sweep along the direction serves all orders.
  const swept = difference([...floats, loss, ...g, ...hv], v);
  const [dY, dL, dG, dH] = [ys, [l], gs, hvs].reduce<{ parts: number[][]; offset: number }>(
    ({ parts, offset }, group) => {
      const length = flat(group).length;
      return { parts: [...parts, swept.slice(offset, offset + length)], offset: offset + length };
    },
    { parts: [], offset: 0 },
  ).parts;
  const floor = (at: readonly ArrayLike<number>[]) => 1e-6 * (1 + size(flat(at)));
  within(figures, 'jvp against differences', distance(flat(pushedAt), dY, floor(ys)), 1e-6, where);
  within(
    figures,
    'gradient along a direction against differences',
    distance([dot(flat(gs), flat(v))], dL, floor([l])),
    1e-6,
    where,
  );
  within(figures, 'hvp against differences', distance(flat(hvs), dG, floor(gs)), 1e-6, where);
  within(figures, 'third order against differences', distance(flat(thirdAt), dH, floor(hvs)), 1e-6, where);
  within(
    figures,
    'reverse over reverse against forward over reverse',
    distance(flat(hvs), flat(twiceAt), floor(hvs)),
    1e-10,
    where,
  );
  const [left, right] = [dot(flat(pushedAt), flat(w)), dot(flat(pulledAt), flat(v))];
  const scale = size(flat(pushedAt)) * size(flat(w)) + size(flat(pulledAt)) * size(flat(v));
  within(figures, 'dot-product test', Math.abs(left - right) / Math.max(scale, 1e-6), 1e-10, where);

  // Every entry of the gradient, where there are few.
  const entries = flat(gs).length;
  if (entries > 0 && entries <= 32) {
    const units = Array.from({ length: entries }, (_, k) => {
      let offset = 0;
      return wrt.map((x) => {
        const unit = new Float64Array(x.size);
        if (k >= offset && k < offset + x.size) unit[k - offset] = 1;
        offset += x.size;
        return unit;
      });
    });
    within(
      figures,
      'gradient against differences',
      distance(
        flat(gs),
        units.map((unit) => difference([loss], unit)[0]),
        floor([l]),
      ),
      1e-6,
      where,
    );
  }
}

function ungroup<T>(list: readonly T[], groups: readonly (readonly unknown[])[]): T[][] {
  let offset = 0;
  return groups.map((group) => {
    offset += group.length;
    return list.slice(offset - group.length, offset);
  });
}

/** Largest difference over the largest value of the reference (0.1 where all are smaller); equal where not finite. */
function deviation(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let top = 0.1;
  let worst = 0;
  for (let i = 0; i < wanted.length; i++) {
    if (Number.isFinite(wanted[i])) {
      top = Math.max(top, Math.abs(wanted[i]));
      worst = Number.isFinite(got[i]) ? Math.max(worst, Math.abs(got[i] - wanted[i])) : Number.POSITIVE_INFINITY;
    } else if (!Object.is(got[i], wanted[i])) worst = Number.POSITIVE_INFINITY;
  }
  return worst / top;
}

/** What a device computes against the interpreter: outputs, gradient, jvp and hvp. */
export async function checkDevice(
  device: Device,
  dtype: 'float32' | 'float64',
  sample: Sample,
  seed: number,
  where: string,
  figures: Figures,
): Promise<void> {
  const { inputs, wrt, outputs, floats, loss, directions, cotangents, values } = pose(sample, seed, dtype);
  const differentiable = loss !== undefined && wrt.length > 0;
  const groups: [string, readonly Tensor[]][] = [['value', outputs]];
  if (differentiable) {
    groups.push(
      ['gradient', grad(loss, wrt)],
      ['jvp', jvp(floats, wrt, directions)],
      ['hvp', hvp(loss, wrt, directions)],
    );
  }
  const symbols = [...inputs, ...directions, ...cotangents];
  // An output may be an input or a constant; a device returns those too, but there is nothing to compute.
  const wanted = groups.flatMap(([what, list]) => list.map((tensor) => ({ what, tensor })));
  const program = await device.compile(
    symbols,
    wanted.map(({ tensor }) => tensor),
  );
  try {
    const results = await program.run(new Map(symbols.map((x) => [x, encode(values.get(x)!, x.dtype)])));
    const reference = evaluate(
      wanted.map(({ tensor }) => tensor),
      values,
    );
    const bound = dtype === 'float32' ? 1e-5 : 1e-10;
    wanted.forEach(({ what, tensor }, k) => {
      const got = decode(results[k], tensor.dtype);
      within(
        figures,
        `${what} on ${device.name} in ${dtype}`,
        deviation(got, reference[k]),
        isFloat(tensor.dtype) ? bound : 0,
        `${where}, ${tensor}`,
      );
    });
  } finally {
    await program.dispose();
  }
}

/** A zero of the precision under test, for cases that need a second operand. */
export const zeroLike = (x: Tensor): Tensor => constant(0, x.shape, x.dtype);
