import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { constants as osConstants } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { ArchiveError, type Overwrite, planRestore, restoreTree } from '../src/index.ts'
import { createFileAt } from '../src/native/libc-write.ts'
import { bytes, file, type Member, other } from './sample.ts'
import {
  archiveName,
  describeTree,
  isRoot,
  ListSource,
  memberSource,
  packTree,
  TemporaryFolder,
} from './tree.ts'

const _self = { uid: process.geteuid!(), gid: process.getegid!() }

/** A target, and beside it what must not be touched. */
function site(folder: TemporaryFolder) {
  for (const name of ['target', 'outside', 'outside/folder']) mkdirSync(folder.at(name))
  writeFileSync(folder.at('outside/secret'), 'secret', { mode: 0o600 })
  writeFileSync(folder.at('outside/folder/a'), 'outside')
  const before = describeTree(folder.at('outside'))
  const untouched = () => assert.deepEqual(describeTree(folder.at('outside')), before)
  return { target: folder.at('target'), outside: folder.at('outside'), untouched }
}

for (const overwrite of ['never', 'older', 'always'] satisfies Overwrite[]) {
  test(`links that were planted in the target are never followed, with overwrite ${overwrite}`, async () => {
    using folder = new TemporaryFolder()
    const { target, outside, untouched } = site(folder)
    symlinkSync(`${outside}/folder`, `${target}/folder`)
    symlinkSync(`${outside}/secret`, `${target}/file`)
    linkSync(`${outside}/secret`, `${target}/linked`)
    symlinkSync(`${outside}/new`, `${target}/dangling`)
    symlinkSync('../outside', `${target}/up`)
    const fields = { mtimeSeconds: 4_000_000_000, mode: 0o666 }
    const source = memberSource([
      other('folder', 'directory', { ...fields, mode: 0o777 }),
      file('folder/a', 'restored', fields),
      file('file', 'restored', fields),
      file('linked', 'restored', fields),
      file('dangling', 'restored', fields),
      // No entry says what the folder of these is.
      file('up/secret', 'restored', fields),
      other('up/new', 'directory', fields),
      other('up/link', 'symlink', { target: bytes('x') }),
      other('up/fifo', 'fifo'),
    ])
    const report = await restoreTree(source, target, { overwrite })
    untouched()
    assert.equal(report.failed.count, overwrite === 'never' ? 5 : 4)
    assert.match(report.failed.listed[0]!.message, /links are not followed/)
    if (overwrite === 'never') return
    for (const name of ['folder/a', 'file', 'linked', 'dangling']) {
      assert.ok(lstatSync(`${target}/${name}`).isFile(), name)
      assert.equal(readFileSync(`${target}/${name}`, 'utf8'), 'restored')
    }
  })
}

test('paths that lead out of the target are refused, however they came into a source', async () => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  const paths = [
    '../outside/x',
    `${outside}/x`,
    'a/../../outside/x',
    '..',
    '.',
    'a//x',
    'a/./x',
    '',
    'nul\0x',
  ]
  const members = paths.flatMap((path) => [file(path, 'x'), other(path, 'directory'), other(path, 'fifo')])
  const report = await restoreTree(memberSource(members), target, { overwrite: 'always' })
  untouched()
  assert.equal(report.damaged.count, members.length)
  assert.deepEqual(readdirSync(target), [])
})

test('an archive that makes a link and then goes through it gets nowhere', async () => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  const source = memberSource([
    other('a', 'symlink', { target: bytes(outside) }),
    file('a/x', 'x'),
    other('a/secret', 'hardlink', { target: bytes('a') }),
    other('b', 'hardlink', { target: bytes('a/secret') }),
    other('c', 'hardlink', { target: bytes('../outside/secret') }),
    other('d', 'hardlink', { target: bytes('b') }),
  ])
  const report = await restoreTree(source, target, { overwrite: 'always' })
  untouched()
  // The folder `a` was made for the file in it, and is not removed for a link again.
  assert.deepEqual(readdirSync(target), ['a'])
  assert.equal(report.kept.count, 1)
  assert.equal(report.damaged.count, 3)
})

