/** The public names of the service, for the command line, for tests, and for programs that embed it. */
export { type AppParts, createApp } from './app.ts';
export { createLogger } from './http/logging.ts';
export { type OpenService, openService } from './service/open.ts';
export { type Running, type ServeOptions, serve } from './service/serve.ts';
export { printWelcome } from './service/welcome.ts';
export {
  type Config,
  type Flags,
  LOG_LEVELS,
  type LogLevel,
  loadConfig,
  SETTING_NAMES,
  type SettingName,
} from './settings/config.ts';
