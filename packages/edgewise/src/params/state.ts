/** @file Parameter vectors as the tensors of a safetensors file, and back. */
import { FormatError, nearest } from '../base/errors.ts';
import { sameShape, showShape } from '../tensor/shape.ts';
import type { SafeTensor, SafetensorsFile } from './safetensors.ts';
import { tensorFrom, tensorValues } from './tensor-values.ts';
import type { ParamVector } from './vector.ts';

/**
 * Every parameter as a tensor named `prefix` + its name, over the vector's own memory: write them before the vector
 * changes. A prefix such as `adam.m.` keeps optimizer slots apart from parameters in one file.
 */
export function vectorTensors(vector: ParamVector, prefix = ''): SafeTensor[] {
  return Array.from(vector.entries(), ([{ name, shape }, view]) => tensorFrom(prefix + name, shape, view));
}

/**
 * Fills `vector` from the tensors that {@link vectorTensors} named with `prefix`, rounding to its dtype. FormatError, with
 * nothing written, where a parameter is missing or has another shape or a dtype that is not a floating-point one, or
 * where the file has further tensors under a `prefix` that is not empty.
 */
export function loadVector(vector: ParamVector, file: SafetensorsFile, prefix = ''): void {
  const found: { name: string; tensor: SafeTensor }[] = [];
  for (const { name, shape } of vector.layout.segments) {
    const tensor = file.tensors.get(prefix + name);
    if (!tensor) {
      const near = nearest(prefix + name, file.tensors.keys());
      throw new FormatError(
        `${file.label} has no tensor '${prefix}${name}' of shape ${showShape(shape)}${near ? ` (the nearest is '${near}')` : ''}; it was written for another model.`,
      );
    }
    if (!sameShape(shape, tensor.shape)) {
      throw new FormatError(
        `${file.label}: tensor '${prefix}${name}' has shape ${showShape(tensor.shape)}, the model's parameter has ${showShape(shape)}; it was written for another model.`,
      );
    }
    if (!/^(F64|F32|F16|BF16)$/.test(tensor.dtype)) {
      throw new FormatError(
        `${file.label}: tensor '${prefix}${name}' is ${tensor.dtype}; parameters are read from F64, F32, F16 or BF16.`,
      );
    }
    found.push({ name, tensor });
  }
  if (prefix !== '') {
    for (const name of file.tensors.keys()) {
      if (name.startsWith(prefix) && !vector.layout.has(name.slice(prefix.length))) {
        throw new FormatError(
          `${file.label} has a tensor '${name}' for which the model has no parameter; it was written for another model.`,
        );
      }
    }
  }
  for (const { name, tensor } of found) vector.set(name, tensorValues(tensor));
}
