/** Owners by name and by number, and what a restore says of attributes that it could not set. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chownSync, lchownSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { aclValue, lacksAttributes, writeXattr } from '../packages/archive/test/object-attributes.ts'
import { readWholeArchive } from './harness/archives.ts'
import { Mount } from './harness/mount.ts'
import { patienceMs } from './harness/program.ts'
import { Site } from './harness/site.ts'

/** Why a program cannot be run with users of its own; `false` where it can. */
function lacksNamespaces(): string | false {
  if (process.geteuid!() !== 0) return 'only root can run a program with other users'
  const { status } = spawnSync('unshare', ['-m', 'true'])
  return status === 0 ? false : 'unshare cannot make a mount namespace here'
}

/** What a program is put behind, so that it knows other users and groups than this machine. */
function withUsers(site: Site, name: string, passwd: string, group: string): string[] {
  const files = { passwd, group }
  const mounts = Object.entries(files).map(([file, lines]) => {
    const own = site.at(`${name}.${file}`)
    writeFileSync(own, Buffer.concat([readFileSync(`/etc/${file}`), Buffer.from(lines, 'latin1')]))
    return `mount --bind '${own}' /etc/${file}`
  })
  return ['unshare', '-m', 'sh', '-c', `${mounts.join(' && ')} && exec "$@"`, 'sh']
}

test('owners come back by name, of any bytes, and by number where that is wanted or nobody has the name', {
  skip: lacksNamespaces(),
}, async () => {
  await using site = await Site.create()
  const root = site.tree()
  for (const name of ['eve', 'rené', 'gone', 'nameless']) writeFileSync(join(root, name), 'content')
  mkdirSync(join(root, 'folder'))
  symlinkSync('nowhere', join(root, 'link'))
  chownSync(join(root, 'eve'), 54_321, 54_321)
  chownSync(join(root, 'rené'), 54_322, 54_322)
  chownSync(join(root, 'gone'), 54_323, 54_323)
  chownSync(join(root, 'nameless'), 54_324, 54_324)
  chownSync(join(root, 'folder'), 54_321, 54_322)
  lchownSync(join(root, 'link'), 54_322, 54_321)
  const host = await site.addHost('web1', { paths: [root] })
  const onHost = withUsers(
    site,
    'host',
    'eve:x:54321:54321::/:/bin/sh\nren\xe9:x:54322:54322::/:/bin/sh\ngone:x:54323:54323::/:/bin/sh\n',
    'eve:x:54321:\nstaff\xff:x:54322:\ngone:x:54323:\n',
  )
  await host.start({ wrapper: onHost })
  const run = await site.run()
  assert.equal(run.code, 0, run.stderr)
  const entries = await readWholeArchive(site.archives('web1')[0]!)
  const { user, group } = entries.get(`${root.slice(1)}/link`)!
  assert.deepEqual([user, group], ['ren\xe9', 'eve'])

  const here = withUsers(
    site,
    'here',
    'eve:x:60001:60001::/:/bin/sh\nren\xe9:x:54322:54322::/:/bin/sh\n',
    'eve:x:60001:\nstaff\xff:x:60002:\n',
  )
  const restore = async (target: string, ...args: string[]) => {
    const ended = await site
      .startServer(['restore', 'web1', '--json', '--target', site.at(target), ...args], { wrapper: here })
      .endWithin(patienceMs)
    assert.equal(ended.code, 0, ended.stderr)
    return ended.json.find(({ event }) => event === 'end')!
  }
  const ownersIn = (target: string) =>
    ['eve', 'rené', 'gone', 'nameless', 'folder'].map((name) => {
      const { uid, gid } = statSync(join(site.at(target), root, name))
      return [uid, gid]
    })
  const end = await restore('by-name')
  assert.deepEqual(ownersIn('by-name'), [
    [60_001, 60_001],
    [54_322, 60_002],
    [54_323, 54_323],
    [54_324, 54_324],
    [60_001, 60_002],
  ])
  const mapped = end.mapped as { kind: string; name: string; from: number; to: number; count: number }[]
  const sorted = mapped.toSorted((a, b) => (a.kind + a.name < b.kind + b.name ? -1 : 1))
  assert.deepEqual(sorted, [
    { kind: 'group', name: 'eve', from: 54_321, to: 60_001, count: 2 },
    { kind: 'group', name: 'staff\udcff', from: 54_322, to: 60_002, count: 2 },
    { kind: 'user', name: 'eve', from: 54_321, to: 60_001, count: 2 },
  ])
  const again = await restore('by-name')
  assert.deepEqual(
    [again.restored, again.kept],
    [{ files: 0, directories: 0, symlinks: 0, hardlinks: 0, specials: 0 }, 0],
  )

  assert.deepEqual((await restore('by-number', '--numeric-ids')).mapped, [])
  assert.deepEqual(ownersIn('by-number'), [
    [54_321, 54_321],
    [54_322, 54_322],
    [54_323, 54_323],
    [54_324, 54_324],
    [54_321, 54_322],
  ])
})

test('what the target cannot hold is told once a kind, and does not make the restore fail', {
  skip: lacksAttributes(tmpdir(), 'trusted'),
}, async (t) => {
  await using site = await Site.create()
  const root = site.tree()
  for (let i = 0; i < 8; i++) {
    writeFileSync(join(root, `${i}`), 'content')
    writeXattr(join(root, `${i}`), 'user.a', 'value')
  }
  const acl = aclValue([
    ['owner', 6],
    ['user', 4, 1000],
    ['owning-group', 4],
    ['mask', 4],
    ['other', 4],
  ])
  writeXattr(join(root, '0'), 'system.posix_acl_access', acl)
  const host = await site.addHost('web1', { paths: [root] })
  await host.start()
  assert.equal((await site.run()).code, 0)
  let mounted: Mount
  try {
    mounted = Mount.ramfs()
  } catch (error) {
    return t.skip(`a ramfs, which has no extended attributes, cannot be mounted: ${(error as Error).message}`)
  }
  using mount = mounted
  const ended = await site.server('restore', 'web1', '--json', '--target', mount.path)
  assert.equal(ended.code, 0, ended.stderr)
  const notSet = ended.json.find(({ event }) => event === 'end')!.notSet as Record<
    string,
    { count: number; examples: string[] }
  >
  assert.deepEqual(Object.keys(notSet).sort(), ['acls', 'xattrs'])
  assert.deepEqual([notSet.acls!.count, notSet.acls!.examples], [1, [join(root, '0')]])
  assert.deepEqual([notSet.xattrs!.count, notSet.xattrs!.examples.length], [8, 5])
  assert.equal(readFileSync(join(mount.path, root, '7'), 'utf8'), 'content')

  const people = await site.server('restore', 'web1', '--target', mount.path, '--overwrite', 'always')
  assert.match(
    people.stderr,
    /not set: access control lists of 1 \(EOPNOTSUPP: .*\), like .*\/0; not all file systems/,
  )
  assert.match(people.stderr, /not set: extended attributes of 8 \(EOPNOTSUPP/)
})
