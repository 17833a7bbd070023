import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  ArchiveAssembly,
  bytesFromText,
  CompressorPool,
  formatArchiveName,
  Packing,
} from '@central-backup/archive'

/**
 * Packs `folder` as a full run of `host` into a repository, as if an agent had sent it. The catalog does not know of it:
 * `catalog rebuild` makes it. Returns the path of the archive.
 */
export async function packArchive(
  repository: string,
  host: string,
  folder: string,
  startedAtMs: number,
): Promise<string> {
  const name = formatArchiveName({ startedAtMs, kind: 'full' })
  const pool = new CompressorPool(1)
  try {
    const selection = { roots: [{ path: bytesFromText(folder.slice(1)), recursive: true }], exclude: [] }
    const header = {
      host,
      kind: 'full',
      base: null,
      startedAtMs,
      software: 'a test',
      paths: [folder],
      exclude: [],
      repack: null,
    } as const
    const assembly = new ArchiveAssembly()
    const parts: Buffer[] = []
    for await (const part of new Packing({ selection, header }, pool)) {
      const bytes = Buffer.from(part.bytes)
      if (part.kind === 'frame') assembly.addFrame(bytes)
      else assembly.addIndex(bytes)
      parts.push(bytes)
      part.release()
    }
    mkdirSync(join(repository, 'archives', host), { recursive: true })
    const path = join(repository, 'archives', host, name)
    writeFileSync(path, Buffer.concat([...parts, assembly.finish().seekTable]))
    return path
  } finally {
    await pool.close()
  }
}
