import type { FileStatus } from '../native/libc.ts'
import type { Mount } from '../native/mounts.ts'
import type { BytePath } from '../path.ts'
import type { LeftOutReason } from './left-out.ts'

/** An object that the walk has found. Valid during the call of `visit` only: buffers and `status` are reused. */
export interface Found {
  path: BytePath
  /** Descriptor of the folder it lies in, and its name there, for calls relative to it. */
  directory: number
  name: Buffer
  status: FileStatus
  /** It was not selected itself, but something below it was. */
  ancestor: boolean
  /**
   * A folder that is not gone into, as another file system begins there: no more may be asked of it than `status` tells,
   * since that one may hang.
   */
  sealed: boolean
  /** A folder on which another file system is mounted. */
  mountPoint: boolean
}

/** What happened to a path that could not be packed as it should. */
export type WalkProblem = 'vanished' | 'unreadable'

export interface Visitor {
  /** Called before anything is done with a path that may block. Throws to end the walk. */
  approach(path: BytePath): void
  visit(found: Found): void
  /** `message` says what failed and why. */
  problem(kind: WalkProblem, path: BytePath, message: string): void
  /**
   * An object is left out by a rule; or, where it was visited, what lies in it. `detail` says by which one. Called where
   * the leaving out begins, not again for what is below. Of a mount, `mount` is what the kernel knows of it.
   */
  leftOut(path: BytePath, reason: LeftOutReason, detail: () => string, mount: Mount | null): void
}
