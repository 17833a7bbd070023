import { type BytePath, bytesFromText } from '@central-backup/archive'
import type { AgentSettings } from './settings.ts'

/** What a server may read, as paths without leading `/`. */
export function allowedPaths(settings: AgentSettings): BytePath[] {
  return settings.allow.read.map((path) => bytesFromText(path).replace(/^\/+|\/+$/g, '') as BytePath)
}
