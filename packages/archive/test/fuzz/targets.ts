import { fileTargets } from './file-targets.ts'
import { indexTargets } from './index-targets.ts'
import { textTargets } from './text-targets.ts'

export const archiveTargets = [...indexTargets, ...fileTargets, ...textTargets]
