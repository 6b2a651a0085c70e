/**
 * Every optimizer of Edgewise as a gradient transformation for jax-js, in the manner of optax.
 *
 * @module
 */
import { type JsTree, type numpy as np, tree } from '@jax-js/jax';
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

/** Parameters, gradients and updates: any tree of arrays. */
export type Params = JsTree<np.Array>;

/** State of an optimizer: plain data and arrays. It owns its arrays; give them back with {@link Transformation.dispose}. */
export type State = GraphState<np.Array>;

/** Settings of an optimizer, and what its parameters carry. */
export interface JaxSettings<H extends Schema = Schema> extends OptimizerSettings<H> {
  /** Tags of a parameter by its path in the tree, such as `layers.0.bias`; none by default. */
  readonly tags?: (name: string) => readonly string[];
}

export interface UpdateOptions {
  /** Learning rate of this step, for a schedule; the one of the settings where left out. */
  readonly lr?: number;
  /** Loss at the parameters, for rules that use it. */
  readonly loss?: number;
  /**
   * Gradient of the loss (and its value, for rules that use it) at other parameters, for rules that take several gradients a step; consumes `params`.
   */
  readonly evaluate?: (params: Params) => { readonly grads: Params; readonly loss?: number };
}

/**
 * An optimizer as a pair of pure functions. As everywhere in jax-js they consume the references they are given: pass `x.ref`, or `tree.ref(params)`, to keep
 * something.
 */
export interface Transformation {
  /** The state before the first step. */
  init(params: Params): State;
  /**
   * What to add to the parameters, in the tree of `params`, and the next state.
   * @throws ConfigError for rules that need the loss or further gradients and are not given them; everything given is consumed then too.
   */
  update(grads: Params, state: State, params: Params, options?: UpdateOptions): [updates: Params, state: State];
  /** The point that is to be evaluated and exported, such as an average; the parameters themselves for most rules. Leaves `state` alone. */
  evaluated(params: Params, state: State): Params;
  /** The state after a restart at `params`. */
  restart(state: State, params: Params): State;
  /** Why the step that led to `state` was refused, as a clause; undefined where it was taken. */
  refusal(state: State): string | undefined;
  /** Gives back the arrays of a state. */
  dispose(state: State): void;
}

/**
 * An optimizer for jax-js.
 *
 * `update` cannot be traced by `jit`: numbers of the rule, such as the step counter, are kept in float64 outside of arrays. Trace the gradient.
 * @throws ConfigError for settings that do not fit, and for rules that need labels sampled from the model or products with the Hessian.
 */
export function createOptimizer<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: JaxSettings<H> = {},
): Transformation {
  // Read through its schema only.
  return transformation(definition as unknown as OptimizerDefinition, settings as unknown as JaxSettings);
}

/** `params + updates`; consumes both. */
export function applyUpdates(params: Params, updates: Params): Params {
  return tree.map((x: np.Array, u: np.Array) => x.add(u), params, updates);
}

