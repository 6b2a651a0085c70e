/** @file Where each parameter lies in the one vector that holds them all. */
import { ConfigError, FormatError, nearest } from '../base/errors.ts';
import { Key } from '../base/random.ts';
import { checkShape, type Shape, sameShape, showShape, sizeOf } from '../tensor/shape.ts';
import type { Initializer } from './initializers.ts';

/** One parameter as a model declares it. */
export interface ParamSpec {
  /** Unique in the model, by convention dotted like PyTorch's: `block1.conv.weight`. */
  readonly name: string;
  readonly shape: Shape;
  /** How its first values are drawn. */
  readonly init: Initializer;
  /** What it is to optimizers and probes: `weight`, `bias`, `norm`, `embedding`, `head`, or words of your own. */
  readonly tags?: readonly string[];
}

/** One parameter as a window of the parameter vector. */
export interface Segment {
  readonly name: string;
  readonly shape: Shape;
  /** First element, a multiple of {@link ALIGNMENT}. */
  readonly offset: number;
  /** Number of elements, without padding. */
  readonly length: number;
  readonly tags: readonly string[];
}

/** Segments start at multiples of this many elements: 16 bytes in float32, one WebAssembly SIMD register. */
export const ALIGNMENT = 4;

/**
 * The segment table of a parameter vector.
 *
 * Up to three elements of padding follow a segment. Padding is zero, in parameters, gradients and optimizer state
 * alike, and an update keeps it zero: then sums, norms and dot products over the whole vector need no table. Means and
 * root mean squares divide by {@link count}, never by {@link size}.
 */
export class ParamLayout {
  readonly segments: readonly Segment[];
  /** Elements of the vector, padding included; a multiple of {@link ALIGNMENT}. */
  readonly size: number;
  /** Number of parameters, d in the papers: elements without padding. */
  readonly count: number;
  readonly #byName: ReadonlyMap<string, Segment>;
  #fingerprint: string | undefined;

  /** Lays the parameters out in the order given. ConfigError for an empty or repeated name, ShapeError for a bad shape. */
  constructor(params: readonly Pick<ParamSpec, 'name' | 'shape' | 'tags'>[]) {
    const byName = new Map<string, Segment>();
    let offset = 0;
    let count = 0;
    for (const { name, shape, tags = [] } of params) {
      if (name === '')
        throw new ConfigError(`Parameter ${byName.size} of the model has no name; give every one a name.`);
      if (byName.has(name)) throw new ConfigError(`Two parameters are named '${name}'; names must be unique.`);
      checkShape(`parameter '${name}'`, shape);
      const length = sizeOf(shape);
      byName.set(
        name,
        Object.freeze({ name, shape: Object.freeze([...shape]), offset, length, tags: Object.freeze([...tags]) }),
      );
      count += length;
      offset += Math.ceil(length / ALIGNMENT) * ALIGNMENT;
      if (!Number.isSafeInteger(offset)) {
        throw new ConfigError(`The parameters up to '${name}' have more than 2^53 elements; no vector can hold them.`);
      }
    }
    this.segments = Object.freeze([...byName.values()]);
    this.size = offset;
    this.count = count;
    this.#byName = byName;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** The segment of a parameter; a ConfigError that names the nearest one where there is none. */
  segment(name: string): Segment {
    const segment = this.#byName.get(name);
    if (segment) return segment;
    const near = nearest(name, this.#byName.keys());
    const advice = near === undefined ? `it has ${this.#listNames()}` : `did you mean '${near}'?`;
    throw new ConfigError(`The model has no parameter '${name}'; ${advice}`);
  }

  /** The segments that carry `tag`, in order. */
  tagged(tag: string): Segment[] {
    return this.segments.filter((segment) => segment.tags.includes(tag));
  }

  /**
   * 16 hexadecimal digits that are equal for two layouts with the same names, shapes and order. Tags do not count:
   * they steer optimizers and do not move data.
   */
  get fingerprint(): string {
    this.#fingerprint ??= Key.fromSeed(0)
      .split('ParamLayout', JSON.stringify(this.segments.map(({ name, shape }) => [name, shape])))
      .toString();
    return this.#fingerprint;
  }

  /** What makes `other` a different layout, as a clause with `other` as the subject; undefined where they are the same. */
  difference(other: ParamLayout): string | undefined {
    if (this === other) return undefined;
    for (const { name, shape } of this.segments) {
      const twin = other.#byName.get(name);
      if (!twin) return `has no parameter '${name}' of shape ${showShape(shape)}`;
      if (!sameShape(shape, twin.shape)) {
        return `has shape ${showShape(twin.shape)} for parameter '${name}' instead of ${showShape(shape)}`;
      }
    }
    const extra = other.segments.find(({ name }) => !this.#byName.has(name));
    if (extra) return `has a further parameter '${extra.name}' of shape ${showShape(extra.shape)}`;
    const moved = this.segments.findIndex(({ name }, i) => other.segments[i].name !== name);
    if (moved < 0) return undefined;
    return `has '${other.segments[moved].name}' where '${this.segments[moved].name}' is expected (parameter ${moved})`;
  }

  /** Throws a ConfigError that says how `other` (described by `what`, such as "the checkpoint") differs from this model. */
  assertSame(other: ParamLayout, what: string): void {
    const difference = this.difference(other);
    if (difference === undefined) return;
    throw new ConfigError(
      `${what[0].toUpperCase()}${what.slice(1)} belongs to another model: it ${difference}. This model has ${this.#listNames()}.`,
    );
  }

  /** Plain data for a run's configuration; {@link ParamLayout.fromJSON} reads it back. */
  toJSON(): { name: string; shape: number[]; tags: string[] }[] {
    return this.segments.map(({ name, shape, tags }) => ({ name, shape: [...shape], tags: [...tags] }));
  }

  /** The inverse of {@link toJSON}. FormatError naming `label` for anything else. */
  static fromJSON(value: unknown, label: string): ParamLayout {
    const isRecord = (entry: unknown): entry is Record<string, unknown> => typeof entry === 'object' && entry !== null;
    const isStrings = (list: unknown): list is string[] =>
      Array.isArray(list) && list.every((item) => typeof item === 'string');
    const isShape = (list: unknown): list is number[] =>
      Array.isArray(list) && list.every((item) => Number.isSafeInteger(item) && item >= 0);
    if (!Array.isArray(value)) throw new FormatError(`${label}: a parameter layout is a list of parameters.`);
    const params = value.map((entry: unknown, i) => {
      if (!isRecord(entry) || typeof entry.name !== 'string' || !isShape(entry.shape) || !isStrings(entry.tags ?? [])) {
        throw new FormatError(
          `${label}: entry ${i} of the parameter layout must have a name, a shape of whole numbers and tags that are words.`,
        );
      }
      return { name: entry.name, shape: entry.shape, tags: isStrings(entry.tags) ? entry.tags : [] };
    });
    try {
      return new ParamLayout(params);
    } catch (error) {
      if (error instanceof ConfigError) throw new FormatError(`${label}: ${error.message}`);
      throw error;
    }
  }

  #listNames(): string {
    if (this.segments.length === 0) return 'no parameters';
    const shown = this.segments.slice(0, 8).map(({ name }) => `'${name}'`);
    const more = this.segments.length - shown.length;
    return `${this.segments.length} parameters: ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  }
}
