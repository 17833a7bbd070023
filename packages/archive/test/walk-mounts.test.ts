import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { MountTable, type RootRules } from '../src/index.ts'
import { Boundary } from '../src/pack/boundary.ts'
import { DeadMount } from './dead-mount.ts'
import { PackingFolder, runProgram } from './packing-folder.ts'
import {
  bind,
  enterPrivateMounts,
  MountedFolder,
  mount,
  mountNew,
  mountTmpfs,
  unmountAll,
} from './private-mounts.ts'
import { namesIn, type Walked, walkAll } from './walk-all.ts'

const skip = enterPrivateMounts()
const oneFileSystem = { oneFileSystem: true }

function told(folder: PackingFolder, { problems }: Walked): string[] {
  return problems.map(({ kind, path }) => `${kind} ${folder.nameOf(path)}`)
}

test('with oneFileSystem, a mount point comes as an empty folder with the attributes of what is mounted', {
  skip,
}, () => {
  using folder = new MountedFolder()
  folder.file('a/x')
  mountTmpfs(`${folder.path}/data`)
  runProgram('chmod', ['751', join(folder.path, 'data')])
  folder.file('data/y')
  folder.file('z')
  let mode = 0
  const walked = walkAll([folder.root()], {
    rules: oneFileSystem,
    onVisit: ({ path, status }) => {
      if (folder.nameOf(path) === 'data') mode = status.mode & 0o7777
    },
  })
  assert.deepEqual(namesIn(folder, walked.paths), ['a', 'a/x', 'data', 'z'])
  assert.deepEqual(walked.problems, [
    {
      kind: 'mount-point',
      path: folder.pathOf('data'),
      message: 'another file system: tmpfs of selection-test',
    },
  ])
  assert.equal(mode, 0o751)
  assert.deepEqual(namesIn(folder, walkAll([folder.root()]).paths), ['a', 'a/x', 'data', 'data/y', 'z'])
})

test('a root on another file system is packed, also below one that stays on its own', { skip }, () => {
  using folder = new MountedFolder()
  mountTmpfs(`${folder.path}/data`)
  folder.file('data/in/x')
  folder.file('data/other/y')
  mountTmpfs(`${folder.path}/data/in/deeper`)
  folder.file('data/in/deeper/z')
  const whole = { ...folder.root(), rules: oneFileSystem }
  const walked = walkAll([whole, { ...folder.root('data/in'), rules: oneFileSystem }])
  assert.deepEqual(namesIn(folder, walked.paths), ['data', 'data/in', 'data/in/deeper', 'data/in/x'])
  assert.deepEqual(told(folder, walked), ['mount-point data', 'mount-point data/in/deeper'])
  const all = walkAll([whole, folder.root('data/in')])
  assert.deepEqual(namesIn(folder, all.paths), [
    'data',
    'data/in',
    'data/in/deeper',
    'data/in/deeper/z',
    'data/in/x',
  ])
})

test('a bind mount of the same file system is a mount point, and is packed twice where mounts are entered', {
  skip,
}, () => {
  using folder = new MountedFolder()
  folder.file('real/x')
  bind(`${folder.path}/real`, `${folder.path}/again`)
  const walked = walkAll([folder.root()], { rules: oneFileSystem })
  assert.deepEqual(namesIn(folder, walked.paths), ['again', 'real', 'real/x'])
  assert.deepEqual(told(folder, walked), ['mount-point again'])
  const all = walkAll([folder.root()])
  assert.deepEqual(namesIn(folder, all.paths), ['again', 'again/x', 'real', 'real/x'])
  assert.deepEqual(all.problems, [])
})

test('a folder that is bound to itself, as systemd does it to services, is like any other', { skip }, () => {
  using folder = new MountedFolder()
  folder.file('log/x')
  bind(`${folder.path}/log`, `${folder.path}/log`)
  runProgram('mount', ['-o', 'remount,bind,ro', join(folder.path, 'log')])
  const walked = walkAll([folder.root()], { rules: oneFileSystem })
  assert.deepEqual(namesIn(folder, walked.paths), ['log', 'log/x'])
  assert.deepEqual(walked.problems, [])
})

