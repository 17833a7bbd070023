/**
 * What a file system holds, feature by feature: each makes a small tree that has it. The tests of fidelity and the table of
 * docs/fidelity.md are made of these.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, lchownSync, linkSync, lutimesSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { inodeFlags } from '@central-backup/archive'
import { makeSparse } from '../../packages/archive/test/holes.ts'
import {
  aclValue,
  changeFlags,
  netRawCapability,
  removeXattr,
  writeProject,
  writeXattr,
} from '../../packages/archive/test/object-attributes.ts'
import { DeepFolder, runProgram } from '../../packages/archive/test/packing-folder.ts'
import type { Aspect } from './compare-trees.ts'
import { noise } from './tree.ts'

export interface Feature {
  /** For people: what is to come back. */
  name: string
  /** In what a loss of it shows. Other differences belong to other features. */
  aspects: readonly (Aspect | 'presence')[]
  /** Makes it in an empty folder. Throws where the file system cannot have it. */
  make(folder: string): void | Promise<void>
  /** Undoes what keeps the tree from being removed. */
  release?(folder: string): void
  /** What no tar can hold. */
  notInTar?: true
}

const { immutable, 'append-only': appendOnly, nodump, noatime, sync, dirsync, nocow, compressed } = inodeFlags

function at(folder: string, name: string): Buffer {
  return Buffer.from(`${folder}/${name}`, 'latin1')
}

/** Sets the mtime of an object itself, a link included. */
function touch(path: string, time: string): void {
  runProgram('touch', ['-h', '-d', time, path])
}

/** A socket that nobody listens on any more. */
async function makeSocket(path: string): Promise<void> {
  const folder = path.slice(0, path.lastIndexOf('/'))
  // The kernel takes no more than 107 bytes for the path of a socket.
  using short = new DeepFolder(Buffer.from(folder), [])
  const name = short.at(path.slice(folder.length + 1))
  const server = createServer().listen(name)
  await new Promise((resolve, reject) => server.once('listening', resolve).once('error', reject))
  // The name stays where another one is renamed in its place before the server removes it.
  runProgram('mv', [path, `${path}.kept`])
  await new Promise((resolve) => server.close(resolve))
  runProgram('mv', [`${path}.kept`, path])
}

/** All kinds of objects but sockets, which most programs leave out. */
const kinds = ['file', 'folder', 'link', 'fifo', 'character', 'block']

function makeKinds(folder: string): void {
  writeFileSync(`${folder}/file`, 'content')
  mkdirSync(`${folder}/folder`)
  symlinkSync('nowhere', `${folder}/link`)
  runProgram('mkfifo', [`${folder}/fifo`])
  runProgram('mknod', [`${folder}/character`, 'c', '1', '3'])
  runProgram('mknod', [`${folder}/block`, 'b', '259', '4660'])
}

const acl = aclValue([
  ['owner', 6],
  ['user', 5, 1234],
  ['user', 7, 70_000],
  ['owning-group', 4],
  ['group', 3, 5678],
  ['mask', 7],
  ['other', 0],
])

/** Every byte that a name can have, and names that programs stumble over. */
function everyName(): string[] {
  const bytes = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code))
  const single = bytes.filter((byte) => byte !== '\0' && byte !== '/' && byte !== '.')
  return [
    ...single,
    ...[
      '-rf',
      '--help',
      ' leading',
      'trailing ',
      'new\nline',
      'tab\t',
      '\u00c3\u00a9',
      '\xe9',
      '\xff\xfe',
      '...',
    ],
    ...[
      '*',
      '?',
      '[a]',
      '{a,b}',
      '~',
      '$HOME',
      '`id`',
      '"',
      "'",
      '\\',
      '\\n',
      'a\\\\b',
      '%s%n',
      '#',
      '\x1b[31m',
    ],
    'n'.repeat(255),
    '\xe9'.repeat(255),
  ].filter((name, i, all) => all.indexOf(name) === i)
}

