/** @file Optimizers of TensorFlow.js made from definitions. */
import * as tf from '@tensorflow/tfjs';
import { ConfigError, type Tensor as Symbol } from 'edgewise';
import {
  completeValues,
  type GraphState,
  initialState,
  libraryRunner,
  type OptimizerDefinition,
  type OptimizerSettings,
  restartState,
  type Schema,
  type StepGraph,
  stepGraph,
  takeStep,
} from 'edgewise/optim';
import { library } from './ops.ts';

const runner = libraryRunner(library);

/** Settings of an optimizer, and what its parameters are called. */
export interface TfjsSettings<H extends Schema = Schema> extends OptimizerSettings<H> {
  /**
   * Tags of a variable, for groups that choose by tag; by default `bias`, `norm` (gamma, beta and moving statistics) or `weight`, after the
   * names that layers give.
   */
  readonly tags?: (variable: tf.Variable) => readonly string[];
}

/** A tensor by the name of its variable, as TensorFlow.js passes them in lists. */
export interface NamedTensor {
  name: string;
  tensor: tf.Tensor;
}

type Gradients = tf.NamedTensorMap | NamedTensor[];

/** One set of variables, with the graphs for them. */
interface Bound {
  readonly variables: readonly tf.Variable[];
  readonly graph: StepGraph;
  /** By the names of variables without a gradient. */
  readonly graphs: Map<string, StepGraph>;
  state: GraphState<tf.Tensor>;
}

/** How many times the loss a step is evaluated where it can be evaluated. */
type Evaluation = NonNullable<NonNullable<Parameters<typeof takeStep<tf.Tensor>>[5]>['evaluate']>;

/**
 * A rule of Edgewise as an optimizer of TensorFlow.js. The variables are those of the first step; their order does not matter afterwards.
 * State lives in tensors, numbers of the rule in float64 outside of them.
 */
export class EdgewiseOptimizer extends tf.Optimizer {
  readonly definition: OptimizerDefinition;
  readonly settings: TfjsSettings;
  /** Learning rate of the next step; set it for a schedule. */
  learningRate: number;
  /** Why the last step was refused, as a clause; undefined where it was taken. */
  refusal: string | undefined;
  #bound: Bound | undefined;
  /** State given before the first step. */
  #pending: NamedTensor[] | undefined;

  /**
   * @throws ConfigError for settings that do not fit, and for rules that need what TensorFlow.js cannot give: labels sampled from the model,
   *   products with the Hessian.
   */
  constructor(definition: OptimizerDefinition, settings: TfjsSettings = {}) {
    super();
    const foreign = definition.phases.find(({ evaluate }) => evaluate !== undefined && evaluate !== 'loss')?.evaluate;
    if (foreign !== undefined)
      throw new ConfigError(
        `${definition.name}: its steps evaluate '${foreign}', which an optimizer of TensorFlow.js cannot ask for; use another optimizer, or Edgewise's own trainer.`,
      );
    this.definition = definition;
    this.settings = settings;
    // Checks the values before anything is trained; groups are checked against the variables of the first step.
    const values = completeValues(definition.name, definition.hyperparameters, settings.values ?? {});
    definition.check?.(values);
    this.learningRate = Number(values.lr);
  }

  /** One step at the gradient of `f`, for every rule. */
  override minimize(f: () => tf.Scalar, returnCost = false, varList?: tf.Variable[]): tf.Scalar | null {
    const { value, grads } = this.computeGradients(f, varList);
    try {
      const gradients = varList ? varList.map(({ name }) => ({ name, tensor: grads[name] })) : grads;
      const evaluate: Evaluation = (_, theta) => {
        const { variables } = this.#boundTo(gradients);
        for (const [i, variable] of variables.entries()) assign(variable, theta[i].clone());
        const again = this.computeGradients(f, varList);
        const loss = again.value.dataSync()[0];
        again.value.dispose();
        return { grad: variables.map(({ name }) => again.grads[name]), loss };
      };
      this.#step(gradients, () => value.dataSync()[0], evaluate);
    } finally {
      tf.dispose(grads);
    }
    if (returnCost) return value;
    value.dispose();
    return null;
  }

  /**
   * One step at given gradients, by the names of variables; null for a variable without one, which is left alone.
   * @throws ConfigError for rules that evaluate the loss themselves or use its value, and for variables the first step did not have.
   */
  override applyGradients(gradients: Gradients): void {
    this.#step(gradients, undefined, undefined);
  }

