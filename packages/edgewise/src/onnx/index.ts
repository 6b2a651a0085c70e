export type {
  OnnxAttr,
  OnnxDType,
  OnnxFunction,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxOpset,
  OnnxTensor,
  OnnxValueInfo,
} from './model.ts';
export { type ReadOnnxOptions, readOnnx } from './read.ts';
export { writeOnnx } from './write.ts';
