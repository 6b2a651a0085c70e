/** @file Files of recorded trajectories: what an implementation made of given gradients, step by step. */
import { FormatError } from 'edgewise';
import { z } from 'zod';

const numbers = z.array(z.number());
/** One list of numbers a tensor. */
const tensors = z.array(numbers);

const caseSchema = z.object({
  id: z.string(),
  /** The rule, where it is not the file's. */
  optimizer: z.string().optional(),
  source: z.record(z.string(), z.unknown()).optional(),
  /** By the names of the implementation recorded. */
  hyperparameters: z.record(z.string(), z.unknown()),
  steps: z.int().min(1),
  initial: tensors,
  /** Gradients in the order of their use; null for a tensor without one. */
  gradients: z.array(z.array(numbers.nullable())),
  /** Gradients of a second kind, for rules that ask for one in some steps (counted from 1). */
  hessian_gradients: z.array(z.object({ before_step: z.int(), gradient: tensors })).optional(),
  /** Parameters after each step. */
  params: z.array(tensors),
  lr_per_step: numbers.optional(),
  events: z.array(z.object({ after_step: z.int(), call: z.string() })).optional(),
  note: z.string().optional(),
  /** Further sequences, a value or a list of tensors a step; null before there is one. */
  averaged: z.array(tensors.nullable()).optional(),
  base: z.array(tensors).optional(),
  perturbed: z.array(tensors).optional(),
  half_step: z.array(tensors).optional(),
  gamma_next: numbers.optional(),
  d: numbers.optional(),
  n_averaged: z.array(z.int()).optional(),
});

const fileSchema = z.object({
  optimizer: z.string(),
  source: z.record(z.string(), z.unknown()),
  param_shapes: z.array(z.array(z.int().min(1))),
  cases: z.array(caseSchema).min(1),
});

export type GoldenCase = z.infer<typeof caseSchema>;
export type GoldenFile = z.infer<typeof fileSchema>;

/**
 * Reads a file of recorded trajectories.
 * @param label The file, in messages.
 * @throws FormatError for anything else.
 */
export function parseGolden(text: string, label: string): GoldenFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FormatError(`${label} is not JSON: ${error instanceof Error ? error.message : String(error)}.`);
  }
  const result = fileSchema.safeParse(value);
  if (!result.success) {
    const [{ path, message }] = result.error.issues;
    throw new FormatError(
      `${label} is no file of recorded trajectories: ${path.join('.') || 'the whole'}: ${message}. It needs optimizer, source, param_shapes and cases, each with id, hyperparameters, steps, initial, gradients and params.`,
    );
  }
  const { data } = result;
  for (const entry of data.cases) checkCase(entry, data, label);
  return data;
}

function checkCase(entry: GoldenCase, { param_shapes }: GoldenFile, label: string): void {
  const lengths = param_shapes.map((shape) => shape.reduce((product, extent) => product * extent, 1));
  const fits = (lists: readonly (readonly number[] | null)[]) =>
    lists.length === lengths.length && lists.every((list, i) => list === null || list.length === lengths[i]);
  const wrong = (what: string): never => {
    throw new FormatError(`${label}, case ${entry.id}: ${what}.`);
  };
  if (!fits(entry.initial)) wrong(`initial does not hold tensors of shapes ${JSON.stringify(param_shapes)}`);
  for (const name of ['gradients', 'params'] as const)
    entry[name].forEach((lists, k) => {
      if (!fits(lists)) wrong(`${name}[${k}] does not hold tensors of shapes ${JSON.stringify(param_shapes)}`);
    });
  if (entry.params.length !== entry.steps) wrong(`params has ${entry.params.length} entries for ${entry.steps} steps`);
  if (entry.gradients.length < entry.steps)
    wrong(`gradients has ${entry.gradients.length} entries for ${entry.steps} steps`);
}
