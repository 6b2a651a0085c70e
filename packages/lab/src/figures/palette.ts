/** @file Colours, dashes and symbols that tell lines apart, also without colour. */

/** Ink, paper and grey of a figure. The paper is part of the figure, so that it reads the same on light and dark pages. */
export const INK = '#1f2328';
export const FAINT = '#59636e';
export const PAPER = '#ffffff';

/** Okabe and Ito's colours for every kind of colour vision, without the yellow that does not show on white, then darker ones. */
const COLORS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#56b4e9',
  '#e69f00',
  '#444444',
  '#882255',
  '#117733',
  '#7a5195',
];

const DASHES: readonly (string | undefined)[] = [undefined, '6,3', '2,3', '8,3,2,3'];

const SYMBOLS = ['circle', 'square', 'triangle', 'diamond', 'star', 'wye', 'cross'] as const;

export type MarkerSymbol = (typeof SYMBOLS)[number];

export interface Look {
  readonly color: string;
  readonly dash: string | undefined;
  readonly symbol: MarkerSymbol;
}

/** The look of line number `i`. More lines than colours come in other dashes. */
export function lookOf(i: number): Look {
  return {
    color: COLORS[i % COLORS.length],
    dash: DASHES[Math.floor(i / COLORS.length) % DASHES.length],
    symbol: SYMBOLS[i % SYMBOLS.length],
  };
}
