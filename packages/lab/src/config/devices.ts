/** The devices that can be named. */
import type { DeviceInfo } from './catalog.ts';

/** In the order of help; the first is the default. */
export const DEVICES: readonly DeviceInfo[] = [
  { name: 'cpu', doc: "ONNX Runtime's CPU provider.", precisions: ['float32', 'float64'] },
  { name: 'webgpu', doc: "ONNX Runtime's WebGPU provider.", precisions: ['float32'] },
  { name: 'cuda', doc: "ONNX Runtime's CUDA provider, where its files are installed.", precisions: ['float32'] },
  { name: 'interpreter', doc: 'The reference interpreter, for tiny problems.', precisions: ['float32', 'float64'] },
];
