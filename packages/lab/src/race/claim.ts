/** @file In how many epochs one optimizer reaches what another reaches. */

/** A whole run of so many epochs, and what it reached. */
export interface Reached {
  readonly epochs: number;
  readonly value: number;
}

/** Where a curve of final values over budgets reaches a value. */
export type Reach =
  /** Between two budgets, or at one. */
  | { readonly kind: 'at'; readonly epochs: number }
  /** With the smallest budget already. */
  | { readonly kind: 'at most'; readonly epochs: number }
  /** Not with the largest budget. */
  | { readonly kind: 'more than'; readonly epochs: number };

/** Whether smaller or larger values are better. */
export type Better = 'lower' | 'higher';

/**
 * The smallest budget with which `curve` is at least as good as `target`. Between budgets the value is taken as linear in the logarithm of the
 * epochs, as accuracies and losses nearly are. Undefined for a curve without points.
 *
 * @param curve Rising in epochs.
 */
export function reach(curve: readonly Reached[], target: number, better: Better): Reach | undefined {
  if (curve.length === 0) return undefined;
  const fulfils = (value: number) => (better === 'lower' ? value <= target : value >= target);
  const at = curve.findIndex(({ value }) => fulfils(value));
  if (at < 0) return { kind: 'more than', epochs: curve[curve.length - 1].epochs };
  if (at === 0) return { kind: curve[0].value === target ? 'at' : 'at most', epochs: curve[0].epochs };
  const [before, after] = [curve[at - 1], curve[at]];
  const share = (target - before.value) / (after.value - before.value);
  return { kind: 'at', epochs: before.epochs * (after.epochs / before.epochs) ** share };
}

/** What the reference needs for what another reaches in `epochs`. */
export interface Comparison {
  readonly against: string;
  readonly epochs: number;
  /** What it reaches. */
  readonly value: number;
  readonly reach: Reach;
  /** Epochs of the reference over epochs of the other; a bound where `reach` is one. */
  readonly ratio: number;
  /** What the reference reaches in half the epochs, where that budget was run. */
  readonly atHalf: number | null;
}

/** Compares the reference with every other, at each budget of the other's. */
export function compare(
  reference: readonly Reached[],
  others: readonly { readonly label: string; readonly curve: readonly Reached[] }[],
  better: Better,
): Comparison[] {
  return others.flatMap(({ label, curve }) =>
    curve.flatMap(({ epochs, value }) => {
      const reached = reach(reference, value, better);
      if (!reached) return [];
      const half = reference.find((point) => Math.abs(point.epochs - epochs / 2) < 1e-9);
      return [
        { against: label, epochs, value, reach: reached, ratio: reached.epochs / epochs, atHalf: half?.value ?? null },
      ];
    }),
  );
}
