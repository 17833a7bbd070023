/** A certificate authority, a server's and a host's certificate for development, in certs/. `npm run certs`. */
import { join, resolve } from 'node:path'
import {
  createAuthority,
  issueCertificate,
  type KeyPair,
} from '../packages/central-server/src/pki/certificate.ts'
import { writeKeyPair } from '../packages/central-server/src/pki/folder.ts'

const folder = resolve(import.meta.dirname, '../certs')

async function write(name: string, pair: KeyPair): Promise<void> {
  const certificate = join(folder, `${name}.crt`)
  await writeKeyPair(pair, certificate, join(folder, `${name}.key`))
  process.stdout.write(`made ${certificate}\n`)
}

try {
  const nowMs = Date.now()
  const authority = await createAuthority('central-backup development', nowMs)
  await write('ca', authority)
  for (const role of ['server', 'host'] as const) {
    await write(role, await issueCertificate(authority, { role, name: 'development' }, nowMs))
  }
} catch (error) {
  process.stderr.write(`central-backup: ${(error as Error).message}\n`)
  process.exitCode = 1
}