export const features: readonly Feature[] = [
  {
    name: 'content',
    aspects: ['kind', 'content', 'presence'],
    make(folder) {
      for (const [name, content] of Object.entries({
        empty: Buffer.alloc(0),
        'one-byte': Buffer.from('x'),
        zeros: Buffer.alloc(100_000),
        noise: noise(3_000_000, 'content'),
        'a-block': noise(4096, 'block'),
      }))
        writeFileSync(`${folder}/${name}`, content)
      mkdirSync(`${folder}/empty-folder`)
    },
  },
  {
    name: 'modes, with set-user-id, set-group-id and sticky',
    aspects: ['mode'],
    make(folder) {
      for (const mode of [0o000, 0o001, 0o444, 0o777, 0o4755, 0o2755, 0o1777, 0o7777]) {
        const octal = mode.toString(8)
        writeFileSync(`${folder}/${octal}`, octal)
        mkdirSync(`${folder}/folder-${octal}`)
        for (const name of [octal, `folder-${octal}`]) chmodSync(`${folder}/${name}`, mode)
      }
    },
  },
  {
    name: 'owners, of all kinds of objects',
    aspects: ['owner'],
    make(folder) {
      for (const [i, [uid, gid]] of [
        [1, 1],
        [65_534, 65_534],
        [2_097_151, 2_097_152],
        [3_000_000, 4_294_967_294],
      ].entries()) {
        mkdirSync(`${folder}/${i}`)
        makeKinds(`${folder}/${i}`)
        for (const kind of kinds) lchownSync(`${folder}/${i}/${kind}`, uid!, gid!)
      }
    },
  },
  {
    name: 'mtime in nanoseconds, of files, folders and special files',
    aspects: ['mtime'],
    make(folder) {
      const times = ['2001-02-03 04:05:06.123456789', '1970-01-01 00:00:00', '2030-01-01 00:00:00.000000001']
      for (const [i, time] of times.entries()) {
        mkdirSync(`${folder}/${i}`)
        makeKinds(`${folder}/${i}`)
        writeFileSync(`${folder}/${i}/folder/in-it`, 'content')
        for (const kind of kinds) if (kind !== 'link') touch(`${folder}/${i}/${kind}`, `${time} UTC`)
        touch(`${folder}/${i}`, `${time} UTC`)
      }
    },
  },
  {
    name: 'mtime of symbolic links',
    aspects: ['mtime'],
    make(folder) {
      symlinkSync('nowhere', `${folder}/link`)
      touch(`${folder}/link`, '2001-02-03 04:05:06.123456789 UTC')
    },
  },
  {
    name: 'mtime before 1970 and after 2038',
    aspects: ['mtime'],
    make(folder) {
      const times = [
        '1969-07-20 20:17:40.123456789',
        '1902-01-01 00:00:00.5',
        '2100-01-01 00:00:00.000000001',
      ]
      for (const [i, time] of times.entries()) {
        writeFileSync(`${folder}/${i}`, 'content')
        touch(`${folder}/${i}`, `${time} UTC`)
      }
    },
  },
  {
    name: 'hard links of files, also across folders',
    aspects: ['names', 'kind', 'presence'],
    make(folder) {
      for (const name of ['a', 'b', 'b/c']) mkdirSync(`${folder}/${name}`)
      writeFileSync(`${folder}/b/first`, 'one content of four names')
      for (const name of ['a/second', 'third', 'b/c/fourth'])
        linkSync(`${folder}/b/first`, `${folder}/${name}`)
      writeFileSync(`${folder}/another`, 'one content of four names')
    },
  },
  {
    name: 'hard links of symbolic links, fifos and devices',
    aspects: ['names', 'kind', 'presence'],
    make(folder) {
      mkdirSync(`${folder}/first`)
      mkdirSync(`${folder}/second`)
      makeKinds(`${folder}/first`)
      for (const kind of ['link', 'fifo', 'character', 'block'])
        linkSync(`${folder}/first/${kind}`, `${folder}/second/${kind}`)
    },
  },
  {
    name: 'symbolic links, with targets of any bytes',
    aspects: ['kind', 'target', 'presence'],
    make(folder) {
      const targets = ['nowhere', '/', '../..', '\xe9\xff\n', '-', ' ', 'a'.repeat(101), '\xe9/'.repeat(500)]
      for (const [i, target] of targets.entries())
        symlinkSync(Buffer.from(target, 'latin1'), `${folder}/${i}`)
    },
  },
  {
    name: 'symbolic links with targets of 4,095 bytes',
    aspects: ['kind', 'target', 'presence'],
    make(folder) {
      for (const [i, target] of ['a'.repeat(4095), `${'\xe9/'.repeat(2047)}\xe9`].entries())
        symlinkSync(Buffer.from(target, 'latin1'), `${folder}/${i}`)
    },
  },
  {
    name: 'fifos',
    aspects: ['kind', 'presence'],
    make: (folder) => runProgram('mkfifo', ['-m', '640', `${folder}/fifo`]),
  },
  {
    name: 'devices with their numbers',
    aspects: ['kind', 'device', 'presence'],
    make(folder) {
      for (const [name, kind, major, minor] of [
        ['null', 'c', 1, 3],
        ['disk', 'b', 259, 4660],
        ['whiteout', 'c', 0, 0],
      ] as const)
        runProgram('mknod', [`${folder}/${name}`, kind, String(major), String(minor)])
    },
  },
  {
    name: 'devices with the largest numbers',
    aspects: ['kind', 'device', 'presence'],
    make(folder) {
      runProgram('mknod', [`${folder}/character`, 'c', '4095', '1048575'])
      runProgram('mknod', [`${folder}/block`, 'b', '259', '1048575'])
    },
  },
  {
    name: 'sockets',
    aspects: ['kind', 'presence'],
    notInTar: true,
    make: (folder) => makeSocket(`${folder}/socket`),
  },
  {
    name: 'further names of sockets',
    aspects: ['kind', 'names', 'presence'],
    notInTar: true,
    async make(folder) {
      await makeSocket(`${folder}/socket`)
      mkdirSync(`${folder}/elsewhere`)
      linkSync(`${folder}/socket`, `${folder}/elsewhere/further`)
      linkSync(`${folder}/socket`, `${folder}/third`)
    },
  },
  {
    name: 'owner, mode, mtime and trusted attributes of sockets',
    aspects: ['owner', 'mode', 'mtime', 'xattrs', 'presence'],
    notInTar: true,
    async make(folder) {
      const socket = `${folder}/socket`
      await makeSocket(socket)
      writeXattr(socket, 'trusted.kind', 'socket')
      lchownSync(socket, 1000, 1000)
      chmodSync(socket, 0o640)
      touch(socket, '2001-02-03 04:05:06.123456789 UTC')
    },
  },
  {
    name: 'names of any bytes, up to 255',
    aspects: ['kind', 'content', 'presence'],
    make(folder) {
      for (const name of everyName()) {
        writeFileSync(at(folder, name), `content of ${name}`)
        mkdirSync(at(folder, `${name.slice(0, 254)}~`), { recursive: true })
      }
    },
  },
  {
    name: 'paths of more than 4,096 bytes',
    aspects: ['kind', 'content', 'target', 'mode', 'owner', 'mtime', 'names', 'xattrs', 'presence'],
    make(folder) {
      const names = Array.from({ length: 24 }, (_, i) => `${i}-`.padEnd(200, 'deep-'))
      using deep = new DeepFolder(Buffer.from(folder), names)
      writeFileSync(deep.at('file'), noise(10_000, 'deep'))
      symlinkSync('file', deep.at('link'))
      mkdirSync(deep.at('folder'), 0o750)
      linkSync(deep.at('file'), deep.at('hard-link'))
      writeXattr(deep.at('file'), 'user.deep', 'value')
      lchownSync(deep.at('link'), 1, 1)
      lutimesSync(deep.at('link'), 1, 981_173_106.5)
    },
  },
  {
    name: 'extended attributes of users, binary, empty and with odd names',
    aspects: ['xattrs'],
    make(folder) {
      writeFileSync(`${folder}/file`, 'content')
      mkdirSync(`${folder}/folder`)
      for (const name of ['file', 'folder']) {
        writeXattr(`${folder}/${name}`, 'user.binary', Buffer.from([0, 10, 255, 61]))
        writeXattr(`${folder}/${name}`, 'user.empty', '')
        writeXattr(`${folder}/${name}`, 'user.new\nline', 'x')
        writeXattr(`${folder}/${name}`, 'user.caf\xe9', 'x')
        writeXattr(`${folder}/${name}`, `user.${'n'.repeat(250)}`, 'x')
      }
    },
  },
  {
    name: 'extended attributes with `=` and `%` in their names',
    aspects: ['xattrs'],
    make(folder) {
      writeFileSync(`${folder}/file`, 'content')
      writeXattr(`${folder}/file`, 'user.a=b%c', 'x')
    },
  },
  {
    name: 'trusted attributes, of all kinds of objects',
    aspects: ['xattrs'],
    make(folder) {
      makeKinds(folder)
      for (const kind of kinds) writeXattr(`${folder}/${kind}`, 'trusted.kind', kind)
    },
  },
  {
    name: 'SELinux labels, of all kinds of objects',
    aspects: ['labels'],
    make(folder) {
      makeKinds(folder)
      for (const kind of kinds)
        writeXattr(`${folder}/${kind}`, 'security.selinux', `system_u:object_r:${kind}_t:s0\0`)
    },
  },
  {
    name: 'capabilities, also of programs that are not root\u2019s',
    aspects: ['capabilities'],
    make(folder) {
      for (const [name, uid] of [
        ['of-root', 0],
        ['of-another', 1000],
      ] as const) {
        writeFileSync(`${folder}/${name}`, 'content')
        lchownSync(`${folder}/${name}`, uid, uid)
        chmodSync(`${folder}/${name}`, 0o755)
        writeXattr(`${folder}/${name}`, 'security.capability', netRawCapability)
      }
    },
  },
  {
    name: 'access ACLs',
    aspects: ['acls', 'mode'],
    make(folder) {
      writeFileSync(`${folder}/file`, 'content')
      mkdirSync(`${folder}/folder`)
      runProgram('mkfifo', [`${folder}/fifo`])
      for (const name of ['file', 'folder', 'fifo'])
        writeXattr(`${folder}/${name}`, 'system.posix_acl_access', acl)
    },
  },
  {
    name: 'ACLs with users above 2^31',
    aspects: ['acls', 'mode'],
    make(folder) {
      writeFileSync(`${folder}/file`, 'content')
      const large = aclValue([
        ['owner', 6],
        ['user', 5, 4_000_000_000],
        ['owning-group', 4],
        ['mask', 7],
        ['other', 0],
      ])
      writeXattr(`${folder}/file`, 'system.posix_acl_access', large)
    },
  },
  {
    name: 'default ACLs, and objects in such folders that have none',
    aspects: ['acls', 'mode'],
    make(folder) {
      mkdirSync(`${folder}/folder/below`, { recursive: true })
      writeFileSync(`${folder}/folder/plain`, 'content')
      chmodSync(`${folder}/folder/plain`, 0o604)
      writeXattr(`${folder}/folder`, 'system.posix_acl_default', acl)
      writeFileSync(`${folder}/folder/inherited`, 'content')
      writeFileSync(`${folder}/folder/removed`, 'content')
      removeXattr(`${folder}/folder/removed`, 'system.posix_acl_access')
    },
  },
  {
    name: 'inode flags nodump, noatime, sync, dirsync',
    aspects: ['flags'],
    notInTar: true,
    make(folder) {
      writeFileSync(`${folder}/file`, 'content')
      mkdirSync(`${folder}/folder`)
      changeFlags(`${folder}/file`, nodump | noatime | sync)
      changeFlags(`${folder}/folder`, nodump | noatime)
      tryFlags(`${folder}/folder`, dirsync)
    },
  },
  {
    name: 'inode flags immutable and append-only, also of folders',
    aspects: ['flags'],
    notInTar: true,
    make(folder) {
      mkdirSync(`${folder}/folder`)
      writeFileSync(`${folder}/folder/file`, 'content')
      writeFileSync(`${folder}/file`, 'content')
      linkSync(`${folder}/file`, `${folder}/further-name`)
      writeFileSync(`${folder}/log`, 'line\n')
      for (const name of ['folder/file', 'folder', 'file']) changeFlags(`${folder}/${name}`, immutable)
      changeFlags(`${folder}/log`, appendOnly)
    },
    release: (folder) => void spawnSync('chattr', ['-R', '-f', '-i', '-a', folder]),
  },
  {
    name: 'inode flags nocow and compressed (btrfs)',
    aspects: ['flags'],
    notInTar: true,
    make(folder) {
      for (const [name, flag] of [
        ['nocow', nocow],
        ['compressed', compressed],
      ] as const) {
        mkdirSync(`${folder}/${name}`)
        changeFlags(`${folder}/${name}`, flag)
        writeFileSync(`${folder}/${name}/file`, noise(10_000, name))
      }
    },
  },
  {
    name: 'projects of quotas',
    aspects: ['project'],
    notInTar: true,
    make(folder) {
      mkdirSync(`${folder}/folder`)
      writeFileSync(`${folder}/file`, 'content')
      for (const name of ['folder', 'file']) writeProject(`${folder}/${name}`, 4711)
    },
  },
  {
    name: 'extended attributes of 64 KiB',
    aspects: ['xattrs'],
    make(folder) {
      writeFileSync(`${folder}/file`, 'content')
      for (const i of [1, 2, 3]) writeXattr(`${folder}/file`, `user.large-${i}`, noise(65_536, `large ${i}`))
    },
  },
  {
    name: 'holes at their places: in front, between, at the end, all of a file',
    aspects: ['content', 'holes'],
    make(folder) {
      const block = 65_536
      const mebibyte = 2 ** 20
      makeSparse(`${folder}/front`, 4 * mebibyte, [[3 * mebibyte, 4 * mebibyte]])
      makeSparse(`${folder}/between`, 8 * mebibyte, [
        [0, block],
        [mebibyte, mebibyte + block],
        [5 * mebibyte, 5 * mebibyte + block],
      ])
      makeSparse(`${folder}/end`, 16 * mebibyte, [[0, block]])
      makeSparse(`${folder}/nothing`, 64 * mebibyte, [])
    },
  },
  {
    name: 'thousands of holes',
    aspects: ['content', 'holes'],
    make(folder) {
      const step = 131_072
      const regions = Array.from({ length: 2000 }, (_, i) => [i * step, i * step + 65_536] as const)
      makeSparse(`${folder}/file`, 2000 * step, regions)
    },
  },
]

