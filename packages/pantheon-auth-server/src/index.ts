/** The public names of the service: for the command line, for tests, and for who embeds it. */
export { type AppParts, createApp } from './app.ts';
export {
  type Config,
  type Flags,
  LOG_LEVELS,
  type LogLevel,
  loadConfig,
  SETTING_NAMES,
  type SettingName,
} from './config.ts';
export { createLogger } from './logging.ts';
export { type OpenService, openService } from './open.ts';
export { type Running, type ServeOptions, serve } from './serve.ts';
export { printWelcome } from './welcome.ts';
