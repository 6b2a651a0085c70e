/**
 * @file The language optimizers are written in.
 *
 * A definition is a page: name, source, hyper-parameters, state, and an update rule that takes symbols and returns
 * symbols, written with the ordinary tensor ops. Everything else (kernels, flags, docs, checkpoints) is made from it.
 */
import type { Segment } from '../params/layout.ts';
import type { Operand } from '../tensor/ops/elementwise.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Schema, Symbols, Values } from './hyperparameters.ts';

export interface Source {
  readonly title: string;
  readonly authors: string;
  readonly year: number;
  /** Identifier on arXiv. */
  readonly arxiv?: string;
  readonly url?: string;
  /** Implementation that the golden trajectories come from. */
  readonly reference?: string;
}

export type Family =
  | 'gradient descent'
  | 'accumulated squares'
  | 'adaptive moments'
  | 'layer-wise'
  | 'sign'
  | 'two evaluations'
  | 'averaging'
  | 'parameter-free'
  | 'matrix';

/**
 * How weight decay enters: λθ added to the gradient (`coupled`), weights times 1 - ηλ (`decoupled`), or divided by
 * 1 + ηλ after the step (`proximal`).
 */
export type Decay = 'coupled' | 'decoupled' | 'proximal';

/** State for each tensor: by default as many elements as the tensor has, in the same order. */
export interface SlotSpec<H extends Schema> {
  readonly doc: string;
  /** Whether the slot exists under these hyper-parameters; always by default. */
  when?(values: Values<H>): boolean;
  /** What it holds before the first step: a number (0 by default), or a copy of the parameters taken then. */
  init?(values: Values<H>): number | 'theta';
  /**
   * Shape for a tensor, where it is not the tensor's own, such as [rows, rows] for statistics of its rows; [0] where the tensor has
   * none. Only phases over tensors see such slots.
   */
  shape?(segment: Segment, values: Values<H>): Shape;
}

/** A number of state, kept in float64. */
export interface ScalarSpec<H extends Schema> {
  readonly doc: string;
  /** One for the optimizer, or one for each tensor. */
  readonly per: 'optimizer' | 'tensor';
  /** 0 by default. */
  init?(values: Values<H>): number;
}

/** What a rule is given. */
export interface RuleSymbols<H extends Schema, S extends string, C extends string> {
  /** θ, the parameters before the step. */
  readonly theta: Tensor;
  /** g, the gradient at the parameters. */
  readonly grad: Tensor;
  /** The state; a slot whose `when` says no cannot be read. */
  readonly slots: Readonly<Record<S, Tensor>>;
  readonly scalars: Readonly<Record<C, Tensor>>;
  /** Hyper-parameters. `lr` is the rate in force: after the schedule, times the tensor's scale. */
  readonly h: Symbols<H>;
  /** Number of this step, from 1: of the tensor's updates, or of the optimizer's, as the definition's `counter` says. */
  readonly t: Tensor;
  /** Number of this step of the optimizer, from 1, whichever tensors took part in those before. */
  readonly step: Tensor;
  /** Learning rate the optimizer was made with, times the tensor's scale: what a schedule is relative to. */
  readonly baseLr: Tensor;
  /** Factor of the tensor's group on learning rates, 1 by default; `h.lr` and `baseLr` have it already. */
  readonly lrScale: Tensor;
  /** Loss at the parameters, as passed to the step; NaN where none was. */
  readonly loss: Tensor;
  /** Elements, rows, columns and rank of the tensor. */
  readonly size: Tensor;
  readonly rows: Tensor;
  readonly columns: Tensor;
  readonly rank: Tensor;
  /**
   * Whether a numeric hyper-parameter has this value for every tensor, so that its term may be left out. A later change
   * that makes another answer right rebuilds the update.
   */
  is(name: keyof H & string, value: number): boolean;
}

/** A condition under which a step is not taken. */
export interface Refusal {
  /** One boolean for all. */
  readonly when: Tensor;
  /** What was wrong, as a clause: `the gradient norm is not finite`. */
  readonly because: string;
}

/** What a rule returns. All is computed from the values before the update; what is left out stays as it is. */
export interface Update<S extends string, C extends string> {
  readonly theta?: Tensor;
  readonly slots?: Readonly<Partial<Record<S, Operand>>>;
  readonly scalars?: Readonly<Partial<Record<C, Operand>>>;
  /** Where one of these holds the step changes nothing, counters included. */
  readonly refuse?: readonly Refusal[];
  /** Where this (one boolean for all) holds, the optimizer restarts after the step. */
  readonly restart?: Tensor;
  /** Numbers worth recording, one for all. */
  readonly report?: Readonly<Record<string, Tensor>>;
}