/** For flags that not every file system with flags has. */
function tryFlags(path: string, flags: number): void {
  try {
    changeFlags(path, flags)
  } catch {
    // Then it is not compared.
  }
}

/** A feature and its folder in a tree that has it. */
export interface Made {
  feature: Feature
  folder: string
}

/** A name for the folder of a feature. */
export function folderOf(feature: Feature): string {
  return `${String(features.indexOf(feature)).padStart(2, '0')}-${feature.name.replaceAll(/[^a-z0-9]+/gi, '-').slice(0, 40)}`
}

/** Makes features that the file system of `root` can have; why it cannot have the others is in `lacking`. */
export async function makeFeatures(
  root: string,
  chosen: readonly Feature[] = features,
): Promise<{ made: Made[]; lacking: Map<Feature, string> }> {
  const made: Made[] = []
  const lacking = new Map<Feature, string>()
  for (const feature of chosen) {
    const folder = folderOf(feature)
    mkdirSync(`${root}/${folder}`)
    try {
      await feature.make(`${root}/${folder}`)
      made.push({ feature, folder })
    } catch (error) {
      lacking.set(feature, (error as Error).message)
      feature.release?.(`${root}/${folder}`)
      runProgram('rm', ['-rf', `${root}/${folder}`])
    }
  }
  return { made, lacking }
}

/** Makes it possible to remove what was made, or restored, below `root`. */
export function releaseFeatures(root: string): void {
  spawnSync('chattr', ['-R', '-f', '-i', '-a', root])
}
