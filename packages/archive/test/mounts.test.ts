import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type BytePath, type Mount, MountTable, whyNotEntered } from '../src/index.ts'
import { parseMounts } from '../src/native/mounts.ts'

const mount: Mount = {
  id: 30,
  parent: 1,
  device: '8:1',
  root: '/' as BytePath,
  path: 'srv' as BytePath,
  type: 'ext4',
  source: '/dev/sda1',
  options: 'rw',
}

function named(path: string, fields: Partial<Mount> = {}): Mount {
  return { ...mount, path: path as BytePath, ...fields }
}

test('a line of mountinfo is read with its optional fields, and with what is escaped in its paths', () => {
  const lines = [
    '36 35 98:0 / /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue',
    '40 36 0:50 /a\\040b /mnt\\012x\\134\\011- rw - fuse.sshfs eve@host:/\\040 rw,user_id=1000,group_id=1000',
    '22 1 8:1 / / rw - ext4 /dev/sda1 rw',
  ]
  assert.deepEqual(parseMounts(lines.join('\n') as BytePath), [
    {
      id: 36,
      parent: 35,
      device: '98:0',
      root: '/',
      path: 'mnt2',
      type: 'ext3',
      source: '/dev/root',
      options: 'rw,errors=continue',
    },
    {
      id: 40,
      parent: 36,
      device: '0:50',
      root: '/a b',
      path: 'mnt\nx\\\t-',
      type: 'fuse.sshfs',
      source: 'eve@host:/ ',
      options: 'rw,user_id=1000,group_id=1000',
    },
    {
      id: 22,
      parent: 1,
      device: '8:1',
      root: '/',
      path: '',
      type: 'ext4',
      source: '/dev/sda1',
      options: 'rw',
    },
  ])
})

test('text that is no table of mounts gives none, and never fails', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: fc.constantFrom('1', ' ', '-', ':', '/', '\\', '0', 'x', '\n') })),
      (lines) => {
        const table = new MountTable(parseMounts(lines.join('\n') as BytePath))
        table.pointsIn('' as BytePath, 1)
      },
    ),
  )
})

test('the mounts of this machine are read, the root among them', () => {
  const table = MountTable.read()
  assert.equal(table.pointsIn('' as BytePath, 0)?.get('proc' as BytePath)?.type, 'proc')
})

test('of mounts on one place the top one counts, and none that another mount covers', () => {
  const table = new MountTable([
    named('', { id: 1, parent: 0 }),
    named('a/b', { id: 40, type: 'proc' }),
    named('a', { id: 50 }),
    named('a', { id: 51, parent: 50, type: 'xfs' }),
    named('a/c', { id: 52, parent: 51, type: 'sysfs' }),
  ])
  const root = '' as BytePath
  const folder = 'a' as BytePath
  assert.equal(table.pointsIn(root, 1)?.get(folder)?.type, 'xfs')
  assert.deepEqual([...table.pointsIn(folder, 51)!.keys()], ['c'])
  assert.deepEqual([...table.pointsIn(folder, 1)!.keys()], ['b'])
  assert.equal(table.pointsIn('a/c' as BytePath, 52), null)
  // Where the kernel tells no ids, all that is listed counts.
  assert.deepEqual([...table.pointsIn(folder, 0)!.keys()], ['b', 'c'])
})

test('a folder that is bound to itself is no mount point; one that is bound elsewhere is', () => {
  const top = named('', { id: 1, parent: 0 })
  const points = (...mounts: Mount[]) => {
    const found = new MountTable([top, ...mounts]).pointsIn('var' as BytePath, 1)
    return found === null ? [] : [...found.keys()]
  }
  assert.deepEqual(points(named('var/log', { root: '/var/log' as BytePath })), [])
  assert.deepEqual(points(named('var/log', { root: '/srv/log' as BytePath })), ['log'])
  assert.deepEqual(points(named('var/log', { root: '/var/log' as BytePath, device: '8:2' })), ['log'])
  const subvolumes = new MountTable([
    { ...top, root: '/@' as BytePath },
    named('home', { id: 2, root: '/@home' as BytePath }),
    named('tmp', { id: 3, root: '/@/tmp' as BytePath }),
  ])
  assert.deepEqual([...subvolumes.pointsIn('' as BytePath, 1)!.keys()], ['home'])
})

test('file systems without data, and those of other users by FUSE, are told from those with data', () => {
  const why = (type: string, options = 'rw') => whyNotEntered(named('x', { type, options }), 0)
  for (const type of ['proc', 'sysfs', 'devtmpfs', 'cgroup2', 'tracefs', 'nsfs', 'autofs', 'fuse.lxcfs'])
    assert.match(why(type)!, new RegExp(`holds no data: ${type}`))
  for (const type of [
    'ext4',
    'xfs',
    'btrfs',
    'zfs',
    'nfs4',
    'cifs',
    'overlay',
    'tmpfs',
    'squashfs',
    'procfs2',
  ])
    assert.equal(why(type), null, type)
  assert.match(why('fuse.sshfs', 'rw,user_id=1000,group_id=1000')!, /user 1000 has mounted: fuse.sshfs/)
  assert.match(why('fuse', 'rw,user_id=7,allow_other')!, /user 7/)
  assert.equal(why('fuseblk', 'rw,user_id=0,group_id=0,allow_other'), null)
  assert.equal(why('fuse.rclone', 'rw,user_id=0'), null)
  assert.equal(whyNotEntered(named('x', { type: 'fuse', options: 'user_id=1000' }), 1000), null)
})
