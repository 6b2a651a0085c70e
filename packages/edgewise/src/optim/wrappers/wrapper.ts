/** @file Definitions made from definitions, as things that can be chosen by name. */
import type { OptimizerDefinition, Source } from '../definition.ts';
import type { Schema } from '../hyperparameters.ts';

/** What can be put around any optimizer that the mathematics allows. */
export interface Wrapper {
  /** Unique, camel case. */
  readonly name: string;
  readonly title: string;
  readonly source: Source;
  /** The rule as a page of math: a statement a line, in the notation of the docs. */
  readonly formula: string;
  /** When to use it, what to watch, in a few sentences. */
  readonly use: string;
  /** What it adds to the hyper-parameters of the optimizer, by names no optimizer has. */
  readonly hyperparameters: Schema;
  /** @throws ConfigError that says why where the mathematics does not allow it around `base`. */
  wrap(base: OptimizerDefinition): OptimizerDefinition;
}
