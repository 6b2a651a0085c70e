/** @file The binary versions of CIFAR-10 and CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html). */
import { FormatError } from '../base/errors.ts';
import type { ClassificationData } from './dataset.ts';

const PIXELS = 3 * 32 * 32;

export const CIFAR10_CLASSES: readonly string[] = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
];

/** One file and what to call it in messages. */
export interface NamedBytes {
  readonly label: string;
  readonly bytes: Uint8Array;
}

/**
 * Records of one label byte and 3072 pixels (red, green and blue planes of 32 rows), from one or more files in order.
 * FormatError for a file that is empty or not a whole number of records, and for a label above 9.
 */
export function parseCifar10(name: string, files: readonly NamedBytes[]): ClassificationData {
  return parseRecords(name, files, 1, 0, CIFAR10_CLASSES.length, CIFAR10_CLASSES);
}

/**
 * Records of a coarse label (20 superclasses), a fine label (100 classes) and 3072 pixels.
 *
 * @param labels Which of the two labels to learn; default `fine`.
 * @param classNames The names of those classes, as in `fine_label_names.txt` or `coarse_label_names.txt`.
 */
export function parseCifar100(
  name: string,
  files: readonly NamedBytes[],
  labels: 'fine' | 'coarse' = 'fine',
  classNames?: readonly string[],
): ClassificationData {
  return parseRecords(name, files, 2, labels === 'fine' ? 1 : 0, labels === 'fine' ? 100 : 20, classNames);
}

function parseRecords(
  name: string,
  files: readonly NamedBytes[],
  labelBytes: number,
  labelAt: number,
  classes: number,
  classNames: readonly string[] | undefined,
): ClassificationData {
  const record = labelBytes + PIXELS;
  for (const { label, bytes } of files) {
    if (bytes.length === 0 || bytes.length % record !== 0) {
      throw new FormatError(
        `${label} has ${bytes.length} bytes, not a whole number of records of ${record} bytes (${labelBytes} label bytes and ${PIXELS} pixels); it is cut off or not a CIFAR file.`,
      );
    }
  }
  if (classNames && classNames.length !== classes) {
    throw new FormatError(`${name} has ${classes} classes, but ${classNames.length} class names were given.`);
  }
  const count = files.reduce((sum, { bytes }) => sum + bytes.length / record, 0);
  const inputs = new Uint8Array(count * PIXELS);
  const labels = new Int32Array(count);
  let example = 0;
  for (const { label, bytes } of files) {
    for (let at = 0; at < bytes.length; at += record, example++) {
      const value = bytes[at + labelAt];
      if (value >= classes) {
        throw new FormatError(`${label}: the label at offset ${at + labelAt} is ${value}, outside [0, ${classes}).`);
      }
      labels[example] = value;
      inputs.set(bytes.subarray(at + labelBytes, at + record), example * PIXELS);
    }
  }
  return {
    kind: 'classification',
    name,
    count,
    shape: [3, 32, 32],
    inputs,
    labels,
    classes,
    ...(classNames ? { classNames } : {}),
  };
}
