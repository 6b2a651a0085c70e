/** @file How matrix products become ONNX nodes; measured in docs/decisions/0004-convolution-gradients.md. */
import { int, ints, type Lowering } from '../lowering.ts';
import { type Shape, sizeOf } from '../shape.ts';

/** An operand of a product: the name of its value, its shape, and whether its last two axes are read swapped. */
export interface Factor {
  readonly name: string;
  readonly shape: Shape;
  readonly transposed: boolean;
}

/** Emits a · b over the last two axes, other axes broadcast. */
export function emitProduct(to: Lowering, a: Factor, b: Factor, dtype: string): string {
  return turnedProduct(to, a, b, dtype) ?? plainProduct(to, a, b, dtype);
}

/** Emits a · b + c for matrices a and b and a c that broadcasts to the product. */
export function emitProductPlus(to: Lowering, a: Factor, b: Factor, c: string, dtype: string): string {
  const turned = turnedProduct(to, a, b, dtype);
  if (turned !== undefined) return to.node('Add', [turned, c]);
  const flags = { transA: int(a.transposed ? 1 : 0), transB: int(b.transposed ? 1 : 0) };
  return to.node('Gemm', [a.name, b.name, c], flags);
}

/** Providers whose product reads operands transposed; `onnx` stands for any runtime, which has standard operators only. */
const hasFusedMatMul = (provider: string) => provider !== 'webgpu' && provider !== 'onnx';

function plainProduct(to: Lowering, a: Factor, b: Factor, dtype: string): string {
  const flags = { transA: int(a.transposed ? 1 : 0), transB: int(b.transposed ? 1 : 0) };
  const names = [a.name, b.name];
  if (!a.transposed && !b.transposed) return to.node('MatMul', names);
  if (a.shape.length === 2 && b.shape.length === 2) return to.node('Gemm', names, flags);
  if (dtype === 'float32' && hasFusedMatMul(to.provider))
    return to.node('FusedMatMul', names, flags, { domain: 'com.microsoft' });
  return to.node('MatMul', [inOrder(to, a), inOrder(to, b)]);
}

function inOrder(to: Lowering, { name, shape, transposed }: Factor): string {
  if (!transposed) return name;
  const perm = shape.map((_, axis) => axis);
  perm.push(...perm.splice(-2).reverse());
  return to.node('Transpose', [name], { perm: ints(perm) });
}

/** From how many products an element that is moved pays for it, also with two threads, of which moving uses one; and what is tall. */
const least = { uses: 1024, depth: 512, tall: 1 << 22 };

/**
 * The CPU's product packs b once and goes over a again for every 128 columns of b. Large products of two matrices gain where a is
 * in order, and where the larger operand is b, although one of the operands or the result must then be transposed.
 */
function turnedProduct(to: Lowering, a: Factor, b: Factor, dtype: string): string | undefined {
  const onCpu = dtype === 'float32' && (to.provider === 'cpu' || to.provider === 'wasm');
  if (!onCpu || a.shape.length !== 2 || b.shape.length !== 2) return undefined;
  const depth = a.shape[a.transposed ? 0 : 1];
  const rows = sizeOf(a.shape) / depth;
  const columns = sizeOf(b.shape) / depth;
  if (a.transposed && !b.transposed && depth >= least.depth && Math.max(rows, columns) >= least.uses) {
    // aᵀ b with the smaller one transposed beforehand: the result comes as it is, or transposed.
    if (rows <= columns) return to.node('MatMul', [swapped(to, a), b.name]);
    return swapped(to, { name: to.node('MatMul', [swapped(to, b), a.name]), shape: [columns, rows] });
  }
  if (!a.transposed && depth >= least.uses && rows >= 8 * columns && rows * depth >= least.tall) {
    // (bᵀ aᵀ)ᵀ: the tall a is packed, and read once.
    const left = b.transposed ? b.name : swapped(to, b);
    const product = to.node('FusedMatMul', [left, a.name], { transB: int(1) }, { domain: 'com.microsoft' });
    return swapped(to, { name: product, shape: [columns, rows] });
  }
  return undefined;
}

/** The transposed matrix, in memory: reshaped before and after, so that ONNX Runtime does not fold it back into the product. */
function swapped(to: Lowering, { name, shape: [rows, columns] }: Pick<Factor, 'name' | 'shape'>): string {
  const batch = to.node('Reshape', [name, to.ints([1, rows, columns])]);
  const moved = to.node('Transpose', [batch], { perm: ints([0, 2, 1]) });
  return to.node('Reshape', [moved, to.ints([columns, rows])]);
}
