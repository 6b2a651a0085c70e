/** @file Random changes to training images, each a pure function of (key, epoch, example). */
import { ConfigError } from '../base/errors.ts';
import { integerAt, type Key } from '../base/random.ts';
import { type Shape, showShape } from '../tensor/shape.ts';

/** What is done to every training image, in this order; what is left out is not done. */
export interface Augmentation {
  /**
   * A window of the image's own size, taken at a uniformly random place from the image padded with `padding` black
   * (zero) pixels on each side.
   */
  readonly crop?: { readonly padding: number };
  /** Mirrors left and right with this probability; `true` is 1/2. */
  readonly flip?: boolean | { readonly probability: number };
  /**
   * Sets a square of `size` pixels a side, centred on a uniformly random pixel and cut at the border, to zero after
   * normalization: the mean (DeVries and Taylor 2017).
   */
  readonly cutout?: { readonly size: number };
}

/** The random choices for one image. */
export interface AugmentationDraw {
  /** Rows and columns by which the window lies below and to the right of the image. */
  dy: number;
  dx: number;
  flip: boolean;
  /** Upper left corner of the cut-out square. */
  cutTop: number;
  cutLeft: number;
}

/** Words of the key's stream set apart for one example, with room for further augmentations. */
const WORDS = 8;

/** ConfigError unless `augmentation` makes sense for examples of `shape`. */
export function checkAugmentation(augmentation: Augmentation, shape: Shape): void {
  if (shape.length !== 3) {
    throw new ConfigError(
      `Augmentation needs images [channels, height, width]; the examples have shape ${showShape(shape)}.`,
    );
  }
  const { crop, flip, cutout } = augmentation;
  if (crop && !(Number.isInteger(crop.padding) && crop.padding >= 0)) {
    throw new ConfigError(`The crop's padding must be a whole number of pixels >= 0, got ${crop.padding}.`);
  }
  if (typeof flip === 'object' && !(flip.probability >= 0 && flip.probability <= 1)) {
    throw new ConfigError(`The flip's probability must be between 0 and 1, got ${flip.probability}.`);
  }
  if (cutout && !(Number.isInteger(cutout.size) && cutout.size >= 1)) {
    throw new ConfigError(`The cutout's size must be a whole number of pixels >= 1, got ${cutout.size}.`);
  }
}

/** Draws the choices for `example` under the key of an epoch into `draw`. */
export function drawAugmentation(
  augmentation: Augmentation,
  epochKey: Key,
  example: number,
  shape: Shape,
  draw: AugmentationDraw,
): void {
  const { crop, flip, cutout } = augmentation;
  const [, height, width] = shape;
  const word = example * WORDS;
  if (crop) {
    const range = 2 * crop.padding + 1;
    draw.dy = integerAt(epochKey, word, range) - crop.padding;
    draw.dx = integerAt(epochKey, word + 1, range) - crop.padding;
  }
  if (flip) {
    const probability = flip === true ? 0.5 : flip.probability;
    draw.flip = integerAt(epochKey, word + 2, 4294967296) < probability * 4294967296;
  }
  if (cutout) {
    const half = cutout.size >> 1;
    draw.cutTop = integerAt(epochKey, word + 3, height) - half;
    draw.cutLeft = integerAt(epochKey, word + 4, width) - half;
  }
}
