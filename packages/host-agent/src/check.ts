import { createPrivateKey, X509Certificate } from 'node:crypto'
import { lstatSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { identityFromAltNames } from '@central-backup/protocol'
import { pendingKeyFile } from './enroll/pending-key.ts'
import type { Problem } from './errors.ts'
import { type AgentSettings, inspectSettings } from './settings.ts'

const dayMs = 86_400_000

/** Certificates that expire sooner are worth a warning. */
export const expiryWarningDays = 30

export interface CheckReport {
  /** `null` where they cannot be read. */
  settings: AgentSettings | null
  /** What keeps the agent from working. */
  problems: Problem[]
  /** What will keep it from working before long. */
  warnings: string[]
  /** When the host's certificate expires, in milliseconds since 1970. */
  certificateExpiresAtMs: number | null
}

/** Looks at settings, permissions and certificates, all of them, and changes nothing. */
export function checkHost(settingsFile: string, uid: number, nowMs: number): CheckReport {
  const { settings, problems } = inspectSettings(settingsFile, uid)
  const report: CheckReport = {
    settings,
    problems: [...problems],
    warnings: [],
    certificateExpiresAtMs: null,
  }
  if (settings !== null) {
    checkCertificates(settings, nowMs, report)
    for (const folder of settings.allow.restore) checkRestoreFolder(folder, report)
    checkPendingKey(settingsFile, report)
  }
  return report
}

/** An enrolment that was cut off at its very end leaves a host that works, and a key too many. */
function checkPendingKey(settingsFile: string, { warnings }: CheckReport): void {
  const file = pendingKeyFile(settingsFile)
  if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return
  warnings.push(
    `${file} is of an enrolment that was not finished: run backup-host enroll again; or, where backup-server check ` +
      'says that all is well, delete it',
  )
}

/** Others that can look into a folder find there what a server puts into it: set-user-id programs and devices, too. */
function checkRestoreFolder(folder: string, { warnings }: CheckReport): void {
  const status = lstatSync(folder, { throwIfNoEntry: false })
  if (!status?.isDirectory()) {
    const found = status === undefined ? 'is not there' : 'is no folder, or a link to one'
    warnings.push(`${folder}, which allow.restore names, ${found}: nothing can be restored to it`)
  } else if ((status.mode & 0o011) !== 0 && resolve(folder) !== '/') {
    warnings.push(
      `${folder}, which allow.restore names, is open to others: they can run what a server restores there with ` +
        'set-user-id bits. Close it (chmod 700), unless it is in use on this host',
    )
  }
}

function checkCertificates(settings: AgentSettings, nowMs: number, report: CheckReport): void {
  const { tls } = settings
  const authority = readCertificate(tls.ca, report)
  const certificate = readCertificate(tls.certificate, report)
  if (authority !== null) checkValidity(tls.ca, authority, nowMs, report)
  if (certificate === null) return
  report.certificateExpiresAtMs = certificate.validToDate.getTime()
  checkValidity(tls.certificate, certificate, nowMs, report)
  const add = (found: string, expected: string) => {
    report.problems.push({ file: tls.certificate, line: null, key: null, found, expected })
  }
  if (
    authority !== null &&
    !(certificate.checkIssued(authority) && certificate.verify(authority.publicKey))
  ) {
    add('a certificate of another authority', `one that ${tls.ca} issued`)
  }
  const identity = describeIdentity(certificate)
  if (identity !== `host ${settings.name}`)
    add(`a certificate of ${identity}`, `one of host ${settings.name}`)
  if (!isKeyOf(certificate, tls.key)) add('a certificate of another key', `one for the key ${tls.key}`)
}

/** A file that is not there was noticed with the permissions. */
function readCertificate(file: string, report: CheckReport): X509Certificate | null {
  try {
    return new X509Certificate(readFileSync(file))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    report.problems.push({
      file,
      line: null,
      key: null,
      found: 'something else',
      expected: 'a certificate, PEM',
    })
    return null
  }
}

function checkValidity(file: string, certificate: X509Certificate, nowMs: number, report: CheckReport): void {
  const from = certificate.validFromDate
  const to = certificate.validToDate
  if (from.getTime() > nowMs || to.getTime() <= nowMs) {
    const found = `one that is valid from ${from.toISOString()} to ${to.toISOString()}`
    report.problems.push({ file, line: null, key: null, found, expected: 'a certificate that is valid now' })
  } else if (to.getTime() - nowMs < expiryWarningDays * dayMs) {
    const days = Math.floor((to.getTime() - nowMs) / dayMs)
    report.warnings.push(`${file} expires in ${days} days, on ${to.toISOString()}`)
  }
}

function describeIdentity(certificate: X509Certificate): string {
  try {
    const { role, name } = identityFromAltNames(certificate.subjectAltName)
    return `${role} ${name}`
  } catch {
    return 'nobody in central-backup'
  }
}

/** A key that is not there was noticed with the permissions. */
function isKeyOf(certificate: X509Certificate, keyFile: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(readFileSync(keyFile)))
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}
