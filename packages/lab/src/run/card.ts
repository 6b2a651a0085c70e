/** @file `model.json` of a run: what its network takes and gives, so that it can be used without the data it was trained on. */
import { FormatError } from 'edgewise';
import type { Dataset, Normalization } from 'edgewise/data';
import { buildModel } from 'edgewise/models';
import type { Model } from 'edgewise/nn';
import type { RunStore } from 'edgewise/train';
import { z } from 'zod';
import type { TrainConfig } from '../config/settings.ts';

export const CARD_FILE = 'model.json';

const cardSchema = z.object({
  /** Name in the registry, and settings. */
  name: z.string(),
  options: z.record(z.string(), z.unknown()),
  /** Shape of one example, and how many numbers come out for it. */
  inputShape: z.array(z.number().int().positive()),
  classes: z.number().int().positive(),
  classNames: z.array(z.string()).nullable(),
  /** What inputs were normalised with: (x - mean) / std, one number for all, a channel, or a feature. */
  normalization: z.object({ mean: z.array(z.number()), std: z.array(z.number()) }).nullable(),
});

export type ModelCard = z.infer<typeof cardSchema>;

export function cardOf(
  { model: { name, ...options } }: TrainConfig,
  data: Dataset,
  normalization: Normalization | undefined,
): ModelCard {
  const classes = data.kind === 'classification' ? data.classes : data.targetShape.reduce((n, extent) => n * extent, 1);
  return {
    name,
    options,
    inputShape: [...data.shape],
    classes,
    classNames: data.kind === 'classification' && data.classNames ? [...data.classNames] : null,
    normalization: normalization ? { mean: Array.from(normalization.mean), std: Array.from(normalization.std) } : null,
  };
}

/** Reads the card of a run. @throws FormatError where it is not one; StoreError where there is none. */
export async function readCard(store: RunStore): Promise<ModelCard> {
  const text = new TextDecoder().decode(await store.read(CARD_FILE));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${CARD_FILE} in ${store.location} is not JSON; it was changed since the run wrote it.`, {
      cause,
    });
  }
  const result = cardSchema.safeParse(value);
  if (!result.success) {
    const [{ path, message }] = result.error.issues;
    throw new FormatError(
      `${CARD_FILE} in ${store.location}: ${path.join('.') || 'the whole'} is wrong (${message}); it was changed since the run wrote it.`,
    );
  }
  return result.data;
}

/** The network a card describes, taking normalised inputs. */
export function modelOf({ name, options, inputShape, classes }: ModelCard): Model {
  return buildModel(name, { inputShape, classes }, options);
}
