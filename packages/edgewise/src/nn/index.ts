export { type Activation, type ActivationName, activate, activationNames } from './activation.ts';
export {
  type AttentionCoreOptions,
  type MultiHeadAttentionOptions,
  multiHeadAttention,
  scaledDotProductAttention,
} from './attention.ts';
export { type ConvLayerOptions, type ConvTransposeLayerOptions, conv, convTranspose } from './conv.ts';
export { type DropoutOptions, dropout, type ElementDropoutOptions, stochasticDepth } from './dropout.ts';
export {
  type EmbeddingOptions,
  embedding,
  type PositionalEmbeddingOptions,
  positionalEmbedding,
} from './embedding.ts';
export { type LinearOptions, linear, type WeightOptions } from './linear.ts';
export {
  type BatchNormOptions,
  batchNorm,
  type GroupNormOptions,
  groupNorm,
  type LayerNormOptions,
  layerNorm,
  type NormOptions,
  type RmsNormOptions,
  rmsNorm,
} from './normalization.ts';
export {
  type LstmCellOptions,
  type LstmOptions,
  type LstmResult,
  type LstmState,
  lstm,
  lstmCell,
} from './recurrent.ts';
export {
  type Buffer,
  type Declared,
  type Forward,
  type Model,
  type RandomInput,
  Scope,
  type Traced,
  type TraceOptions,
  trace,
} from './scope.ts';
export { type TransformerBlockOptions, transformerBlock } from './transformer.ts';
