import { settingTargets } from './setting-targets.ts'
import { stateTargets } from './state-targets.ts'

export const serverTargets = [...settingTargets, ...stateTargets]
