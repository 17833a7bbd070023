import type { X509Certificate } from 'node:crypto'
import {
  type CertificateRequest,
  type Channel,
  digestOf,
  listOf,
  type MessageOf,
  type Trust,
  trustMsMax,
} from '@central-backup/protocol'

/** What the server brings to a conversation about trust. */
export interface TrustSource {
  trust: Trust
  /** By which each authority has signed for the one after it, oldest first. */
  endorsements: readonly X509Certificate[]
}

/** What an agent has said of its trust, and what it did not take, in its words. */
export interface ToldTrust {
  told: MessageOf<'trusted'>
  faults: string[]
}

/** Asks an agent whom it trusts, and gives it what it lacks: a new authority, newer lists. Throws a `ProtocolError`. */
export async function updateTrust(channel: Channel, source: TrustSource): Promise<ToldTrust> {
  await channel.send({ type: 'trust' })
  const told = await channel.receive(['trusted'], { timeoutMs: trustMsMax })
  const update = planUpdate(told, source)
  if (update === null) return { told, faults: [] }
  await channel.send(update)
  const after = await channel.receive(['trusted'], { timeoutMs: trustMsMax })
  return { told: after, faults: after.fault === undefined ? [] : [after.fault] }
}

/** What an agent lacks of ours; `null` for nothing. */
export function planUpdate(
  told: MessageOf<'trusted'>,
  { trust, endorsements }: TrustSource,
): MessageOf<'trust-update'> | null {
  const knows = (authority: X509Certificate) => {
    const digest = digestOf(authority)
    return told.authorities.some((one) => one.equals(digest))
  }
  // Oldest first, so that each is signed for by one that the agent knows by then.
  const authorities = trust.authorities
    .toReversed()
    .filter((authority) => !knows(authority))
    .flatMap((authority) => {
      const endorsement = endorsements.findLast(({ subject }) => subject === authority.subject)
      return endorsement === undefined ? [] : [{ certificate: authority.raw, endorsement: endorsement.raw }]
    })
  const lists = trust.authorities.flatMap((authority) => {
    const ours = listOf(trust, authority)
    const digest = digestOf(authority)
    const theirs = told.lists.find((one) => one.authority.equals(digest))
    return ours === undefined || (theirs !== undefined && theirs.number >= ours.number) ? [] : [ours.der]
  })
  if (authorities.length === 0 && lists.length === 0) return null
  return { type: 'trust-update', authorities, lists }
}

/**
 * Has the agent make a new key, and gives it the certificate that `sign` makes for it. Returns what the agent has then
 * said: with a `fault` where it did not take it. Throws a `ProtocolError`, and what `sign` throws, after which the agent
 * still waits for the certificate.
 */
export async function renewHostCertificate(
  channel: Channel,
  sign: (request: CertificateRequest) => Promise<X509Certificate>,
): Promise<{ certificate: X509Certificate | null; told: MessageOf<'trusted'> }> {
  await channel.send({ type: 'renew' })
  const answer = await channel.receive(['signing-request', 'trusted'], { timeoutMs: trustMsMax })
  if (answer.type === 'trusted') return { certificate: null, told: answer }
  const certificate = await sign(answer)
  await channel.send({ type: 'certificate', certificate: certificate.raw })
  const told = await channel.receive(['trusted'], { timeoutMs: trustMsMax })
  const taken = told.certificate.equals(digestOf(certificate))
  return { certificate: taken ? certificate : null, told }
}
