import { activationCases } from './cases/activations.ts';
import { runOpSuite } from './suite.ts';

runOpSuite('activations', activationCases);
