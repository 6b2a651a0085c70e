import { availableParallelism } from 'node:os';
import { DeviceError, nearest } from '../base/errors.ts';
import type { Device } from '../runtime/device.ts';
import { interpreter } from '../runtime/interpreter.ts';
import { type OrtModule, ortDevice } from '../runtime/ort.ts';
import { add } from '../tensor/ops/elementwise.ts';
import { input } from '../tensor/tensor.ts';

/** Devices `openDevice` knows. */
export const deviceNames = ['cpu', 'webgpu', 'cuda', 'interpreter'] as const;
export type DeviceName = (typeof deviceNames)[number];

export interface OpenDeviceOptions {
  /** Threads inside one op on the CPU; all cores by default. */
  readonly threads?: number;
}

/**
 * Opens a device in Node: `cpu` (default), `webgpu`, `cuda` through onnxruntime-node, or the float64 `interpreter`.
 * @throws DeviceError where the name is unknown or the device is not available on this machine.
 */
export async function openDevice(
  name: string = 'cpu',
  { threads = availableParallelism() }: OpenDeviceOptions = {},
): Promise<Device> {
  if (!isDeviceName(name)) {
    const hint = nearest(name, deviceNames);
    throw new DeviceError(
      `Unknown device '${name}'${hint ? `; did you mean '${hint}'?` : ''} Known devices: ${deviceNames.join(', ')}.`,
    );
  }
  if (name === 'interpreter') return interpreter();
  const ort = await loadOrt();
  const device = ortDevice(ort, { provider: name, threads });
  if (name !== 'cpu') await probe(name, device);
  return device;
}

const isDeviceName = (name: string): name is DeviceName => deviceNames.some((known) => known === name);

async function loadOrt(): Promise<OrtModule> {
  try {
    const ort = await import('onnxruntime-node');
    // Whatever it would write to stderr it throws as well.
    if (ort.env.logLevel === undefined || ort.env.logLevel === 'warning') ort.env.logLevel = 'fatal';
    return ort;
  } catch (cause) {
    throw new DeviceError(
      "This needs the package 'onnxruntime-node', which could not be loaded; install it with `npm install onnxruntime-node`.",
      { cause },
    );
  }
}

const REMEDIES = {
  webgpu: 'install a driver for Vulkan, Metal or Direct3D',
  cuda: "install ONNX Runtime's CUDA files",
} as const;

/** Fails early, and in words, where a provider is compiled in but its driver or libraries are missing. */
async function probe(name: keyof typeof REMEDIES, device: Device): Promise<void> {
  const x = input('x', [2]);
  try {
    if (name === 'webgpu' && process.platform === 'linux') requireVulkanLoader();
    const program = await device.compile([x], [add(x, 1)]);
    const [y] = await program.run(new Map([[x, Float32Array.of(1, 2)]]));
    await program.dispose();
    if (y[0] !== 2 || y[1] !== 3) throw new DeviceError(`it computed [1, 2] + 1 as [${y.join(', ')}]`);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const reason = message.replace(/^Device '\w+' cannot run this graph: /, '').replace(/\.$/, '');
    throw new DeviceError(
      `Device '${name}' is not available on this machine (${reason}); ${REMEDIES[name]}, or use device 'cpu'.`,
      { cause },
    );
  }
}

/** The provider does without a loader as well, but not without writing to stderr what the one sentence of an error should say. */
function requireVulkanLoader(): void {
  const library = 'libvulkan.so.1';
  try {
    // Opens the library; that it is no module of Node's is noticed only where it was found.
    process.dlopen({ exports: {} }, library);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (message.includes('cannot open shared object file')) throw new DeviceError(`there is no Vulkan, ${message}`);
  }
}
