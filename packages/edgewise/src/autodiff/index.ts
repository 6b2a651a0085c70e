export { jvp } from './forward.ts';
export { mapExamples, perExampleGrad, substitute } from './map.ts';
export { vjp } from './reverse.ts';
export { ggnvp, grad, hvp, valueAndGrad } from './transforms.ts';
