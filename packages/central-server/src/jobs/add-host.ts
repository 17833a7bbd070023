import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { excludeSchema, pathsSchema } from '../config/fields.ts'
import { homePaths } from '../config/home.ts'
import { hostNameExpectation, isHostName } from '../config/host-name.ts'
import type { ServerSettings } from '../config/settings.ts'
import { hostText } from '../config/templates.ts'
import { AlreadyExistsError, UsageError } from '../errors.ts'
import { issueCertificate } from '../pki/certificate.ts'
import { type Authority, hostCertificatePath, issuedPath, readAuthority } from '../pki/folder.ts'
import { toStorageError } from '../storage/failure.ts'
import { isThere } from '../storage/if-there.ts'
import { makePrivateFolder, withdraw, writeNewFile } from '../storage/new-file.ts'
import { formatBundle } from './bundle.ts'

/** A host that is not there yet. */
export interface HostRequest {
  name: string
  address: string
  /** `null` for the default of the settings. */
  port: number | null
  /** Empty for the whole machine, but for what is no data. */
  paths: readonly string[]
  exclude: readonly string[]
}

export interface HostPlan extends HostRequest {
  /** The folder of the certificates. */
  certs: string
  authority: Authority
  /** Absolute paths. */
  files: { module: string; secret: string; certificate: string }
}

export interface AddHostRequest extends HostRequest {
  /** An absolute path; `null` for a file in the home. */
  bundle: string | null
}

export interface AddHostPlan extends HostPlan {
  /** Whether a person chose where the bundle goes: then its folder has to be there. */
  bundleIsChosen: boolean
  bundlePort: number
  files: HostPlan['files'] & { bundle: string }
}

/**
 * What is left out where the whole machine is backed up: what is made anew with each start, or is swap. The folders stay:
 * without them, what is restored does not start. What is mounted, as `/proc`, is left out without being named.
 */
export const excludeOfWholeMachine = ['/run/*', '/tmp/*', '/var/tmp/*', '/swapfile', '/swap.img']

/**
 * Checks all that making a host needs but whether it is there already, and changes nothing. Throws `UsageError`, or
 * `CertificateError` where the authority's key is not there.
 */
export async function planHost(settings: ServerSettings, request: HostRequest): Promise<HostPlan> {
  const { name, address, port } = request
  if (!isHostName(name)) {
    throw new UsageError(`${JSON.stringify(name)} cannot be the name of a host`, {
      hint: `Choose one of ${hostNameExpectation}.`,
    })
  }
  const whole = request.paths.length === 0
  const paths = whole ? ['/'] : request.paths
  const exclude = whole ? [...excludeOfWholeMachine, ...request.exclude] : request.exclude
  requirePatterns(paths, exclude)
  const home = homePaths(settings.home)
  const files = {
    module: join(home.hosts, `${name}.ts`),
    secret: join(home.secrets, name),
    certificate: hostCertificatePath(settings.certs, name),
  }
  const authority = await readAuthority(settings.certs)
  const { certs } = settings
  return { name, address, port, paths, exclude, certs, authority, files }
}

/** As `planHost`, and throws `AlreadyExistsError` where any file of the host is there. */
export async function planAddHost(settings: ServerSettings, request: AddHostRequest): Promise<AddHostPlan> {
  const plan = await planHost(settings, request)
  const bundle = request.bundle ?? join(homePaths(settings.home).bundles, `${plan.name}.bundle.json`)
  const files = { ...plan.files, bundle }
  await refuseExisting(Object.values(files), plan.name)
  return {
    ...plan,
    bundleIsChosen: request.bundle !== null,
    bundlePort: request.port ?? settings.defaults.port,
    files,
  }
}

/** Makes the host's certificate and password and writes all its files. */
export async function applyAddHost(plan: AddHostPlan, nowMs: number): Promise<void> {
  const { name, authority, files } = plan
  const { certificate, key } = await issueCertificate(authority, { role: 'host', name }, nowMs)
  const password = createPassword()
  const bundle = formatBundle({
    name,
    port: plan.bundlePort,
    certificate,
    key,
    authority: authority.trusted,
    password,
  })
  if (!plan.bundleIsChosen) await makePrivateFolder(dirname(files.bundle))
  // For whoever wants to revoke it one day.
  const issued = issuedPath(plan.certs, certificate)
  await makePrivateFolder(dirname(issued))
  await writeHost(plan, { certificate, password }, [
    { path: issued, content: certificate, mode: 0o644 },
    { path: files.bundle, content: bundle, mode: 0o600 },
  ])
}

/** The password that a host will know the server by: 192 random bits. */
export function createPassword(): string {
  return randomBytes(24).toString('base64url')
}

interface NewFile {
  path: string
  content: string
  mode: number
}

/**
 * Writes what is given of a host's certificate and password, `others`, and the module, the last of all, which makes it a
 * host. Never overwrites; where one cannot be written, the others are removed again.
 */
export async function writeHost(
  { files, ...host }: HostPlan,
  given: { certificate?: string; password?: string; module?: false },
  others: readonly NewFile[] = [],
): Promise<void> {
  const { certificate, password, module = true } = given
  const kept: NewFile[] = []
  if (certificate !== undefined) kept.push({ path: files.certificate, content: certificate, mode: 0o644 })
  if (password !== undefined) kept.push({ path: files.secret, content: `${password}\n`, mode: 0o600 })
  const last = module ? [{ path: files.module, content: hostText(host), mode: 0o644 }] : []
  const written: string[] = []
  try {
    for (const { path } of [...kept, ...last]) await makePrivateFolder(dirname(path))
    for (const { path, content, mode } of [...kept, ...others, ...last]) {
      await writeNewFile(path, content, mode)
      written.push(path)
    }
  } catch (error) {
    throw await withdraw(written, toStorageError(error, `set up ${host.name}`))
  }
}

function requirePatterns(paths: readonly string[], exclude: readonly string[]): void {
  const issues = [
    ...(pathsSchema.safeParse(paths).error?.issues ?? []).map((issue) => ({
      ...issue,
      option: '--path',
      values: paths,
    })),
    ...(excludeSchema.safeParse(exclude).error?.issues ?? []).map((issue) => ({
      ...issue,
      option: '--exclude',
      values: exclude,
    })),
  ]
  if (issues.length === 0) return
  const lines = issues.map(({ option, values, path, message }) => {
    const found = path.length === 0 ? `${values.length} of them` : JSON.stringify(values[Number(path[0])])
    return `${option}: found ${found}; expected ${message}`
  })
  throw new UsageError(lines.join('; '))
}

/** Throws `AlreadyExistsError` where one of the files is there. */
export async function refuseExisting(
  files: readonly string[],
  name: string,
  hint = 'Nothing was written. Choose another name, or move these files away to add the host anew.',
): Promise<void> {
  const there: string[] = []
  for (const file of files) {
    if (await isThere(file)) there.push(file)
  }
  if (there.length === 0) return
  throw new AlreadyExistsError(`There is a host ${name} already: ${there.join(', ')}`, {
    hint,
  })
}
