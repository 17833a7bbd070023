import { randomBytes } from 'node:crypto'
import { lstat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { excludeSchema, pathsSchema } from '../config/fields.ts'
import { homePaths } from '../config/home.ts'
import { hostNameExpectation, isHostName } from '../config/host-name.ts'
import type { ServerSettings } from '../config/settings.ts'
import { hostText } from '../config/templates.ts'
import { AlreadyExistsError, UsageError } from '../errors.ts'
import { issueCertificate, type KeyPair } from '../pki/certificate.ts'
import { hostCertificatePath, readAuthority } from '../pki/folder.ts'
import { makePrivateFolder, writeNewFile } from '../storage/new-file.ts'
import { formatBundle } from './bundle.ts'

export interface AddHostRequest {
  name: string
  address: string
  /** `null` for the default of the settings. */
  port: number | null
  /** Empty for the whole machine, but for what is no data. */
  paths: readonly string[]
  exclude: readonly string[]
  /** An absolute path; `null` for a file in the home. */
  bundle: string | null
}

export interface AddHostPlan extends AddHostRequest {
  authority: KeyPair
  bundlePort: number
  files: { module: string; secret: string; certificate: string; bundle: string }
}

/**
 * What is left out where the whole machine is backed up: what is made anew with each start, or is swap. The folders stay:
 * without them, what is restored does not start. What is mounted, as `/proc`, is left out without being named.
 */
export const excludeOfWholeMachine = ['/run/*', '/tmp/*', '/var/tmp/*', '/swapfile', '/swap.img']

/**
 * Checks all that adding a host needs, and changes nothing. Throws `UsageError`, `AlreadyExistsError`, or
 * `CertificateError` where the authority's key is not there.
 */
export async function planAddHost(settings: ServerSettings, request: AddHostRequest): Promise<AddHostPlan> {
  const { name } = request
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
    bundle: request.bundle ?? join(home.bundles, `${name}.bundle.json`),
  }
  await refuseExisting(Object.values(files), name)
  const authority = await readAuthority(settings.certs)
  return { ...request, paths, exclude, authority, bundlePort: request.port ?? settings.defaults.port, files }
}

/**
 * Makes the host's certificate and password and writes all its files, the module last, which makes it a host. Where one
 * cannot be written, the others are removed again.
 */
export async function applyAddHost(plan: AddHostPlan, nowMs: number): Promise<void> {
  const { name, authority, files } = plan
  const { certificate, key } = await issueCertificate(authority, { role: 'host', name }, nowMs)
  const password = randomBytes(24).toString('base64url')
  const bundle = formatBundle({
    name,
    port: plan.bundlePort,
    certificate,
    key,
    authority: authority.certificate,
    password,
  })
  const written: string[] = []
  try {
    for (const [path, content, mode] of [
      [files.secret, `${password}\n`, 0o600],
      [files.certificate, certificate, 0o644],
      [files.bundle, bundle, 0o600],
      [files.module, hostText(plan), 0o644],
    ] as const) {
      if (path !== plan.bundle) await makePrivateFolder(dirname(path))
      await writeNewFile(path, content, mode)
      written.push(path)
    }
  } catch (error) {
    for (const path of written) await unlink(path).catch(() => {})
    throw error
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
  throw new UsageError(lines.join('\n'))
}

async function refuseExisting(files: readonly string[], name: string): Promise<void> {
  const there: string[] = []
  for (const file of files) {
    if (await lstat(file).catch(() => null)) there.push(file)
  }
  if (there.length === 0) return
  throw new AlreadyExistsError(`There is a host ${name} already: ${there.join(', ')}`, {
    hint: 'Nothing was written. Choose another name, or move these files away to add the host anew.',
  })
}
