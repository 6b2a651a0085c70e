import type { DType, TypedArray } from './dtype.ts';
import type { Shape } from './shape.ts';
import type { Tensor } from './tensor.ts';

/** An attribute value of an ONNX node. */
export type NodeAttr =
  | { readonly type: 'int'; readonly value: number }
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'ints'; readonly value: readonly number[] }
  | { readonly type: 'floats'; readonly value: readonly number[] };

export const int = (value: number): NodeAttr => ({ type: 'int', value });
export const float = (value: number): NodeAttr => ({ type: 'float', value });
export const string = (value: string): NodeAttr => ({ type: 'string', value });
export const ints = (value: readonly number[]): NodeAttr => ({ type: 'ints', value });

export interface NodeOptions {
  /** How many outputs the node has, 1 by default; each gets a name, '' keeps it unnamed. */
  readonly outputs?: number;
  /** Operator set, '' (standard ONNX) by default. */
  readonly domain?: string;
  /** A sub-graph attribute, such as the body of a Scan. */
  readonly body?: {
    readonly attr: string;
    readonly inputs: readonly Tensor[];
    readonly outputs: readonly Tensor[];
    /** Symbols of the sub-graph that stand for values of the outer graph. */
    readonly shared: readonly (readonly [Tensor, string])[];
  };
}

/**
 * What an op's lowering writes to. Values are names; equal nodes are written once, so two ops that
 * read different outputs of the same node (top-k values and indices) share it.
 */
export interface Lowering {
  /** Which execution provider the graph is for: some op combinations are faster or missing on one of them. */
  readonly provider: string;
  /** Channels in one block of the provider's own convolution layout; 1 where it has none, or the model must stay with public operators. */
  readonly channelBlock: number;
  /** Emits a node and returns its first output. */
  node(
    opType: string,
    inputs: readonly string[],
    attrs?: Readonly<Record<string, NodeAttr>>,
    options?: NodeOptions,
  ): string;
  /** Emits a node and returns all its outputs. */
  nodes(
    opType: string,
    inputs: readonly string[],
    attrs: Readonly<Record<string, NodeAttr>>,
    options: NodeOptions,
  ): readonly string[];
  /** A constant tensor. */
  tensor(data: TypedArray, dtype: DType, shape: Shape): string;
  /** A constant of one element repeated, of rank 0 unless a shape is given. */
  scalar(value: number, dtype: DType, shape?: Shape): string;
  /** A constant int64 vector: shapes, axes, pads. */
  ints(values: readonly number[]): string;
}
