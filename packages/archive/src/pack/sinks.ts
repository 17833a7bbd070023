import type { BytePath } from '../path.ts'
import type { BlockWriter } from './block-writer.ts'
import type { IndexWriter } from './index-writer.ts'
import type { LeftOutReason } from './left-out.ts'
import type { SharedState } from './shared-state.ts'

export type PackWarningCode =
  | 'vanished'
  | 'unreadable'
  | 'changed'
  | 'attributes'
  | 'mounts-left-out'
  | 'not-mounted'
  | LeftOutReason

/** Something in the tree that did not come whole. */
export interface PackWarning {
  code: PackWarningCode
  path: BytePath
  message: string
}

/** What a warning takes beside its texts, about, on its way from the packer to its owner. */
const warningOverheadBytes = 512

/** What counts of a warning for how many may be under way. */
export function bytesOfWarning({ path, message }: PackWarning): number {
  return path.length + message.length + warningOverheadBytes
}

/** Where what is packed goes, and what is told of it. */
export interface PackerSinks {
  blocks: BlockWriter
  index: IndexWriter
  state: SharedState
  warn(warning: PackWarning): void
}
