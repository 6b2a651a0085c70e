export { type HessianOperator, type HessianOptions, hessian } from './hessian.ts';
export { type LanczosOptions, type LanczosResult, type LinearOperator, lanczos } from './lanczos.ts';
export { Landscape, type LandscapeBatch, type LandscapeOptions } from './landscape.ts';
export { block, combination, preconditioned, product, scaled, shifted } from './operators.ts';
export { type SharpnessOptions, sharpness } from './sharpness.ts';
export { type Eigenpairs, tridiagonalEigen } from './tridiagonal.ts';
