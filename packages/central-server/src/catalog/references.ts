import type { BytePath } from '@central-backup/archive'
import type { Catalog } from './catalog.ts'
import { catalogDamaged } from './failure.ts'

/** Names that are remembered at once: as many as a host likes to have are owners of its files. */
export const rememberedMax = 16_384

/** What rows of versions name by a number. Few of each are in use, and each of those is looked up once. */
export interface References {
  /** Of the catalog. */
  file: string
  /** The archive of a run, also of a removed one. */
  archiveOf(run: number): string
  ownerOf(id: number): Owner
}

export interface Owner {
  user: BytePath
  group: BytePath
}

export function openReferences(catalog: Catalog): References {
  return {
    file: catalog.file,
    archiveOf: remember((run) => {
      const name = catalog.statements.archiveOfRun.get(run)
      if (name == null)
        throw catalogDamaged(catalog.file, `run ${run}, which has content, has left no archive`)
      return name
    }),
    ownerOf: remember((id) => {
      const row = catalog.statements.ownerNames.get(id)
      if (row === undefined) throw catalogDamaged(catalog.file, `it lacks owner ${id}`)
      return {
        user: row.user_name.toString('latin1') as BytePath,
        group: row.group_name.toString('latin1') as BytePath,
      }
    }),
  }
}

function remember<T>(find: (id: number) => T): (id: number) => T {
  const found = new Map<number, T>()
  return (id) => {
    let value = found.get(id)
    if (value === undefined) {
      value = find(id)
      if (found.size === rememberedMax) found.clear()
      found.set(id, value)
    }
    return value
  }
}
