/** @file Where implementations of one rule differ from each other, and which behaviour is ours. Found by running or reading them. */

/** Sentences by optimizer or wrapper. */
export const disagreements: Readonly<Record<string, readonly string[]>> = {
  adan: [
    'The paper writes its rates as 1 - β; the authors’ code and this library give β.',
    'optax (2026-08) multiplies the difference of gradients by 1 - β2 = 0.08 instead of β2 = 0.92, in both places, and adds 1e-8 inside the root; its Adan is no oracle. An open pull request there (1715) calls it a bug.',
    'The authors’ vectorised float32 single-tensor CUDA kernel divides by √(n - v²/β2) + ε without the correction of n; their other kernels and their Python code do not. The latter is followed.',
    'lucidrains’ version makes the first step a no-op apart from decay; kozistr’s names the proximal form `weight_decouple = false`; timm’s equals the authors’, without clipping.',
    'At t = 1 the difference is 0 and enters its average, so that the correction of v counts one zero too many: at t = 2 the corrected v is d/(1 + β2). The authors’ start-up is kept.',
    'The paper’s first moment starts from a first gradient without bias correction; the code starts from zeros with it. The code is followed.',
  ],
  sgd: [
    'Caffe, Keras and the LARS paper have the learning rate inside the momentum buffer; PyTorch, optax and this library outside. Equal for a constant rate only.',
    'PyTorch copies the first gradient into the buffer whole, dampening or not; optax and Keras start the buffer at 0.',
  ],
  adagrad: [
    'optax adds ε = 1e-7 inside the root, starts at 0.1 and gives 0 where the sum is 0; PyTorch adds it outside.',
  ],
  rmsprop: [
    'PyTorch adds ε outside the root; TensorFlow, timm’s RMSpropTF, optax and Graves’ paper inside. TensorFlow starts the average at one and has the rate inside the momentum (`tfStyle`).',
  ],
  adam: [
    'TensorFlow and Keras fold the bias correction into the step, which multiplies ε by 1/√(1 - β2^t).',
    'optax can add a second ε inside the root.',
  ],
  adamw: [
    'The paper multiplies the decay by the schedule only; PyTorch, optax, timm and this library by the whole learning rate. timm’s “corrected” option uses η²/η_max.',
  ],
  amsgrad: [
    'The paper has no bias correction. PyTorch takes the maximum of uncorrected averages, optax corrects first: large early values then stay in the maximum for ever. PyTorch is followed.',
  ],
  adamax: [
    'The paper has no ε (0/0 for a history of zeros); Keras adds it at the division; PyTorch and optax inside the maximum, as here.',
  ],
  nadam: [
    'PyTorch 1.13’s single-tensor path multiplies the product of momenta by μ once too often in the last fraction (mended later); its multi-tensor path is right and is the one followed.',
    'timm’s NAdamW and optax’s `nesterov=True` use the simpler look-ahead β1 m + (1 - β1) g with Adam’s corrections: `nadamw` here.',
  ],
  radam: [
    'The paper switches to adaptive steps at ρ > 4, the authors’ code at ρ ≥ 5 (skipping steps before), PyTorch at ρ > 5 (momentum before), optax at ρ ≥ 5 (momentum).',
    'PyTorch 1.13’s multi-tensor path leaves ε out. Its single-tensor path is followed.',
    'The authors’ decay is decoupled and acts only in steps that update; PyTorch’s is coupled.',
  ],
  padam: ['The paper has neither ε nor bias correction; the authors’ code has both and is followed.'],
  adabound: [
    'The paper divides by a further √t that the code drops. The authors’ AdaBoundW subtracts λθ not multiplied by the learning rate; here it is multiplied unless asked otherwise.',
  ],
  adabelief: [
    'ε is accumulated into the stored second moment at every step in the authors’ code 0.2.0 and optax; defaults changed between 0.0.5 (1e-8, coupled, no rectification) and 0.2.0.',
    'In AMSGrad mode with rectification the authors’ code still divides by the current average.',
  ],
  lars: [
    'The trust ratio is τ‖w‖/(‖g‖ + λ‖w‖) in the paper and timm (plus ε), τ‖w‖/‖g + λw‖ in MAE, MoCo v3 and optax. The rate is inside the buffer in the paper and optax, outside in timm and MAE.',
    'timm adapts only tensors that decay unless `always_adapt`; MAE leaves out tensors of rank 1 and below, decay included.',
  ],
  lamb: [
    'timm and NVLAMB clip the global norm at 1 by default; the paper, optax and cybertronai do not. cybertronai has no bias correction and clamps ‖θ‖ to [0, 10].',
    'timm adapts only tensors that decay unless `always_adapt`; the paper, cybertronai and optax all of them.',
  ],
  lookahead: [
    'timm and alphadl create the slow copy at the first synchronisation, from the fast weights, so that it does nothing; the authors copy at construction, as here.',
    'The authors’ `pullback` shares memory between its cached buffer and the live one, so that from the second synchronisation on it only scales the buffer; here it interpolates as intended.',
  ],
  sam: [
    'ε is 1e-12 in davda54’s code, 1e-16 in ASAM’s. ASAM scales by |θ| + η only where a name contains “weight”; davda54’s `adaptive` by |θ| everywhere without η.',
    'ASAM’s code undoes the ascent by subtraction, which rounds; here the weights are kept and put back.',
  ],
  centralize: [
    'The authors centre after adding the L2 term, so that the decay is centred too; here before by default.',
  ],
  stepTunedSgd: ['The third-party code’s `delta` is the paper’s 1/2 + δ.'],
  sophia: [
    'The authors’ code divides by ρ · batch · h and takes labels sampled from the model; its rate is ρη of the paper. optax uses Hutchinson’s estimate, corrects m, and refreshes after use.',
    'Their training loop refreshes h after steps k - 1, 2k - 1, ...; the recorded trajectories before steps 1, 1 + k, ..., as here.',
  ],
  muon: [
    'The first code has plain momentum, later ones averages with a Nesterov look-ahead; the normalisation makes the scale irrelevant. The authors’ code scales convolutions by the last two axes, timm by the flattened matrix, as here.',
    'The references iterate in bfloat16; here float32 (float64 where checked).',
  ],
  shampoo: [
    'jettify’s widely copied version takes the exponent -1/k and feeds the preconditioned gradient into the statistics of later axes; it is not the paper’s rule.',
  ],
  soap: ['The decay comes after the step. The second moment is permuted, never rotated, where the basis is refreshed.'],
  scheduleFreeAdamw: ['Decay acts at y (default) or at z; the authors’ reference class is followed.'],
  prodigy: [
    'The rate in force uses the old d, ε the new one. Steps whose denominator is zero change nothing, counters included.',
  ],
};