function transformation(definition: OptimizerDefinition, settings: JaxSettings): Transformation {
  const { name } = definition;
  const foreign = definition.phases.find(({ evaluate }) => evaluate !== undefined && evaluate !== 'loss')?.evaluate;
  if (foreign !== undefined)
    throw new ConfigError(
      `${name}: its steps evaluate '${foreign}', which this adapter cannot ask for; use another optimizer, or Edgewise's own trainer.`,
    );
  const { tags = () => [], values, groups, frozen } = settings;
  definition.check?.(completeValues(name, definition.hyperparameters, values ?? {}));
  const graphs = new Map<string, StepGraph>();
  const graphOf = (params: Params) => {
    const named = namesOf(params).map(([path, { shape }]) => ({ name: path, shape, tags: tags(path) }));
    const key = JSON.stringify(named);
    const known = graphs.get(key);
    if (known) return known;
    const graph = stepGraph(definition, { values, groups, frozen }, named, { elements: 'float32' });
    graphs.set(key, graph);
    return graph;
  };
  const refusals = new WeakMap<State, string>();
  const dispose = ({ slots }: State) => {
    for (const array of Object.values(slots).flat()) array.dispose();
  };
  return {
    init(params) {
      const theta = leavesOf(params);
      const state = initialState(graphOf(params), runner, theta);
      tree.dispose(params);
      return state;
    },
    update(grads, state, params, { lr, loss, evaluate } = {}) {
      try {
        const [theta, structure] = tree.flatten<np.Array>(params);
        const graph = graphOf(params);
        if (graph.furtherEvaluations > 0 && !evaluate)
          throw new ConfigError(
            `${name}: a step evaluates the gradient at ${graph.furtherEvaluations + 1} points; give update an 'evaluate' that computes it.`,
          );
        if (graph.readsLoss && loss === undefined)
          throw new ConfigError(`${name}: a step uses the value of the loss; give update a 'loss'.`);
        const grad = leavesOf(grads);
        if (grad.length !== theta.length)
          throw new ConfigError(
            `${name}: there are ${grad.length} gradients for ${theta.length} parameters; give trees of one structure.`,
          );
        const step = takeStep(graph, runner, theta, grad, state, {
          lr,
          loss,
          evaluate:
            evaluate &&
            ((_, at) => {
              const again = evaluate(
                tree.unflatten(
                  structure,
                  at.map((x) => x.ref),
                ),
              );
              return { grad: leavesOf(again.grads), loss: again.loss };
            }),
        });
        if (step.refusal !== undefined) refusals.set(step.state, step.refusal);
        const updates = step.theta.map((x, i) => x.sub(theta[i].ref));
        return [tree.unflatten(structure, updates), step.state];
      } finally {
        tree.dispose(grads);
        tree.dispose(params);
        dispose(state);
      }
    },
    evaluated(params, state) {
      const graph = graphOf(params);
      const { evaluated } = graph;
      if (!evaluated || !(state.numbers['state.#step'][0] > 0)) return params;
      const [theta, structure] = tree.flatten<np.Array>(params);
      const feeds = new Map<Symbol, np.Array | number>();
      for (const [i, symbol] of graph.theta.entries()) feeds.set(symbol, theta[i]);
      for (const [slot, { inputs }] of Object.entries(graph.slots))
        for (const [i, symbol] of inputs.entries()) feeds.set(symbol, state.slots[slot][i]);
      for (const [number, { inputs, initial }] of Object.entries(graph.numbers))
        for (const [i, symbol] of inputs.entries()) feeds.set(symbol, (state.numbers[number] ?? initial)[i]);
      const { arrays } = runner.compute(
        evaluated.map((tensor, i) => tensor ?? graph.theta[i]),
        [],
        feeds,
      );
      tree.dispose(params);
      return tree.unflatten(structure, arrays);
    },
    restart(state, params) {
      const next = restartState(graphOf(params), runner, leavesOf(params), state);
      tree.dispose(params);
      dispose(state);
      return next;
    },
    refusal: (state) => refusals.get(state),
    dispose,
  };
}

const leavesOf = (params: Params): np.Array[] => tree.leaves<np.Array>(params);

/** Paths and arrays of a tree, in the order in which jax-js lists its leaves. */
function namesOf(params: Params): [path: string, array: np.Array][] {
  const [leaves, structure] = tree.flatten<np.Array>(params);
  const paths: string[] = leaves.map(() => '');
  // The same tree with the leaves' numbers in their places.
  const visit = (node: unknown, path: string) => {
    if (typeof node === 'number') paths[node] = path === '' ? 'params' : path;
    else if (typeof node === 'object' && node !== null)
      for (const [key, child] of Object.entries(node)) visit(child, path === '' ? key : `${path}.${key}`);
  };
  visit(tree.unflatten<number>(structure, leaves.keys()), '');
  return leaves.map((array, i) => [paths[i], array]);
}
