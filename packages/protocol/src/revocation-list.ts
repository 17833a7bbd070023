import { verify, type X509Certificate } from 'node:crypto'
import { type DerError, DerReader, type DerValue, derTags, positiveInteger } from './der.ts'
import { revocationListBytesMax } from './limits.ts'

/**
 * Which certificates are not to be taken any more, signed by an authority: an X.509 CRL of version 2 (RFC 5280, section 5)
 * with a number. It is complete (no delta), and good until the next one: its `nextUpdate` is not looked at, since an
 * authority whose key is kept elsewhere signs when something changes, and not every week.
 */
export interface RevocationList {
  /** Each list of an authority has a higher one than those before it. */
  number: number
  /** Serial numbers as `X509Certificate.serialNumber` has them, and since when (milliseconds since 1970). */
  revoked: ReadonlyMap<string, number>
  /** As it is signed. */
  der: Buffer
}

/** The bytes are no revocation list that this program can read, or the signature is not of the authority. */
export class RevocationListError extends Error {
  override readonly name = 'RevocationListError'
}

/** Signature algorithms by the content of their object identifier, in hexadecimal, and the digest of each. */
const digests: Readonly<Record<string, string>> = {
  '2a8648ce3d040302': 'sha256', // ecdsa-with-SHA256
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
  '2a864886f70d01010b': 'sha256', // sha256WithRSAEncryption
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
}

const crlNumberId = '551d14'
/** Of the key that signed; it says nothing that the signature does not. */
const authorityKeyId = '551d23'

/** A list whose signature was not verified yet. */
interface SignedList extends RevocationList {
  signedBytes: Buffer
  signature: Buffer
  digest: string
}

/**
 * Reads a list (DER) that one of `authorities` has signed, and says which. Throws `RevocationListError`: also where none of
 * them has.
 */
export function readRevocationList(
  der: Buffer,
  authorities: readonly X509Certificate[],
): { list: RevocationList; authority: X509Certificate } {
  if (der.length > revocationListBytesMax) throw new RevocationListError('the revocation list is too large')
  const { signedBytes, signature, digest, ...list } = parse(der)
  const authority = authorities.find((one) => isSignedBy(signedBytes, signature, digest, one))
  if (authority === undefined)
    throw new RevocationListError('no authority that is trusted here has signed the revocation list')
  return { list, authority }
}

function isSignedBy(signed: Buffer, signature: Buffer, digest: string, authority: X509Certificate): boolean {
  try {
    return verify(digest, signed, authority.publicKey, signature)
  } catch {
    return false
  }
}

function parse(der: Buffer): SignedList {
  try {
    const outer = new DerReader(der)
    const list = new DerReader(outer.next(derTags.sequence).content)
    outer.end()
    const signed = list.next(derTags.sequence)
    const algorithm = list.next(derTags.sequence)
    const bits = list.next(derTags.bitString).content
    list.end()
    if (bits[0] !== 0) throw new RevocationListError('the signature has bits over')
    const { inner, ...content } = parseContent(signed.content)
    if (!inner.equals(algorithm.whole)) throw new RevocationListError('two signature algorithms are named')
    const digest =
      digests[new DerReader(algorithm.content).next(derTags.objectIdentifier).content.toString('hex')]
    if (digest === undefined) throw new RevocationListError('the signature algorithm is not known')
    return { ...content, der, signedBytes: signed.whole, signature: bits.subarray(1), digest }
  } catch (error) {
    if (error instanceof RevocationListError) throw error
    throw new RevocationListError(`this is no revocation list: ${(error as DerError).message}`, {
      cause: error,
    })
  }
}

function parseContent(bytes: Buffer): Pick<RevocationList, 'number' | 'revoked'> & { inner: Buffer } {
  const content = new DerReader(bytes)
  if (!content.next(derTags.integer).content.equals(Buffer.of(1)))
    throw new RevocationListError('the revocation list is not of version 2')
  const inner = content.next(derTags.sequence).whole
  content.next(derTags.sequence) // issuer: the signature says it
  content.next(derTags.utcTime, derTags.generalizedTime)
  if (content.nextTag === derTags.utcTime || content.nextTag === derTags.generalizedTime)
    content.next(derTags.utcTime, derTags.generalizedTime)
  const revoked = parseEntries(content.optional(derTags.sequence))
  const extensions = new DerReader(content.next(derTags.explicit0).content)
  content.end()
  const number = parseNumber(extensions.next(derTags.sequence).content)
  extensions.end()
  return { number, revoked, inner }
}

function parseEntries(value: DerValue | undefined): Map<string, number> {
  const revoked = new Map<string, number>()
  if (value === undefined) return revoked
  const entries = new DerReader(value.content)
  while (!entries.ended) {
    const entry = new DerReader(entries.next(derTags.sequence).content)
    const serial = positiveInteger(entry.next(derTags.integer))
    const sinceMs = timeOf(entry.next(derTags.utcTime, derTags.generalizedTime))
    const extensions = entry.optional(derTags.sequence)
    if (extensions !== undefined) forEachExtension(extensions.content, refuseCritical)
    entry.end()
    revoked.set(serial.toString('hex').toUpperCase(), sinceMs)
  }
  return revoked
}

function parseNumber(extensions: Buffer): number {
  let number: number | null = null
  forEachExtension(extensions, (id, critical, value) => {
    if (id === crlNumberId) {
      const inner = new DerReader(value)
      const digits = positiveInteger(inner.next(derTags.integer)).toString('hex')
      inner.end()
      number = Number(BigInt(`0x${digits}`))
      if (!Number.isSafeInteger(number)) throw new RevocationListError('the number of the list is too large')
    } else if (id !== authorityKeyId) refuseCritical(id, critical)
  })
  if (number === null) throw new RevocationListError('the revocation list has no number')
  return number
}

function forEachExtension(
  bytes: Buffer,
  visit: (id: string, critical: boolean, value: Buffer) => void,
): void {
  const extensions = new DerReader(bytes)
  const seen = new Set<string>()
  while (!extensions.ended) {
    const extension = new DerReader(extensions.next(derTags.sequence).content)
    const id = extension.next(derTags.objectIdentifier).content.toString('hex')
    const critical = extension.optional(derTags.boolean) !== undefined
    const value = extension.next(derTags.octetString).content
    extension.end()
    if (seen.has(id)) throw new RevocationListError('an extension stands twice')
    seen.add(id)
    visit(id, critical, value)
  }
}

/** It would change what the list means: that it is a part of one, or one about other issuers. */
function refuseCritical(id: string, critical: boolean): void {
  if (critical) throw new RevocationListError(`the revocation list has an unknown critical extension (${id})`)
}

/** UTCTime `YYMMDDhhmmssZ` or GeneralizedTime `YYYYMMDDhhmmssZ`. */
function timeOf({ tag, content }: DerValue): number {
  const text = content.toString('latin1')
  const match = /^(\d\d)?(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
  const century = match?.[1]
  if (match === null || (century === undefined) !== (tag === derTags.utcTime))
    throw new RevocationListError('a time of an unknown form')
  const [year, month, day, hour, minute, second] = match.slice(2)
  const years = `${century ?? (Number(year) < 50 ? '20' : '19')}${year}`
  const timeMs = Date.parse(`${years}-${month}-${day}T${hour}:${minute}:${second}Z`)
  if (Number.isNaN(timeMs)) throw new RevocationListError('a time that there is not')
  return timeMs
}
