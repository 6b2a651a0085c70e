export {
  loadCifar10Folder,
  loadCifar100Folder,
  loadFashionMnist,
  loadIdxFolder,
  loadMnist,
} from './datasets.ts';
export { type DeviceName, deviceNames, type OpenDeviceOptions, openDevice } from './device.ts';
export * from './environment.ts';
export { toStoreError } from './file-errors.ts';
export * from './store.ts';
