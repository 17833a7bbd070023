export { type Absorbed, carriedEntries, goneOf, headerOf } from './absorbed.ts'
export { type ArchiveName, formatArchiveName, parseArchiveName, parsePartialName } from './archive-name.ts'
export * from './assembly.ts'
export { type Finish, planFinish } from './broken-archive.ts'
export * from './entry.ts'
export { checkEntryLimits } from './entry-limits.ts'
export * from './errors.ts'
export {
  compressFrame,
  decompressFrame,
  indexFrameMagic,
  parseZstdFrame,
  unwrapSkippable,
  wrapSkippable,
  type ZstdFrame,
} from './frame.ts'
export { freeBuffer } from './free-buffer.ts'
export {
  decodeIndexBatch,
  encodeIndexBatch,
  type IndexBatch,
  IndexBatchEncoder,
  IndexSequence,
} from './index-batch.ts'
export type { IndexKind } from './index-row.ts'
export * from './limits.ts'
export { makeFolders } from './make-folder.ts'
export { MemberCheck } from './member-check.ts'
export { errnoName, exitNow, keepLargeMemoryApart, releaseFreeMemory } from './native/libc.ts'
export { holdsNoData, type Mount, MountTable, whyNotEntered } from './native/mounts.ts'
export { CompressorPool } from './pack/compressor-pool.ts'
export { checkExcludePattern } from './pack/exclude-pattern.ts'
export { compileExclusion, Exclusion, noVerdict, type Verdict } from './pack/exclusion.ts'
export { shownBackslash, whyTooSlow, withPlainCharacters } from './pack/glob-cost.ts'
export { type LeftOutReason, leftOutReasons } from './pack/left-out.ts'
export { PackerThread } from './pack/packer-thread.ts'
export { Packing, type PackingOptions, type PackingProgress, type Part } from './pack/packing.ts'
export { plainGlobSource } from './pack/plain-glob.ts'
export { type Root, type RootRules, RuleBook, type Selection } from './pack/rules.ts'
export { SharedState } from './pack/shared-state.ts'
export type { PackWarning } from './pack/sinks.ts'
export { PartialFile, partialSuffix, syncFolder } from './partial-file.ts'
export * from './path.ts'
export * from './reader.ts'
export { type Needed, type Repacked, type RepackPlan, repackArchive } from './repack.ts'
export { ContentCheck } from './restore/content-check.ts'
export { ContentReader } from './restore/content-reader.ts'
export { type Action, type Overwrite, overwrites } from './restore/decision.ts'
export { type PlannedStep, planRestore, RestorePlanner } from './restore/plan-restore.ts'
export type {
  RestoreObserver,
  RestorePhase,
  RestoreProblem,
  RestoreProgress,
  RestoreReport,
  Unset,
} from './restore/report.ts'
export { restoreTree } from './restore/restore-tree.ts'
export type { EntryOrder, RestoreSource } from './restore/source.ts'
export type { RestoreOptions } from './restore/work.ts'
export { type FramePlace, SeekTable } from './seek-table.ts'
export { SparseMap, SparseReader } from './sparse-map.ts'
export { encodeEntryHeader, endOfArchive, paddingBytes, tarBlockBytes } from './tar-header.ts'
