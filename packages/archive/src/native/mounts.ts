import { readFileSync } from 'node:fs'
import { type BytePath, bytePathFromBuffer, isWithin, joinPath } from '../path.ts'

/** A mount, as a line of `/proc/self/mountinfo` tells it (proc_pid_mountinfo(5)). */
export interface Mount {
  /** What statx calls `stx_mnt_id`. */
  id: number
  parent: number
  /** `major:minor` of the file system. */
  device: string
  /** Which folder of the file system is mounted. */
  root: BytePath
  /** Where, without leading `/`. */
  path: BytePath
  type: string
  /** A device, a server's folder, or any text. */
  source: string
  options: string
}

/** What the kernel or a program makes up while it is asked. Nothing of it is data that a backup could bring back. */
const pseudoTypes: ReadonlySet<string> = new Set([
  'autofs',
  'binder',
  'binfmt_misc',
  'bpf',
  'cgroup',
  'cgroup2',
  'configfs',
  'cpuset',
  'debugfs',
  'devpts',
  'devtmpfs',
  'efivarfs',
  'functionfs',
  'fuse.gvfsd-fuse',
  'fuse.lxcfs',
  'fuse.portal',
  'fusectl',
  'hugetlbfs',
  'mqueue',
  'nfsd',
  'nsfs',
  'openpromfs',
  'pipefs',
  'proc',
  'pstore',
  'resctrl',
  'rpc_pipefs',
  'securityfs',
  'selinuxfs',
  'smackfs',
  'sockfs',
  'sysfs',
  'tracefs',
  'usbfs',
  'xenfs',
])

/** Whether a mount is of a kind that holds no data of its own, nor gets any by being looked into. */
export function holdsNoData({ type }: Pick<Mount, 'type'>): boolean {
  return pseudoTypes.has(type) && type !== 'autofs'
}

/** File systems in memory: what they hold is gone with the next start of the machine. */
const memoryTypes: ReadonlySet<string> = new Set(['tmpfs', 'ramfs'])

export function isInMemory({ type }: Mount): boolean {
  return memoryTypes.has(type)
}

/**
 * Why a mount is entered only where it is named, in words that follow `a file system …`; `null` where it is not such a
 * one. A file system that another user than `uid` has mounted by FUSE answers as that user likes, or not at all.
 */
export function whyNotEntered({ type, options }: Mount, uid: number): string | null {
  if (pseudoTypes.has(type)) return `that holds no data: ${type}`
  if (type !== 'fuse' && type !== 'fuseblk' && !type.startsWith('fuse.')) return null
  const owner = /(?:^|,)user_id=(\d+)(?:,|$)/.exec(options)?.[1]
  return owner === undefined || Number(owner) === uid ? null : `that user ${owner} has mounted: ${type}`
}

/** The mounts of this process at one moment. */
export class MountTable {
  readonly #byId = new Map<number, Mount>()
  /** By the folder that holds the mount point, and its name there. Of several, the one mounted last comes last. */
  readonly #byFolder = new Map<BytePath, Map<BytePath, Mount[]>>()

  constructor(mounts: readonly Mount[]) {
    for (const mount of mounts) {
      this.#byId.set(mount.id, mount)
      if (mount.path === '') continue
      const cut = mount.path.lastIndexOf('/')
      const folder = mount.path.slice(0, Math.max(0, cut)) as BytePath
      const name = mount.path.slice(cut + 1) as BytePath
      const names = this.#byFolder.get(folder) ?? new Map<BytePath, Mount[]>()
      this.#byFolder.set(folder, names)
      names.set(name, [...(names.get(name) ?? []), mount])
    }
  }

  /** An empty one where the machine has no `/proc`. */
  static read(): MountTable {
    let text: BytePath
    try {
      text = bytePathFromBuffer(readFileSync('/proc/self/mountinfo'))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'EACCES') return new MountTable([])
      throw error
    }
    return new MountTable(parseMounts(text))
  }

  ofId(id: number): Mount | null {
    return this.#byId.get(id) ?? null
  }

  /** What is mounted at a path, whatever is bound to itself left out. */
  at(path: BytePath): Mount | null {
    const cut = path.lastIndexOf('/')
    const mounts = this.#byFolder
      .get(path.slice(0, Math.max(0, cut)) as BytePath)
      ?.get(path.slice(cut + 1) as BytePath)
    const top = mounts?.at(-1) ?? null
    return top !== null && this.isSameTree(top) ? null : top
  }

  /** The mount that a path lies on, as far as it is not that of the root directory. */
  holding(path: BytePath): Mount | null {
    const names = path.split('/')
    for (let count = names.length; count > 0; count--) {
      const mount = this.at(names.slice(0, count).join('/') as BytePath)
      if (mount !== null) return mount
    }
    return null
  }

  /**
   * What is mounted right in a folder, by name. `mountId` is that of the folder, 0 where the kernel does not tell: mounts
   * that others cover are told apart by it. `null` where nothing is.
   */
  pointsIn(folder: BytePath, mountId: number): ReadonlyMap<BytePath, Mount> | null {
    const names = this.#byFolder.get(folder)
    if (names === undefined) return null
    const points = new Map<BytePath, Mount>()
    for (const [name, mounts] of names) {
      const top = topOf(mounts, mountId)
      if (top !== null && !this.isSameTree(top)) points.set(name, top)
    }
    return points.size === 0 ? null : points
  }

  /**
   * Whether a mount shows what would be there without it: a folder that is bound to itself, as systemd does it to change
   * what a service may write to.
   */
  isSameTree({ device, root, path, parent }: Mount): boolean {
    const above = this.#byId.get(parent)
    if (above === undefined || above.device !== device || !isWithin(path, above.path)) return false
    const below = path.slice(above.path === '' ? 0 : above.path.length + 1) as BytePath
    // One that lies on another shows what that shows; whether that is what would be there, is asked of it.
    return (
      root === joinRoot(above.root, below) && (below !== '' || above.path === '' || this.isSameTree(above))
    )
  }
}

function joinRoot(root: BytePath, below: BytePath): BytePath {
  if (below === '') return root
  return root === '/' ? (`/${below}` as BytePath) : joinPath(root, below)
}

/** The mount that is seen, of several on one place: each but the first is mounted on the one before. */
function topOf(mounts: readonly Mount[], mountId: number): Mount | null {
  if (mountId === 0) return mounts.at(-1) ?? null
  let top: Mount | null = null
  for (let id = mountId; ; ) {
    const next = mounts.find((mount) => mount.parent === id && mount.id !== id)
    if (next === undefined || next === top) return top
    top = next
    id = next.id
  }
}

/** Lines that are not of the form that the kernel documents are passed over. */
export function parseMounts(text: BytePath): Mount[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ')
    const separator = fields.indexOf('-', 6)
    if (separator < 0 || fields.length < separator + 4) return []
    const [id, parent, device, root, path] = fields as [string, string, string, string, string]
    const [type, source, options] = fields.slice(separator + 1) as [string, string, string]
    const mount: Mount = {
      id: Number(id),
      parent: Number(parent),
      device,
      root: unescaped(root),
      path: unescaped(path).replace(/^\/+/, '') as BytePath,
      type,
      source: unescaped(source),
      options,
    }
    return Number.isSafeInteger(mount.id) && Number.isSafeInteger(mount.parent) ? [mount] : []
  })
}

/** The kernel writes what would end a field as a backslash and three octal digits. */
function unescaped(field: string): BytePath {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  ) as BytePath
}