test('a single file that is mounted on another is packed', { skip }, () => {
  using folder = new MountedFolder()
  mountTmpfs(`${folder.path}/other`)
  folder.file('other/resolv', 'there')
  folder.file('etc/resolv', '')
  runProgram('mount', ['--bind', join(folder.path, 'other/resolv'), join(folder.path, 'etc/resolv')])
  let size = 0
  const walked = walkAll([folder.root('etc')], {
    rules: oneFileSystem,
    onVisit: ({ status }) => (size = status.size),
  })
  assert.deepEqual(namesIn(folder, walked.paths), ['etc', 'etc/resolv'])
  assert.deepEqual([size, walked.problems], [5, []])
})

test('file systems without data are never entered by accident, only by their name', { skip }, () => {
  using folder = new MountedFolder()
  mount(`${folder.path}/proc`, '-t', 'proc', 'proc')
  mount(`${folder.path}/sys`, '-t', 'sysfs', 'sysfs')
  mount(`${folder.path}/dev`, '-t', 'devpts', 'devpts')
  const walked = walkAll([folder.root()])
  assert.deepEqual(namesIn(folder, walked.paths), ['dev', 'proc', 'sys'])
  assert.deepEqual(
    told(folder, walked),
    ['dev', 'proc', 'sys'].map((name) => `pseudo-file-system ${name}`),
  )
  assert.match(walked.problems[1]!.message, /holds no data: proc/)
  const named = walkAll([folder.root(), folder.root('proc/sys/kernel/hostname')])
  assert.deepEqual(namesIn(folder, named.paths), [
    'dev',
    'proc',
    'proc/sys',
    'proc/sys/kernel',
    'proc/sys/kernel/hostname',
    'sys',
  ])
  assert.ok(namesIn(folder, walkAll([folder.root('proc/sys/fs')]).paths).length > 10)
})

test('a namespace that is kept by a file is left out, and not read', { skip }, () => {
  using folder = new MountedFolder()
  folder.file('netns/web', '')
  runProgram('mount', ['--bind', '/proc/self/ns/uts', join(folder.path, 'netns/web')])
  const walked = walkAll([folder.root()])
  assert.deepEqual(namesIn(folder, walked.paths), ['netns'])
  assert.deepEqual(told(folder, walked), ['pseudo-file-system netns/web'])
})

test('without /proc the magic number of a file system tells', { skip }, () => {
  using folder = new MountedFolder()
  mount(`${folder.path}/proc`, '-t', 'proc', 'proc')
  mountTmpfs(`${folder.path}/data`)
  folder.file('data/x')
  const blind = new Boundary(0, () => new MountTable([]))
  const walked = walkAll([folder.root()], { boundary: blind })
  assert.deepEqual(namesIn(folder, walked.paths), ['data', 'data/x', 'proc'])
  const one = walkAll([folder.root()], { boundary: blind, rules: oneFileSystem })
  assert.deepEqual(namesIn(folder, one.paths), ['data', 'proc'])
})

test('what is mounted after the walk has begun is noticed', { skip }, () => {
  using folder = new MountedFolder()
  folder.file('a/x')
  folder.file('z/x')
  const walked = walkAll([folder.root()], {
    rules: oneFileSystem,
    onVisit({ path }) {
      if (folder.nameOf(path) !== 'a') return
      mountTmpfs(`${folder.path}/z`)
      mount(`${folder.path}/z/proc`, '-t', 'proc', 'proc')
    },
  })
  assert.deepEqual(told(folder, walked), ['mount-point z'])
  assert.deepEqual(namesIn(folder, walked.paths), ['a', 'a/x', 'z'])
})

test('what is mounted on a folder in the moment that it is entered is noticed, too', { skip }, () => {
  const walkWith = (rules: RootRules) => {
    using folder = new MountedFolder()
    folder.file('a/x')
    const walked = walkAll([folder.root()], {
      rules,
      onVisit({ path }) {
        if (folder.nameOf(path) !== 'a') return
        mountTmpfs(`${folder.path}/a`)
        folder.file('a/y')
      },
    })
    return [namesIn(folder, walked.paths), told(folder, walked)]
  }
  assert.deepEqual(walkWith({}), [['a', 'a/y'], []])
  assert.deepEqual(walkWith(oneFileSystem), [['a'], ['mount-point a']])
})