test('a further name is never given to what was put in place of the first one', async () => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  symlinkSync(`${outside}/secret`, `${target}/first`)
  const source = memberSource([
    file('first', 'the content'),
    other('second', 'hardlink', { target: bytes('first') }),
    other('third', 'hardlink', { target: bytes('first') }),
  ])
  const contents = new ListSource(source.list, async function* () {
    yield Buffer.from('the content')
  })
  await restoreTree(contents, target)
  untouched()
  assert.ok(lstatSync(`${target}/first`).isSymbolicLink())
  assert.equal(readFileSync(`${target}/second`, 'utf8'), 'the content')
  assert.equal(lstatSync(`${target}/second`).ino, lstatSync(`${target}/third`).ino)
})

/** Runs the neighbour while `work` does. */
async function withNeighbour(args: readonly string[], work: () => Promise<void>): Promise<void> {
  const script = join(import.meta.dirname, 'swap-names.ts')
  const child: ChildProcess = spawn(process.execPath, [script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  try {
    await once(child.stdout!, 'data')
    await work()
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

/** For how long each race is run, and at most where the neighbour is slow. */
const raceMs = 2_000
const raceMsMax = 20_000

/**
 * Members of the folder `swapped`, with other content each time, so that every restore writes. The folder itself is none
 * of them: what stands in its place stays there.
 */
function membersOf(round: number): Member[] {
  const fields = { mtimeSeconds: 1_000_000 + round, mode: 0o4777 }
  return [
    ...Array.from({ length: 20 }, (_, i) => file(`swapped/${i}`, `content ${round}`, fields)),
    other('swapped/below', 'directory', fields),
    file('swapped/below/a', `content ${round}`, fields),
    other('swapped/fifo', 'fifo', fields),
    other('swapped/link', 'symlink', { ...fields, target: bytes(`to ${round}`) }),
    other('swapped/z', 'hardlink', { ...fields, target: bytes('swapped/1') }),
  ]
}

/** Restores for `raceMs`, and on until the neighbour has got in between once, as nothing is tested before. */
async function raceRestores(target: string, hasBitten: (problems: number) => boolean): Promise<number> {
  const beganMs = performance.now()
  let problems = 0
  let bitten = false
  let rounds = 0
  for (let ms = 0; ms < raceMs || (!bitten && ms < raceMsMax); ms = performance.now() - beganMs) {
    const { failed, kept } = await restoreTree(memberSource(membersOf(rounds++)), target, {
      overwrite: 'always',
    })
    problems += failed.count + kept.count
    bitten ||= hasBitten(problems)
  }
  assert.ok(bitten, `the neighbour never got in between, in ${rounds} restores`)
  return rounds
}

test('a folder that is swapped for a link out of the target all the time leads nowhere', async (t) => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  mkdirSync(`${target}/swapped`)
  symlinkSync(outside, `${target}/other`)
  await withNeighbour(['exchange', `${target}/swapped`, `${target}/other`], async () => {
    const rounds = await raceRestores(target, (problems) => problems > 0)
    t.diagnostic(`${rounds} restores`)
  })
  untouched()
})

test('a file is begun only under a name that is not there, be it a file, a link, or a link to nothing', () => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  writeFileSync(join(target, 'file'), 'kept')
  linkSync(join(outside, 'secret'), join(target, 'hardlink'))
  symlinkSync(join(outside, 'secret'), join(target, 'link'))
  symlinkSync(join(outside, 'made'), join(target, 'dangling'))
  const fd = openSync(target, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    for (const name of ['file', 'hardlink', 'link', 'dangling'])
      assert.equal(createFileAt(fd, Buffer.from(`${name}\0`)), -osConstants.errno.EEXIST, name)
  } finally {
    closeSync(fd)
  }
  assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'kept')
  rmSync(join(target, 'hardlink'))
  untouched()
})

test('temporary names that are replaced by links all the time lead nowhere', async (t) => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  mkdirSync(`${target}/swapped`)
  const hasLink = () => {
    const numbered = readdirSync(`${target}/swapped`).filter((name) => /^\d/.test(name))
    return numbered.some((name) => lstatSync(`${target}/swapped/${name}`).isSymbolicLink())
  }
  await withNeighbour(['plant', `${target}/swapped`, `${outside}/secret`], async () => {
    const rounds = await raceRestores(target, hasLink)
    t.diagnostic(`${rounds} restores`)
  })
  untouched()
})

