/** @file The path of an optimizer on functions of two variables, for the figure on its page. */
import { VectorSpace } from 'edgewise/kernels';
import { createOptimizer, type OptimizerDefinition, parameterVector } from 'edgewise/optim';
import { ParamLayout } from 'edgewise/params';

export type Point = readonly [x: number, y: number];

/** A function of two variables with its derivatives. */
export interface Surface {
  readonly name: string;
  readonly value: (p: Point) => number;
  readonly gradient: (p: Point) => Point;
  /** Product of the Hessian with a vector. */
  readonly hessian: (p: Point, v: Point) => Point;
  readonly start: Point;
  readonly minimum: Point;
  /** What is drawn: [left, right], [bottom, top]. */
  readonly window: readonly [Point, Point];
}

const VALLEY = { a: 1, b: 30, angle: Math.PI / 6 };

/** A quadratic of condition number 30 whose axes are not those of the coordinates. */
const valley: Surface = (() => {
  const { a, b, angle } = VALLEY;
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const matrix = [a * c * c + b * s * s, (a - b) * c * s, a * s * s + b * c * c];
  const times = ([x, y]: Point): Point => [matrix[0] * x + matrix[1] * y, matrix[1] * x + matrix[2] * y];
  return {
    name: 'Quadratic, condition number 30',
    value: (p) => (p[0] * times(p)[0] + p[1] * times(p)[1]) / 2,
    gradient: times,
    hessian: (_, v) => times(v),
    start: [-1.6, 0.3],
    minimum: [0, 0],
    window: [
      [-2, 1],
      [-1.2, 1.2],
    ],
  };
})();

const rosenbrock: Surface = {
  name: 'Rosenbrock',
  value: ([x, y]) => (1 - x) ** 2 + 100 * (y - x * x) ** 2,
  gradient: ([x, y]) => [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)],
  hessian: ([x, y], [u, v]) => [(2 - 400 * (y - 3 * x * x)) * u - 400 * x * v, -400 * x * u + 200 * v],
  start: [-1.2, 1],
  minimum: [1, 1],
  window: [
    [-1.8, 1.8],
    [-0.6, 2],
  ],
};

/** Flat far from the minimum, steep beside it. */
const beale: Surface = (() => {
  const constants = [1.5, 2.25, 2.625];
  const terms = ([x, y]: Point) =>
    constants.map((c, i) => {
      const k = i + 1;
      return {
        r: c - x + x * y ** k,
        rx: y ** k - 1,
        ry: k * x * y ** (k - 1),
        rxy: k * y ** (k - 1),
        ryy: k * (k - 1) * x * (k > 1 ? y ** (k - 2) : 0),
      };
    });
  return {
    name: 'Beale',
    value: (p) => terms(p).reduce((sum, { r }) => sum + r * r, 0),
    gradient: (p) => terms(p).reduce<Point>(([gx, gy], { r, rx, ry }) => [gx + 2 * r * rx, gy + 2 * r * ry], [0, 0]),
    hessian: (p, [u, v]) =>
      terms(p).reduce<Point>(
        ([hx, hy], { r, rx, ry, rxy, ryy }) => [
          hx + 2 * (rx * rx * u + (rx * ry + r * rxy) * v),
          hy + 2 * ((rx * ry + r * rxy) * u + (ry * ry + r * ryy) * v),
        ],
        [0, 0],
      ),
    start: [1, -1.4],
    minimum: [3, 0.5],
    window: [
      [-0.5, 4],
      [-2, 1.6],
    ],
  };
})();

export const surfaces: readonly Surface[] = [valley, rosenbrock, beale];

export interface Trajectory {
  readonly lr: number;
  readonly points: readonly Point[];
  /** Value at the point evaluated after the last step. */
  readonly value: number;
}

/**
 * The path of `steps` steps at a learning rate; undefined where it leaves the numbers, or the rule needs what a function has not.
 * Matrix methods see the two variables as a matrix of one row.
 */
export async function trajectory(
  definition: OptimizerDefinition,
  surface: Surface,
  lr: number,
  steps: number,
): Promise<Trajectory | undefined> {
  const matrix = definition.phases.some(({ over }) => over === 'tensors');
  const layout = new ParamLayout([{ name: 'p', shape: matrix ? [1, 2] : [2] }]);
  const space = new VectorSpace();
  const [theta, grad] = [parameterVector(space, layout, 'float64'), parameterVector(space, layout, 'float64')];
  const optimizer = createOptimizer(definition, { values: { lr } }, { theta, grad, space });
  theta.set('p', surface.start);
  const at = (): Point => {
    const [x, y] = theta.view('p');
    return [x, y];
  };
  const evaluate = (what: string): number => {
    const gradient = what === 'hutchinson' ? surface.hessian(at(), [1, 1]) : surface.gradient(at());
    grad.set('p', gradient);
    return surface.value(at());
  };
  const points: Point[] = [at()];
  for (let k = 0; k < steps; k++) {
    const loss = evaluate('loss');
    await optimizer.stepWith(evaluate, { loss });
    const point = await optimizer.atEvaluated(at);
    if (!point.every((x) => Number.isFinite(x) && Math.abs(x) < 1e6)) return undefined;
    points.push(point);
  }
  return { lr, points, value: surface.value(points[steps]) };
}

/**
 * Rates tried for a trajectory, evenly spaced on a logarithmic scale from the lowest of the declared range of search to a hundred times its
 * highest: functions of two variables allow larger steps than networks.
 */
export function ratesOf({ hyperparameters }: OptimizerDefinition, count: number): number[] {
  const { lr } = hyperparameters;
  if (lr.kind !== 'number') return [];
  const { low, high } = lr.search ?? { low: lr.default / 30, high: lr.default * 30 };
  return Array.from({ length: count }, (_, i) => low * ((100 * high) / low) ** (i / (count - 1)));
}

/** The best of the paths over {@link ratesOf}: that whose last value is the lowest. */
export async function bestTrajectory(
  definition: OptimizerDefinition,
  surface: Surface,
  { steps = 200, rates = 36 } = {},
): Promise<Trajectory | undefined> {
  let best: Trajectory | undefined;
  for (const lr of ratesOf(definition, rates)) {
    const path = await trajectory(definition, surface, lr, steps);
    if (path && (!best || path.value < best.value)) best = path;
  }
  return best;
}
