import { afterAll, describe, expect, test } from 'vitest';
import { ggnvp, grad, hvp, jvp, valueAndGrad, vjp } from '../../src/autodiff/index.ts';
import { DerivativeError, ShapeError } from '../../src/base/errors.ts';
import { Key, normal } from '../../src/base/random.ts';
import { openDevice } from '../../src/node/device.ts';
import * as t from '../../src/tensor/index.ts';

type Values = Map<t.Tensor, Float64Array>;

const draw = (shape: readonly number[], path: string, std = 1) =>
  normal(Key.fromSeed(5).split(path), new Float64Array(t.sizeOf(shape)), 0, std).map(Math.fround);

/** A small network: a loss of `parameters`, and values for all inputs. */
interface Network {
  readonly loss: t.Tensor;
  /** The network's outputs, of which the loss is a convex function. */
  readonly outputs: t.Tensor;
  readonly parameters: readonly t.Tensor[];
  readonly values: Values;
}

class Builder {
  readonly dtype: 'float32' | 'float64';
  readonly values: Values = new Map();
  readonly parameters: t.Tensor[] = [];

  constructor(dtype: 'float32' | 'float64') {
    this.dtype = dtype;
  }

  data(name: string, shape: readonly number[]): t.Tensor {
    const x = t.input(name, shape, this.dtype);
    this.values.set(x, draw(shape, name));
    return x;
  }

  labels(name: string, shape: readonly number[], classes: number): t.Tensor {
    const x = t.input(name, shape, 'int64');
    this.values.set(
      x,
      draw(shape, name).map((_, i) => (i * 7 + 1) % classes),
    );
    return x;
  }

  weight(name: string, shape: readonly number[]): t.Tensor {
    const w = t.input(name, shape, this.dtype);
    this.values.set(w, draw(shape, name, 1 / Math.sqrt(Math.max(1, t.sizeOf(shape.slice(0, -1))))));
    this.parameters.push(w);
    return w;
  }

  finish(outputs: t.Tensor, loss: t.Tensor): Network {
    return { loss, outputs, parameters: this.parameters, values: this.values };
  }
}

const networks: Readonly<Record<string, (b: Builder) => Network>> = {
  'multi-layer perceptron': (b) => {
    const x = b.data('x', [5, 3]);
    const h = t.tanh(t.add(t.matmul(x, b.weight('w1', [3, 4])), b.weight('b1', [4])));
    const y = t.add(
      t.matmul(t.relu(t.add(t.matmul(h, b.weight('w2', [4, 4])), b.weight('b2', [4]))), b.weight('w3', [4, 3])),
      b.weight('b3', [3]),
    );
    return b.finish(y, t.crossEntropy(y, b.labels('labels', [5], 3)));
  },
  'convolutional network with batch norm': (b) => {
    const x = b.data('x', [4, 2, 6, 6]);
    const norm = (h: t.Tensor, name: string) =>
      t.batchNorm(h, t.add(b.weight(`${name}.scale`, [h.shape[1]]), 1), b.weight(`${name}.bias`, [h.shape[1]])).y;
    const h = t.relu(norm(t.conv(x, b.weight('k1', [3, 2, 3, 3]), { padding: 1, stride: 2 }), 'n1'));
    const deeper = t.add(h, norm(t.conv(h, b.weight('k2', [3, 3, 3, 3]), { padding: 1 }), 'n2'));
    const y = t.matmul(t.globalAveragePool(t.gelu(deeper, { approximate: 'tanh' })), b.weight('w', [3, 3]));
    return b.finish(y, t.crossEntropy(y, b.labels('labels', [4], 3), { labelSmoothing: 0.1 }));
  },
  'attention block': (b) => {
    const [tokens, width, heads] = [4, 6, 2];
    const x = t.gather(b.weight('table', [5, width]), b.labels('tokens', [2, tokens], 5));
    const h = t.layerNorm(x, t.add(b.weight('scale', [width]), 1), b.weight('bias', [width]));
    const split = (name: string) =>
      t.transpose(
        t.reshape(t.matmul(h, b.weight(name, [width, width])), [2, tokens, heads, width / heads]),
        [0, 2, 1, 3],
      );
    const scores = t.mul(t.matmul(split('q'), split('k'), { transposeB: true }), 1 / Math.sqrt(width / heads));
    const mixed = t.matmul(t.softmax(t.where(t.causalMask(tokens), scores, Number.NEGATIVE_INFINITY)), split('v'));
    const joined = t.add(
      x,
      t.matmul(t.reshape(t.transpose(mixed, [0, 2, 1, 3]), [2, tokens, width]), b.weight('o', [width, width])),
    );
    const y = t.matmul(t.silu(joined), b.weight('head', [width, 5]));
    return b.finish(y, t.crossEntropy(y, b.labels('next', [2, tokens], 5)));
  },
  'LSTM cell over three steps': (b) => {
    const [size, features] = [3, 2];
    const x = b.data('x', [3, 4, features]);
    const [wx, wh, bias] = [
      b.weight('wx', [features, 4 * size]),
      b.weight('wh', [size, 4 * size]),
      b.weight('b', [4 * size]),
    ];
    let h: t.Tensor = t.constant(0, [4, size], b.dtype);
    let c: t.Tensor = t.constant(0, [4, size], b.dtype);
    for (let step = 0; step < 3; step++) {
      const gates = t.add(t.add(t.matmul(t.select(x, 0, step), wx), t.matmul(h, wh)), bias);
      const [i, f, g, o] = t.split(gates, 4, 1);
      c = t.add(t.mul(t.sigmoid(f), c), t.mul(t.sigmoid(i), t.tanh(g)));
      h = t.mul(t.sigmoid(o), t.tanh(c));
    }
    return b.finish(h, t.squaredError(h, b.data('target', [4, size])));
  },
};

