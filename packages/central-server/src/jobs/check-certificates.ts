import type { Host } from '../config/hosts.ts'
import type { ServerSettings } from '../config/settings.ts'
import { certificatePaths, hostCertificatePath, readServerCredentials } from '../pki/folder.ts'
import { findCertificateFaults, inspectCertificate } from '../pki/inspect.ts'
import { readIfThere } from '../storage/if-there.ts'

const dayMs = 24 * 3_600_000

/** A certificate that ends sooner than this is worth a word. */
const expiryWarningMs = 30 * dayMs

export interface CertificateCheck {
  /** `server`, `authority`, or `host NAME`. */
  of: string
  file: string
  notAfterMs: number | null
  /** What keeps it from being used. */
  faults: string[]
  /** What will before long. */
  warnings: string[]
}

/**
 * Looks at the certificates of the server and at its copies of those of the hosts. Throws `CertificateError` for the
 * server's own.
 */
export async function checkCertificates(
  settings: ServerSettings,
  hosts: readonly Host[],
  nowMs: number,
): Promise<CertificateCheck[]> {
  const paths = certificatePaths(settings.certs)
  const { ca, cert, key, revoked } = await readServerCredentials(settings.certs)
  const server = { certificate: cert, key, authority: ca, revoked }
  const checks = [
    describe('authority', paths.authorityCertificate, ca, [], nowMs),
    describe(
      'server',
      paths.serverCertificate,
      cert,
      findCertificateFaults(server, { role: 'server', name: null }, nowMs),
      nowMs,
    ),
  ]
  for (const { name } of hosts) {
    const file = hostCertificatePath(settings.certs, name)
    // A host that was set up by other means has no copy here.
    const certificate = await readIfThere(file)
    if (certificate === null) continue
    const faults = findCertificateFaults(
      { certificate, key: null, authority: ca, revoked },
      { role: 'host', name },
      nowMs,
    )
    checks.push(describe(`host ${name}`, file, certificate, faults, nowMs))
  }
  return checks
}

function describe(of: string, file: string, pem: string, faults: string[], nowMs: number): CertificateCheck {
  let notAfterMs: number | null = null
  try {
    notAfterMs = inspectCertificate(pem).notAfterMs
  } catch {
    return {
      of,
      file,
      notAfterMs,
      faults: faults.length > 0 ? faults : ['The file is not a PEM certificate'],
      warnings: [],
    }
  }
  const leftMs = notAfterMs - nowMs
  const soon = faults.length === 0 && leftMs < expiryWarningMs
  return {
    of,
    file,
    notAfterMs,
    faults,
    warnings: soon ? [`It expires in ${Math.floor(leftMs / dayMs)} days`] : [],
  }
}