test('a tree deeper than descriptors, with paths longer than the kernel takes, comes back', async (t) => {
  const folder = new TemporaryFolder()
  t.after(() => execFileSync('rm', ['-rf', folder.path]))
  const { target } = site(folder)
  const depth = 300
  const name = 'd'.repeat(53)
  const members: Member[] = []
  let path = ''
  for (let i = 0; i < depth; i++) {
    path = i === 0 ? name : `${path}/${name}`
    members.push(other(path, 'directory', { mode: 0o751, mtimeSeconds: 1_000_000 + i }))
    if (i % 100 === 0) members.push(file(`${path}/file`, `at ${i}`))
  }
  members.push(
    file(`${path}/file`, 'at the bottom'),
    other(`${path}/link`, 'symlink', { target: bytes('x') }),
  )
  members.push(other(`${path}/same`, 'hardlink', { target: bytes(`${path}/file`) }))
  const source = memberSource(members)
  const report = await restoreTree(source, target)
  assert.equal(
    report.failed.count + report.damaged.count,
    0,
    JSON.stringify(report.failed.listed[0]?.message),
  )
  assert.equal(report.restored.directories, depth)
  const times = execFileSync('find', [target, '-mindepth', '1', '-type', 'd', '-printf', '%m %T@\n'], {
    encoding: 'utf8',
  })
  assert.deepEqual(
    times.split('\n').slice(0, -1),
    Array.from({ length: depth }, (_, i) => `751 ${1_000_000 + i}.1234567890`),
  )
  assert.equal(
    execFileSync('find', [target, '-type', 'f', '-links', '2', '-printf', '.'], { encoding: 'utf8' }),
    '..',
  )
  const again = await restoreTree(source, target)
  assert.equal(again.equal, members.length)
  // The folder's own cleaning cannot take such paths.
  execFileSync('rm', ['-rf', folder.path])
})

