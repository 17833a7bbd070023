import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import {
  ArchiveError,
  ArchiveReader,
  type BytePath,
  type Entry,
  type IndexBatch,
  IndexBatchEncoder,
  MemberCheck,
  textFromBytes,
} from '@central-backup/archive'
import type { Catalog, Run } from '../catalog/catalog.ts'
import { catalogFaults } from '../catalog/catalog-faults.ts'
import { type VersionInArchive, versionsInArchive } from '../catalog/needed.ts'
import { openReferences, type References } from '../catalog/references.ts'
import { RetoldVersions, type VersionDifference } from '../catalog/retold-versions.ts'
import { sortKey, toEntry, type VersionRow } from '../catalog/version-row.ts'
import { BackupError, CatalogError } from '../errors.ts'
import { archivePath, listArchives } from '../storage/archive-list.ts'
import type { Repository } from '../storage/repository.ts'

/**
 * What is wrong with an archive, with what it holds of one file, or with the catalog as a whole: then the first three
 * are `null`.
 */
export interface Damage {
  host: string | null
  run: number | null
  archive: string | null
  /** `null` where it concerns the archive as a whole. */
  path: string | null
  reason: string
}

const damageListedMax = 10_000

export interface VerifyResult {
  archives: number
  files: number
  bytes: number
  /** How much is damaged; `damage` lists at most `damageListedMax` of it, all are told by `onDamage`. */
  damaged: number
  damage: Damage[]
  /** Archives that lie in the repository and are unknown to the catalog. */
  unknown: { host: string; archive: string }[]
}

export interface VerifyOptions {
  /**
   * Share of the files whose content is read, above 0 up to 1; at 1, whole archives are compared with their SHA-256, and
   * their tar stream with their index, and all that they say together with the catalog, too.
   */
  sample: number
  /** 0 to 1, for the choice of the sample. */
  random: () => number
  signal: AbortSignal
  onArchive(run: Run): void
  onDamage(damage: Damage): void
}

/**
 * Compares the archives of hosts with the catalog, their frames with their checksums, and the content of files with the
 * digests of the index. Goes on behind damage, so that it tells all of it. Throws only where the repository as a whole
 * cannot be read, or the reason of the signal.
 */
export async function verify(
  catalog: Catalog,
  repository: Repository,
  hosts: readonly string[],
  options: VerifyOptions,
): Promise<VerifyResult> {
  const verification = new Verification(catalog, repository, options)
  verification.checkCatalog()
  for (const host of hosts) {
    // Removed ones too: later runs have content there.
    const runs = catalog.archivedRuns(host)
    await verification.checkHost(host, runs)
    const known = new Set(runs.map(({ archive }) => archive!.name))
    const { archives } = await listArchives(repository, host)
    const unknown = archives
      .filter(({ name }) => !known.has(name))
      .map(({ name }) => ({ host, archive: name }))
    verification.result.unknown.push(...unknown)
  }
  return verification.result
}

class Verification {
  readonly result: VerifyResult = { archives: 0, files: 0, bytes: 0, damaged: 0, damage: [], unknown: [] }
  readonly #catalog: Catalog
  readonly #repository: Repository
  readonly #options: VerifyOptions
  readonly #references: References
  readonly #encoder = new IndexBatchEncoder(null)
  /** Runs that retention has not removed. */
  #visible: Set<number> | null = null
  /** What the archives say together, of the host that is looked at; `null` where that is not asked for, or cannot be kept. */
  #retold: RetoldVersions | null = null
  readonly #catalogReasons = new Set<string>()
  /** Rows that were told, as `run path`, so that they are not told twice; as many as are listed. */
  readonly #rowsTold = new Set<string>()

  constructor(catalog: Catalog, repository: Repository, options: VerifyOptions) {
    this.#catalog = catalog
    this.#references = openReferences(catalog)
    this.#repository = repository
    this.#options = options
  }

