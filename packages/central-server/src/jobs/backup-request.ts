import { bufferFromBytePath, bytesFromText, type RunKind } from '@central-backup/archive'
import type { MessageOf } from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'

/** What a host is asked to pack. Text of a module becomes the bytes that paths are. */
export function selectionOf(host: Host): { host: string; paths: Buffer[]; exclude: Buffer[] } {
  const toBytes = (text: string) => bufferFromBytePath(bytesFromText(text))
  return { host: host.name, paths: host.paths.map(toBytes), exclude: host.exclude.map(toBytes) }
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
  }
}
