import { join } from 'node:path'
import { digestOf, listOf, type MessageOf, type Trust } from '@central-backup/protocol'
import * as z from 'zod'
import { readIfThere } from '../storage/if-there.ts'
import { makePrivateFolder } from '../storage/new-file.ts'
import { replaceFile } from '../storage/replace-file.ts'

const hex = z.string().regex(/^[0-9a-f]{64}$/)

const hostTrustSchema = z.strictObject({
  seenAtMs: z.int(),
  authorities: z.array(hex),
  lists: z.array(z.strictObject({ authority: hex, number: z.int() })),
})

/** Whom a host trusts, as its agent has said it: digests (SHA-256) of authorities, and the numbers of their lists. */
export type HostTrust = z.infer<typeof hostTrustSchema>

function fileOf(certs: string, host: string): string {
  return join(certs, 'hosts', `${host}.trust.json`)
}

/** What a host was last seen to trust; `null` where it was never asked, or that is not known any more. */
export async function readHostTrust(certs: string, host: string): Promise<HostTrust | null> {
  const text = await readIfThere(fileOf(certs, host))
  try {
    return text === null ? null : hostTrustSchema.parse(JSON.parse(text))
  } catch {
    // It is only told to people, and written anew in the next session.
    return null
  }
}

/** Keeps what an agent has said. */
export async function writeHostTrust(certs: string, host: string, trust: HostTrust): Promise<void> {
  await makePrivateFolder(join(certs, 'hosts'))
  await replaceFile(fileOf(certs, host), `${JSON.stringify(trust, null, 2)}\n`, 0o600)
}

export function hostTrustOf(message: MessageOf<'trusted'>, nowMs: number): HostTrust {
  return {
    seenAtMs: nowMs,
    authorities: message.authorities.map((digest) => digest.toString('hex')),
    lists: message.lists.map(({ authority, number }) => ({ authority: authority.toString('hex'), number })),
  }
}

/** How far a host is on the way to what the server trusts. */
export interface HostProgress {
  seenAtMs: number
  /** Whether it trusts the authority that issues now. */
  trustsIssuing: boolean
  /** How many authorities it trusts that are none of ours, or leave. */
  otherAuthorities: number
  /** Whether it has the newest list of the authority that issues; `null` where there is none. */
  hasNewestList: boolean | null
}

export function progressOf(host: HostTrust, ours: Trust): HostProgress {
  const [issuing] = ours.authorities
  const digest = digestOf(issuing!).toString('hex')
  const list = listOf(ours, issuing!)
  const has = host.lists.find(({ authority }) => authority === digest)
  return {
    seenAtMs: host.seenAtMs,
    trustsIssuing: host.authorities.includes(digest),
    otherAuthorities: host.authorities.filter((one) => one !== digest).length,
    hasNewestList: list === undefined ? null : has !== undefined && has.number >= list.number,
  }
}
