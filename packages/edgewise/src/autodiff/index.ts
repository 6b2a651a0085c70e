export { jvp } from './forward.ts';
export { vjp } from './reverse.ts';
export { ggnvp, grad, hvp, valueAndGrad } from './transforms.ts';
