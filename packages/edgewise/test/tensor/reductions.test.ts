import { reductionCases } from './cases/reductions.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('reductions', reductionCases);
