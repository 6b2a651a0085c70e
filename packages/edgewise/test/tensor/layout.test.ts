import { layoutCases } from './cases/layout.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('layout', layoutCases);
