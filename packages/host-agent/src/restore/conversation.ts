import type { BytePath } from '@central-backup/archive'
import type { MessageOf, MessageType } from '@central-backup/protocol'

/** What a restore asks of the server, and tells it. */
export type RestoreMessage = MessageOf<
  'restore-entries' | 'restore-next' | 'restore-firsts' | 'restore-content' | 'restore-plan'
>

/** The session with the server, as the restoring thread has it: its calls block. */
export interface Conversation {
  send(message: RestoreMessage): void
  /** The next message, which is of one of `types`. Throws where the session has ended. */
  receive<T extends MessageType>(types: readonly T[]): MessageOf<T>
  /** Tells that the restore comes to a path. Throws where the session has ended. */
  approach(path: BytePath): void
}
