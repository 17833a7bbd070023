/** Certificates that `init` and `host add` would not make, signed by the CA of a site or by a stranger. */
import { readFileSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Credentials, Identity } from '@central-backup/protocol'
import {
  createAuthority,
  issueCertificate,
  type KeyPair,
} from '../../packages/central-server/src/pki/certificate.ts'
import {
  certificatePaths,
  readAuthority,
  writeKeyPair,
} from '../../packages/central-server/src/pki/folder.ts'
import type { Site, TestHost } from './site.ts'

const dayMs = 86_400_000

/** When a certificate was made that is of no use now; it is valid for about two years, from an hour before. */
export const madeLongAgo = () => Date.now() - 1000 * dayMs
export const madeInTheFuture = () => Date.now() + 2 * dayMs

export function strangeAuthority(): Promise<KeyPair> {
  return createAuthority('a stranger', Date.now())
}

/** A certificate of the site's own CA, made now or at another time. */
export async function issue(site: Site, identity: Identity, madeAtMs = Date.now()): Promise<KeyPair> {
  return issueCertificate(await readAuthority(join(site.home, 'certs')), identity, madeAtMs)
}

/** What the site's server dials with. */
export function serverCredentials(site: Site): Credentials {
  const paths = certificatePaths(join(site.home, 'certs'))
  return {
    ca: readFileSync(paths.authorityCertificate),
    cert: readFileSync(paths.serverCertificate),
    key: readFileSync(paths.serverKey),
  }
}

/** A folder of certificates for the setting `certs`: this pair as the server's, and the CA that it trusts. */
export async function makeCertificateFolder(
  site: Site,
  name: string,
  pair: KeyPair,
  authority?: KeyPair,
): Promise<string> {
  const folder = site.at(name)
  await mkdir(folder, { mode: 0o700 })
  const paths = certificatePaths(folder)
  const trusted = authority?.certificate ?? serverCredentials(site).ca
  writeFileSync(paths.authorityCertificate, trusted)
  await writeKeyPair(pair, paths.serverCertificate, paths.serverKey)
  return folder
}

/** Gives an agent that is not running another certificate. */
export function replaceCertificate(host: TestHost, pair: KeyPair): void {
  writeFileSync(join(host.folder, 'host.crt'), pair.certificate, { mode: 0o600 })
  writeFileSync(join(host.folder, 'host.key'), pair.key, { mode: 0o600 })
}