const dot = (a: readonly Float64Array[], b: readonly Float64Array[]) =>
  a.reduce((total, part, k) => total + part.reduce((s, v, i) => s + v * b[k][i], 0), 0);
const size = (a: readonly Float64Array[]) => Math.sqrt(dot(a, a));
const flat = (parts: readonly Float64Array[]) => parts.flatMap((part) => [...part]);

/** Symbols for a direction in parameter space. */
const directionOf = (name: string, parameters: readonly t.Tensor[]) =>
  parameters.map((w, k) => t.input(`${name}.${k}`, w.shape, w.dtype));

/** The Jacobian of `outputs` in `parameters`, one row an output element, from reverse mode alone. */
function denseRows(outputs: t.Tensor, parameters: readonly t.Tensor[], values: Values): number[][] {
  const seed = t.input('row', outputs.shape, outputs.dtype);
  const pulled = vjp([outputs], parameters, [seed]);
  return Array.from({ length: outputs.size }, (_, i) =>
    flat(
      t.evaluate(
        pulled,
        new Map(values).set(
          seed,
          Float64Array.from({ length: outputs.size }, (__, k) => (k === i ? 1 : 0)),
        ),
      ),
    ),
  );
}

/** The Hessian in float64, reverse over reverse: a route that `hvp` does not take. */
function denseHessian({ loss, parameters, values }: Network): number[][] {
  const g = t.concat(
    grad(loss, parameters).map((part) => t.reshape(part, [part.size])),
    0,
  );
  return denseRows(g, parameters, values);
}

const times = (matrix: readonly number[][], v: readonly number[]) =>
  matrix.map((row) => row.reduce((total, a, i) => total + a * v[i], 0));

const distance = (a: readonly number[], b: readonly number[]) =>
  Math.hypot(...a.map((v, i) => v - b[i])) / Math.hypot(...b);

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

