import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import {
  type ArchiveEnd,
  ArchiveError,
  type ArchiveHeader,
  ArchiveReader,
  type Entry,
  formatArchiveName,
  type IndexBatch,
  type Repack,
  storedBytes,
} from '@central-backup/archive'
import type { Catalog, Run } from './catalog.ts'
import type { Lease } from './lease.ts'
import { purgeRun, RunRecorder } from './record-run.ts'

export interface ArchiveFile {
  host: string
  name: string
  /** Absolute path. */
  path: string
}

/** The code of the error of a run that was taken in although the archive which it builds on was missing. */
const baseMissing = 'base-missing'

/** What stood before the run is a guess then, and its content may lie in archives of other generations. */
export function isBridged({ error }: Pick<Run, 'error'>): boolean {
  return error?.code === baseMissing
}

/** For an archive whose base is missing: what it says is taken in on top of what is known. */
export interface Bridge {
  /** Makes a run out of the name of an archive that is missing, for content that lies there. Returns its id. */
  standIn(archive: string): number
}

/** How an archive is taken in where others are not there. */
export interface IngestOptions {
  bridge?: Bridge | null
  /**
   * Archives that others have taken over: nothing of their content was needed any more, so what points there is of a run that
   * was removed, and goes with it.
   */
  absorbed?: ReadonlySet<string>
}

/**
 * Makes the catalog know an archive that lies in the repository, from what the archive says itself. Used for one that a
 * crash kept out of the catalog, and to make the catalog anew. Returns its run, and
 * what it says of others if it was packed anew. Throws an `ArchiveError` where
 * the file is damaged, or is not what its name and place say, or its base is missing and there is no `bridge`; then nothing
 * of it is kept. With one, the run is incomplete: what changed in those that are missing is not known.
 */
export async function ingestArchive(
  catalog: Catalog,
  lease: Lease,
  file: ArchiveFile,
  { bridge = null, absorbed }: IngestOptions = {},
): Promise<{ id: number; repack: Repack | null }> {
  await using reader = await ArchiveReader.open(file.path)
  const { digest, bytes } = await digestOf(file.path)
  const batches = reader.batches()
  const first = (await batches.next()).value
  const header = first?.header ?? null
  if (header === null) throw new ArchiveError('index-incomplete', `${file.path}: the index has no header`)
  checkIdentity(file, header)
  const { host, kind, startedAtMs } = header
  const generation = bridge === null ? generationOf(catalog, file, header) : latestGeneration(catalog, header)
  const id = catalog.beginRun({ host, kind, generation, leaseToken: lease.token, startedAtMs })
  try {
    const recorder = new RunRecorder(catalog, id, {
      generation: generation ?? id,
      missing: (archive) => (absorbed?.has(archive) === true ? id : (bridge?.standIn(archive) ?? null)),
    })
    let end: ArchiveEnd | null = null
    let stored = 0
    const take = (batch: IndexBatch) => {
      recorder.add(batch.entries, batch.gone)
      for (const entry of batch.entries) if (hasContentHere(entry)) stored += storedBytes(entry)
      end = batch.end
    }
    take(first!)
    for await (const batch of batches) take(batch)
    const { outcome, counts: allCounts, finishedAtMs, broken } = end! as ArchiveEnd
    const { contentBytes, ...counts } = allCounts
    const archive = { name: file.name, bytes, digest }
    // What was known of the run when nothing of it could be kept.
    const failed = catalog.failedRun(host, startedAtMs)
    const bridged = bridge && {
      code: baseMissing,
      message: `${header.base} is missing, which this run builds on`,
    }
    const result = {
      outcome: bridge === null ? outcome : 'incomplete',
      kind,
      error: bridged ?? (broken ? (failed?.error ?? null) : null),
      broken,
      storedBytes: stored,
      archive,
      contentBytes,
      counts,
      warningCount: failed?.warningCount ?? 0,
      warnings: failed?.warnings ?? [],
    }
    catalog.finishRun(id, { ...result, finishedAtMs }, () => {
      if (failed !== null) catalog.statements.deleteRun.run(failed.id)
    })
    return { id, repack: header.repack }
  } catch (error) {
    purgeRun(catalog, id, generation ?? id)
    catalog.forgetRun(id)
    throw error
  }
}

/** Of the run that an incremental one is compared with, which must be the last of it; `null` for a full one. */
function generationOf(catalog: Catalog, { host, path }: ArchiveFile, { base }: ArchiveHeader): number | null {
  if (base === null) return null
  const run = catalog.archivedRuns(host).find(({ archive }) => archive!.name === base)
  if (run !== undefined) {
    if (run.id === catalog.lastOfGeneration(run.generation)) return run.generation
    throw new ArchiveError(
      'base-taken',
      `${path}: it tells what has changed since ${base}, and so does the archive of another run`,
      { hint: 'What it holds itself can be extracted with tar.' },
    )
  }
  throw new ArchiveError(
    'index-incomplete',
    `${path}: it tells what has changed since ${base}, and that archive is missing`,
    {
      hint: 'What it holds itself can be extracted with tar.',
    },
  )
}

/** The one that the newest run belongs to that began before, if that is the last of it: what stood there may still stand. */
function latestGeneration(catalog: Catalog, { host, startedAtMs }: ArchiveHeader): number | null {
  const before = catalog
    .archivedRuns(host)
    .filter((run) => run.outcome !== 'failed' && run.startedAtMs < startedAtMs)
    .sort((a, b) => b.startedAtMs - a.startedAtMs || b.id - a.id)
  const [newest] = before
  return newest !== undefined && newest.id === catalog.lastOfGeneration(newest.generation)
    ? newest.generation
    : null
}

function checkIdentity({ host, name, path }: ArchiveFile, header: ArchiveHeader): void {
  if (header.host !== host)
    throw new ArchiveError('index-invalid', `${path}: the archive is of host ${header.host}`)
  const expected = formatArchiveName(header)
  if (name !== expected)
    throw new ArchiveError('index-invalid', `${path}: by what it says itself, it should be named ${expected}`)
}

/** SHA-256 and size of a file. */
export async function digestOf(path: string): Promise<{ digest: Buffer; bytes: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const piece of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    hash.update(piece)
    bytes += (piece as Buffer).length
  }
  return { digest: hash.digest(), bytes }
}

function hasContentHere({ extents }: Entry): boolean {
  return extents.length > 0 && extents.every(({ archive }) => archive === null)
}
