import { lstatSync, realpathSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { dirname, relative, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Problem } from '../errors.ts'
import { findFolderProblems, findTrustProblems } from './trust.ts'

/** A module of the person's that is only data has no reason to be slower. */
const importTimeoutMs = 10_000

/**
 * Imports configuration modules, which are TypeScript run by Node itself. Because importing runs code, nothing is
 * imported that others than its owner may write to: neither the module nor anything that it imports in turn. End it with
 * `using`: until then, it looks at all imports of the process.
 */
export class ModuleLoader implements Disposable {
  readonly #uid: number
  readonly #hooks: { deregister(): void }
  /** URLs that were reached from a configuration module, and so have to be trusted themselves. */
  readonly #reached = new Set<string>()
  readonly #problemsByFile = new Map<string, Problem[]>()

  constructor(uid: number) {
    this.#uid = uid
    this.#hooks = registerHooks({
      resolve: (specifier, context, nextResolve) => {
        const resolved = nextResolve(specifier, context)
        if (context.parentURL !== undefined && this.#reached.has(context.parentURL)) this.#admit(resolved.url)
        return resolved
      },
    })
  }

  [Symbol.dispose](): void {
    this.#hooks.deregister()
  }

  /**
   * The default export of the module `file`, an absolute path, or what is wrong with it. `folder` is where the file has to
   * be once its symbolic links are followed. A file that changed since it was last imported is imported anew.
   */
  async load(
    file: string,
    folder: string,
  ): Promise<{ value: unknown; problems: [] } | { problems: Problem[] }> {
    const whole = { file, line: null, key: null }
    const real = realPath(file)
    if (real === null)
      return { problems: [{ ...whole, found: 'a symbolic link to nothing', expected: 'a file' }] }
    if (relative(realpathSync(folder), dirname(real)).split(sep)[0] === '..') {
      return {
        problems: [{ ...whole, found: `a symbolic link to ${real}`, expected: `a file below ${folder}` }],
      }
    }
    const problems = this.#findProblems(real)
    if (problems.length > 0) return { problems }
    const url = `${pathToFileURL(real).href}?changed=${lstatSync(real, { bigint: true }).mtimeNs}`
    this.#reached.add(url)
    try {
      const namespace = (await withDeadline(import(url))) as Record<string, unknown>
      if ('default' in namespace) return { value: namespace.default, problems: [] }
      return { problems: [{ ...whole, found: 'no default export', expected: '`export default { … }`' }] }
    } catch (error) {
      return {
        problems: error instanceof UntrustedImport ? error.problems : [describeImportError(file, error)],
      }
    }
  }

  #admit(url: string): void {
    if (!url.startsWith('file:')) return
    const problems = this.#findProblems(realpathSync(fileURLToPath(url)))
    if (problems.length > 0) throw new UntrustedImport(problems)
    this.#reached.add(url)
  }

  #findProblems(file: string): Problem[] {
    const known = this.#problemsByFile.get(file)
    if (known !== undefined) return known
    const problems = findTrustProblems(file, this.#uid)
    this.#problemsByFile.set(file, problems)
    return problems
  }
}

/** What is wrong with the permissions of a folder of modules, itself and those above it. */
export function findModuleFolderProblems(folder: string, uid: number): Problem[] {
  return findFolderProblems(realpathSync(folder), uid)
}

class UntrustedImport extends Error {
  readonly problems: Problem[]

  constructor(problems: Problem[]) {
    super('an imported module may be written to by others')
    this.problems = problems
  }
}

function realPath(file: string): string | null {
  try {
    return realpathSync(file)
  } catch {
    return null
  }
}

async function withDeadline<T>(loading: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const seconds = importTimeoutMs / 1000
  const timer = setTimeout(
    () => reject(new Error(`the module was still not loaded after ${seconds} s`)),
    importTimeoutMs,
  )
  try {
    return await Promise.race([loading, promise])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Finds the place in the stack, which may be in a file that the module imports: a syntax error begins with it, something
 * thrown has it in its first frame outside Node.
 */
function describeImportError(file: string, error: unknown): Problem {
  const stack = error instanceof Error ? (error.stack ?? '') : ''
  const places = [...stack.matchAll(/(file:\/\/[^\s?:]+)(?:\?[^\s:]*)?:(\d+)/g)]
  const place = places.find(([, url]) => url !== import.meta.url)
  const message =
    error instanceof Error ? `${error.name}: ${error.message}` : `a thrown ${typeof error}: ${String(error)}`
  return {
    file: place === undefined ? file : fileURLToPath(place[1]!),
    line: place === undefined ? null : Number(place[2]),
    key: null,
    found: message.replaceAll(/\s+/g, ' '),
    expected: 'a module that can be loaded',
  }
}