describe.each(Object.entries(networks))('%s', (_, build) => {
  const network = build(new Builder('float64'));
  const { loss, outputs, parameters, values } = network;
  const [u, v] = [directionOf('u', parameters), directionOf('v', parameters)];
  const along = (symbols: readonly t.Tensor[], path: string) => symbols.map((x, k) => draw(x.shape, `${path}${k}`));
  const [uAt, vAt] = [along(u, 'u'), along(v, 'v')];
  const all: Values = new Map([
    ...values,
    ...u.map((x, k) => [x, uAt[k]] as const),
    ...v.map((x, k) => [x, vAt[k]] as const),
  ]);

  test('the Hessian is symmetric, and hvp is its product with a vector', () => {
    const hessian = denseHessian(network);
    const hv = flat(t.evaluate(hvp(loss, parameters, v), all));
    expect(distance(hv, times(hessian, flat(vAt)))).toBeLessThan(1e-10);
    hessian.forEach((row, i) => {
      row.forEach((value, j) => {
        expect(Math.abs(value - hessian[j][i])).toBeLessThan(1e-10);
      });
    });
  });

  test('on the device, u · Hv = v · Hu to 1e-5, and Hv equals the dense product to 1e-5, in float32', async () => {
    const single = build(new Builder('float32'));
    const [su, sv] = [directionOf('u', single.parameters), directionOf('v', single.parameters)];
    const graphs = [...hvp(single.loss, single.parameters, su), ...hvp(single.loss, single.parameters, sv)];
    const symbols = [...single.values.keys(), ...su, ...sv];
    const program = await device.compile(symbols, graphs);
    const feeds = new Map([
      ...single.values,
      ...su.map((x, k) => [x, uAt[k]] as const),
      ...sv.map((x, k) => [x, vAt[k]] as const),
    ]);
    const results = await program.run(new Map([...feeds].map(([x, data]) => [x, t.encode(data, x.dtype)])));
    const parts = results.map((data, k) => t.decode(data, graphs[k].dtype));
    const [hu, hv] = [parts.slice(0, su.length), parts.slice(su.length)];
    expect(Math.abs(dot(uAt, hv) - dot(vAt, hu)) / (size(uAt) * size(hv))).toBeLessThan(1e-5);
    expect(distance(flat(hv), times(denseHessian(network), flat(vAt)))).toBeLessThan(1e-5);
    await program.dispose();
  });

  test('ggnvp is Jᵀ H J v with the dense Jacobian and the dense Hessian of the loss in the outputs', () => {
    const jacobian = denseRows(outputs, parameters, values);
    const z = t.input('z', outputs.shape, outputs.dtype);
    const [zAt] = t.evaluate([outputs], values);
    // The loss once more, of outputs that are taken as given.
    const inner = denseRows(grad(loss, [outputs])[0], [outputs], new Map(values).set(outputs, zAt));
    const curved = times(inner, times(jacobian, flat(vAt)));
    const wanted =
      parameters.length > 0
        ? jacobian[0].map((_, j) => jacobian.reduce((total, row, i) => total + row[j] * curved[i], 0))
        : [];
    expect(z.size).toBe(zAt.length);
    expect(distance(flat(t.evaluate(ggnvp(loss, [outputs], parameters, v), all)), wanted)).toBeLessThan(1e-10);
  });
});

