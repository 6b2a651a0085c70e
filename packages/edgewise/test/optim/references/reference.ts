/**
 * @file What a rule's second transcription looks like: plain loops over numbers, written from the papers' formulas. They share
 * no code with the library: where both agree, neither can be wrong alone.
 */

/** Hyper-parameters by the library's names, all given. */
export type Given = Readonly<Record<string, number | boolean | string | readonly number[]>>;

/** One list a tensor, undefined for a tensor without a gradient. */
export type Gradients = readonly (readonly number[] | undefined)[];

export interface Run {
  /**
   * Steps θ in place.
   * @param loss The loss at θ.
   * @param evaluate The gradient of what is named at θ as it is then: of the second and later evaluations of a step.
   */
  step(gradients: Gradients, lr: number, evaluate: (what: string) => Gradients, loss: number): void;
  /** The point to evaluate, where it is not θ. */
  evaluated?(): number[][];
}

/** Takes θ, one list a tensor, with the tensors' shapes. */
export type Reference = (theta: number[][], values: Given, shapes: readonly (readonly number[])[]) => Run;

export const numberOf = (values: Given, name: string): number => Number(values[name]);
export const listOf = (values: Given, name: string): number[] => [...(values[name] as readonly number[])];
export const zeros = (theta: readonly (readonly number[])[]): number[][] => theta.map((tensor) => tensor.map(() => 0));
