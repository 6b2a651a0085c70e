import { poolingCases } from './cases/convolution.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('pooling', poolingCases);
