/** From what a user wrote, in JSON files and flags, to a checked configuration; and the zod schema that checks it. */
import { ConfigError, nearest } from 'edgewise';
import { z } from 'zod';
import { type Catalog, findVariant, type Variant } from './catalog.ts';
import {
  type GroupConfig,
  groupOfText,
  groupType,
  type MatchConfig,
  matchOfText,
  matchType,
  readGroups,
  readMatches,
} from './groups.ts';
import { adviceFor, settingType, showValue, valueOfText } from './setting.ts';
import {
  CHOOSABLE,
  type Choosable,
  DEFAULT_EPOCHS,
  fixedLeaves,
  type Leaf,
  type TrainConfig,
  variantLeaves,
  wrapperLeaves,
} from './settings.ts';

/** Flags by name; a list for one that can be given several times. */
export type Flags = Readonly<Record<string, string | boolean | readonly string[]>>;

/** Settings from one place. Later layers override earlier ones. */
export type ConfigLayer =
  | {
      /** Named in messages, such as the file's path. */
      readonly source: string;
      /** JSON as it was parsed. */
      readonly value: unknown;
    }
  | {
      /** Flags as they were given: without dashes, in kebab case; `true` for one without a value. */
      readonly flags: Flags;
    };

/** Source of the layer below all others; not named in messages, for the user did not write it. */
const RECIPE = 'recipe';

const PARTS = Object.keys(CHOOSABLE) as readonly Choosable[];

/**
 * Checks and completes a configuration.
 *
 * Choosing another model, data set, optimizer or schedule than an earlier layer did drops what that layer said of it. `steps` takes the place of
 * `epochs` and the other way round.
 *
 * @param layers In order of increasing weight; the catalog's recipe comes before them.
 * @throws ConfigError for the first thing that is wrong, naming where it was said, and the nearest valid name of an unknown one.
 */
export function parseTrainConfig(layers: readonly ConfigLayer[], catalog: Catalog): TrainConfig {
  const draft = new Draft(catalog);
  draft.addJson(RECIPE, catalog.recipe);
  for (const layer of layers) {
    if ('flags' in layer) draft.addFlags(layer.flags);
    else draft.addJson(layer.source, layer.value);
  }
  return draft.finish();
}

/** The zod schema of a complete configuration; `z.toJSONSchema` makes a form's description of it. */
export function trainConfigSchema(catalog: Catalog): z.ZodType {
  const shape = (leaves: readonly Leaf[]): Record<string, z.ZodType> =>
    Object.fromEntries(leaves.map((leaf) => [leaf.path[leaf.path.length - 1], settingType(leaf.setting)]));
  const part = (which: Choosable): z.ZodType => {
    const [first, ...rest] = CHOOSABLE[which]
      .list(catalog)
      .map((variant) => z.strictObject({ name: z.literal(variant.name), ...shape(variantLeaves(which, variant)) }));
    return z.discriminatedUnion('name', [first, ...rest]);
  };
  const fixed = fixedLeaves(catalog);
  const section = (...path: string[]): Record<string, z.ZodType> =>
    shape(fixed.filter((leaf) => leaf.path.slice(0, -1).join('.') === path.join('.')));
  return z.strictObject({
    ...Object.fromEntries(PARTS.map((which) => [which, part(which)])),
    wrap: z.array(wrapperType(catalog)).default([]),
    groups: z.array(groupType).default([]),
    freeze: z.array(matchType).default([]),
    ...section(),
    augment: z.strictObject(section('augment')).prefault({}),
    earlyStopping: z.strictObject(section('earlyStopping')).prefault({}),
    probes: z.strictObject({ sharpness: z.strictObject(section('probes', 'sharpness')).prefault({}) }).prefault({}),
  });
}

function wrapperType({ wrappers }: Catalog): z.ZodType {
  const types = wrappers.map((wrapper) =>
    z.strictObject({
      name: z.literal(wrapper.name),
      ...Object.fromEntries(wrapperLeaves(wrapper).map(({ path, setting }) => [path[2], settingType(setting)])),
    }),
  );
  const [first, ...rest] = types;
  return first ? z.discriminatedUnion('name', [first, ...rest]) : z.never();
}

