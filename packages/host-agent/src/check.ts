import { createPrivateKey, X509Certificate } from 'node:crypto'
import { existsSync, lstatSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import {
  certificateForKey,
  describeSpan,
  identityFromAltNames,
  isIssuedBy,
  readCertificates,
} from '@central-backup/protocol'
import { readHostCertificates } from './certificates/read.ts'
import { pendingKeyFile } from './enroll/pending-key.ts'
import { type Problem, SettingsError } from './errors.ts'
import { findCommandRisks } from './hooks/command-trust.ts'
import type { Hook } from './hooks/hook.ts'
import { findFolderProblems, findLinkProblems } from './permissions.ts'
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
    for (const folder of settings.allow.restore) checkRestoreFolder(folder, uid, report)
    checkRestoreOverOwn(settings, report)
    checkLogFile(settings, uid, report)
    checkPendingKey(settingsFile, report)
    for (const hook of settings.hooks) checkHook(hook, settings, uid, report)
    checkStateFolder(settings, report)
    if (settings.localCopy?.keepDays === 0)
      report.warnings.push(
        `local_copy.keep_days is 0: a server can push all copies out by ${settings.localCopy.keep} runs of next to nothing`,
      )
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
function checkRestoreFolder(folder: string, uid: number, { warnings }: CheckReport): void {
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
  if (status !== undefined)
    warnOfOthers(folder, 'allow.restore', 'what is restored goes there', uid, warnings)
}

/** A server that can replace these is bound by no settings. */
function checkRestoreOverOwn(
  { file, tls, allow, localCopy }: AgentSettings,
  { warnings }: CheckReport,
): void {
  for (const folder of allow.restore) {
    if ([file, tls.key, tls.ca].some((own) => isBelow(own, folder)))
      warnings.push(
        `${folder}, which allow.restore names, holds the settings or keys of this agent: whoever has the server can ` +
          'give himself leave for everything, and is root here',
      )
    else if (localCopy !== null && isBelow(localCopy.directory, folder))
      warnings.push(
        `${folder}, which allow.restore names, holds the local copies: whoever has the server can replace them`,
      )
  }
}

/** Root appends to it, whatever it is. */
function checkLogFile({ log: { file } }: AgentSettings, uid: number, { warnings }: CheckReport): void {
  if (file !== null && existsSync(dirname(file)))
    warnOfOthers(file, 'log.file', 'the agent writes to that', uid, warnings)
}

/** Who may write to a folder on the way to something can put a link, or something else, in its place. */
function warnOfOthers(path: string, key: string, effect: string, uid: number, warnings: string[]): void {
  const folder = dirname(resolve(path))
  const [problem] = [...findLinkProblems(folder, uid), ...findFolderProblems(realpathSync(folder), uid)]
  if (problem === undefined) return
  const { file, found } = problem
  warnings.push(
    `${path}, which ${key} names: others can put something else in its place, and ${effect}: ${file} has ${found}`,
  )
}

/** What is dangerous, and may still be meant. */
function checkHook(hook: Hook, { allow }: AgentSettings, uid: number, { warnings }: CheckReport): void {
  const { name, command, always, failsRun, runsPerHour, when } = hook
  for (const risk of findCommandRisks(command, uid)) warnings.push(`hooks.${name} ${risk}`)
  for (const word of command) {
    const folder = allow.restore.find((one) => isBelow(word, one))
    if (folder !== undefined)
      warnings.push(
        `hooks.${name} has ${word}, and allow.restore lets a server write below ${folder}: it can run what it likes`,
      )
  }
  if (!always && runsPerHour > manyRunsPerHour)
    warnings.push(`hooks.${name} can be run ${runsPerHour} times an hour by whoever has the server`)
  if (when === 'before' && !failsRun)
    warnings.push(`hooks.${name} may fail, and the backup goes on without it: only a warning tells`)
}

/** More than any schedule needs. */
const manyRunsPerHour = 60

/** Whether an absolute path is that folder, or below it. */
function isBelow(path: string, folder: string): boolean {
  if (!path.startsWith('/')) return false
  const [inner, outer] = [resolve(path), resolve(folder)]
  return outer === '/' || inner === outer || inner.startsWith(`${outer}/`)
}

/** Made when it is needed; but under systemd, only where the unit lets the agent write. */
function checkStateFolder({ hooks, stateDirectory }: AgentSettings, { warnings }: CheckReport): void {
  if (!hooks.some(({ when }) => when === 'after-always')) return
  const status = lstatSync(stateDirectory, { throwIfNoEntry: false })
  if (status === undefined) return
  if (!status.isDirectory() || (status.mode & 0o077) !== 0)
    warnings.push(
      `${stateDirectory}, the state_directory, is no folder that is closed to others (chmod 700): what hooks are owed after ` +
        'a crash is not noted or not believed',
    )
}

function checkCertificates(settings: AgentSettings, nowMs: number, report: CheckReport): void {
  const { tls } = settings
  const authorities = readAuthorities(tls.ca, report)
  for (const authority of authorities) checkValidity(tls.ca, authority, nowMs, report)
  const certificate = readCertificate(tls, report)
  if (certificate === null) return
  report.certificateExpiresAtMs = certificate.validToDate.getTime()
  checkValidity(tls.certificate, certificate, nowMs, report)
  const add = (found: string, expected: string) => {
    report.problems.push({ file: tls.certificate, line: null, key: null, found, expected })
  }
  if (authorities.length > 0 && !authorities.some((one) => isIssuedBy(certificate, one))) {
    const names = authorities.map(({ subject }) => subject).join(', ')
    add(`a certificate of another authority (${certificate.issuer})`, `one that ${tls.ca} issued (${names})`)
  }
  const identity = describeIdentity(certificate)
  if (identity !== `host ${settings.name}`)
    add(`a certificate of ${identity}`, `one of host ${settings.name}`)
  if (!isKeyOf(certificate, tls.key)) add('a certificate of another key', `one for the key ${tls.key}`)
  checkRevocationLists(settings, certificate, report)
}

function checkRevocationLists(settings: AgentSettings, own: X509Certificate, report: CheckReport): void {
  try {
    const { credentials, strange } = readHostCertificates(settings)
    const file = settings.tls.revoked
    for (const why of strange) report.warnings.push(`${file}: a revocation list does not count: ${why}`)
    if (credentials.revoked?.has(own.serialNumber)) {
      const found = `the certificate of this host, ${own.serialNumber}, which the server has revoked`
      report.problems.push({
        file,
        line: null,
        key: null,
        found,
        expected: 'a new certificate for this host',
      })
    }
  } catch (error) {
    // What it cannot read but a list is told of already.
    if (error instanceof SettingsError && error.problems.some(({ file }) => file === settings.tls.revoked))
      report.problems.push(...error.problems)
  }
}

/** A file that is not there was noticed with the permissions. */
function readAuthorities(file: string, report: CheckReport): X509Certificate[] {
  try {
    const found = readCertificates(readFileSync(file, 'utf8'))
    if (found.length > 0) return found
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
  }
  report.problems.push({
    file,
    line: null,
    key: null,
    found: 'something else',
    expected: 'a certificate, PEM',
  })
  return []
}

/** The one that is used with the key. A file that is not there was noticed with the permissions. */
function readCertificate(
  { certificate: file, key }: AgentSettings['tls'],
  report: CheckReport,
): X509Certificate | null {
  try {
    const text = readFileSync(file, 'utf8')
    const keyText = existsSync(key) ? readFileSync(key, 'utf8') : ''
    return new X509Certificate(certificateForKey(keyText, text))
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
    const wrong =
      from.getTime() > nowMs
        ? `in ${describeSpan(from.getTime() - nowMs)}`
        : `expired ${describeSpan(nowMs - to.getTime())} ago`
    const clock = new Date(nowMs).toISOString()
    const found = `one that is valid from ${from.toISOString()} to ${to.toISOString()} (${wrong}: the clock here says ${clock})`
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
