/** @file The page of an optimizer: what it says of itself, in one structure that the terminal and the docs are written from. */
import {
  costOf,
  type Hyperparameter,
  type OptimizerDefinition,
  type OptimizerSettings,
  type Source,
  type Wrapper,
} from 'edgewise/optim';

/** A hyper-parameter as a row: name, default, limits, where a tuner looks, meaning. */
export interface OptionRow {
  readonly name: string;
  readonly default: string;
  readonly range: string;
  readonly search: string;
  readonly doc: string;
}

export interface Page {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly title: string;
  readonly family: string;
  readonly formula: string;
  readonly use: string;
  readonly options: readonly OptionRow[];
  /** State by name, with what it holds. */
  readonly state: readonly { readonly name: string; readonly doc: string; readonly size: string }[];
  readonly cost: readonly { readonly what: string; readonly value: string }[];
  readonly source: string;
  readonly reference: string | undefined;
}

const showNumber = (x: number): string =>
  x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e6) ? x.toExponential() : String(x);

/** A value as it is typed on the command line. */
export const showDefault = (value: Hyperparameter['default']): string =>
  Array.isArray(value)
    ? value.length === 0
      ? 'none'
      : value.map(showNumber).join(', ')
    : typeof value === 'number'
      ? showNumber(value)
      : String(value);

function rangeOf(parameter: Hyperparameter): string {
  switch (parameter.kind) {
    case 'flag':
      return 'true or false';
    case 'choice':
      return parameter.choices.join(', ');
    default: {
      const { min, max, above, below } = parameter;
      const low = min !== undefined ? `≥ ${showNumber(min)}` : above !== undefined ? `> ${showNumber(above)}` : '';
      const high = max !== undefined ? `≤ ${showNumber(max)}` : below !== undefined ? `< ${showNumber(below)}` : '';
      const whole = parameter.kind === 'integer' || parameter.kind === 'count' ? 'whole' : '';
      return [whole, low, high].filter((part) => part !== '').join(', ') || 'any number';
    }
  }
}

function searchOf(parameter: Hyperparameter): string {
  if (parameter.kind === 'flag' || parameter.kind === 'choice' || !parameter.search) return '';
  const ranges = Array.isArray(parameter.search) ? parameter.search : [parameter.search];
  return ranges
    .map((range) =>
      range
        ? `${showNumber(Number(range.low.toPrecision(3)))} to ${showNumber(Number(range.high.toPrecision(3)))}, ${range.scale}`
        : 'kept',
    )
    .join('; ');
}

export const optionRows = (schema: Readonly<Record<string, Hyperparameter>>): OptionRow[] =>
  Object.entries(schema).map(([name, parameter]) => ({
    name,
    default: `${showDefault(parameter.default)}${parameter.unit ? ` ${parameter.unit}` : ''}`,
    range: rangeOf(parameter),
    search: searchOf(parameter),
    doc: parameter.doc,
  }));

export function showSource({ title, authors, year, arxiv, url }: Source): string {
  return `${authors}, “${title}”, ${year}${arxiv ? `, arXiv ${arxiv}` : ''}${url ? `, ${url}` : ''}`;
}

const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`;

/** The page of an optimizer; costs are those of its defaults, or of `settings`. */
export function pageOf(definition: OptimizerDefinition, settings: OptimizerSettings = {}): Page {
  const cost = costOf(definition, settings);
  const { reductions } = cost;
  const threshold = definition.stability?.(defaultsOf(definition));
  return {
    name: definition.name,
    aliases: definition.aliases ?? [],
    title: definition.title,
    family: definition.family,
    formula: definition.formula.trim(),
    use: definition.use,
    options: optionRows(definition.hyperparameters),
    state: Object.entries(definition.slots).map(([name, slot]) => ({
      name,
      doc: slot.doc,
      size: `${slot.shape ? 'a shape of its own' : 'as the parameters'}${slot.when ? ', only where an option needs it' : ''}`,
    })),
    cost: [
      {
        what: 'Extra state',
        value: `${plural(cost.vectors, 'vector')} of the parameters' size${cost.shaped.length > 0 ? `, and ${cost.shaped.join(', ')} of other sizes` : ''}`,
      },
      { what: 'Gradient evaluations a step', value: definition.evaluations?.average ?? String(cost.evaluations) },
      {
        what: 'Reductions a step',
        value: `${reductions.model} over the whole model, ${reductions.tensor} over each tensor`,
      },
      ...(cost.bytesPerParameter > 0
        ? [
            {
              what: 'Memory traffic a step',
              value: `${cost.bytesPerParameter} bytes a float32 parameter in ${plural(cost.stages, 'pass')}`.replace(
                'passs',
                'passes',
              ),
            },
          ]
        : []),
      {
        what: 'Stability threshold',
        value: threshold
          ? `${showNumber(Number(threshold.threshold.toPrecision(4)))} on the sharpness of the ${threshold.of}, at the defaults`
          : 'none known',
      },
      {
        what: 'Learning rate and batch size',
        value: { linear: 'proportional', 'square root': 'proportional to the square root', none: 'independent' }[
          definition.batchScaling ?? 'square root'
        ],
      },
      ...(definition.decay ? [{ what: 'Weight decay', value: definition.decay }] : []),
    ],
    source: showSource(definition.source),
    reference: definition.source.reference,
  };
}

/** Values of a definition about which nothing is said. */
export const defaultsOf = ({ hyperparameters }: OptimizerDefinition): Readonly<Record<string, never>> =>
  // Defaults are of the types the schema says.
  Object.fromEntries(Object.entries(hyperparameters).map(([name, parameter]) => [name, parameter.default])) as Readonly<
    Record<string, never>
  >;

/** The page of a wrapper: what it adds. */
export function wrapperPage(wrapper: Wrapper): Omit<Page, 'state' | 'cost'> {
  return {
    name: wrapper.name,
    aliases: [],
    title: wrapper.title,
    family: 'around any optimizer',
    formula: wrapper.formula.trim(),
    use: wrapper.use,
    options: optionRows(wrapper.hyperparameters),
    source: showSource(wrapper.source),
    reference: wrapper.source.reference,
  };
}
