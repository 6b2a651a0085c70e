/** @file Which parameter gets which hyper-parameters. */
import { ConfigError, nearest } from '../base/errors.ts';
import type { ParamLayout, Segment } from '../params/layout.ts';
import { completeValues, isStructural, type Schema, type Values } from './hyperparameters.ts';

/** Parameters to choose: those that meet all conditions given. */
export interface Match {
  /** Carries one of these tags. */
  readonly tag?: string | readonly string[];
  /** Has one of these names, in which `*` stands for any characters. */
  readonly name?: string | readonly string[];
  /** Has at least, at most this many axes. */
  readonly minRank?: number;
  readonly maxRank?: number;
  /** Anything else. */
  readonly where?: (segment: Segment) => boolean;
}

/** Hyper-parameters for some of the parameters; where several groups choose one, later ones win. */
export interface Group<H extends Schema = Schema> {
  readonly match: Match;
  /** Factor on the learning rate, 1 by default. */
  readonly lrScale?: number;
  /** Values in place of the optimizer's; numbers only, other than `lr`. */
  readonly values?: Partial<Values<H>>;
}

/** What a parameter is updated with. */
export interface Assignment<H extends Schema = Schema> {
  readonly segment: Segment;
  /** Left alone by every step. */
  readonly frozen: boolean;
  readonly lrScale: number;
  readonly values: Values<H>;
}

/** Segments of `layout` that meet `match`. @throws ConfigError where there are none: a mistyped tag or name. */
export function matching(where: string, layout: ParamLayout, match: Match): Set<Segment> {
  const tags = listOf(match.tag);
  const names = listOf(match.name)?.map((pattern) => ({ pattern, regex: globRegex(pattern) }));
  for (const tag of tags ?? []) {
    if (layout.tagged(tag).length === 0)
      throw new ConfigError(
        `${where}: no parameter carries the tag '${tag}'${suggestion(tag, new Set(layout.segments.flatMap((segment) => segment.tags)))}`,
      );
  }
  for (const { pattern, regex } of names ?? []) {
    if (!layout.segments.some(({ name }) => regex.test(name)))
      throw new ConfigError(
        `${where}: no parameter is named '${pattern}'${suggestion(
          pattern,
          layout.segments.map(({ name }) => name),
        )}`,
      );
  }
  const chosen = layout.segments.filter(
    (segment) =>
      (!tags || tags.some((tag) => segment.tags.includes(tag))) &&
      (!names || names.some(({ regex }) => regex.test(segment.name))) &&
      segment.shape.length >= (match.minRank ?? 0) &&
      segment.shape.length <= (match.maxRank ?? Number.POSITIVE_INFINITY) &&
      (match.where?.(segment) ?? true),
  );
  if (chosen.length === 0)
    throw new ConfigError(
      `${where}: no parameter of the model meets ${JSON.stringify(match)}; change the condition or drop the group.`,
    );
  return new Set(chosen);
}

/**
 * What each segment of `layout` is updated with.
 * @throws ConfigError for groups that choose nothing, or that set what a group cannot.
 */
export function assign<H extends Schema>(
  where: string,
  schema: H,
  base: Values<H>,
  groups: readonly Group<H>[],
  frozen: Match | undefined,
  layout: ParamLayout,
): Assignment<H>[] {
  const still = frozen ? matching(`${where}, frozen`, layout, frozen) : new Set<Segment>();
  const parts = groups.map(({ match, lrScale = 1, values = {} }, i) => {
    const label = `${where}, group ${i + 1}`;
    if (!(Number.isFinite(lrScale) && lrScale >= 0))
      throw new ConfigError(`${label}: lrScale is ${lrScale}; give a number of at least 0.`);
    for (const name of Object.keys(values)) {
      if (name === 'lr')
        throw new ConfigError(
          `${label}: a group cannot have an lr of its own, which no schedule would follow; give lrScale, a factor on the optimizer's.`,
        );
      const parameter = schema[name];
      if (parameter && isStructural(parameter))
        throw new ConfigError(
          `${label}: ${name} holds for the whole optimizer and cannot differ by group; set it there.`,
        );
    }
    completeValues(label, schema, values);
    return { chosen: matching(label, layout, match), lrScale, values };
  });
  return layout.segments.map((segment) => {
    const mine = parts.filter(({ chosen }) => chosen.has(segment));
    return {
      segment,
      frozen: still.has(segment),
      lrScale: mine.reduce((scale, part) => part.lrScale * scale, 1),
      // Each part was checked against the schema above.
      values: Object.assign({}, base, ...mine.map((part) => part.values)) as Values<H>,
    };
  });
}

const listOf = (value: string | readonly string[] | undefined): readonly string[] | undefined =>
  typeof value === 'string' ? [value] : value;

const globRegex = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')}$`,
  );

function suggestion(word: string, candidates: Iterable<string>): string {
  const near = nearest(word, candidates);
  return near ? `; did you mean '${near}'?` : `; there are ${[...candidates].join(', ')}.`;
}
