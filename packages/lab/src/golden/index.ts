/** @file Recorded trajectories: reading them, and holding our rules to them. */

import { translations as adaptive } from './families/adaptive.ts';
import { translations as averaging } from './families/averaging.ts';
import { translations as gradient } from './families/gradient.ts';
import { translations as matrix } from './families/matrix.ts';
import { translations as scaled } from './families/scaled.ts';
import { translations as wrappers } from './families/wrappers.ts';
import type { GoldenCase, GoldenFile } from './format.ts';
import { type Subject, subjectOf, type Translation } from './subjects.ts';

export { type GoldenCase, type GoldenFile, parseGolden } from './format.ts';
export { type Agreement, ENGINES, type Engine, replay } from './replay.ts';
export type { Subject } from './subjects.ts';

const translations: Readonly<Record<string, Translation>> = {
  ...gradient,
  ...adaptive,
  ...scaled,
  ...averaging,
  ...wrappers,
  ...matrix,
};

/** The rule and settings of a recorded case. @throws ConfigError where there is no such rule, or it has no such option. */
export const recordedSubject = (file: GoldenFile, entry: GoldenCase): Subject => subjectOf(file, entry, translations);
