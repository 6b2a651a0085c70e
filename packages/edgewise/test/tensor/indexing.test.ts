import { indexingCases } from './cases/indexing.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('indexing', indexingCases);
