/** Small file systems of a test's own, to fill, to make read-only and to lose. For root only. */
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

export class Mount implements Disposable {
  readonly path: string
  readonly #folder: string
  readonly #arguments: readonly string[]

  private constructor(folder: string, args: readonly string[]) {
    this.#folder = folder
    this.path = join(folder, 'mount')
    this.#arguments = args
    mkdirSync(this.path, { recursive: true })
    this.#mount()
  }

  /** `options` as of mount(8): `size=8m,nr_inodes=100`. */
  static tmpfs(options: string): Mount {
    return new Mount(newFolder(), ['-t', 'tmpfs', '-o', options, 'none'])
  }

  /** An ext4 of its own in a file. */
  static ext4(megabytes: number, ...options: string[]): Mount {
    return Mount.#inFile(megabytes, 'mkfs.ext4', ['-q', '-F', ...options])
  }

  /** An ext4 that becomes read-only when it meets an error. */
  static ext4ThatFails(megabytes: number, ...options: string[]): Mount {
    return Mount.#inFile(megabytes, 'mkfs.ext4', ['-q', '-F', '-e', 'remount-ro', ...options])
  }

  /** An ext4 that takes values of extended attributes of 64 KiB, as not every one does. */
  static ext4WithLargeAttributes(megabytes: number): Mount {
    return Mount.#inFile(megabytes, 'mkfs.ext4', ['-q', '-F', '-O', 'ea_inode'])
  }

  /** mkfs wants 300 MB at least, most of which are a hole. */
  static xfs(megabytes = 300, ...options: string[]): Mount {
    return Mount.#inFile(megabytes, 'mkfs.xfs', ['-q', '-f', ...options])
  }

  static btrfs(megabytes = 300): Mount {
    return Mount.#inFile(megabytes, 'mkfs.btrfs', ['-q', '-f'])
  }

  /** In memory, without a limit, and unable to tell where files have holes. */
  static ramfs(): Mount {
    return new Mount(newFolder(), ['-t', 'ramfs', 'none'])
  }

  static #inFile(megabytes: number, program: string, args: readonly string[]): Mount {
    const folder = newFolder()
    try {
      const image = join(folder, 'image')
      const file = openSync(image, 'w')
      ftruncateSync(file, megabytes * 1024 * 1024)
      closeSync(file)
      run(program, [...args, image])
      return new Mount(folder, ['-o', 'loop', image])
    } catch (error) {
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  /** Changes options of what is mounted: `ro`, `size=64m`. */
  remount(options: string): void {
    run('mount', ['-o', `remount,${options}`, this.path])
  }

  /** Takes the power away: what was not written to the disk by now will never be. Nothing works until `restore`. */
  losePower(): void {
    run('xfs_io', ['-x', '-c', 'shutdown', this.path])
  }

  /** What an ext4 with `errors=remount-ro` does when it meets an error: read-only from now on, also for open files. */
  fail(): void {
    const device = execFileSync('findmnt', ['-n', '-o', 'SOURCE', this.path], { encoding: 'utf8' }).trim()
    writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, '1')
  }

  /**
   * Mounts it anew, once the kernel has let go of it: mount namespaces that others made meanwhile have it too, until they
   * end. Nobody may have a file open in it.
   */
  restore(): void {
    run('umount', [this.path])
    const image = this.#arguments.at(-1)!
    const deadlineMs = performance.now() + releaseMsMax
    while (spawnSync('losetup', ['-j', image], { encoding: 'utf8' }).stdout !== '') {
      if (performance.now() > deadlineMs) throw new Error(`${image} is mounted elsewhere`)
    }
    this.#mount()
  }

  [Symbol.dispose](): void {
    // Not all tests leave it in a state in which it can be used.
    spawnSync('umount', ['-l', this.path])
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #mount(): void {
    run('mount', [...this.#arguments, this.path])
  }
}

/** How long other mount namespaces may hold a file system on. */
const releaseMsMax = 30_000

/** Why a test cannot have a mount of the kind on this machine; `false` where it can. */
export function lacksMount(kind: 'tmpfs' | 'ext4'): string | false {
  if (process.geteuid!() !== 0) return 'only root can mount a small file system'
  try {
    using mount = kind === 'tmpfs' ? Mount.tmpfs('size=1m') : Mount.ext4(8)
    if (kind === 'ext4') mount.losePower()
    return false
  } catch (error) {
    return `a ${kind} cannot be mounted here, or not be broken: ${(error as Error).message}`
  }
}

function newFolder(): string {
  return mkdtempSync(join(tmpdir(), 'central-backup-mount-'))
}

function run(program: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr.trim()}`)
}
