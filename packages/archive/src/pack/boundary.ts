import type { FileStatus } from '../native/libc.ts'
import { cName, fileSystemMagicAt, isReadOnlySubvolume } from '../native/libc.ts'
import { type Mount, MountTable, whyNotEntered } from '../native/mounts.ts'
import { type BytePath, textFromBytes } from '../path.ts'
import type { LeftOutReason } from './left-out.ts'
import type { Rules } from './rules.ts'

/** Why a walk does not go on where another file system begins. */
export interface Stop {
  reason: LeftOutReason
  detail: string
  mount: Mount | null
}

/** Magic numbers (statfs(2)) of file systems that hold no data, for machines without `/proc`. */
const pseudoMagics: ReadonlyMap<number, string> = new Map([
  [0x0187, 'autofs'],
  [0x9fa0, 'proc'],
  [0x62656572, 'sysfs'],
  [0x1cd1, 'devpts'],
  [0x27e0eb, 'cgroup'],
  [0x63677270, 'cgroup2'],
  [0x74726163, 'tracefs'],
  [0x64626720, 'debugfs'],
  [0x73636673, 'securityfs'],
  [0xcafe4a11, 'bpf'],
  [0xde5e81e4, 'efivarfs'],
  [0x19800202, 'mqueue'],
  [0x958458f6, 'hugetlbfs'],
  [0x65735543, 'fusectl'],
  [0x62656570, 'configfs'],
  [0x67596969, 'rpc_pipefs'],
  [0x6e736673, 'nsfs'],
  [0x42494e4d, 'binfmt_misc'],
  [0x6165676c, 'pstore'],
  [0xf97cff8c, 'selinuxfs'],
  [0x43415d53, 'smackfs'],
])

const hereName = cName('.' as BytePath)

/** First inode of every subvolume of btrfs. */
const subvolumeInode = 256

/** Knows what is mounted while a tree is walked, and whether the walk goes on there. */
export class Boundary {
  readonly #uid: number
  readonly #readMounts: () => MountTable
  #mounts: MountTable

  constructor(uid = process.geteuid!(), readMounts = () => MountTable.read()) {
    this.#uid = uid
    this.#readMounts = readMounts
    this.#mounts = readMounts()
  }

  /** What is mounted right in a folder, by name; `null` where nothing is. */
  pointsIn(folder: BytePath, mountId: number): ReadonlyMap<BytePath, Mount> | null {
    return this.#mounts.pointsIn(folder, mountId)
  }

  /**
   * The same as `stopAt`, of an object that is on another mount than its folder, or on another device where the kernel
   * tells of no mounts, and was not among `pointsIn`: it was mounted since, or nothing is known of it.
   */
  stopAtUnexpected(directory: number, name: Buffer, status: FileStatus, rules: Rules): Stop | null {
    const mount = status.mountId === 0 ? null : this.#find(status.mountId)
    if (mount !== null) return this.#mounts.isSameTree(mount) ? null : this.stopAt(mount, rules)
    return this.#stopAtDevice(directory, name, status, rules)
  }

  /**
   * The same, of a folder once it is open: where `isMounted`, something has been mounted on it since it was looked at;
   * and it may be a snapshot. `above` is the folder that it lies in.
   */
  stopInside(
    fd: number,
    status: FileStatus,
    above: { dev: number; mountId: number },
    isMounted: boolean,
    rules: Rules,
  ): Stop | null {
    if (isMounted) return this.stopAtUnexpected(fd, hereName, status, rules)
    const isSubvolume =
      status.dev !== above.dev && status.mountId === above.mountId && status.ino === subvolumeInode
    if (!rules.oneFileSystem || !isSubvolume || !isReadOnlySubvolume(fd)) return null
    return { reason: 'snapshot', detail: 'a read-only subvolume of btrfs', mount: null }
  }

  #find(mountId: number): Mount | null {
    const known = this.#mounts.ofId(mountId)
    if (known !== null) return known
    this.#mounts = this.#readMounts()
    return this.#mounts.ofId(mountId)
  }

  /** Whether a walk stops at a mount that nobody has named. */
  stopAt(mount: Mount, rules: Rules): Stop | null {
    const why = whyNotEntered(mount, this.#uid)
    if (why !== null) return { reason: 'pseudo-file-system', detail: `a file system ${why}`, mount }
    if (!rules.oneFileSystem) return null
    const { type, source } = mount
    return {
      reason: 'mount-point',
      detail: `another file system: ${type} of ${textFromBytes(source as BytePath)}`,
      mount,
    }
  }

  #stopAtDevice(directory: number, name: Buffer, status: FileStatus, rules: Rules): Stop | null {
    const type = pseudoMagics.get(fileSystemMagicAt(directory, name))
    if (type !== undefined)
      return {
        reason: 'pseudo-file-system',
        detail: `a file system that holds no data: ${type}`,
        mount: null,
      }
    if (!rules.oneFileSystem || status.ino === subvolumeInode) return null
    return { reason: 'mount-point', detail: 'another file system', mount: null }
  }
}
