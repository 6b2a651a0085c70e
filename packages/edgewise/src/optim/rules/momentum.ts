/** @file What rules with the momentum of the frameworks share. */
import { ConfigError } from '../../base/errors.ts';

/** @throws ConfigError for Nesterov's momentum without momentum, or with dampening. */
export function checkNesterov(
  optimizer: string,
  {
    momentum,
    dampening,
    nesterov,
  }: { readonly momentum: number; readonly dampening: number; readonly nesterov: boolean },
): void {
  if (nesterov && !(momentum > 0 && dampening === 0))
    throw new ConfigError(
      `${optimizer}: nesterov with momentum ${momentum} and dampening ${dampening}; Nesterov's momentum needs momentum above 0 and dampening 0.`,
    );
}
