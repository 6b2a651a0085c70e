import { convolutionCases } from './cases/convolution.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('convolution', convolutionCases);
