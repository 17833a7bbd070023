import { bufferFromBytePath, bytesFromText, type RunKind } from '@central-backup/archive'
import type { MessageOf, SelectionPath, SelectionRules } from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import type { SelectionOptions } from '../config/selection.ts'

/** What a host is asked to pack. Text of a module becomes the bytes that paths are. */
export function selectionOf(
  host: Host,
): Pick<MessageOf<'check'>, 'host' | 'paths' | 'exclude' | keyof SelectionRules> {
  const paths = host.paths.map(({ path, exclude, ...options }): SelectionPath => {
    if (exclude.length === 0 && Object.keys(options).length === 0) return toBytes(path)
    return { path: toBytes(path), exclude: exclude.map(toBytes), ...rulesOf(options) }
  })
  return { host: host.name, paths, exclude: host.exclude.map(toBytes), ...rulesOf(host.selection) }
}

function rulesOf({ excludeIfPresent, ...others }: SelectionOptions): SelectionRules {
  return { ...others, ...(excludeIfPresent && { excludeIfPresent: excludeIfPresent.map(toBytes) }) }
}

function toBytes(text: string): Buffer {
  return bufferFromBytePath(bytesFromText(text))
}

/** `base` is the archive of the run that an incremental one is compared with. */
export function backupRequest(
  host: Host,
  run: { kind: RunKind; startedAtMs: number; base: string | null },
): MessageOf<'backup'> {
  const { kind, startedAtMs, base } = run
  return {
    type: 'backup',
    ...selectionOf(host),
    kind,
    base,
    startedAtMs,
    compressionLevel: host.compressionLevel,
    ...(host.bytesPerSecond !== null && { bytesPerSecond: host.bytesPerSecond }),
    ...(host.hooks.before.length + host.hooks.after.length > 0 && { hooks: host.hooks }),
  }
}
