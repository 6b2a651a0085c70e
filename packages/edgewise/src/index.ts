/**
 * Edgewise: train networks in TypeScript on stock ONNX Runtime, and see why training behaves as it does.
 *
 * This entry holds what graphs are written, differentiated and run with. The rest has entries of its own: `edgewise/nn`, `edgewise/models`,
 * `edgewise/params`, `edgewise/optim`, `edgewise/data`, `edgewise/train`, `edgewise/probes`, `edgewise/onnx`, `edgewise/kernels` and, for Node, `edgewise/node`.
 *
 * @module
 */
export * from './autodiff/index.ts';
export * from './base/index.ts';
export { countOps, type LowerOptions, lowerToOnnx, simplify } from './compile/index.ts';
export * from './runtime/index.ts';
export * from './tensor/index.ts';
