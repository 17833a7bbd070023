import type { X509Certificate } from 'node:crypto'
import {
  digestOf,
  formatTrust,
  type RevocationList,
  readRevocationList,
  readTrust,
  revocationListBytesMax,
} from '@central-backup/protocol'
import { UsageError } from '../errors.ts'
import { updateFile } from '../storage/replace-file.ts'
import { createRevocationList, type KeyPair } from './certificate.ts'
import { certificatePaths, readAuthority, readAuthorityKeys, readIssued, readServerTrust } from './folder.ts'

/** What came of writing the revocation lists. */
export interface WrittenLists {
  number: number
  /** Authorities whose key is not here: hosts that trust no other one do not learn of it. */
  unsigned: X509Certificate[]
}

export interface ListChange {
  /** Serial numbers, and since when they are revoked, in milliseconds since 1970. */
  added: ReadonlyMap<string, number>
  /** What need not be on a list any more. */
  removed?: ReadonlySet<string>
  /** The authorities whose lists there are from then on; all that are trusted, if not given. */
  of?: readonly X509Certificate[]
}

/** For how long an expired certificate stays on the list, for hosts whose clock is behind. */
const expiredKeptMs = 30 * 86_400_000

/**
 * Writes the revocation lists anew. Each authority whose key is here signs one. Their number is one that no list has had, also
 * where this server was set back to an older copy of itself, since it follows the clock. Throws `CertificateError` where
 * the key of the authority that issues is not here.
 */
export async function writeRevocationLists(
  certs: string,
  { added, removed = new Set(), of }: ListChange,
  nowMs: number,
): Promise<WrittenLists> {
  const signers = await readSigners(certs)
  const trust = await readServerTrust(certs)
  const authorities = of ?? trust.authorities
  const expired = await findLongExpired(certs, nowMs)
  const written: WrittenLists = { number: 0, unsigned: [] }
  const change = async (text: string | null) => {
    const before = readTrust(trust.authorities.join(''), text ?? '').trust.lists
    const revoked = new Map([...before.values()].flatMap((list) => [...list.revoked]))
    for (const serial of [...removed, ...expired]) revoked.delete(serial)
    for (const [serial, sinceMs] of added) if (!revoked.has(serial)) revoked.set(serial, sinceMs)
    const next = [...before.values()].map(({ number }) => number + 1)
    written.number = Math.max(Math.floor(nowMs / 1000), ...next)
    const keys = new Set(authorities.map((one) => digestOf(one).toString('hex')))
    const lists = new Map([...before].filter(([key]) => keys.has(key)))
    for (const authority of authorities) {
      const signer = signers.find(({ certificate }) => certificate === authority.toString())
      if (signer === undefined) written.unsigned.push(authority)
      else
        lists.set(
          digestOf(authority).toString('hex'),
          await sign(signer, authority, written.number, revoked, nowMs),
        )
    }
    return formatTrust({ authorities, lists }).lists
  }
  await updateFile(certificatePaths(certs).revocationLists, change, 0o644)
  return written
}

async function readSigners(certs: string): Promise<KeyPair[]> {
  const pairs = await readAuthorityKeys(certs)
  // Says what is missing or does not belong together.
  if (pairs.length === 0) return [await readAuthority(certs)]
  return pairs
}

async function sign(
  signer: KeyPair,
  authority: X509Certificate,
  number: number,
  revoked: ReadonlyMap<string, number>,
  nowMs: number,
): Promise<RevocationList> {
  const der = await createRevocationList(signer, { number, revoked }, nowMs)
  if (der.length > revocationListBytesMax) {
    throw new UsageError(
      `The revocation list would be longer than the ${revocationListBytesMax} bytes that hosts take`,
      {
        hint: 'Change the authority, which leaves all that is on the list behind: backup-server certs change-ca',
      },
    )
  }
  return readRevocationList(der, [authority]).list
}

async function findLongExpired(certs: string, nowMs: number): Promise<string[]> {
  const issued = await readIssued(certs)
  const isGone = (one: X509Certificate) => one.validToDate.getTime() + expiredKeptMs < nowMs
  return issued
    .filter(({ certificate }) => isGone(certificate))
    .map(({ certificate }) => certificate.serialNumber)
}
