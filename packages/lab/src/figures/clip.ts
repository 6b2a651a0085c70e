/** @file Lines as far as they lie within their axes. */
import type { Axis, Point } from './figure.ts';

/** Whether an axis can carry a value. */
export const carries = ({ scale }: Axis, value: number): boolean =>
  Number.isFinite(value) && (scale !== 'log' || value > 0);

/** The unbroken runs of points that both axes can carry. */
export function runsOf(points: readonly Point[], x: Axis, y: Axis): Point[][] {
  const runs: Point[][] = [];
  let open = false;
  for (const point of points) {
    const fits = carries(x, point.x) && carries(y, point.y);
    if (fits && open) runs[runs.length - 1].push(point);
    else if (fits) runs.push([point]);
    open = fits;
  }
  return runs;
}

/** What all `values` lie in, for an axis; with room for one value alone, and a little at the ends where `padded`. */
export function domainOf(axis: Axis, values: readonly number[], padded: boolean): [number, number] {
  if (axis.domain) return [axis.domain[0], axis.domain[1]];
  const fit = values.filter((value) => carries(axis, value));
  if (fit.length === 0) return axis.scale === 'log' ? [0.1, 1] : [0, 1];
  const [low, high] = [fit.reduce((a, b) => Math.min(a, b)), fit.reduce((a, b) => Math.max(a, b))];
  if (axis.scale === 'log') {
    if (low === high) return [low / 2, high * 2];
    const room = padded ? (high / low) ** 0.04 : 1;
    return [low / room, high * room];
  }
  if (low === high) return low === 0 ? [0, 1] : [low - 0.1 * Math.abs(low), high + 0.1 * Math.abs(high)];
  const room = padded ? 0.04 * (high - low) : 0;
  return [low - room, high + room];
}
