import { normalizationCases } from './cases/normalization.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('normalization', normalizationCases);
