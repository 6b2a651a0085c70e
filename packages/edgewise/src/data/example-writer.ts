/** @file The loops that turn stored examples into normalized, augmented numbers. */
import type { FloatArray } from '../base/random.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Augmentation, AugmentationDraw } from './augmentation.ts';
import type { Dataset } from './dataset.ts';
import { type Affine, affineOf, type Normalization } from './normalization.ts';

/** Writes normalized examples of a data set into the caller's arrays. */
export class ExampleWriter {
  /** Numbers in one example. */
  readonly width: number;
  readonly #inputs: Uint8Array | Float32Array;
  readonly #channels: number;
  readonly #height: number;
  readonly #columns: number;
  readonly #affine: Affine;
  /** Whether every feature has its own scale; else there is one, or one a channel. */
  readonly #perFeature: boolean;
  /** Elements that share a scale. */
  readonly #run: number;
  /** Where inputs are bytes and features share scales: the normalized values of the 256 bytes, a table per group. */
  readonly #tables: readonly Float64Array[] | undefined;

  constructor(dataset: Dataset, normalization: Normalization | undefined) {
    const { shape, inputs } = dataset;
    const bytes = inputs instanceof Uint8Array;
    this.width = sizeOf(shape);
    this.#inputs = inputs;
    this.#affine = affineOf(normalization, shape, bytes);
    const groups = this.#affine.scale.length;
    this.#channels = shape[0] ?? 1;
    this.#height = shape[1] ?? 1;
    this.#columns = shape[2] ?? 1;
    this.#perFeature = groups === this.width && groups > 1;
    this.#run = this.width / groups;
    if (bytes && !this.#perFeature) {
      const { scale, shift } = this.#affine;
      this.#tables = Array.from(scale, (a, g) => Float64Array.from({ length: 256 }, (_, byte) => byte * a + shift[g]));
    }
  }

  /** Writes example number `example` to `out` from element `at` on. */
  write(example: number, out: FloatArray, at: number): void {
    const from = example * this.width;
    const inputs = this.#inputs;
    const { scale, shift } = this.#affine;
    if (this.#perFeature) {
      for (let i = 0; i < this.width; i++) out[at + i] = inputs[from + i] * scale[i] + shift[i];
      return;
    }
    for (let g = 0; g < scale.length; g++) {
      const offset = g * this.#run;
      this.#copy(out, at + offset, from + offset, 1, this.#run, g, 0);
    }
  }

  /** Writes example number `example` of images `[channels, height, width]` with the choices of `draw` made. */
  writeAugmented(
    example: number,
    augmentation: Augmentation,
    draw: AugmentationDraw,
    out: FloatArray,
    at: number,
  ): void {
    const [height, columns] = [this.#height, this.#columns];
    const { dy, dx, flip } = draw;
    // Columns of the output whose source lies inside the image.
    const first = Math.min(columns, Math.max(0, flip ? dx : -dx));
    const end = Math.max(first, Math.min(columns, flip ? columns + dx : columns - dx));
    const source = flip ? columns - 1 - first + dx : first + dx;
    const step = flip ? -1 : 1;
    for (let c = 0; c < this.#channels; c++) {
      const group = this.#affine.scale.length === 1 ? 0 : c;
      for (let y = 0; y < height; y++) {
        const feature = (c * height + y) * columns;
        const row = at + feature;
        if (y + dy < 0 || y + dy >= height) {
          this.#black(out, row, columns, group, feature);
          continue;
        }
        const from = example * this.width + (c * height + y + dy) * columns + source;
        this.#black(out, row, first, group, feature);
        this.#copy(out, row + first, from, step, end - first, group, feature + first);
        this.#black(out, row + end, columns - end, group, feature + end);
      }
    }
    if (augmentation.cutout) this.#cut(out, at, draw.cutTop, draw.cutLeft, augmentation.cutout.size);
  }

  /** `count` inputs from `from` on, in steps of 1 or -1, to consecutive outputs that start at feature `feature`. */
  #copy(out: FloatArray, at: number, from: number, step: number, count: number, group: number, feature: number): void {
    const inputs = this.#inputs;
    const { scale, shift } = this.#affine;
    if (this.#tables && inputs instanceof Uint8Array) lookUp(out, at, inputs, from, step, count, this.#tables[group]);
    else if (this.#perFeature) {
      for (let i = 0; i < count; i++, from += step)
        out[at + i] = inputs[from] * scale[feature + i] + shift[feature + i];
    } else {
      const a = scale[group];
      const b = shift[group];
      for (let i = 0; i < count; i++, from += step) out[at + i] = inputs[from] * a + b;
    }
  }

  #black(out: FloatArray, at: number, count: number, group: number, feature: number): void {
    // Loops, not `fill`: borders are a few pixels, and the call would cost more than they do.
    const { shift } = this.#affine;
    if (this.#perFeature) for (let i = 0; i < count; i++) out[at + i] = shift[feature + i];
    else for (let i = 0; i < count; i++) out[at + i] = shift[group];
  }

  #cut(out: FloatArray, at: number, top: number, left: number, size: number): void {
    const [height, columns] = [this.#height, this.#columns];
    const from = Math.max(0, left);
    const to = Math.min(columns, left + size);
    for (let c = 0; c < this.#channels; c++) {
      for (let y = Math.max(0, top); y < Math.min(height, top + size); y++) {
        const row = at + (c * height + y) * columns;
        out.fill(0, row + from, row + to);
      }
    }
  }
}

/** Four elements a round: the loop's own cost is as large as that of one element. */
function lookUp(
  out: FloatArray,
  at: number,
  inputs: Uint8Array,
  from: number,
  step: number,
  count: number,
  table: Float64Array,
): void {
  const end = at + count;
  for (; at + 3 < end; at += 4, from += 4 * step) {
    const a = table[inputs[from]];
    const b = table[inputs[from + step]];
    const c = table[inputs[from + 2 * step]];
    const d = table[inputs[from + 3 * step]];
    out[at] = a;
    out[at + 1] = b;
    out[at + 2] = c;
    out[at + 3] = d;
  }
  for (; at < end; at++, from += step) out[at] = table[inputs[from]];
}
