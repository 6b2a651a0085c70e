/** @file What a figure shows: panels of lines over axes, as data. `renderFigure` draws it. */

/** A point of a line, with the lower and upper end of the spread around it. */
export interface Point {
  readonly x: number;
  readonly y: number;
  readonly low?: number;
  readonly high?: number;
}

/** One line. Lines of the same name have the same colour in every panel, and one entry in the legend. */
export interface Series {
  readonly name: string;
  /** In rising order of x; points that are not finite, or not positive on a logarithmic axis, are left out and the line is broken there. */
  readonly points: readonly Point[];
}

export interface Axis {
  /** What is shown, with its unit: `test loss (nats)`. */
  readonly label: string;
  /** `linear` by default. */
  readonly scale?: 'linear' | 'log';
  /** What the axis covers; everything there is, by default. Lines are cut at its ends. */
  readonly domain?: readonly [low: number, high: number];
  /** `percent` writes 0.98 as 98 %. `plain` by default. */
  readonly format?: 'plain' | 'percent';
  /** Where the axis carries numbers; round ones by default. */
  readonly ticks?: readonly number[];
}

/** A dashed level line between two places of the x axis, with a short text over it. */
export interface Bracket {
  readonly from: number;
  readonly to: number;
  readonly y: number;
  readonly label: string;
  /** The line whose colour it has. */
  readonly series: string;
}

/** One set of axes. */
export interface Panel {
  readonly title?: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  /** Marks every point with the series' symbol: for lines of few points. */
  readonly markers?: boolean;
  readonly brackets?: readonly Bracket[];
}

export interface Figure {
  readonly title: string;
  /** A line of small print under the title, such as what the band is. */
  readonly subtitle?: string;
  readonly panels: readonly Panel[];
  /** Panels beside each other; 2 by default, or 1 where there is but one panel. */
  readonly columns?: number;
  /** Pixels of the whole figure; 820 by default. */
  readonly width?: number;
  /** Pixels of a panel; 260 by default. */
  readonly panelHeight?: number;
}
