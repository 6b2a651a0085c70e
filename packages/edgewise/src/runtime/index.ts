export type { Call, Device, Feeds, Program } from './device.ts';
export { interpreter } from './interpreter.ts';
export { type OrtModule, type OrtOptions, ortDevice } from './ort.ts';