  checkCatalog(): void {
    try {
      for (const fault of catalogFaults(this.#catalog)) this.#catalogDamaged(fault)
    } catch (error) {
      if (!(error instanceof CatalogError)) throw error
      this.#catalogDamaged(error.message)
    }
  }

  /** Checks the archives of a host, and compares what they say together with the catalog. */
  async checkHost(host: string, runs: readonly Run[]): Promise<void> {
    using retold = this.#options.sample === 1 ? this.#beginRetelling(host, runs) : null
    this.#retold = retold
    for (const run of runs) {
      this.#options.onArchive(run)
      await this.#check(run)
    }
    // Unless there was no room for it.
    if (retold !== null && this.#retold !== null) await this.#compare(runs, retold)
    this.#retold = null
  }

  #beginRetelling(host: string, runs: readonly Run[]): RetoldVersions | null {
    try {
      return new RetoldVersions(this.#catalog, host, runs)
    } catch (error) {
      this.#notCompared(error)
      return null
    }
  }

  async #compare(runs: readonly Run[], retold: RetoldVersions): Promise<void> {
    const byId = new Map(runs.map((run) => [run.id, run]))
    try {
      const differences = retold.differences(this.#catalog, this.#options.signal)
      for await (const { generation, firstRun, path, kind } of differences)
        this.#rowDamaged(
          byId.get(firstRun) ?? byId.get(generation) ?? runs[0]!,
          path,
          differenceReasons[kind],
        )
    } catch (error) {
      this.#options.signal.throwIfAborted()
      this.#notCompared(error)
    }
  }

  /** For want of room in the folder for temporary files, or of a catalog that can be read. */
  #notCompared(error: unknown): void {
    if (!(error instanceof BackupError)) throw error
    this.#retold = null
    this.#catalogDamaged(`it cannot be compared with the archives: ${error.message}`)
  }

  async #check(run: Run): Promise<void> {
    this.result.archives++
    const path = archivePath(this.#repository, run.host, run.archive!.name)
    try {
      if (this.#options.sample === 1 && existsSync(path)) await this.#checkDigest(run, path)
      await using reader = await this.#open(run, path)
      if (reader !== null) await this.#checkEntries(run, reader)
    } catch (error) {
      this.#options.signal.throwIfAborted()
      this.#retold?.giveUp(run.generation)
      if (error instanceof CatalogError) this.#catalogDamaged(error.message)
      else this.#damaged(run, null, reasonOf(error))
    }
  }

  /** Of an archive that cannot be opened, nothing can be read: all that has its content there is told. */
  async #open(run: Run, path: string): Promise<ArchiveReader | null> {
    try {
      return await ArchiveReader.open(path)
    } catch (error) {
      this.#damaged(run, null, reasonOf(error))
      this.#retold?.giveUp(run.generation)
      const generations = new Set(this.#catalog.archivedRuns(run.host).map(({ generation }) => generation))
      for (const generation of generations) {
        for (const version of versionsInArchive(this.#catalog, generation, run.id)) {
          this.#options.signal.throwIfAborted()
          this.#damaged(
            run,
            `/${textFromBytes(version.path)}`,
            `its content was there, ${describeRuns(version)}`,
          )
        }
      }
      return null
    }
  }

  async #checkDigest(run: Run, path: string): Promise<void> {
    const hash = createHash('sha256')
    for await (const piece of createReadStream(path, {
      highWaterMark: 1024 * 1024,
      signal: this.#options.signal,
    }))
      hash.update(piece)
    const digest = hash.digest()
    if (!digest.equals(run.archive!.digest))
      this.#damaged(run, null, 'its SHA-256 is not the one of the catalog')
  }

  async #checkEntries(run: Run, reader: ArchiveReader): Promise<void> {
    let entries = 0
    let repacked = false
    const members = this.#options.sample === 1 ? new MemberCheck(reader) : null
    const compare = this.#untilDifference(run)
    for await (const batch of reader.batches()) {
      repacked ||= batch.header?.repack != null
      if (batch.header !== null) members?.begin(batch.header)
      entries += batch.entries.length
      this.#retell(run, batch)
      for (const entry of batch.entries) {
        this.#checkRow(run, entry)
        // Before its content, so that each frame is decompressed once.
        await compare(() => members?.add(entry))
        if (hasContentHere(entry) && this.#isSampled()) await this.#checkContent(run, reader, entry)
      }
    }
    await compare(() => members?.finish())
    const { files = 0, directories = 0, symlinks = 0, hardlinks = 0, specials = 0, sockets = 0 } = run.counts
    const expected = files + directories + symlinks + hardlinks + specials + sockets
    if (!repacked && entries !== expected)
      this.#damaged(run, null, `its index has ${entries} entries, and the catalog counts ${expected}`)
  }

  /** Runs what compares the members of an archive, up to the first fault: what comes behind it has no known place. */
  #untilDifference(run: Run): (step: () => Promise<void> | undefined) => Promise<void> {
    let differs = false
    return async (step) => {
      if (differs) return
      try {
        await step()
      } catch (error) {
        if (!(error instanceof ArchiveError)) throw error
        differs = true
        this.#damaged(run, null, reasonOf(error))
      }
    }
  }

