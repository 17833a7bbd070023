import { catalogBytes } from '../catalog/catalog-bytes.ts'
import type { Host } from '../config/hosts.ts'
import { LimitError } from '../errors.ts'
import type { ArchiveSink } from '../session/receive-run.ts'
import type { ArchiveWriter } from '../storage/archive-writer.ts'
import { type FreeSpace, hostBytes, requireFreeSpace } from '../storage/space.ts'
import { emptyTrash } from '../storage/trash.ts'
import type { ServerContext } from './server-context.ts'

/** The free space is looked at again when this much was written or this much time has passed: other hosts write, too. */
const lookBytes = 16 * 1024 * 1024
const lookMs = 2000

type RoomContext = Pick<ServerContext, 'catalog' | 'repository' | 'settings' | 'now'>

/** The room that a run of a host has: what its quota leaves, and what the disk has. */
export class Room {
  readonly #folder: string
  readonly #minFree: FreeSpace
  readonly #host: Host
  /** What the host has in the repository and in the catalog, this run aside. */
  readonly #usedBytes: number

  private constructor(folder: string, minFree: FreeSpace, host: Host, usedBytes: number) {
    this.#folder = folder
    this.#minFree = minFree
    this.#host = host
    this.#usedBytes = usedBytes
  }

  /**
   * Throws where there is none at all: a `LimitError`, or a `StorageError` `disk-full`. What has been in the trash of
   * the host for long enough goes before that, as it would after a run. The caller holds the host's lease.
   */
  static async measure(context: RoomContext, host: Host): Promise<Room> {
    try {
      return await Room.#measureNow(context, host)
    } catch (error) {
      const { repository, settings, now } = context
      if ((await emptyTrash(repository, host.name, settings.trashMs, now())).length === 0) throw error
      return await Room.#measureNow(context, host)
    }
  }

  static async #measureNow({ catalog, repository, settings }: RoomContext, host: Host): Promise<Room> {
    await requireFreeSpace(repository.folder, settings.minFree)
    const usedBytes =
      host.maxHostBytes === null
        ? 0
        : (await hostBytes(repository, host.name)) + (await catalogBytes(catalog, host.name))
    const room = new Room(repository.folder, settings.minFree, host, usedBytes)
    room.#requireQuota(1)
    return room
  }

  /** A sink that writes to `writer` as long as there is room, and throws what `measure` throws where there is none any more. */
  guard(writer: ArchiveWriter): ArchiveSink {
    let takenBytes = 0
    let lookedBytes = 0
    let lookedMs = performance.now()
    return {
      write: async (bytes, taken = 0) => {
        takenBytes += Math.max(bytes.length, taken)
        this.#requireQuota(takenBytes)
        if (writer.bytes - lookedBytes >= lookBytes || performance.now() - lookedMs >= lookMs) {
          lookedBytes = writer.bytes
          lookedMs = performance.now()
          await requireFreeSpace(this.#folder, this.#minFree)
        }
        await writer.write(bytes)
      },
    }
  }

  #requireQuota(archiveBytes: number): void {
    const { name, maxArchiveBytes, maxHostBytes } = this.#host
    if (maxArchiveBytes !== null && archiveBytes > maxArchiveBytes) {
      throw new LimitError(
        'quota-exceeded',
        `the archive would be larger than the ${maxArchiveBytes} bytes that ${name} may have in one`,
        {
          hint: 'The next run goes on from what came. `maxArchiveBytes`, in the host module or `defaults`, is the limit.',
        },
      )
    }
    if (maxHostBytes !== null && this.#usedBytes + archiveBytes > maxHostBytes) {
      throw new LimitError(
        'quota-exceeded',
        `the archives of ${name} would take more than the ${maxHostBytes} bytes that it may have, the trash and its part of the catalog included`,
        {
          hint: 'See `backup-server list`, give it rules of retention, or raise `maxHostBytes` in the host module or `defaults`.',
        },
      )
    }
  }
}
