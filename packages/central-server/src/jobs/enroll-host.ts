import { createPublicKey, X509Certificate } from 'node:crypto'
import { lstat, unlink } from 'node:fs/promises'
import {
  type Channel,
  enrolmentClockMsMax,
  enrolmentStepMsMax,
  ProtocolError,
  readCertificates,
  revokedSerials,
} from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import type { Configuration } from '../config/load.ts'
import { AlreadyExistsError, BusyError, UsageError } from '../errors.ts'
import { issueHostCertificate, requirePossession } from '../pki/certificate-request.ts'
import { readCertificate, readServerTrust, recordIssued, replaceHostCertificate } from '../pki/folder.ts'
import { findCertificateFaults } from '../pki/inspect.ts'
import { type OpenEnrolment, openEnrolment } from '../session/open-enrolment.ts'
import { withStorageErrors } from '../storage/failure.ts'
import { readIfThere, unlessMissing } from '../storage/if-there.ts'
import { replaceFile } from '../storage/replace-file.ts'
import {
  createPassword,
  type HostPlan,
  type HostRequest,
  planHost,
  refuseExisting,
  writeHost,
} from './add-host.ts'

export interface EnrollHostPlan extends HostPlan {
  /** Where the host listens. */
  target: { address: string; port: number; connectTimeoutMs: number }
  /** What an enrolment that was cut off, or one that was not, has left of a host of that name; `null` for nothing. */
  left: LeftHost | null
  /** It gets another certificate and password, whoever it was before, and keeps its module. */
  replaces: boolean
  /** Files without content, which are of a crash between making and filling them, and count as not there. */
  empty: string[]
}

/** Files of a host that are there, in the order in which they are written. */
interface LeftHost {
  certificate: string
  /** `null` where it is not there, and then the module is not, either. */
  password: string | null
  hasModule: boolean
}

export interface EnrolledHost {
  /** The host was known already, and its module stays as it is. */
  wasKnown: boolean
  /** The serial number of the certificate that was replaced; `null` where none was. */
  replacedSerial: string | null
  /** The host has said that it knows. If not, it is set up all the same. */
  isConfirmed: boolean
  /** How far the clock of the host is ahead of that of this server. */
  clockAheadMs: number
}

/**
 * Checks all that enrolling a host needs before it is dialed, and changes nothing. With `replaces`, the host has to be
 * there. Throws `UsageError`, `CertificateError` where the authority's key is not there, and `AlreadyExistsError` for a host
 * that is no enrolment's and is not to be replaced.
 */
export async function planEnrollHost(
  { settings, hosts }: Pick<Configuration, 'settings' | 'hosts'>,
  request: HostRequest,
  replaces: boolean,
): Promise<EnrollHostPlan> {
  const plan = await planHost(settings, request)
  const port = request.port ?? settings.defaults.port
  const target = { address: request.address, port, connectTimeoutMs: settings.connection.timeoutMs }
  if (!replaces) return { ...plan, target, replaces, ...(await findLeft(plan)) }
  await requireReplaceable(plan, hosts)
  return { ...plan, target, replaces, left: null, empty: [] }
}

/** Its module stays, so it has to take the password from where the new one will be. */
async function requireReplaceable({ name, files }: HostPlan, hosts: readonly Host[]): Promise<void> {
  const host = hosts.find((one) => one.name === name)
  if (host === undefined) {
    throw new UsageError(`There is no host ${name} that could be replaced, or its module cannot be used`, {
      hint: 'backup-server check --offline tells which. For a host that is new, leave --replace out.',
    })
  }
  const secret = await readIfThere(files.secret)
  if (secret !== null && secret.replace(/\n$/, '') === host.password.reveal()) return
  throw new UsageError(`${files.module} does not take its password from ${files.secret}`, {
    hint: `A new password is written there: set password: { file: '../secrets/${name}' } in the module first.`,
  })
}

/**
 * Enrols the host that waits at `target` and knows the code with this `secret`. The host writes its files first, and
 * this server only when the host has said that it did; from any place where that may be cut off, it can be run
 * again. Throws `ProtocolError`, `StorageError`, `AlreadyExistsError` for a host of that name with another key.
 */
export async function enrollHost(
  plan: EnrollHostPlan,
  secret: Buffer,
  { now, signal }: { now: () => number; signal: AbortSignal },
): Promise<EnrolledHost> {
  const enrolment = await openEnrolment({ ...plan.target, secret, signal })
  const { channel, hostMs } = enrolment
  const clockAheadMs = hostMs - now()
  let replacedSerial: string | null
  try {
    requireClock(clockAheadMs)
    const granted = await decideGrant(plan, enrolment, now())
    const { certificate, password } = granted
    await channel.send({
      type: 'enrolment-grant',
      name: plan.name,
      certificate: new X509Certificate(certificate).raw,
      authorities: readCertificates(plan.authority.trusted).map(({ raw }) => raw),
      password,
    })
    await channel.receive(['enrolment-ready'], { timeoutMs: enrolmentStepMsMax })
    replacedSerial = plan.replaces ? await replaceHost(plan, granted) : null
    if (!plan.replaces) await completeHost(plan, granted)
  } catch (error) {
    await channel.fail(error instanceof ProtocolError ? error : unfinished(error))
    throw error
  }
  const isConfirmed = await confirm(channel)
  const wasKnown = plan.replaces || (plan.left?.hasModule ?? false)
  return { wasKnown, replacedSerial, isConfirmed, clockAheadMs }
}

