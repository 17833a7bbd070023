import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import koffi from 'koffi'
import { PackingFolder, runProgram } from './packing-folder.ts'

const newMountNamespace = 0x20000

let refusal: string | false | null = null

/**
 * Puts this process into a mount namespace of its own, so that what it mounts is seen by nobody else and is gone with it.
 * Holds for the calling thread and the programs and threads that it starts from then on. Returns why that cannot be
 * done, as a reason to skip a test, or `false`.
 */
export function enterPrivateMounts(): string | false {
  refusal ??= tryToEnter()
  return refusal
}

function tryToEnter(): string | false {
  if (process.geteuid!() !== 0) return 'only root can mount'
  const unshare = koffi.load(null).func('int unshare(int)')
  if (unshare(newMountNamespace) !== 0) return `no mount namespace can be made here: errno ${koffi.errno()}`
  const { status, stderr } = spawnSync('mount', ['--make-rprivate', '/'], { encoding: 'utf8' })
  return status === 0 ? false : `mounts cannot be made private here: ${stderr}`
}

/** A folder in memory that is a mount of its own, so that nothing depends on what the machine has mounted. */
export class MountedFolder extends PackingFolder {
  constructor() {
    super()
    mountTmpfs(this.path)
  }

  override [Symbol.dispose](): void {
    unmountAll(this.path)
    super[Symbol.dispose]()
  }
}

/** Takes away what is mounted at `path` and below it. */
export function unmountAll(path: string): void {
  runProgram('umount', ['--recursive', '--lazy', path])
}

/** Mounts at `path`, which is made where it is not there. */
export function mount(path: string, ...args: readonly string[]): void {
  mkdirSync(path, { recursive: true })
  runProgram('mount', [...args, path])
}

export function mountTmpfs(path: string): void {
  mount(path, '-t', 'tmpfs', 'selection-test')
}

export function bind(from: string, to: string): void {
  mount(to, '--bind', from)
}

/** A new file system in a file of `folder`, mounted at `path`. Returns a reason to skip where this machine has none such. */
export function mountNew(type: 'ext4' | 'xfs' | 'btrfs', folder: string, path: string): string | false {
  if (spawnSync('sh', ['-c', `command -v mkfs.${type}`]).status !== 0)
    return `this machine has no mkfs.${type}`
  if (!readFileSync('/proc/filesystems', 'utf8').includes(type) && spawnSync('modprobe', [type]).status !== 0)
    return `this kernel has no ${type}`
  const image = join(folder, `${type}.image`)
  writeFileSync(image, '')
  truncateSync(image, (type === 'ext4' ? 8 : type === 'xfs' ? 320 : 120) * 1024 * 1024)
  runProgram(`mkfs.${type}`, ['-q', image])
  mkdirSync(path, { recursive: true })
  const { status, stderr } = spawnSync('mount', ['-o', 'loop', image, path], { encoding: 'utf8' })
  return status === 0 ? false : `this machine cannot mount ${type}: ${stderr}`
}
