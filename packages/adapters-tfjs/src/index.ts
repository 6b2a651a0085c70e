/**
 * Every optimizer of Edgewise as an optimizer of TensorFlow.js.
 *
 * @module
 */
import * as tf from '@tensorflow/tfjs';
import type { OptimizerDefinition, Schema } from 'edgewise/optim';
import { EdgewiseOptimizer, type TfjsSettings } from './optimizer.ts';

export { EdgewiseOptimizer, type NamedTensor, type TfjsSettings } from './optimizer.ts';

/** A class of optimizers, by which TensorFlow.js saves and loads them with models. */
export interface OptimizerClass<H extends Schema = Schema> {
  new (settings?: TfjsSettings<H>): EdgewiseOptimizer;
  readonly className: string;
  fromConfig<T extends tf.serialization.Serializable>(
    cls: tf.serialization.SerializableConstructor<T>,
    config: tf.serialization.ConfigDict,
  ): T;
}

const classes = new WeakMap<OptimizerDefinition, OptimizerClass>();

/**
 * The subclass of `tf.Optimizer` for a definition, the same one every time, registered under `Edgewise` and the name of the rule so that
 * `tf.loadLayersModel` finds it.
 */
export function optimizerClass<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
): OptimizerClass<H> {
  // Read through its schema only.
  const erased = definition as unknown as OptimizerDefinition;
  const known = classes.get(erased);
  if (known) return known;
  const name = `Edgewise${erased.name[0].toUpperCase()}${erased.name.slice(1)}`;
  class Made extends EdgewiseOptimizer {
    static get className(): string {
      return name;
    }
    constructor(settings: TfjsSettings = {}) {
      super(erased, settings);
    }
    static override fromConfig<T extends tf.serialization.Serializable>(
      cls: tf.serialization.SerializableConstructor<T>,
      config: tf.serialization.ConfigDict,
    ): T {
      return new cls(config);
    }
  }
  tf.serialization.registerClass(Made);
  classes.set(erased, Made);
  return Made;
}

/** An optimizer for `model.compile`, `minimize` and `applyGradients`. Throws like {@link EdgewiseOptimizer}. */
export function createOptimizer<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: TfjsSettings<H> = {},
): EdgewiseOptimizer {
  return new (optimizerClass(definition))(settings);
}
