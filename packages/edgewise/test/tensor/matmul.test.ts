import { matmulCases } from './cases/matmul.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('matmul', matmulCases);