describe('conventions', () => {
  const x = t.input('x', [2], 'float64');
  const at = new Map([[x, Float64Array.of(0.3, -0.7)]]);

  test('valueAndGrad gives the loss itself and its gradient', () => {
    const loss = t.sum(t.square(x));
    const { value, grads } = valueAndGrad(loss, [x]);
    expect(value).toBe(loss);
    expect([...t.evaluate(grads, at)[0]]).toEqual([0.6, -1.4]);
  });

  test('what does not depend on a tensor has the derivative zero', () => {
    const other = t.input('other', [3], 'float64');
    expect([...t.evaluate(grad(t.sum(x), [other]), at)[0]]).toEqual([0, 0, 0]);
    expect([...t.evaluate(jvp([t.exp(other)], [x], [x]), at)[0]]).toEqual([0, 0, 0]);
    expect([...t.evaluate(grad(t.sum(t.round(x)), [x]), at)[0]]).toEqual([0, 0]);
  });

  test('an absent tangent or cotangent stands for zeros', () => {
    const y = t.mul(x, 3);
    expect(t.uniformValue(jvp([y], [x], [undefined])[0])).toBe(0);
    expect(t.uniformValue(vjp([y], [x], [undefined])[0])).toBe(0);
  });

  test('a derivative may be taken with respect to an intermediate value, and to a value and what it is made of', () => {
    const h = t.square(x);
    const loss = t.sum(t.mul(h, x));
    // As a function of x, x³; as a function of h, h · x.
    const [dx, dh] = t.evaluate(grad(loss, [x, h]), at);
    expect(dx[0]).toBeCloseTo(3 * 0.09, 14);
    expect(dh[0]).toBeCloseTo(0.3, 14);
  });

  test('stopGradient cuts derivatives of every order in both modes', () => {
    const loss = t.sum(t.mul(t.stopGradient(t.square(x)), x));
    expect([...t.evaluate(grad(loss, [x]), at)[0]]).toEqual([0.09, 0.48999999999999994]);
    expect([...t.evaluate(hvp(loss, [x], [x]), at)[0]]).toEqual([0, 0]);
    expect(t.evaluate(jvp([loss], [x], [t.constant(1, [2], 'float64')]), at)[0][0]).toBeCloseTo(0.58, 14);
  });

  test('ties share the derivative', () => {
    const same = new Map([[x, Float64Array.of(2, 2)]]);
    expect([...t.evaluate(grad(t.max(x), [x]), same)[0]]).toEqual([0.5, 0.5]);
    const [a, b] = [t.select(x, 0, 0), t.select(x, 0, 1)];
    expect([...t.evaluate(grad(t.maximum(a, b), [x]), same)[0]]).toEqual([0.5, 0.5]);
  });

  test('a graph thousands of ops deep is no problem', () => {
    let y: t.Tensor = x;
    for (let i = 0; i < 5000; i++) y = t.mul(y, 1 + (i % 2 === 0 ? 1e-3 : -1e-3));
    const [g] = t.evaluate(grad(t.sum(y), [x]), at);
    expect(g[0]).toBeCloseTo((1 - 1e-6) ** 2500, 12);
  });

  test('composite ops in a deep network cost what they are, not the depth squared', () => {
    let y: t.Tensor = x;
    for (let i = 0; i < 1500; i++) y = t.softsign(y);
    expect(t.evaluate(grad(t.sum(y), [x]), at)[0][0]).toBeCloseTo(1 / (1 + 1500 * 0.3) ** 2, 12);
  });
});

describe('errors', () => {
  const x = t.input('x', [2, 2]);
  const noDerivative: t.OpDef<object> = {
    name: 'mystery',
    infer: ([a]) => ({ dtype: a.dtype, shape: a.shape }),
    evaluate: ([a]) => a.data,
  };
  const y = t.make(noDerivative, [x], {});

  test('an op without a derivative is named, with its shapes, in both modes', () => {
    for (const differentiate of [() => grad(t.sum(y), [x]), () => jvp([y], [x], [x]), () => hvp(t.sum(y), [x], [x])]) {
      expect(differentiate).toThrow(DerivativeError);
      expect(differentiate).toThrow(/'mystery' on \[2, 2\].*stopGradient/);
    }
  });

  test('it may stand where no derivative passes', () => {
    expect(() => grad(t.sum(t.mul(t.stopGradient(y), x)), [x])).not.toThrow();
    expect(() => grad(t.sum(t.add(y, t.input('z', [2, 2]))), [t.input('z', [2, 2])])).not.toThrow();
  });

  test('wrong shapes of losses, directions and cotangents, and integers, are named', () => {
    expect(() => grad(x, [x])).toThrow(/grad.*\[2, 2\].*scalar/);
    expect(() => jvp([x], [x], [t.input('d', [4])])).toThrow(/jvp.*\[4\].*\[2, 2\]/);
    expect(() => vjp([x], [x], [t.input('d', [4])])).toThrow(/vjp.*\[4\].*\[2, 2\]/);
    const whole = t.input('whole', [2], 'int64');
    expect(() => grad(t.sum(x), [whole])).toThrow(ShapeError);
    expect(() => grad(t.sum(x), [whole])).toThrow(/whole|int64/);
  });
});
