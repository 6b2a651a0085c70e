import { describe, expect, test } from 'vitest';
import { VectorSpace } from '../../src/kernels/index.ts';
import { createOptimizer, findOptimizer, parameterVector } from '../../src/optim/index.ts';
import { ParamLayout } from '../../src/params/layout.ts';

const layout = new ParamLayout([
  { name: 'a', shape: [2, 3] },
  { name: 'b', shape: [3] },
]);

function make(
  name: string,
  values: Record<string, unknown>,
  groups: Parameters<typeof createOptimizer>[1]['groups'] = [],
) {
  const space = new VectorSpace({ reserve: 1 << 20 });
  const [theta, grad] = [parameterVector(space, layout, 'float64'), parameterVector(space, layout, 'float64')];
  return {
    theta,
    grad,
    optimizer: createOptimizer(findOptimizer(name), { values: values as never, groups }, { theta, grad, space }),
  };
}

/** Largest |θ| late over |θ| early when `step` is iterated on a quadratic of curvature `a`. */
function growth(a: number, step: (gradient: number) => number): number {
  let theta = 1;
  let early = 0;
  let late = 0;
  for (let t = 0; t < 6000; t++) {
    theta += step(a * theta);
    if (t >= 1000 && t < 1500) early = Math.max(early, Math.abs(theta));
    if (t >= 5500) late = Math.max(late, Math.abs(theta));
    if (Math.abs(theta) > 1e100) return Number.POSITIVE_INFINITY;
  }
  return early < 1e-200 ? 0 : late / early;
}

describe('the stability threshold is where a quadratic stops converging', () => {
  const lr = 0.01;
  const cases: [string, Record<string, unknown>, (h: never) => () => (g: number) => number][] = [];
  const add = <H>(name: string, values: H, rule: (h: H) => (g: number) => number) =>
    cases.push([name, values as Record<string, unknown>, ((h: H) => () => rule(h)) as never]);
  add('sgd', { lr }, () => (g) => -lr * g);
  add('sgd', { lr, momentum: 0.9 }, () => {
    let b = 0;
    return (g) => {
      b = 0.9 * b + g;
      return -lr * b;
    };
  });
  add('sgd', { lr, momentum: 0.9, nesterov: true }, () => {
    let b = 0;
    return (g) => {
      b = 0.9 * b + g;
      return -lr * (g + 0.9 * b);
    };
  });
  add('sgd', { lr, momentum: 0.9, dampening: 0.5 }, () => {
    let b = 0;
    return (g) => {
      b = 0.9 * b + 0.5 * g;
      return -lr * b;
    };
  });
  add('adam', { lr, betas: [0.9, 0.999] }, () => {
    let m = 0;
    return (g) => {
      m = 0.9 * m + 0.1 * g;
      return -lr * m;
    };
  });
  add('nme', { lr, momentum: 0.9 }, () => {
    let [m, previous] = [0, 0];
    return (g) => {
      m = 0.9 * m + g + 0.9 * (g - previous);
      previous = g;
      return -lr * m;
    };
  });
  add('agd', { lr, momentum: 0.9 }, () => {
    let [m, ahead] = [0, 0];
    return (g) => {
      m = 0.9 * m + g;
      const back = ahead;
      ahead = 0.9 * lr * m;
      return back - lr * m - ahead;
    };
  });
  // Divided by P, which near a minimum stands still.
  add('adagrad', { lr }, () => (g) => -lr * g);
  for (const momentum of [0, 0.9]) {
    add('rmsprop', { lr, momentum }, () => {
      let b = 0;
      return (g) => {
        b = momentum * b + g;
        return -lr * b;
      };
    });
  }
  add('adamax', { lr, betas: [0.9, 0.999] }, () => {
    let m = 0;
    return (g) => {
      m = 0.9 * m + 0.1 * g;
      return -lr * m;
    };
  });
  for (const [b1, b2] of [
    [0.98, 0.92],
    [0.9, 0.9],
    [0.9, 0.999],
    [0.5, 0.1],
  ]) {
    add('adan', { lr, betas: [b1, b2, 0.99] }, () => {
      let [m, v, previous] = [0, 0, 0];
      return (g) => {
        m = b1 * m + (1 - b1) * g;
        v = b2 * v + (1 - b2) * (g - previous);
        previous = g;
        return -lr * (m + b2 * v);
      };
    });
  }

  test.each(cases)('%s %o', (name, values, rule) => {
    const { optimizer } = make(name, values);
    const { threshold } = optimizer.stability() ?? { threshold: Number.NaN };
    const make1 = rule(values as never);
    expect(growth(0.98 * threshold, make1())).toBeLessThan(1);
    expect(growth(1.02 * threshold, make1())).toBeGreaterThan(1);
    expect(optimizer.stability(2 * lr)?.threshold).toBeCloseTo(threshold / 2, 8);
  });
});