/** A part of a step. Each phase sees what the one before it wrote. */
export interface Phase<H extends Schema, S extends string, C extends string> {
  /**
   * The gradient that `grad` must hold, at the parameters as they are then: `loss` for that of the training loss, other
   * words for what the definition's documentation says. Where an earlier phase moved the parameters or asked for
   * another gradient, it is evaluated anew. Where left out, `grad` is what the phase before had.
   */
  readonly evaluate?: string;
  /**
   * `vector` (the default): the update is elementwise, with reductions, over all tensors at once. `tensors`: it is
   * done one tensor after the other, with symbols of the tensor's own shape (scalars of shape []) and any op, matrix
   * products included; it writes `theta` and slots only.
   */
  readonly over?: 'vector' | 'tensors';
  /**
   * Of a phase over tensors: always by the reference interpreter, in float64, and never on a device. For ops that devices do not have,
   * such as eigendecompositions, in phases that seldom take place.
   */
  readonly host?: boolean;
  /** Tensors the phase is for: by default all, or those of rank 2 and more for `tensors`. */
  only?(segment: Segment): boolean;
  /**
   * Whether the phase takes place in this step; always by default. One boolean for all, or, over tensors, one for the tensor at hand, from
   * numbers only.
   */
  when?(s: RuleSymbols<H, S, C>): Tensor;
  update(s: RuleSymbols<H, S, C>): Update<S, C>;
  /** What to do where a later phase of the same step refuses it: put back what this phase changed. */
  undo?(s: RuleSymbols<H, S, C>): Update<S, C>;
}

/** A sharpness above which training on a quadratic diverges. */
export interface Stability {
  readonly threshold: number;
  /** Of the Hessian itself, or of P^(-1/2) H P^(-1/2) with the rule's preconditioner P. */
  readonly of: 'hessian' | 'preconditioned hessian';
}

export interface OptimizerDefinition<H extends Schema = Schema, S extends string = string, C extends string = string> {
  /** Unique, lower case. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly title: string;
  readonly source: Source;
  readonly family: Family;
  /** The rule as a page of math: a statement a line, in the notation of the docs. */
  readonly formula: string;
  /** When to use it, what to watch, in a few sentences. */
  readonly use: string;
  /** How weight decay is coupled to the step, where there is any. */
  readonly decay?: Decay;
  /** How the learning rate follows the batch size at a fixed number of epochs; `square root` by default. */
  readonly batchScaling?: 'linear' | 'square root' | 'none';
  /** Must have `lr`. */
  readonly hyperparameters: H;
  readonly slots: Readonly<Record<S, SlotSpec<H>>>;
  readonly scalars?: Readonly<Record<C, ScalarSpec<H>>>;
  /**
   * What `t` counts. `tensor` (the default): updates of a tensor, which a tensor without a gradient does not get;
   * `optimizer`: steps of the optimizer.
   */
  readonly counter?: 'tensor' | 'optimizer';
  /** Throws a ConfigError for combinations of values that are not allowed. */
  check?(values: Values<H>): void;
  /** Threshold for the values given, whose `lr` is the rate in force; undefined where no theory gives one. */
  stability?(values: Values<H>): Stability | undefined;
  /**
   * The diagonal P of a threshold that holds for the preconditioned Hessian, from the state after step `t`: what the step divides by, so
   * that near a minimum it is η P⁻¹ times momentum of the gradient.
   */
  preconditioner?(s: RuleSymbols<H, S, C>): Tensor;
  /**
   * The point that is evaluated and exported, where it is not the one trained: an average of iterates. From the state after step `t`;
   * asked only after the first step.
   */
  evaluated?(s: RuleSymbols<H, S, C>): Tensor;
  /** State that `restart()` sets back to its initial value, beside the counter. */
  readonly restart?: { readonly slots: readonly NoInfer<S>[]; readonly scalars: readonly NoInfer<C>[] };
  /** Gradients a step evaluates, where counting phases would say too many because some exclude each other. */
  readonly evaluations?: {
    /** In one step. */
    readonly most: number;
    /** On average: `1 + 1/k`. */
    readonly average: string;
  };
  /** The step. */
  readonly phases: readonly Phase<H, S, C>[];
}

interface OnePhase<H extends Schema, S extends string, C extends string>
  extends Omit<OptimizerDefinition<H, S, C>, 'phases'> {
  /** The step of a rule that needs the gradient at the parameters and nothing else. */
  update(s: RuleSymbols<H, S, C>): Update<S, C>;
}

/** A definition, from a page with `phases` or with the `update` of a single one. */
export function defineOptimizer<const H extends Schema, S extends string = never, C extends string = never>(
  page: OptimizerDefinition<H, S, C> | OnePhase<H, S, C>,
): OptimizerDefinition<H, S, C> {
  if ('phases' in page) return page;
  const { update, ...rest } = page;
  return { ...rest, phases: [{ evaluate: 'loss', update }] };
}
