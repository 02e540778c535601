/** For the tests of those who build on this: time that is moved by hand, and arbitrary values of the domain. */
export {
  anyCircumstances,
  anyEnvironment,
  anyEvent,
  anyId,
  anyInstant,
  anyJsonObject,
  anyKeyRecord,
  anyKeySettings,
  anyPermission,
  anyPermissionPattern,
  anyTenant,
} from './arbitraries.ts';
export { openScratchDatabase, type ScratchDatabase, scratchFolder } from './scratch-database.ts';
export { TestClock } from './test-clock.ts';
