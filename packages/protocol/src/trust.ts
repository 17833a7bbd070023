/**
 * Whom a side trusts: certificates of authorities, and revocation lists that they have signed. What a peer offers is added
 * only where an authority that is trusted already has signed it, so a server whose key was stolen, but not that of the
 * authority, cannot change it.
 */

import { createHash, X509Certificate } from 'node:crypto'
import { authoritiesMax } from './limits.ts'
import { type RevocationList, RevocationListError, readRevocationList } from './revocation-list.ts'

/** The newest list of each authority, by the digest of its certificate, in hexadecimal. */
export type RevocationLists = ReadonlyMap<string, RevocationList>

export interface Trust {
  authorities: readonly X509Certificate[]
  lists: RevocationLists
}

/** What may be added to a trust: DER. */
export interface TrustOffer {
  /** Self-signed certificates, each with the one that an older authority has made for the same key and name. */
  authorities: readonly { certificate: Buffer; endorsement: Buffer }[]
  lists: readonly Buffer[]
}

/** The subjectAltName URI of an endorsement, so that no other certificate of an authority is taken for one. */
export const endorsementUri = 'urn:central-backup:new-authority'

const pemCertificate = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g
const pemList = /-----BEGIN X509 CRL-----([\s\S]*?)-----END X509 CRL-----/g

/** All certificates in a PEM text. Throws what Node throws where one cannot be read. */
export function readCertificates(pem: string): X509Certificate[] {
  return [...pem.matchAll(pemCertificate)].map(([text]) => new X509Certificate(text))
}

/** SHA-256 of a certificate. */
export function digestOf(certificate: X509Certificate): Buffer {
  return createHash('sha256').update(certificate.raw).digest()
}

function keyOf(certificate: X509Certificate): string {
  return digestOf(certificate).toString('hex')
}

/**
 * Puts a trust together from two files: certificates, and lists, both PEM. Lists that none of the authorities has signed
 * are returned as `strange`, by why. Throws where a certificate cannot be read.
 */
export function readTrust(certificates: string, lists: string): { trust: Trust; strange: string[] } {
  const authorities = readCertificates(certificates)
  const found = new Map<string, RevocationList>()
  const strange: string[] = []
  for (const [, body] of lists.matchAll(pemList)) {
    try {
      const { list, authority } = readRevocationList(Buffer.from(body!, 'base64'), authorities)
      addList(found, keyOf(authority), list)
    } catch (error) {
      if (!(error instanceof RevocationListError)) throw error
      strange.push(error.message)
    }
  }
  return { trust: { authorities, lists: found }, strange }
}

/** The two files of a trust, PEM. */
export function formatTrust({ authorities, lists }: Trust): { certificates: string; lists: string } {
  return {
    certificates: authorities.map((one) => one.toString()).join(''),
    lists: [...lists.values()].map(({ der }) => formatPem('X509 CRL', der)).join(''),
  }
}

export function formatPem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/**
 * Serial numbers of all that is revoked, by any of the authorities: they are random and long, so that one list may also
 * name what an authority before it has issued.
 */
export function revokedSerials({ lists }: Trust): ReadonlySet<string> {
  return new Set([...lists.values()].flatMap(({ revoked }) => [...revoked.keys()]))
}

export function listOf({ lists }: Trust, authority: X509Certificate): RevocationList | undefined {
  return lists.get(keyOf(authority))
}

/** Whether the authority has issued the certificate, whatever their validity. */
export function isIssuedBy(certificate: X509Certificate, authority: X509Certificate): boolean {
  return certificate.checkIssued(authority) && certificate.verify(authority.publicKey)
}

/**
 * What a trust becomes by an offer. What is refused is told in `faults` and left out; what is known or older is left out
 * without a word. Authorities that the issuer of `own`, the certificate of this side, has revoked go.
 */
export function extendTrust(
  trust: Trust,
  offer: TrustOffer,
  own: X509Certificate,
  nowMs: number,
): { trust: Trust; faults: string[] } {
  const authorities = [...trust.authorities]
  const lists = new Map(trust.lists)
  const faults: string[] = []
  const revoked = revokedSerials(trust)
  for (const one of offer.authorities) {
    const fault = takeAuthority(one, authorities, revoked, nowMs)
    if (fault !== null) faults.push(fault)
  }
  for (const der of offer.lists) {
    try {
      const { list, authority } = readRevocationList(der, authorities)
      addList(lists, keyOf(authority), list)
    } catch (error) {
      if (!(error instanceof RevocationListError)) throw error
      faults.push(error.message)
    }
  }
  return { trust: dropRevoked({ authorities, lists }, own), faults }
}

/** A list never takes the place of one with the same number or a higher one. */
function addList(lists: Map<string, RevocationList>, authority: string, list: RevocationList): void {
  const before = lists.get(authority)
  if (before === undefined || before.number < list.number) lists.set(authority, list)
}

/** Adds the authority that is offered, or says why not. */
function takeAuthority(
  offered: { certificate: Buffer; endorsement: Buffer },
  authorities: X509Certificate[],
  revoked: ReadonlySet<string>,
  nowMs: number,
): string | null {
  let certificate: X509Certificate
  let endorsement: X509Certificate
  try {
    certificate = new X509Certificate(offered.certificate)
    endorsement = new X509Certificate(offered.endorsement)
  } catch {
    return 'an authority was offered whose certificates cannot be read'
  }
  if (authorities.some(({ raw }) => raw.equals(certificate.raw))) return null
  if (authorities.length >= authoritiesMax)
    return `a new authority was offered, but ${authoritiesMax} are trusted already`
  if (!certificate.ca || !isIssuedBy(certificate, certificate))
    return 'what was offered as a new authority is none'
  const endorser = authorities.find((one) => isIssuedBy(endorsement, one))
  if (endorser === undefined || !isEndorsementOf(endorsement, certificate))
    return 'a new authority was offered that no authority which is trusted here has signed for'
  if ([certificate, endorsement, endorser].some(({ serialNumber }) => revoked.has(serialNumber)))
    return 'a new authority was offered that is revoked, or signed for by one that is'
  if ([certificate, endorsement].some((one) => !isValidAt(one, nowMs)))
    return 'a new authority was offered whose certificate is not valid now'
  authorities.unshift(certificate)
  return null
}

/** The same key and the same name, and made for this purpose. */
function isEndorsementOf(endorsement: X509Certificate, certificate: X509Certificate): boolean {
  return (
    endorsement.ca &&
    endorsement.subject === certificate.subject &&
    endorsement.subjectAltName === `URI:${endorsementUri}` &&
    publicKeyOf(endorsement).equals(publicKeyOf(certificate))
  )
}

function publicKeyOf(certificate: X509Certificate): Buffer {
  return certificate.publicKey.export({ format: 'der', type: 'spki' })
}

function isValidAt(certificate: X509Certificate, nowMs: number): boolean {
  return certificate.validFromDate.getTime() <= nowMs && nowMs < certificate.validToDate.getTime()
}

/**
 * Leaves out the authorities that another one has revoked, and their lists: but for the one that has issued `own`, the
 * certificate of this side, and only by the word of that one.
 */
export function dropRevoked({ authorities, lists }: Trust, own: X509Certificate): Trust {
  const issuer = authorities.find((one) => isIssuedBy(own, one))
  const gone = issuer && lists.get(keyOf(issuer))?.revoked
  const kept = authorities.filter((one) => one === issuer || !gone?.has(one.serialNumber))
  const keys = new Set(kept.map(keyOf))
  return { authorities: kept, lists: new Map([...lists].filter(([key]) => keys.has(key))) }
}
