import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { namePattern } from '@central-backup/protocol'
import { type HomePaths, homePaths, repositoryDefault } from '../config/home.ts'
import { ModuleLoader } from '../config/module.ts'
import { readSettings } from '../config/settings.ts'
import { exampleHostText, packageJsonText, settingsText } from '../config/templates.ts'
import { findFolderProblems } from '../config/trust.ts'
import { AlreadyExistsError, CertificateError, ConfigurationError } from '../errors.ts'
import { createAuthority, issueCertificate, type KeyPair } from '../pki/certificate.ts'
import { certificatePaths, readAuthority, recordIssued, writeKeyPair } from '../pki/folder.ts'
import { isThere } from '../storage/if-there.ts'
import { makePrivateFolder, writeNewFile } from '../storage/new-file.ts'
import { createRepository, isRepository } from '../storage/repository.ts'

export interface InitRequest {
  /** An absolute path. */
  home: string
  /** An absolute path; `null` for what settings.ts says, or `repositoryDefault`. */
  repository: string | null
  uid: number
  nowMs: number
}

/** One thing that a home needs. `keep` is one that is there. */
export interface InitStep {
  what: 'folder' | 'package.json' | 'settings' | 'example' | 'authority' | 'server-certificate' | 'repository'
  path: string
  action: 'create' | 'keep'
}

export interface InitPlan {
  paths: HomePaths
  repository: string
  certs: string
  steps: InitStep[]
}

/**
 * Finds what is missing for a home to be complete. Nothing that is there will be touched. Throws where what is there
 * does not go together with the request, or cannot be completed.
 */
export async function planInit(request: InitRequest): Promise<InitPlan> {
  const paths = homePaths(request.home)
  await requireTrustedPlace(request)
  const existing = await readExistingSettings(request, paths)
  const repository = existing?.repository ?? request.repository ?? repositoryDefault
  const certs = existing?.certs ?? join(request.home, 'certs')
  const certificates = certificatePaths(certs)
  const step = async (what: InitStep['what'], path: string): Promise<InitStep> => {
    return { what, path, action: (await isThere(path)) ? 'keep' : 'create' }
  }
  const steps = [
    await step('folder', paths.home),
    await step('folder', paths.hosts),
    await step('folder', paths.secrets),
    await step('folder', certs),
    await step('package.json', paths.packageJson),
    await step('example', join(paths.hosts, 'web1.example.ts')),
    await step('authority', certificates.authorityCertificate),
    await step('server-certificate', certificates.serverCertificate),
    {
      what: 'repository',
      path: repository,
      action: (await isRepository(repository)) ? 'keep' : 'create',
    } as const,
    // Last, since a home that has its settings is taken for complete.
    await step('settings', paths.settings),
  ]
  await requireWholeKeyPairs(certs)
  return { paths, repository, certs, steps }
}

/** Makes what the plan says. What is made stays when a later step fails: another `init` goes on from there. */
export async function applyInit(plan: InitPlan, nowMs: number): Promise<void> {
  const certificates = certificatePaths(plan.certs)
  let authority: KeyPair | null = null
  for (const { what, path } of plan.steps.filter(({ action }) => action === 'create')) {
    switch (what) {
      case 'folder':
        await makePrivateFolder(path)
        break
      case 'package.json':
        await writeNewFile(path, packageJsonText, 0o644)
        break
      case 'example':
        await writeNewFile(path, exampleHostText, 0o644)
        break
      case 'authority':
        authority = await createAuthority(`central-backup CA of ${serverName()}`, nowMs)
        await writeKeyPair(authority, path, certificates.authorityKey)
        break
      case 'server-certificate': {
        authority ??= await readAuthority(plan.certs)
        const pair = await issueCertificate(authority, { role: 'server', name: serverName() }, nowMs)
        await recordIssued(plan.certs, pair.certificate)
        await writeKeyPair(pair, path, certificates.serverKey)
        break
      }
      case 'repository':
        await createRepository(path)
        break
      case 'settings':
        await writeNewFile(path, settingsText(plan.repository), 0o644)
        break
    }
  }
}

/** The name in the server's certificate: that of the machine, as far as it is a good one. */
function serverName(): string {
  const name = hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, 63)
  return namePattern.test(name) ? name : 'server'
}

/** A home below a folder that others may write to would be refused afterwards. */
async function requireTrustedPlace({ home, uid }: InitRequest): Promise<void> {
  let folder = home
  while (!(await isThere(folder))) folder = dirname(folder)
  const problems = findFolderProblems(folder, uid)
  if (problems.length === 0) return
  throw new ConfigurationError(`${home} is no safe place for settings, which are code`, problems, {
    hint: 'Change the permissions, or choose another place with --home DIR.',
  })
}

async function readExistingSettings(
  request: InitRequest,
  paths: HomePaths,
): Promise<{ repository: string; certs: string } | null> {
  if (!(await isThere(paths.settings))) return null
  using loader = new ModuleLoader(request.uid)
  const { settings, problems } = await readSettings(request.home, loader)
  if (settings === null) {
    throw new ConfigurationError(`${paths.settings} is there already and cannot be used`, problems, {
      hint: 'Mend what is listed, or move the file away, and run `init` again.',
    })
  }
  if (request.repository === null || request.repository === settings.repository) return settings
  throw new AlreadyExistsError(
    `${paths.settings} is there already, and its repository is ${settings.repository}`,
    {
      hint: `Nothing was changed. For a repository in ${request.repository}, change it there, and run \`init\` again without --repository.`,
    },
  )
}

/** Half a key pair cannot be completed, only the authority's key may be kept elsewhere. */
async function requireWholeKeyPairs(certs: string): Promise<void> {
  const paths = certificatePaths(certs)
  const has = {
    authority: await isThere(paths.authorityCertificate),
    authorityKey: await isThere(paths.authorityKey),
    server: await isThere(paths.serverCertificate),
    serverKey: await isThere(paths.serverKey),
  }
  if (!has.authority && has.authorityKey) throw halfPair(paths.authorityKey, paths.authorityCertificate)
  if (has.server !== has.serverKey) {
    throw has.server
      ? halfPair(paths.serverCertificate, paths.serverKey)
      : halfPair(paths.serverKey, paths.serverCertificate)
  }
  if (has.server && !has.authority) throw halfPair(paths.serverCertificate, paths.authorityCertificate)
  if (!has.server && has.authority) await readAuthority(certs)
}

function halfPair(there: string, missing: string): CertificateError {
  return new CertificateError('certificate-unusable', `${there} is there, but ${missing} is not`, {
    hint: 'Put the missing file back, or move the other one away to have both made anew.',
  })
}
