export {
  ConfigError,
  DerivativeError,
  DeviceError,
  EdgewiseError,
  FormatError,
  NonFiniteError,
  nearest,
  ShapeError,
} from './errors.ts';
export * as random from './random.ts';
export { Key } from './random.ts';
