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

/** Where what is packed goes, and what is told of it. */
export interface PackerSinks {
  blocks: BlockWriter
  index: IndexWriter
  state: SharedState
  warn(warning: PackWarning): void
}
