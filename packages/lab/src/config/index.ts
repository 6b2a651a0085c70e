export * from './catalog.ts';
export {
  CONFIG_FILE,
  parseTrainArguments,
  type ReadFile,
  readableError,
  type TrainRequest,
  trainCommand,
  trainHelp,
} from './command.ts';
export type { GroupConfig, GroupValue, MatchConfig } from './groups.ts';
export { checkResumable } from './resume.ts';
export { type ConfigLayer, parseTrainConfig, trainConfigSchema } from './schema.ts';
export type { Setting, Settings, SettingValue } from './setting.ts';
export type { Chosen, TrainConfig } from './settings.ts';
