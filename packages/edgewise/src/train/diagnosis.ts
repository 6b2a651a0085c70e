/** @file Words for a step that could not be taken. */
import type { Network } from './network.ts';

/** Euclidean norm. */
export function norm(data: Float32Array | Float64Array): number {
  let total = 0;
  for (let i = 0; i < data.length; i++) total += data[i] * data[i];
  return Math.sqrt(total);
}

/** A step whose loss, gradient or update is not finite. */
export interface Failure {
  readonly network: Network;
  readonly step: number;
  readonly lr: number;
  readonly loss: number;
  readonly gradientNorm: number;
  /** Why the optimizer refused the update, where it did. */
  readonly refusal: string | undefined;
  /** The checkpoint of the state before the update. */
  readonly saved: string | undefined;
}

/** Says what went wrong first, where, and what to try. */
export function diagnose({ network, step, lr, loss, gradientNorm, refusal, saved }: Failure): string {
  const bad = [...network.gradient.entries()]
    .filter(([, view]) => view.some((x) => !Number.isFinite(x)))
    .map(([segment]) => segment.name);
  const every = bad.length === network.layout.segments.length;
  const where =
    bad.length === 0 ? '' : `; the gradient is not finite in ${every ? 'every parameter' : bad.slice(0, 4).join(', ')}`;
  const refused = refusal === undefined ? '' : `; the optimizer refused the update because ${refusal}`;
  const weights = norm(network.params.data).toPrecision(4);
  const kept = saved === undefined ? '' : ` The state before this update is kept in ${saved}.`;
  return `At step ${step} the loss is ${loss} and the gradient norm ${gradientNorm}${where}${refused} (lr ${lr}, norm of the weights ${weights}).${kept} Lower the learning rate, warm it up, or clip the gradient.`;
}