interface Granted {
  certificate: string
  password: string
}

/** Writes what is not there. */
async function completeHost(plan: EnrollHostPlan, { certificate, password }: Granted): Promise<void> {
  const { left, empty } = plan
  for (const file of empty) await removeEmpty(file)
  await writeHost(plan, {
    ...(left === null && { certificate }),
    ...((left?.password ?? null) === null && { password }),
    ...(left?.hasModule && { module: false }),
  })
}

/**
 * The certificate first: cut off after it, the host is one of the new key with the old password, and the next enrolment
 * grants both of them again. Returns the serial number of the certificate that was there.
 */
async function replaceHost(
  { name, certs, files }: EnrollHostPlan,
  { certificate, password }: Granted,
): Promise<string | null> {
  const before = await readCertificate(files.certificate)
  await replaceHostCertificate(certs, name, certificate)
  await replaceFile(files.secret, `${password}\n`, 0o600)
  return before?.serialNumber ?? null
}

/** A certificate for the key of the host, and a password; those that were granted before where it is the same key. */
async function decideGrant(
  { name, authority, certs, left, files }: EnrollHostPlan,
  { request, binding }: OpenEnrolment,
  nowMs: number,
): Promise<Granted> {
  requirePossession(request, binding)
  if (left === null) {
    const certificate = await issueHostCertificate(authority, name, request, binding, nowMs)
    await recordIssued(certs, certificate)
    return { certificate, password: createPassword() }
  }
  if (isOfKey(left.certificate, request.publicKey) && (await isUsable(left.certificate, name, certs, nowMs)))
    return { certificate: left.certificate, password: left.password ?? createPassword() }
  await refuseExisting(Object.values(files), name, replaceHint)
  throw new BusyError(`Somebody is removing the host ${name}`, { hint: 'Run the same line again.' })
}

const replaceHint =
  'Nothing was written. If it is this machine, which was set up anew, run the line again with --replace: its module and its ' +
  'backups stay. Else choose another name.'

async function isUsable(certificate: string, name: string, certs: string, nowMs: number): Promise<boolean> {
  const trust = await readServerTrust(certs)
  const authority = trust.authorities.join('')
  const faults = findCertificateFaults({ certificate, key: null, authority }, { role: 'host', name }, nowMs)
  return faults.length === 0 && !revokedSerials(trust).has(new X509Certificate(certificate).serialNumber)
}

async function findLeft({ name, files }: HostPlan): Promise<Pick<EnrollHostPlan, 'left' | 'empty'>> {
  const texts = {
    certificate: await readIfThere(files.certificate),
    secret: await readIfThere(files.secret),
    module: await readIfThere(files.module),
  }
  const isThere = (text: string | null) => text !== null && text !== ''
  const { certificate, secret } = texts
  const hasModule = isThere(texts.module)
  const kinds = Object.keys(texts) as (keyof typeof texts)[]
  const empty = kinds.filter((kind) => texts[kind] === '').map((kind) => files[kind])
  const there = kinds.filter((kind) => isThere(texts[kind])).map((kind) => files[kind])
  if (there.length === 0) return { left: null, empty }
  // Written in this order, so that anything else is of no enrolment that was cut off.
  const isInOrder = certificate !== null && isThere(certificate) && (isThere(secret) || !hasModule)
  if (!isInOrder) await refuseExisting(there, name, replaceHint)
  const password = isThere(secret) ? secret!.replace(/\n$/, '') : null
  return { left: { certificate: certificate!, password, hasModule }, empty }
}

/** Not what another process has written there in the meantime. */
async function removeEmpty(file: string): Promise<void> {
  await withStorageErrors(`remove ${file}`, async () => {
    const status = await unlessMissing(lstat(file))
    if (status?.isFile() && status.size === 0) await unlink(file)
  })
}

function isOfKey(certificate: string, publicKey: Buffer): boolean {
  try {
    return createPublicKey(certificate).export({ type: 'spki', format: 'der' }).equals(publicKey)
  } catch {
    // Something else than a certificate lies there.
    return false
  }
}

/** A host with a clock that is far off would not take its certificate, or take it for too long. */
function requireClock(aheadMs: number): void {
  if (Math.abs(aheadMs) <= enrolmentClockMsMax) return
  const minutes = Math.round(Math.abs(aheadMs) / 60_000)
  const apart =
    minutes < 48 * 60
      ? `${Math.floor(minutes / 60)} h ${minutes % 60} min`
      : `${Math.floor(minutes / 1440)} days`
  const direction = aheadMs > 0 ? 'ahead of' : 'behind'
  throw new ProtocolError('clock-skew', `the clock of the host is ${apart} ${direction} that of the server`)
}

/** What goes wrong on the server is not the host's to know in full. */
function unfinished(cause: unknown): ProtocolError {
  const message =
    cause instanceof AlreadyExistsError
      ? 'the server has a host of that name already'
      : 'the server could not finish the enrolment; it has told why where it runs'
  return new ProtocolError('cancelled', message, {
    hint: 'Mend what the server says, and run the same line there again.',
    cause,
  })
}

/** From here on, both sides have all that they need. */
async function confirm(channel: Channel): Promise<boolean> {
  try {
    await channel.send({ type: 'enrolment-done' })
    await channel.receive(['enrolment-end'], { timeoutMs: enrolmentStepMsMax })
    await channel.close()
    return true
  } catch (error) {
    await channel.fail(error)
    if (error instanceof ProtocolError) return false
    throw error
  }
}