  /** Starts anew from the present point: what the rule's restart clears is as before the first step. */
  restart(): void {
    const bound = this.#bound;
    if (!bound) return;
    const before = bound.state;
    bound.state = keepState(restartState(bound.graph, runner, bound.variables, before));
    disposeState(before);
  }

  /** Runs `work` with the variables at the point that is to be evaluated and exported, such as an average, and puts back the trained ones. */
  async atEvaluated<R>(work: () => Promise<R> | R): Promise<R> {
    const bound = this.#bound;
    const elsewhere = bound?.graph.evaluated;
    if (!bound || !elsewhere || !(bound.state.numbers['state.#step'][0] > 0)) return work();
    const { variables } = bound;
    const trained = variables.map((variable) => tf.keep(variable.clone()));
    const present = elsewhere.flatMap((tensor, i) => (tensor ? [{ tensor, i }] : []));
    const { arrays } = runner.compute(
      present.map(({ tensor }) => tensor),
      [],
      feedsOf(bound),
    );
    for (const [k, { i }] of present.entries()) assign(variables[i], arrays[k]);
    try {
      return await work();
    } finally {
      for (const [i, variable] of variables.entries()) assign(variable, trained[i]);
    }
  }

  /** The state: steps taken, the numbers of the rule to the bit, and its slots in the order of the variables. */
  override async getWeights(): Promise<NamedTensor[]> {
    const iterations = await this.saveIterations();
    const bound = this.#bound;
    if (!bound) return [iterations, ...(this.#pending ?? [])];
    const numbers = Float64Array.from(Object.values(bound.state.numbers).flat());
    const slots = Object.entries(bound.state.slots).flatMap(([slot, tensors]) =>
      tensors.map((tensor, i) => ({ name: `${bound.variables[i].name}/${slot}`, tensor })),
    );
    return [iterations, { name: 'numbers', tensor: tf.tensor1d(new Int32Array(numbers.buffer), 'int32') }, ...slots];
  }

  /** Puts back what {@link getWeights} returned, now or, where no step was taken yet, at the first one. */
  override async setWeights(weights: NamedTensor[]): Promise<void> {
    const state = await this.extractIterations(weights);
    for (const { tensor } of this.#pending ?? []) tensor.dispose();
    this.#pending = state.map(({ name, tensor }) => ({ name, tensor: tf.keep(tensor.clone()) }));
    if (this.#bound) this.#restore(this.#bound);
  }

  override getConfig(): tf.serialization.ConfigDict {
    const { values = {}, groups, frozen } = this.settings;
    // The settings are plain data, but for conditions given as functions, which JSON leaves out.
    return JSON.parse(JSON.stringify({ values, groups, frozen })) as tf.serialization.ConfigDict;
  }

  override dispose(): void {
    if (this.#bound) disposeState(this.#bound.state);
    for (const { tensor } of this.#pending ?? []) tensor.dispose();
    this.#bound = undefined;
    this.#pending = undefined;
  }

  #step(gradients: Gradients, lossOf: (() => number) | undefined, evaluate: Evaluation | undefined): void {
    const { name } = this.definition;
    const bound = this.#boundTo(gradients);
    const { variables, graph, graphs } = bound;
    if (!evaluate && graph.furtherEvaluations > 0)
      throw new ConfigError(
        `${name}: a step evaluates the gradient at ${graph.furtherEvaluations + 1} points, and applyGradients has the one given only; use minimize(f).`,
      );
    const { readsLoss } = graph;
    if (!lossOf && readsLoss)
      throw new ConfigError(
        `${name}: a step uses the value of the loss, which applyGradients is not told; use minimize(f).`,
      );
    const byName = new Map(
      Array.isArray(gradients) ? gradients.map((each) => [each.name, each.tensor]) : Object.entries(gradients),
    );
    const grad = variables.map((variable): tf.Tensor | undefined => byName.get(variable.name) ?? undefined);
    const absent = variables.flatMap((variable, i) => (grad[i] ? [] : [variable.name]));
    const key = absent.join('\n');
    const present = graphs.get(key) ?? this.#graphFor(variables, absent);
    graphs.set(key, present);
    const before = bound.state;
    // Copies: variables are assigned while further gradients are evaluated.
    const start = variables.map((variable) => variable.clone());
    try {
      tf.tidy(() => {
        const step = takeStep(present, runner, start, grad, before, {
          lr: this.learningRate,
          loss: readsLoss ? lossOf?.() : undefined,
          evaluate,
        });
        for (const [i, variable] of variables.entries()) assign(variable, step.theta[i]);
        bound.state = keepState(step.state);
        this.refusal = step.refusal;
      });
    } catch (error) {
      for (const [i, variable] of variables.entries()) assign(variable, start[i].clone());
      throw error;
    } finally {
      tf.dispose(start);
    }
    disposeState(before);
    this.incrementIterations();
  }

  #boundTo(gradients: Gradients): Bound {
    const names = Array.isArray(gradients) ? gradients.map(({ name }) => name) : Object.keys(gradients);
    const bound = this.#bound;
    if (bound) {
      const foreign = names.find((name) => !bound.variables.some((variable) => variable.name === name));
      if (foreign === undefined) return bound;
      throw new ConfigError(
        `${this.definition.name}: the variable '${foreign}' was not among those of the first step; give all variables then, or use another optimizer for it.`,
      );
    }
    const registered = tf.engine().registeredVariables;
    const variables = names.map((name) => registered[name]);
    const graph = this.#graphFor(variables, []);
    const made: Bound = {
      variables,
      graph,
      graphs: new Map([['', graph]]),
      state: keepState(initialState(graph, runner, variables)),
    };
    if (this.#pending) this.#restore(made);
    this.#bound = made;
    return made;
  }

  #graphFor(variables: readonly tf.Variable[], absent: readonly string[]): StepGraph {
    const { tags = tagsOf, values, groups, frozen } = this.settings;
    const params = variables.map((variable) => ({ name: variable.name, shape: variable.shape, tags: tags(variable) }));
    return stepGraph(this.definition, { values, groups, frozen }, params, { elements: 'float32', absent });
  }

  #restore(bound: Bound): void {
    const [numbers, ...tensors] = this.#pending ?? [];
    const { slots, numbers: own } = bound.state;
    const wanted = Object.values(slots).flat();
    const values = numbers && new Float64Array(Int32Array.from(numbers.tensor.dataSync()).buffer);
    const count = Object.values(own).flat().length;
    if (
      values?.length !== count ||
      tensors.length !== wanted.length ||
      tensors.some(({ tensor }, i) => tensor.shape.join() !== wanted[i].shape.join())
    )
      throw new ConfigError(
        `${this.definition.name}: the weights given to setWeights are those of another optimizer or model; it has ${count} numbers and ${wanted.length} tensors of state.`,
      );
    let at = 0;
    const next = () => tensors[at++].tensor;
    let from = 0;
    const take = (length: number) => {
      from += length;
      return [...values.subarray(from - length, from)];
    };
    bound.state = {
      slots: Object.fromEntries(Object.entries(slots).map(([name, list]) => [name, list.map(next)])),
      numbers: Object.fromEntries(Object.entries(own).map(([name, { length }]) => [name, take(length)])),
    };
    for (const tensor of wanted) tensor.dispose();
    numbers.tensor.dispose();
    this.#pending = undefined;
  }
}

/** Puts `value` into the variable and releases it. */
function assign(variable: tf.Variable, value: tf.Tensor): void {
  variable.assign(value);
  value.dispose();
}

function keepState(state: GraphState<tf.Tensor>): GraphState<tf.Tensor> {
  for (const tensor of Object.values(state.slots).flat()) tf.keep(tensor);
  return state;
}

function disposeState({ slots }: GraphState<tf.Tensor>): void {
  for (const tensor of Object.values(slots).flat()) tensor.dispose();
}

function feedsOf({ graph, variables, state }: Bound): Map<Symbol, tf.Tensor | number> {
  const feeds = new Map<Symbol, tf.Tensor | number>();
  for (const [i, symbol] of graph.theta.entries()) feeds.set(symbol, variables[i]);
  for (const [name, { inputs }] of Object.entries(graph.slots))
    for (const [i, symbol] of inputs.entries()) feeds.set(symbol, state.slots[name][i]);
  for (const [name, { inputs, initial }] of Object.entries(graph.numbers))
    for (const [i, symbol] of inputs.entries()) feeds.set(symbol, (state.numbers[name] ?? initial)[i]);
  return feeds;
}

/** What layers call their variables. */
function tagsOf({ name }: tf.Variable): string[] {
  const last = (name.split('/').at(-1) ?? name).replace(/_\d+$/, '');
  if (last === 'bias') return ['bias'];
  return ['gamma', 'beta', 'moving_mean', 'moving_variance'].includes(last) ? ['norm'] : ['weight'];
}
