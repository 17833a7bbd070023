import { bytePathFromBuffer, type RootRules, textFromBytes } from '@central-backup/archive'
import type { MessageOf, SelectionRules } from '@central-backup/protocol'
import type { SelectPath } from './select.ts'

type Request = MessageOf<'backup' | 'check'>

/** The paths of a request, each with the rules that hold for it: its own, and for what it does not say, the request's. */
export function requestedPaths(request: Request): SelectPath[] {
  const common = rulesOf(request)
  return request.paths.map((one) => {
    if (Buffer.isBuffer(one)) return { path: bytePathFromBuffer(one), rules: common }
    const rules = { ...common, ...rulesOf(one), exclude: requestedPatterns(one.exclude ?? []) }
    return { path: bytePathFromBuffer(one.path), rules }
  })
}

/** Patterns of a request as the archive compiles them. */
export function requestedPatterns(patterns: readonly Buffer[]): string[] {
  return patterns.map((pattern) => textFromBytes(bytePathFromBuffer(pattern)))
}

/** Only what is said: nothing takes the place of what the request says for all. */
function rulesOf(said: SelectionRules): RootRules {
  const { oneFileSystem, excludeCaches, excludeIfPresent, excludeNodump, maxFileBytes } = said
  return {
    ...(oneFileSystem !== undefined && { oneFileSystem }),
    ...(excludeCaches !== undefined && { excludeCaches }),
    ...(excludeIfPresent !== undefined && { excludeIfPresent: excludeIfPresent.map(bytePathFromBuffer) }),
    ...(excludeNodump !== undefined && { excludeNodump }),
    ...(maxFileBytes !== undefined && { maxFileBytes }),
  }
}