test('a special file of somebody else that takes the place of a new one gets no attributes', async (t) => {
  if (!isRoot) return t.skip('needs root')
  if (spawnSync('strace', ['-V']).error !== undefined) return t.skip('strace is not installed')
  using folder = new TemporaryFolder()
  const { target } = site(folder)
  const [source, victim] = [folder.at('source'), folder.at('victim')]
  mkdirSync(source)
  spawnSync('mkfifo', ['-m', '0600', victim])
  spawnSync('mkfifo', ['-m', '0666', `${source}/fifo`])
  chownSync(`${source}/fifo`, 1000, 1000)
  const entries = await packTree(source, folder.at(archiveName))
  assert.equal(entries.at(-1)!.type, 'fifo')
  const script = join(import.meta.dirname, 'restore-as.ts')
  const traced = ['-f', '-qq', '-o', '/dev/null', '-e', 'trace=mknodat', '-e', 'inject=mknodat:delay_exit=1s']
  const child = spawn('strace', [...traced, process.execPath, script, folder.at(archiveName), target], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const ended = once(child, 'exit')
  const restored = join(target, source)
  const temporary = /^\.central-backup-restore-/
  let planted = ''
  while (planted === '' && child.exitCode === null) {
    const names = existsSync(restored) ? readdirSync(restored) : []
    planted = names.find((one) => temporary.test(one)) ?? ''
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  rmSync(`${restored}/${planted}`)
  linkSync(victim, `${restored}/${planted}`)
  await ended
  assert.ok(temporary.test(planted))
  const { mode, uid } = lstatSync(victim)
  assert.deepEqual([mode & 0o777, uid], [0o600, 0])
})

test('names that a file system cannot hold are reported, and all else comes back', async () => {
  using folder = new TemporaryFolder()
  const { target } = site(folder)
  const report = await restoreTree(
    memberSource([file('n'.repeat(300), 'x'), file(`${'n'.repeat(300)}/x`, 'x'), file('ok', 'x')]),
    target,
  )
  assert.equal(report.failed.count, 2)
  assert.match(report.failed.listed[0]!.message, /ENAMETOOLONG/)
  assert.deepEqual(readdirSync(target), ['ok'])
})

test('without root, owners and devices are left out and counted, and no set-id bit is given to others', async (t) => {
  if (!isRoot) return t.skip('only root can become another user for this')
  const reads = spawnSync(process.execPath, ['--check', import.meta.filename], { uid: 65534, gid: 65534 })
  if (reads.status !== 0) return t.skip('this checkout lies where other users cannot read it')
  using folder = new TemporaryFolder()
  chmodSync(folder.path, 0o755)
  mkdirSync(folder.at('source/locked'), { recursive: true })
  mkdirSync(folder.at('target'))
  chownSync(folder.at('target'), 65534, 65534)
  writeFileSync(folder.at('source/tool'), 'x')
  writeFileSync(folder.at('source/locked/file'), 'x')
  execFileSync('mknod', [folder.at('source/null'), 'c', '1', '3'])
  chmodSync(folder.at('source/tool'), 0o6755)
  chmodSync(folder.at('source/locked'), 0o555)
  await packTree(folder.at('source'), folder.at(archiveName))
  const script = join(import.meta.dirname, 'restore-as.ts')
  const restore = () => {
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [script, folder.at(archiveName), folder.at('target')],
      {
        uid: 65534,
        gid: 65534,
        encoding: 'utf8',
      },
    )
    return JSON.parse(stdout || assert.fail(stderr))
  }
  const report = restore()
  assert.deepEqual([report.damaged.count, report.failed.count, report.kept.count], [0, 0, 0])
  assert.equal(report.notSet.special.count, 1)
  assert.equal(report.notSet.mode.count, 1)
  assert.match(report.notSet.owner.reason, /EPERM/)
  const restored = folder.at('target', folder.at('source'))
  assert.equal(lstatSync(`${restored}/tool`).mode & 0o7777, 0o755)
  assert.equal(lstatSync(`${restored}/locked`).mode & 0o7777, 0o555)
  const { mtimeNs } = lstatSync(folder.at('source/locked'), { bigint: true })
  assert.equal(lstatSync(`${restored}/locked`, { bigint: true }).mtimeNs, mtimeNs)
  // A folder that its owner may not write to does not stop the next restore.
  chmodSync(`${restored}/locked`, 0o755)
  execFileSync('rm', [`${restored}/locked/file`])
  chmodSync(`${restored}/locked`, 0o555)
  assert.equal(restore().restored.files, 1)
  assert.equal(lstatSync(`${restored}/locked`).mode & 0o7777, 0o555)
})

test('a target that is full ends the restore with what to do, and a larger one goes on', async (t) => {
  if (!isRoot) return t.skip('only root can mount a small file system')
  using folder = new TemporaryFolder()
  const { target } = site(folder)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', target])
  try {
    const source = memberSource([file('a', Buffer.alloc(700_000)), file('b', Buffer.alloc(700_000, 'b'))])
    await assert.rejects(restoreTree(source, target), (error) => {
      assert.ok(error instanceof ArchiveError)
      assert.match(error.message, /ENOSPC/)
      assert.match(error.hint!, /restore again/)
      return true
    })
    assert.deepEqual(readdirSync(target), ['a'])
    execFileSync('mount', ['-o', 'remount,size=4m', target])
    const report = await restoreTree(source, target)
    assert.deepEqual([report.equal, report.restored.files], [1, 1])
  } finally {
    execFileSync('umount', [target])
  }
})

test('links on the way from a target to the folder below it that is restored to are never followed', async () => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  symlinkSync(outside, `${target}/link`)
  symlinkSync('../outside', `${target}/up`)
  symlinkSync('.', folder.at('alias'))
  const source = memberSource([file('a', 'restored')])
  for (const path of ['link', 'link/folder', 'link/new', 'up', 'up/folder']) {
    const subfolder = bytes(path)
    const refusal = { name: 'ArchiveError', code: 'restore-failed', message: /links are not followed/ }
    await assert.rejects(restoreTree(source, target, { subfolder, overwrite: 'always' }), refusal)
    assert.throws(() => [...planRestore(source, target, 'always', false, subfolder)], refusal)
  }
  untouched()
  // Links above the target are the word of whoever restores.
  const subfolder = bytes('new/folder')
  assert.deepEqual(
    [...planRestore(source, folder.at('alias/target'), 'never', false, subfolder)].map(
      ({ action }) => action,
    ),
    ['create'],
  )
  assert.ok(!existsSync(`${target}/new`))
  await restoreTree(source, folder.at('alias/target'), { subfolder })
  assert.equal(readFileSync(`${target}/new/folder/a`, 'utf8'), 'restored')
  assert.equal(lstatSync(`${target}/new`).mode & 0o777, 0o700)
})