describe('the preconditioner', () => {
  const gradients = [
    [1, -2, 3, 0.5, -0.1, 0, 4, 5, -6],
    [0.5, 1, -1, 2, 0.3, 0, -4, 2, 1],
  ];
  const run = (name: string, values: Record<string, unknown>, groups: Parameters<typeof make>[2] = []) => {
    const { theta, grad, optimizer } = make(name, values, groups);
    for (const g of gradients) {
      grad.set('a', g.slice(0, 6));
      grad.set('b', g.slice(6));
      optimizer.step();
    }
    const out = theta.clone();
    expect(optimizer.preconditioner(out)).toBe(true);
    return [...out.view('a'), ...out.view('b')];
  };

  test('of Adam is (1 - β1^t)(√v̂ + ε) after step t', () => {
    const [b1, b2, eps] = [0.9, 0.99, 1e-3];
    const expected = gradients[0].map((first, i) => {
      const v = b2 * (1 - b2) * first ** 2 + (1 - b2) * gradients[1][i] ** 2;
      return (1 - b1 ** 2) * (Math.sqrt(v / (1 - b2 ** 2)) + eps);
    });
    run('adam', { betas: [b1, b2], eps }).forEach((p, i) => expect(p).toBeCloseTo(expected[i], 12));
  });

  test('of Adan is √n̂ + ε, divided by the learning-rate factor of its tensor', () => {
    const [b2, b3, eps] = [0.92, 0.99, 1e-3];
    const expected = gradients[0].map((first, i) => {
      const second = gradients[1][i];
      const n = b3 * (1 - b3) * first ** 2 + (1 - b3) * (second + b2 * (second - first)) ** 2;
      return Math.sqrt(n / (1 - b3 ** 2)) + eps;
    });
    run('adan', { betas: [0.98, b2, b3], eps }, [{ match: { name: 'b' }, lrScale: 0.5 }]).forEach((p, i) =>
      expect(p).toBeCloseTo(i < 6 ? expected[i] : expected[i] / 0.5, 10),
    );
  });

  test('of AdaGrad is the root of the sum of squares, over the decay of the rate', () => {
    const [lrDecay, eps, start] = [0.5, 1e-3, 2];
    const expected = gradients[0].map((first, i) => Math.sqrt(start + first ** 2 + gradients[1][i] ** 2) + eps);
    run('adagrad', { lrDecay, eps, initialAccumulatorValue: start }).forEach((p, i) =>
      expect(p).toBeCloseTo(expected[i] * (1 + lrDecay), 12),
    );
  });

  test('of RMSProp is √v + ε, √(v + ε) from a v of 1 in the style of TensorFlow', () => {
    const [alpha, eps] = [0.9, 1e-3];
    const v = (from: number) =>
      gradients[0].map((first, i) => alpha * (alpha * from + 0.1 * first ** 2) + 0.1 * gradients[1][i] ** 2);
    run('rmsprop', { alpha, eps }).forEach((p, i) => expect(p).toBeCloseTo(Math.sqrt(v(0)[i]) + eps, 12));
    run('rmsprop', { alpha, eps, tfStyle: true }).forEach((p, i) =>
      expect(p).toBeCloseTo(Math.sqrt(v(1)[i] + eps), 12),
    );
  });

  test('of Adamax is (1 - β1^t) u', () => {
    const [b1, b2, eps] = [0.9, 0.8, 1e-3];
    run('adamax', { betas: [b1, b2], eps }).forEach((p, i) => {
      const u = Math.max(b2 * (Math.abs(gradients[0][i]) + eps), Math.abs(gradients[1][i]) + eps);
      expect(p).toBeCloseTo((1 - b1 ** 2) * u, 12);
    });
  });

  test('is there only for rules that divide, and only once a step was taken', () => {
    const out = (name: string) => {
      const { theta, optimizer } = make(name, {});
      return optimizer.preconditioner(theta.clone());
    };
    expect([out('sgd'), out('adam')]).toEqual([false, false]);
  });
});
