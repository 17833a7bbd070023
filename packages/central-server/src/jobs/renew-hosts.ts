import { X509Certificate } from 'node:crypto'
import { identityFromAltNames } from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import type { ServerSettings } from '../config/settings.ts'
import { readAuthority, readServerCredentials } from '../pki/folder.ts'
import { openSession } from '../session/open-session.ts'
import { renewHost } from './keep-host-trust.ts'

export interface HostRenewal {
  host: string
  certificate: X509Certificate | null
  error: Error | null
}

/**
 * Gives hosts new keys and certificates, due or not, `concurrency` of them at a time. What fails concerns that host only.
 * Throws `CertificateError` where nothing could be renewed, as the authority's key is not here.
 */
export async function renewHostCertificates(
  context: { settings: ServerSettings; signal: AbortSignal; now: () => number },
  hosts: readonly Host[],
): Promise<HostRenewal[]> {
  const { settings, signal, now } = context
  const { certs, connection, concurrency } = settings
  await readAuthority(certs)
  const credentials = await readServerCredentials(certs)
  const serverName = identityFromAltNames(new X509Certificate(credentials.cert).subjectAltName).name
  const renew = async (host: Host): Promise<HostRenewal> => {
    try {
      const session = await openSession({ host, credentials, serverName, connection, signal })
      try {
        const certificate = await renewHost(certs, session, host.name, now)
        await session.channel.close()
        return { host: host.name, certificate, error: null }
      } catch (error) {
        await session.channel.fail(error)
        throw error
      }
    } catch (error) {
      return { host: host.name, certificate: null, error: error as Error }
    }
  }
  const results: HostRenewal[] = []
  const waiting = [...hosts]
  const work = async () => {
    for (let host = waiting.shift(); host !== undefined && !signal.aborted; host = waiting.shift())
      results.push(await renew(host))
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return results.sort((a, b) => (a.host < b.host ? -1 : 1))
}
