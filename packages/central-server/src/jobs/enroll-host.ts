import { createPublicKey, X509Certificate } from 'node:crypto'
import { lstat, readFile, unlink } from 'node:fs/promises'
import {
  type Channel,
  enrolmentClockMsMax,
  enrolmentStepMsMax,
  ProtocolError,
  readCertificates,
} from '@central-backup/protocol'
import type { ServerSettings } from '../config/settings.ts'
import { AlreadyExistsError, BusyError } from '../errors.ts'
import { issueHostCertificate, requirePossession } from '../pki/certificate-request.ts'
import { findCertificateFaults } from '../pki/inspect.ts'
import { type OpenEnrolment, openEnrolment } from '../session/open-enrolment.ts'
import { withStorageErrors } from '../storage/failure.ts'
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
  /** The host was known already, and its module stays as it is: an earlier enrolment of the same key was cut off. */
  wasKnown: boolean
  /** The host has said that it knows. If not, it is set up all the same. */
  isConfirmed: boolean
  /** How far the clock of the host is ahead of that of this server. */
  clockAheadMs: number
}

/**
 * Checks all that enrolling a host needs before it is dialed, and changes nothing. Throws `UsageError`, `CertificateError`
 * where the authority's key is not there, and `AlreadyExistsError` for a host that is no enrolment's.
 */
export async function planEnrollHost(
  settings: ServerSettings,
  request: HostRequest,
): Promise<EnrollHostPlan> {
  const plan = await planHost(settings, request)
  const port = request.port ?? settings.defaults.port
  const target = { address: request.address, port, connectTimeoutMs: settings.connection.timeoutMs }
  return { ...plan, target, ...(await findLeft(plan)) }
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
  try {
    requireClock(clockAheadMs)
    const { certificate, password } = await decideGrant(plan, enrolment, now())
    await channel.send({
      type: 'enrolment-grant',
      name: plan.name,
      certificate: new X509Certificate(certificate).raw,
      authorities: readCertificates(plan.authority.trusted).map(({ raw }) => raw),
      password,
    })
    await channel.receive(['enrolment-ready'], { timeoutMs: enrolmentStepMsMax })
    const { left, empty } = plan
    for (const file of empty) await removeEmpty(file)
    await writeHost(plan, {
      ...(left === null && { certificate }),
      ...((left?.password ?? null) === null && { password }),
      ...(left?.hasModule && { module: false }),
    })
  } catch (error) {
    await channel.fail(error instanceof ProtocolError ? error : unfinished(error))
    throw error
  }
  const isConfirmed = await confirm(channel)
  return { wasKnown: plan.left?.hasModule ?? false, isConfirmed, clockAheadMs }
}

/** A certificate for the key of the host, and a password; those that were granted before where it is the same key. */
async function decideGrant(
  { name, authority, left, files }: EnrollHostPlan,
  { request, binding }: OpenEnrolment,
  nowMs: number,
): Promise<{ certificate: string; password: string }> {
  requirePossession(request, binding)
  if (left === null) {
    const certificate = await issueHostCertificate(authority, name, request, binding, nowMs)
    return { certificate, password: createPassword() }
  }
  const pair = { certificate: left.certificate, key: null, authority: authority.trusted }
  const faults = findCertificateFaults(pair, { role: 'host', name }, nowMs)
  if (faults.length === 0 && isOfKey(left.certificate, request.publicKey)) {
    return { certificate: left.certificate, password: left.password ?? createPassword() }
  }
  await refuseExisting(Object.values(files), name)
  throw new BusyError(`Somebody is removing the host ${name}`, { hint: 'Run the same line again.' })
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
  if (!isInOrder) await refuseExisting(there, name)
  const password = isThere(secret) ? secret!.replace(/\n$/, '') : null
  return { left: { certificate: certificate!, password, hasModule }, empty }
}

async function readIfThere(file: string): Promise<string | null> {
  return withStorageErrors(`read ${file}`, async () => {
    try {
      return await readFile(file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  })
}

/** Not what another process has written there in the meantime. */
async function removeEmpty(file: string): Promise<void> {
  await withStorageErrors(`remove ${file}`, async () => {
    const status = await lstat(file).catch(() => null)
    if (status?.isFile() && status.size === 0) await unlink(file)
  })
}

function isOfKey(certificate: string, publicKey: Buffer): boolean {
  const own = createPublicKey(certificate).export({ type: 'spki', format: 'der' })
  return own.equals(publicKey)
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