  /** The catalog has each entry as the index has it; of removed runs, those that later ones have too. */
  #checkRow(run: Run, entry: Entry): void {
    const { statements } = this.#catalog
    const key = { generation: run.generation, run: run.id, path: sortKey(entry.path) }
    const row = statements.versionFrom.get(key)
    if (row === undefined) {
      this.#visible ??= new Set(this.#catalog.runs().map(({ id }) => id))
      if (this.#visible.has(run.id)) this.#rowDamaged(run, entry.path, differenceReasons.lacking)
      return
    }
    if (!this.#isSame(row, entry, run)) this.#rowDamaged(run, entry.path, differenceReasons['other-values'])
  }

  #isSame(row: VersionRow, entry: Entry, run: Run): boolean {
    const told = this.#encode(entry, run)
    try {
      return this.#encode(toEntry(row, this.#references), run).equals(told)
    } catch (error) {
      // A row that cannot be one differs, and the others are looked at all the same.
      if (!(error instanceof CatalogError || error instanceof ArchiveError || error instanceof RangeError))
        throw error
      this.#catalogDamaged(error.message)
      return false
    }
  }

  #rowDamaged(run: Run, path: BytePath, reason: string): void {
    const row = `${run.id} ${path}`
    if (this.#rowsTold.has(row)) return
    if (this.#rowsTold.size < damageListedMax) this.#rowsTold.add(row)
    this.#damaged(run, `/${textFromBytes(path)}`, `${reason}; ${rebuildHint}`)
  }

  /** Keeps what a batch says for the comparison. Where there is no room for it, archives and content are checked on. */
  #retell(run: Run, batch: IndexBatch): void {
    try {
      this.#retold?.add(run, batch)
    } catch (error) {
      if (error instanceof ArchiveError) {
        this.#retold?.giveUp(run.generation)
        this.#damaged(run, null, `${reasonOf(error)}; ${rebuildHint}`)
      } else this.#notCompared(error)
    }
  }

  /** As the index of the run's archive has an entry, so that two can be compared in all that the format knows. */
  #encode(entry: Entry, run: Run): Buffer {
    const extents = entry.extents.map((extent) =>
      extent.archive === run.archive!.name ? { ...extent, archive: null } : extent,
    )
    if (!this.#encoder.add({ ...entry, extents })) throw new Error('an empty batch has no room for an entry')
    return this.#encoder.take()
  }

  #isSampled(): boolean {
    const { sample, random } = this.#options
    return sample === 1 || random() < sample
  }

  async #checkContent(run: Run, reader: ArchiveReader, entry: Entry): Promise<void> {
    this.#options.signal.throwIfAborted()
    try {
      for await (const piece of reader.readContent(entry)) this.result.bytes += piece.length
      this.result.files++
    } catch (error) {
      this.#damaged(run, `/${textFromBytes(entry.path)}`, reasonOf(error))
    }
  }

  #damaged(run: Run, path: string | null, reason: string): void {
    this.#tell({ host: run.host, run: run.id, archive: run.archive!.name, path, reason })
  }

  /** Of the catalog as a whole, each once. */
  #catalogDamaged(fault: string): void {
    if (this.#catalogReasons.has(fault) || this.#catalogReasons.size >= damageListedMax) return
    this.#catalogReasons.add(fault)
    const reason = `the catalog: ${fault}; ${rebuildHint}`
    this.#tell({ host: null, run: null, archive: null, path: null, reason })
  }

  #tell(damage: Damage): void {
    this.result.damaged++
    if (this.result.damage.length < damageListedMax) this.result.damage.push(damage)
    this.#options.onDamage(damage)
  }
}

const differenceReasons: Record<VersionDifference['kind'], string> = {
  lacking: 'the catalog lacks it',
  added: 'the catalog has it, and no archive does',
  'other-end': 'the catalog has another end of it',
  'other-values': 'the catalog has other attributes or content of it',
}

const rebuildHint = 'catalog rebuild makes it anew from the archives'

/** Content that an incremental run found unchanged is looked at in the archive that has it. */
function hasContentHere({ type, extents }: Entry): boolean {
  return type === 'file' && extents.every(({ archive }) => archive === null)
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'the file is missing'
  return error instanceof ArchiveError ? message : `it cannot be read: ${message}`
}

function describeRuns({ firstRun, endRun }: VersionInArchive): string {
  return endRun === null
    ? `of run ${firstRun} and all that follow`
    : `of runs from ${firstRun} to before ${endRun}`
}