const schemas = new WeakMap<Catalog, z.ZodType>();

/** Making the schema, and its first use, take most of the time of a check. */
function cachedSchema(catalog: Catalog): z.ZodType {
  const schema = schemas.get(catalog) ?? trainConfigSchema(catalog);
  schemas.set(catalog, schema);
  return schema;
}

const keyOf = (path: readonly string[]): string => path.join('.');

/** A value, and where it was said: `config.json: optimizer.lr` or `--lr`. */
interface Said {
  readonly value: unknown;
  readonly origin: string;
}

/** What has been said so far, by path. */
class Draft {
  readonly #catalog: Catalog;
  readonly #fixed: readonly Leaf[];
  readonly #said = new Map<string, Said>();
  readonly #chosen = new Map<Choosable, { variant: Variant; origin: string }>();
  #wrap: readonly Variant[] = [];
  #groups: readonly GroupConfig[] = [];
  #freeze: readonly MatchConfig[] = [];

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
    this.#fixed = fixedLeaves(catalog);
  }

  addJson(source: string, value: unknown): void {
    if (!isObject(value)) throw new ConfigError(`${source}: the settings must be an object, got ${showValue(value)}.`);
    for (const part of PARTS) if (Object.hasOwn(value, part)) this.#choose(part, value[part], `${source}: ${part}`);
    const { wrap, groups, freeze, ...rest } = value;
    if (wrap !== undefined) {
      const settings = Object.entries(this.#chooseWrappers(wrap, `${source}: wrap`));
      const given = settings.filter(([, own]) => Object.keys(own).length > 0);
      if (given.length > 0) rest.wrap = Object.fromEntries(given);
    }
    if (groups !== undefined) this.#groups = readGroups(groups, `${source}: groups`, this.#catalog);
    if (freeze !== undefined) this.#freeze = readMatches(freeze, `${source}: freeze`);
    const leaves = this.#leaves();
    const given: (readonly [Leaf, unknown])[] = [];
    this.#walk(source, [], normalize(rest), leaves, given);
    const prefix = source === RECIPE ? '' : `${source}: `;
    this.#addAll(given.map(([leaf, entry]) => [leaf, { value: entry, origin: prefix + keyOf(leaf.path) }]));
  }

  addFlags(given: Flags): void {
    const { wrap, group, freeze, ...flags } = given;
    for (const part of PARTS) {
      if (Object.hasOwn(flags, part)) this.#choose(part, flags[part], `--${part}`);
    }
    if (wrap !== undefined) {
      const names = textsOf(wrap, '--wrap').flatMap((text) => text.split(','));
      this.#chooseWrappers(
        names.map((name) => name.trim()).filter((name) => name !== ''),
        '--wrap',
      );
    }
    if (group !== undefined)
      this.#groups = textsOf(group, '--group').map((text) => groupOfText(text, '--group', this.#catalog));
    if (freeze !== undefined) this.#freeze = textsOf(freeze, '--freeze').map((text) => matchOfText(text, '--freeze'));
    const leaves = this.#leaves();
    const said: (readonly [Leaf, Said])[] = [];
    for (const [name, text] of Object.entries(flags)) {
      if ((PARTS as readonly string[]).includes(name)) continue;
      const leaf = leaves.find(({ flag }) => flag === `--${name}`);
      if (!leaf) throw this.#unknownFlag(name, leaves);
      if (typeof text !== 'string' && typeof text !== 'boolean')
        throw new ConfigError(`${leaf.flag} is given more than once; give it once.`);
      said.push([leaf, { value: valueOfText(leaf.setting, text), origin: leaf.flag }]);
    }
    this.#addAll(said);
  }

  /** The complete configuration. */
  finish(): TrainConfig {
    const raw: Record<string, unknown> = {};
    for (const part of PARTS) put(raw, [part, 'name'], this.#variant(part).name);
    const leaves = this.#leaves();
    for (const { path, setting } of leaves) {
      const said = this.#said.get(keyOf(path));
      if (said) put(raw, path, said.value);
      else if (setting.default === undefined) {
        const part = PARTS.find((name) => name === path[0]);
        const whose = part
          ? `${CHOOSABLE[part].what} ${this.#variant(part).name}`
          : path[0] === 'wrap'
            ? `wrapper ${path[1]}`
            : 'run';
        throw new ConfigError(`The ${whose} needs ${keyOf(path)} (${leafFlag(leaves, path)}): ${setting.doc}`);
      }
    }
    const values = isObject(raw.wrap) ? raw.wrap : {};
    raw.wrap = this.#wrap.map(({ name }) => Object.assign({ name }, values[name]));
    Object.assign(raw, { groups: this.#groups, freeze: this.#freeze });
    const result = cachedSchema(this.#catalog).safeParse(raw);
    if (!result.success) throw this.#problem(result.error.issues[0], raw, leaves);
    // The schema's output; its static type is lost because the catalog is only known at run time.
    const checked = result.data as Omit<TrainConfig, 'epochs' | 'steps'> & {
      epochs: number | null;
      steps: number | null;
    };
    const { epochs, steps } = checked;
    const length = steps === null ? { epochs: epochs ?? DEFAULT_EPOCHS, steps } : { epochs: null, steps };
    const config: TrainConfig = { ...checked, ...length };
    this.#checkTogether(config);
    return config;
  }

  #variant(part: Choosable): Variant {
    const chosen = this.#chosen.get(part);
    if (!chosen) throw new ConfigError(`No ${CHOOSABLE[part].what} is chosen; give --${part}.`);
    return chosen.variant;
  }

  #leaves(): readonly Leaf[] {
    return [
      ...[...this.#chosen].flatMap(([part, { variant }]) => variantLeaves(part, variant)),
      ...this.#wrap.flatMap(wrapperLeaves),
      ...this.#fixed,
    ];
  }

  /**
   * Takes the list of wrappers, by name or as objects with their settings; what was said before of those that stay holds on.
   * @returns The settings by wrapper.
   */
  #chooseWrappers(value: unknown, origin: string): Record<string, Record<string, unknown>> {
    if (!Array.isArray(value)) throw new ConfigError(`${origin} is ${showValue(value)}; give a list of wrappers.`);
    const chosen = value.map((entry: unknown): readonly [Variant, Record<string, unknown>] => {
      const { name, ...settings }: Record<string, unknown> = isObject(entry) ? entry : { name: entry };
      return [findVariant('wrapper', this.#catalog.wrappers, name, origin), settings];
    });
    const wrap = chosen.map(([variant]) => variant);
    const twice = wrap.find((variant, i) => wrap.indexOf(variant) !== i);
    if (twice) throw new ConfigError(`${origin} has ${twice.name} twice; wrap with it once.`);
    for (const { name } of this.#wrap) {
      if (wrap.some((variant) => variant.name === name)) continue;
      for (const key of [...this.#said.keys()]) if (key.startsWith(`wrap.${name}.`)) this.#said.delete(key);
    }
    this.#wrap = wrap;
    return Object.fromEntries(chosen.map(([{ name }, settings]) => [name, settings]));
  }

  /** Takes a choice by name, alone or within an object. Another one than before forgets what was said of that. */
  #choose(part: Choosable, value: unknown, origin: string): void {
    const name = isObject(value) ? value.name : value;
    if (name === undefined && isObject(value)) return;
    const { what, list } = CHOOSABLE[part];
    const variant = findVariant(what, list(this.#catalog), name, origin);
    if (this.#chosen.get(part)?.variant.name !== variant.name) {
      for (const key of [...this.#said.keys()]) if (key.startsWith(`${part}.`)) this.#said.delete(key);
    }
    this.#chosen.set(part, { variant, origin });
  }

  /** Collects the leaves of `value`; throws at the first key that is no setting. */
  #walk(
    source: string,
    path: string[],
    value: Record<string, unknown>,
    leaves: readonly Leaf[],
    given: (readonly [Leaf, unknown])[],
  ): void {
    for (const [name, entry] of Object.entries(value)) {
      const here = [...path, name];
      const key = keyOf(here);
      const leaf = leaves.find((candidate) => keyOf(candidate.path) === key);
      if (leaf) given.push([leaf, entry]);
      else if (path.length === 1 && name === 'name' && (PARTS as readonly string[]).includes(path[0])) continue;
      else if (leaves.some((candidate) => here.every((step, i) => candidate.path[i] === step)) || isPart(here)) {
        if (!isObject(entry)) throw new ConfigError(`${source}: ${key} must be an object, got ${showValue(entry)}.`);
        this.#walk(source, here, entry, leaves, given);
      } else throw this.#unknownKey(source, here, leaves);
    }
  }

  #addAll(given: readonly (readonly [Leaf, Said])[]): void {
    const length = (name: string): Said | undefined =>
      given.find(([leaf, { value }]) => keyOf(leaf.path) === name && value !== null)?.[1];
    const [epochs, steps] = [length('epochs'), length('steps')];
    if (epochs && steps) {
      throw new ConfigError(`${steps.origin} and ${epochs.origin} are both given; a run has one length, choose one.`);
    }
    if (epochs) this.#said.delete('steps');
    if (steps) this.#said.delete('epochs');
    for (const [leaf, said] of given) this.#said.set(keyOf(leaf.path), said);
  }

  #unknownKey(source: string, path: readonly string[], leaves: readonly Leaf[]): ConfigError {
    const parent = path.slice(0, -1);
    const last = path[path.length - 1];
    const below = leaves.filter((leaf) => parent.every((step, i) => leaf.path[i] === step));
    const here = new Set([...below.map((leaf) => leaf.path[parent.length]), ...(parent.length === 0 ? PARTS : [])]);
    const namesakes = leaves.filter((leaf) => leaf.path[leaf.path.length - 1] === last);
    const sibling = nearest(last, here);
    const near =
      namesakes.length > 0
        ? keyOf(namesakes[0].path)
        : sibling !== undefined
          ? keyOf([...parent, sibling])
          : nearestPath(last, leaves);
    const owner = PARTS.find((part) => part === parent[0]);
    const where = owner ? ` for the ${CHOOSABLE[owner].what} ${this.#variant(owner).name}` : '';
    const there = here.size === 0 ? 'there are none here.' : `there are ${[...here].join(', ')}.`;
    const advice = near === undefined ? there : `did you mean ${near}?`;
    return new ConfigError(`${source}: there is no setting ${showValue(keyOf(path))}${where}; ${advice}`);
  }

  #unknownFlag(name: string, leaves: readonly Leaf[]): ConfigError {
    const wrapper = this.#catalog.wrappers.find((each) => wrapperLeaves(each).some(({ flag }) => flag === `--${name}`));
    if (wrapper)
      return new ConfigError(
        `--${name} is of the wrapper ${wrapper.name}, which is not used; give --wrap ${wrapper.name}.`,
      );
    for (const part of PARTS) {
      const owners = CHOOSABLE[part].list(this.#catalog);
      const elsewhere = owners.some((variant) => variantLeaves(part, variant).some(({ flag }) => flag === `--${name}`));
      const chosen = this.#chosen.get(part);
      if (!elsewhere || !chosen) continue;
      const flags = variantLeaves(part, chosen.variant).map(({ flag }) => flag);
      const there = flags.length === 0 ? 'it has no settings' : `it has ${flags.join(', ')}`;
      return new ConfigError(`The ${CHOOSABLE[part].what} ${chosen.variant.name} has no --${name}; ${there}.`);
    }
    return unknownFlag(name, [...leaves.map(({ flag }) => flag), ...PARTS.map((part) => `--${part}`)]);
  }

  #problem(issue: z.core.$ZodIssue, raw: Record<string, unknown>, leaves: readonly Leaf[]): ConfigError {
    const path = issue.path.map(String);
    if (path[0] === 'wrap' && path.length > 1) path[1] = this.#wrap[Number(path[1])].name;
    const leaf = leaves.find((candidate) => candidate.path.every((step, i) => path[i] === step));
    if (!leaf) return new ConfigError(`${keyOf(path)}: ${issue.message}.`);
    const said = this.#said.get(keyOf(leaf.path));
    const value = said ? said.value : get(raw, leaf.path);
    return new ConfigError(
      `${said?.origin ?? keyOf(leaf.path)} is ${showValue(value)}; ${adviceFor(leaf.setting, value)}.`,
    );
  }

  /** What no single setting shows. */
  #checkTogether(config: TrainConfig): void {
    const { batchSize, microBatchSize, optimizer, device, precision, clipNorm, schedule, steps } = config;
    const origin = (name: string): string => this.#said.get(name)?.origin ?? name;
    if (microBatchSize !== null && batchSize % microBatchSize !== 0) {
      throw new ConfigError(
        `${origin('microBatchSize')} is ${microBatchSize}, which does not divide the batch size ${batchSize}; choose a divisor.`,
      );
    }
    if (clipNorm > 0 && typeof optimizer.maxGradNorm === 'number' && optimizer.maxGradNorm > 0) {
      throw new ConfigError(
        `${origin('clipNorm')} and ${origin('optimizer.maxGradNorm')} are both set; the gradient would be clipped twice, choose one.`,
      );
    }
    const info = this.#catalog.devices.find(({ name }) => name === device);
    if (info && !info.precisions.includes(precision)) {
      throw new ConfigError(
        `${origin('precision')} is ${precision}, which the device ${device} does not have; it has ${info.precisions.join(', ')}.`,
      );
    }
    if (steps !== null && typeof schedule.warmup === 'number' && schedule.warmup > steps) {
      throw new ConfigError(
        `${origin('schedule.warmup')} is ${schedule.warmup}, longer than the whole run of ${steps} steps; choose a shorter one.`,
      );
    }
    for (const part of PARTS) {
      const { name: _, ...values } = config[part];
      this.#variant(part).check?.(values);
    }
  }
}

/** The texts of a flag that can be given several times; none for an empty one. */
function textsOf(value: Flags[string], flag: string): readonly string[] {
  if (typeof value === 'boolean') throw new ConfigError(`${flag} needs a value.`);
  return (typeof value === 'string' ? [value] : value).filter((text) => text.trim() !== '');
}

/** The error of a flag that does not exist. */
export function unknownFlag(name: string, flags: Iterable<string>): ConfigError {
  // Any two flags of two letters are near each other.
  const near = name.length > 2 ? nearest(`--${name}`, flags) : undefined;
  return new ConfigError(
    `There is no flag --${name}; ${near ? `did you mean ${near}?` : 'see --help for those there are.'}`,
  );
}

/** Of `leaves`, the path whose last key is nearest to `word`. */
function nearestPath(word: string, leaves: readonly Leaf[]): string | undefined {
  const last = (leaf: Leaf): string => leaf.path[leaf.path.length - 1];
  const near = nearest(word, leaves.map(last));
  const leaf = leaves.find((candidate) => last(candidate) === near);
  return near === undefined || !leaf ? undefined : keyOf(leaf.path);
}

const leafFlag = (leaves: readonly Leaf[], path: readonly string[]): string =>
  leaves.find((leaf) => keyOf(leaf.path) === keyOf(path))?.flag ?? '';

const isPart = (path: readonly string[]): boolean =>
  path.length === 1 && (PARTS as readonly string[]).includes(path[0]);

/** A choice said by its name alone as the object it stands for. */
function normalize(value: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(value).map(([key, entry]) =>
    isPart([key]) && typeof entry === 'string' ? ([key, { name: entry }] as const) : ([key, entry] as const),
  );
  return Object.fromEntries(entries);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Paths are those of settings, so none leads to a prototype. */
function put(into: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let at = into;
  for (const step of path.slice(0, -1)) {
    const next: unknown = at[step] ?? {};
    at[step] = next;
    if (!isObject(next)) return;
    at = next;
  }
  at[path[path.length - 1]] = value;
}

function get(from: Record<string, unknown>, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, step) => (isObject(at) ? at[step] : undefined), from);
}
