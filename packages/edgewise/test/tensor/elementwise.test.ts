import { elementwiseCases } from './cases/elementwise.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('elementwise', elementwiseCases);
