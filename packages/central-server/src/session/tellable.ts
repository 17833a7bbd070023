import { ProtocolError } from '@central-backup/protocol'
import { BackupError } from '../errors.ts'

/** Of the server's own troubles, the agent hears that there are some. */
export function tellable(error: unknown): unknown {
  return error instanceof BackupError
    ? new ProtocolError('storage-failed', error.message, { cause: error })
    : error
}
