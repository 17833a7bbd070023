import { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import {
  type Credentials,
  certificateForKey,
  dropRevoked,
  readTrust,
  revokedSerials,
  type Trust,
} from '@central-backup/protocol'
import { SettingsError } from '../errors.ts'
import type { AgentSettings } from '../settings.ts'

/** Who this host is to a server, and which servers it takes. */
export interface HostCertificates {
  /** For a listener. */
  credentials: Credentials
  /** The certificate of this host. */
  certificate: X509Certificate
  trust: Trust
  /** Why a revocation list in the file does not count, as when it is of an authority that is not trusted any more. */
  strange: string[]
}

/**
 * Reads key, certificates and revocation lists from where the settings say. Throws `SettingsError` where one cannot be
 * read: without its lists, an agent would let in servers that it must not.
 */
export function readHostCertificates({ tls }: Pick<AgentSettings, 'tls'>): HostCertificates {
  const key = readFileSync(tls.key, 'utf8')
  const cert = certificateForKey(key, readFileSync(tls.certificate, 'utf8'))
  const certificate = readOne(tls.certificate, cert)
  const { trust, strange } = readLists(tls.ca, tls.revoked)
  const kept = dropRevoked(trust, certificate)
  const ca = kept.authorities.join('')
  return { credentials: { ca, cert, key, revoked: revokedSerials(kept) }, certificate, trust: kept, strange }
}

function readOne(file: string, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (cause) {
    throw unusable(file, 'tls.certificate', 'a certificate, PEM', cause)
  }
}

function readLists(ca: string, revoked: string): { trust: Trust; strange: string[] } {
  const lists = existsSync(revoked) ? readFileSync(revoked, 'utf8') : ''
  let read: ReturnType<typeof readTrust>
  try {
    read = readTrust(readFileSync(ca, 'utf8'), lists)
  } catch (cause) {
    throw unusable(ca, 'tls.ca', 'certificates, PEM', cause)
  }
  if (read.trust.authorities.length === 0) throw unusable(ca, 'tls.ca', 'a certificate, PEM')
  if (lists !== '' && read.trust.lists.size === 0 && read.strange.length === 0)
    throw unusable(revoked, 'tls.revoked', 'revocation lists, PEM')
  return read
}

function unusable(file: string, key: string, expected: string, cause?: unknown): SettingsError {
  const problem = { file, line: null, key: null, found: 'something else', expected: `${expected} (${key})` }
  const hint =
    key === 'tls.revoked'
      ? 'Remove it, and the next session of the server brings it again; until then, what is revoked is taken.'
      : 'backup-host check looks at all of them.'
  return new SettingsError(`${file} cannot be used`, [problem], { hint, cause })
}
