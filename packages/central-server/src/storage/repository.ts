import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { hostNameExpectation, isHostName } from '../config/host-name.ts'
import { StorageError } from '../errors.ts'
import { withStorageErrors } from './failure.ts'
import { makePrivateFolder, writeNewFile } from './new-file.ts'

/** The format of the repository as a whole: what lies where. Higher ones are refused. */
export const repositoryFormat = 1

const markerName = 'central-backup.json'
const markerSchema = z.object({ format: z.int().min(1), id: z.uuid() })

/** A repository that was found to be there. Holds no resources. */
export interface Repository {
  /** Absolute path. */
  folder: string
  /** Tells repositories apart, so that a disk that was mounted in place of another is noticed. */
  id: string
  catalogFile: string
}

/** Whether `folder` holds a repository's marker. */
export async function isRepository(folder: string): Promise<boolean> {
  return (await readMarker(folder)) !== null
}

/** Makes an empty repository in `folder`. Throws `AlreadyExistsError` where there is one. */
export async function createRepository(folder: string, id: string = randomUUID()): Promise<Repository> {
  await makePrivateFolder(join(folder, 'archives'))
  const marker = `${JSON.stringify({ format: repositoryFormat, id }, null, 2)}\n`
  await writeNewFile(join(folder, markerName), marker, 0o600)
  return describeRepository(folder, id)
}

/**
 * Finds the repository in `folder`. Throws `StorageError` `not-mounted` where its marker is missing: then the disk is
 * probably not mounted, and writing would fill the one below.
 */
export async function openRepository(folder: string): Promise<Repository> {
  const marker = await readMarker(folder)
  if (marker === null) {
    throw new StorageError('not-mounted', `There is no repository in ${folder}: it has no ${markerName}`, {
      hint: `Mount the destination. If it is a new one, make a repository: backup-server init --repository ${folder}`,
    })
  }
  const { format, id } = parseMarker(join(folder, markerName), marker)
  if (format > repositoryFormat) {
    throw new StorageError('repository-too-new', `The repository in ${folder} has format ${format}`, {
      hint: `This backup-server knows formats up to ${repositoryFormat}. Use the newer one that made it.`,
    })
  }
  return describeRepository(folder, id)
}

/**
 * Folder of a host's archives, or of those it has in the trash. Throws where `host` is no good name, and so might lead
 * elsewhere.
 */
export function hostFolder(
  repository: Repository,
  host: string,
  area: 'archives' | 'trash' = 'archives',
): string {
  if (!isHostName(host)) {
    throw new StorageError('archive-name', `${JSON.stringify(host)} is not the name of a host`, {
      hint: `The name of a host has ${hostNameExpectation}.`,
    })
  }
  return join(repository.folder, area, host)
}

async function readMarker(folder: string): Promise<string | null> {
  return withStorageErrors(`read ${join(folder, markerName)}`, async () => {
    try {
      return await readFile(join(folder, markerName), 'utf8')
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return null
      throw error
    }
  })
}

function parseMarker(file: string, text: string): z.output<typeof markerSchema> {
  try {
    return markerSchema.parse(JSON.parse(text))
  } catch (cause) {
    throw new StorageError('repository-invalid', `${file} is damaged`, {
      hint: `It should read {"format": 1, "id": "…"}. Its archives are not touched by this.`,
      cause,
    })
  }
}

function describeRepository(folder: string, id: string): Repository {
  return { folder, id, catalogFile: join(folder, 'catalog.sqlite') }
}
