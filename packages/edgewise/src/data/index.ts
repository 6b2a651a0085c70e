export type { Augmentation } from './augmentation.ts';
export { Batches, type BatchOptions, type BatchPosition } from './batches.ts';
export { parseCifar10, parseCifar100 } from './cifar.ts';
export { type ClassificationData, checkDataset, type Dataset, type RegressionData, type TrainTest } from './dataset.ts';
export { gunzip } from './gzip.ts';
export { type IdxArray, idxDataset, parseIdx, readIdx } from './idx.ts';
export { type Normalization, type NormalizationGroup, normalizationOf } from './normalization.ts';
export { chebyshevRegression, gaussianBlobs, spirals, teacherRegression, twoMoons } from './synthetic.ts';
export { meanPool, select, subset, withLabelNoise } from './transforms.ts';
