import { passwordCharsMax } from '@central-backup/protocol'
import argon2 from 'argon2'
import { UsageError } from './errors.ts'

/** The argon2id hash (64 MiB, 3 passes) of a password, as the settings want it. Throws `UsageError` for none. */
export async function hashPassword(password: string): Promise<string> {
  if (password === '' || password.length > passwordCharsMax) {
    throw new UsageError(
      `A password has 1 to ${passwordCharsMax} characters; this one has ${password.length}`,
    )
  }
  return argon2.hash(password, { type: argon2.argon2id })
}
