import { lossCases } from './cases/losses.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('losses', lossCases);
