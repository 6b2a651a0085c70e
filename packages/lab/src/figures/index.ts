export type { Axis, Bracket, Figure, Panel, Point, Series } from './figure.ts';
export { renderFigure } from './render.ts';
