/** What `settings.ts` and `hosts/NAME.ts` import: types only, so that they run without this package beside them. */
export type { HostConfig } from './config/hosts.ts'
export type { PathConfig, SelectionConfig } from './config/selection.ts'
export type { Settings } from './config/settings.ts'
