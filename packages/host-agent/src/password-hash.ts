import { passwordCharsMax } from '@central-backup/protocol'
import argon2 from 'argon2'
import { UsageError } from './errors.ts'

/** OWASP's least for argon2id. More would guard a file of root's from root, who needs no password (decision 0032). */
const cost = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }

/** The argon2id hash (19 MiB, 2 passes) of a password, as the settings want it. Throws `UsageError` for none. */
export async function hashPassword(password: string): Promise<string> {
  if (password === '' || password.length > passwordCharsMax) {
    throw new UsageError(
      `A password has 1 to ${passwordCharsMax} characters; this one has ${password.length}`,
    )
  }
  return argon2.hash(password, { type: argon2.argon2id, ...cost })
}
