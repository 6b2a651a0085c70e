export * as initializers from './initializers.ts';
export { ALIGNMENT, ParamLayout, type ParamSpec, type Segment } from './layout.ts';
export {
  parseSafetensors,
  type SafeTensor,
  type SafetensorsDType,
  type SafetensorsFile,
  safetensorsChunks,
  writeSafetensors,
} from './safetensors.ts';
export { loadVector, vectorTensors } from './state.ts';
export { tensorFrom, tensorValues, tensorView } from './tensor-values.ts';
export { type FloatDType, initialize, ParamVector } from './vector.ts';