test('a FUSE mount of another user, dead or alive, is not looked at and not waited for', { skip }, (t) => {
  using folder = new MountedFolder()
  folder.file('a/x')
  using dead = DeadMount.create(t, join(folder.path, 'mnt'))
  if (dead === null) return
  folder.file('z')
  // As if another user had mounted it: the mount is this one's, and the walk another's.
  const walked = walkAll([folder.root()], { boundary: new Boundary(1000) })
  assert.deepEqual(told(folder, walked), ['pseudo-file-system mnt'])
  assert.deepEqual(
    namesIn(folder, walked.paths).filter((name) => name !== 'mnt'),
    ['a', 'a/x', 'z'],
  )
  assert.match(walked.problems[0]!.message, /user 0 has mounted: fuse/)
  // Nor is any mount waited for that the rules leave out.
  const one = walkAll([folder.root()], { rules: oneFileSystem })
  assert.deepEqual(told(folder, one), ['mount-point mnt'])
})

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`a mounted ${type} is a file system of its own`, { skip }, (t) => {
    using folder = new PackingFolder()
    const reason = mountNew(type, folder.path, join(folder.path, 'tree/mnt'))
    if (reason !== false) {
      t.skip(reason)
      return
    }
    folder.file('tree/mnt/x')
    const root = folder.root('tree')
    assert.deepEqual(namesIn(folder, walkAll([root], { rules: oneFileSystem }).paths), ['tree', 'tree/mnt'])
    assert.ok(namesIn(folder, walkAll([root]).paths).includes('tree/mnt/x'))
    assert.ok(
      namesIn(folder, walkAll([folder.root('tree/mnt')], { rules: oneFileSystem }).paths).includes(
        'tree/mnt/x',
      ),
    )
    unmountAll(join(folder.path, 'tree/mnt'))
  })
}

test('a subvolume of btrfs belongs to its file system, a snapshot does not, and neither does one that is mounted', {
  skip,
}, (t) => {
  using folder = new PackingFolder()
  const path = join(folder.path, 'mnt')
  const reason = mountNew('btrfs', folder.path, path)
  if (reason !== false) {
    t.skip(reason)
    return
  }
  runProgram('btrfs', ['subvolume', 'create', join(path, 'home')])
  folder.file('mnt/home/x')
  runProgram('btrfs', ['subvolume', 'snapshot', '-r', join(path, 'home'), join(path, 'snapshot')])
  runProgram('btrfs', ['subvolume', 'create', join(path, 'other')])
  folder.file('mnt/other/y')
  mkdirSync(join(path, 'at'))
  runProgram('mount', ['-o', 'loop,subvol=other', join(folder.path, 'btrfs.image'), join(path, 'at')])
  const walked = walkAll([folder.root('mnt')], { rules: oneFileSystem })
  assert.deepEqual(namesIn(folder, walked.paths), [
    'mnt',
    'mnt/at',
    'mnt/home',
    'mnt/home/x',
    'mnt/other',
    'mnt/other/y',
    'mnt/snapshot',
  ])
  assert.deepEqual(told(folder, walked), ['mount-point mnt/at', 'snapshot mnt/snapshot'])
  const all = namesIn(folder, walkAll([folder.root('mnt')]).paths)
  assert.ok(all.includes('mnt/snapshot/x') && all.includes('mnt/at/y'))
  unmountAll(path)
})

test('the layers of an overlay are mounts like others', { skip }, (t) => {
  using folder = new MountedFolder()
  for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(folder.path, name))
  folder.file('lower/x')
  const options = `lowerdir=${folder.path}/lower,upperdir=${folder.path}/upper,workdir=${folder.path}/work`
  const { status, stderr } = spawnSync(
    'mount',
    ['-t', 'overlay', '-o', options, 'overlay', join(folder.path, 'merged')],
    { encoding: 'utf8' },
  )
  if (status !== 0) {
    t.skip(`this machine cannot mount an overlay: ${stderr}`)
    return
  }
  const walked = walkAll([folder.root()], { rules: oneFileSystem, exclude: ['work'] })
  assert.deepEqual(namesIn(folder, walked.paths), ['lower', 'lower/x', 'merged', 'upper'])
  assert.ok(namesIn(folder, walkAll([folder.root()]).paths).includes('merged/x'))
})
