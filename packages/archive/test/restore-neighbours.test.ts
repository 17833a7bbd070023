/**
 * Restores while others are at work in the target, and into targets that are not as they seem: whatever stands or comes
 * there, nothing outside is touched, and the restore ends.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type BytePath, type Overwrite, type RestoreReport, restoreTree } from '../src/index.ts'
import { DeadMount } from './dead-mount.ts'
import { neighbourAt } from './neighbour.ts'
import { bytes, file, type Member, other } from './sample.ts'
import { describeTree, isRoot, ListSource, memberSource, TemporaryFolder } from './tree.ts'

/** In which each of these has to end: a restore that is stuck fails, whatever it is stuck in. */
const timeout = 60_000

/** For how long each race is run, and at most where the neighbour is slow. */
const raceMs = 500
const raceMsMax = 20_000

/** A target, and beside it what must not be touched. */
function site(folder: TemporaryFolder) {
  for (const name of ['target', 'target/swapped', 'outside', 'outside/folder', 'aside'])
    mkdirSync(folder.at(name))
  for (const name of ['secret', 'folder/a', 'folder/0']) writeFileSync(folder.at('outside', name), 'secret')
  chmodSync(folder.at('outside/secret'), 0o600)
  const look = () => describeTree(folder.at('outside'))
  const before = look()
  return {
    target: folder.at('target'),
    outside: folder.at('outside'),
    untouched: () => assert.deepEqual(look(), before),
  }
}

/** Members of `swapped`, other ones each round, so that every restore writes. */
function membersOf(round: number): Member[] {
  const fields = { mtimeSeconds: 1_000_000 + round, mode: 0o4777 }
  return [
    ...Array.from({ length: 12 }, (_, i) => file(`swapped/${i}`, `content ${round}`, fields)),
    other('swapped/below', 'directory', fields),
    file('swapped/below/a', `content ${round}`, fields),
    other('swapped/fifo', 'fifo', fields),
    other('swapped/link', 'symlink', { ...fields, target: bytes(`to ${round}`) }),
    other('swapped/z', 'hardlink', { ...fields, target: bytes('swapped/1') }),
  ]
}

/** Restores for `raceMs`, and on until the neighbour has bitten, as nothing is tested before. */
async function race(
  target: string,
  overwrite: Overwrite,
  hasBitten: (reports: { told: number; round: number }) => boolean,
): Promise<{ rounds: number; reports: RestoreReport[] }> {
  const beganMs = performance.now()
  const reports: RestoreReport[] = []
  let told = 0
  let bitten = false
  for (let ms = 0; ms < raceMs || (!bitten && ms < raceMsMax); ms = performance.now() - beganMs) {
    const report = await restoreTree(memberSource(membersOf(reports.length)), target, { overwrite })
    reports.push(report)
    told += report.failed.count + report.kept.count
    bitten ||= hasBitten({ told, round: reports.length })
  }
  assert.ok(bitten, `the neighbour never got in between, in ${reports.length} restores`)
  return { rounds: reports.length, reports }
}

for (const overwrite of ['never', 'older', 'always'] satisfies Overwrite[]) {
  test(`names that become links, hard links, fifos, sockets and folders all the time lead nowhere, with overwrite ${overwrite}`, {
    timeout,
  }, async (t) => {
    using folder = new TemporaryFolder()
    const { target, outside, untouched } = site(folder)
    // A second name of a file that is not his, as everybody can make where links are not protected.
    writeFileSync(folder.at('target/of-root'), 'of root', { mode: 0o640 })
    linkSync(folder.at('target/of-root'), folder.at('aside/of-root'))
    await using _ = await neighbourAt('kinds', `${target}/swapped`, outside, folder.at('aside/of-root'))
    const { rounds } = await race(target, overwrite, ({ told }) => told > 0)
    t.diagnostic(`${rounds} restores`)
    untouched()
    const linked = lstatSync(folder.at('aside/of-root'))
    assert.equal(readFileSync(folder.at('aside/of-root'), 'utf8'), 'of root')
    assert.equal(linked.mode & 0o7777, 0o640, 'nobody is given what only has a name in the target')
  })
}

test('a folder that is moved out of the target and back all the time takes nothing along from outside', {
  timeout,
}, async (t) => {
  using folder = new TemporaryFolder()
  const { target, untouched } = site(folder)
  await using _ = await neighbourAt('move', `${target}/swapped`, folder.at('aside/moved'))
  const { rounds } = await race(target, 'always', ({ round }) => round >= 5)
  t.diagnostic(`${rounds} restores`)
  untouched()
  assert.ok(readdirSync(folder.at('aside')).every((name) => name === 'moved'))
})

test('a target that is moved away while it is restored to is restored to where it is', {
  timeout,
}, async () => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  let read = 0
  const members = membersOf(0)
  const source = new ListSource(memberSource(members).list, async function* () {
    if (read++ === 3) {
      renameSync(target, folder.at('aside/target'))
      symlinkSync(outside, target)
    }
    yield Buffer.from('content 0')
  })
  const report = await restoreTree(source, target, { overwrite: 'always' })
  untouched()
  assert.equal(report.restored.files, 13)
  assert.equal(report.failed.count, 0)
  for (const name of ['0', '11']) assert.ok(existsSync(folder.at('aside/target/swapped', name)))
})

test('a target that is removed while it is restored to ends the restore, or is told of each file', {
  timeout,
}, async () => {
  using folder = new TemporaryFolder()
  const { target, untouched } = site(folder)
  let read = 0
  const source = new ListSource(memberSource(membersOf(0)).list, async function* () {
    if (read++ === 3) execFileSync('rm', ['-rf', target])
    yield Buffer.from('content 0')
  })
  const report = await restoreTree(source, target, { overwrite: 'always' }).catch((error: Error) => error)
  untouched()
  if (report instanceof Error) assert.match(report.message, /the restore ended at/)
  else assert.ok(report.failed.count > 0)
  assert.ok(!existsSync(target))
})

test('of two archives in one folder, the second goes through no link and no name that the first has made', {
  timeout,
}, async () => {
  using folder = new TemporaryFolder()
  const { target, outside, untouched } = site(folder)
  const first = [
    other('a', 'symlink', { target: bytes(outside) }),
    other('b', 'symlink', { target: bytes('../outside/folder') }),
    other('c', 'symlink', { target: bytes('d') }),
    file('d', 'of the first'),
    other('e', 'hardlink', { target: bytes('d') }),
    other('swapped/up', 'symlink', { target: bytes('../..') }),
    other('f', 'fifo'),
  ]
  const fields = { mtimeSeconds: 4_000_000_000, mode: 0o4777 }
  const second = [
    other('a', 'directory', fields),
    file('a/secret', 'of the second', fields),
    file('b/a', 'of the second', fields),
    file('c', 'of the second', fields),
    other('g', 'hardlink', { ...fields, target: bytes('a/secret') }),
    other('h', 'hardlink', { ...fields, target: bytes('c') }),
    file('swapped/up/outside/secret', 'of the second', fields),
    file('f', 'of the second', fields),
    file('e', 'of the second', fields),
  ]
  for (const overwrite of ['never', 'older', 'always'] satisfies Overwrite[]) {
    execFileSync('sh', ['-c', 'rm -rf "$1"/* && mkdir "$1"/swapped', 'sh', target])
    await restoreTree(memberSource(structuredClone(first)), target)
    await restoreTree(memberSource(structuredClone(second)), target, { overwrite })
    untouched()
    // Where a name was another one of the same object, that object was not written to.
    assert.equal(readFileSync(`${target}/d`, 'utf8'), 'of the first')
    assert.ok(!lstatSync(`${target}/swapped`).isSymbolicLink())
  }
})

/** A file system that does not tell names apart that differ in case only; `null` where this machine has none. */
function mountFolding(folder: TemporaryFolder, at: string): string | null {
  const image = folder.at('image')
  const tries: [string, string[]][] = [
    ['mount', ['-t', 'tmpfs', '-o', 'casefold', 'none', at]],
    ['sh', ['-c', 'mkfs.vfat "$1" && mount -o loop "$1" "$2"', 'sh', image, at]],
    [
      'sh',
      [
        '-c',
        'mkfs.exfat "$1" && loop=$(losetup -f --show "$1") && { mount.exfat-fuse "$loop" "$2"; bad=$?; losetup -d "$loop"; exit $bad; }',
        'sh',
        image,
        at,
      ],
    ],
  ]
  for (const [program, args] of tries) {
    writeFileSync(image, '')
    truncateSync(image, 16 * 1024 * 1024)
    if (spawnSync(program, args).status !== 0) continue
    if (program === 'mount' && spawnSync('chattr', ['+F', at]).status !== 0) {
      spawnSync('umount', [at])
      continue
    }
    return program
  }
  return null
}

test('names that the target does not tell apart lead nowhere, and what finds no room is told', {
  timeout,
}, async (t) => {
  if (!isRoot) return t.skip('only root can mount')
  using folder = new TemporaryFolder()
  const { outside, untouched } = site(folder)
  const target = folder.at('folding')
  mkdirSync(target)
  if (mountFolding(folder, target) === null)
    return t.skip('this machine has no file system that folds case (tmpfs with casefold, vfat, exfat-fuse)')
  try {
    const fields = { mtimeSeconds: 1_000_000, mode: 0o777 }
    const members = [
      other('A', 'symlink', { ...fields, target: bytes(outside) as BytePath }),
      other('Folder', 'directory', fields),
      file('Folder/x', 'upper', fields),
      file('Name', 'upper', fields),
      other('a', 'directory', fields),
      file('a/secret', 'lower', fields),
      other('folder', 'directory', fields),
      file('folder/y', 'lower!', { ...fields, mtimeSeconds: 2_000_000 }),
      file('name', 'lower!', { ...fields, mtimeSeconds: 2_000_000 }),
      file('\u00c9t\u00e9', 'upper', fields),
      file('\u00e9t\u00e9', 'lower!', { ...fields, mtimeSeconds: 2_000_000 }),
    ]
    for (const overwrite of ['never', 'older', 'always'] satisfies Overwrite[]) {
      execFileSync('sh', ['-c', 'rm -rf "$1"/*', 'sh', target])
      const report = await restoreTree(memberSource(structuredClone(members)), target, { overwrite })
      untouched()
      const names = execFileSync('find', [target, '-type', 'f', '-printf', '.'], { encoding: 'utf8' })
      assert.equal(report.restored.files, names.length, `${overwrite}: what is counted is there`)
      const told = [...report.kept.listed, ...report.failed.listed].map(({ path }) => path)
      assert.deepEqual(
        told.sort(),
        ['A', 'folder', 'name', bytes('\u00e9t\u00e9')],
        'what is not there is told',
      )
    }
  } finally {
    spawnSync('umount', ['-l', target])
  }
})

test('thousands of names that differ in case alone cost a restore over them no list of names each', async () => {
  using folder = new TemporaryFolder()
  const { target } = site(folder)
  const pairs = 2000
  const names = Array.from({ length: pairs }, (_, i) => String(i).padStart(6, '0'))
  const members = (mtimeSeconds: number) =>
    ['X', 'x'].flatMap((letter) => [
      ...names.map((name) => other(`${letter}${name}`, 'directory', { mtimeSeconds })),
      ...names.map((name) =>
        other(`z${letter}${name}`, 'fifo', { mtimeSeconds, mode: 0o600 + (mtimeSeconds & 1) }),
      ),
    ])
  await restoreTree(memberSource(members(1_000_000)), target)
  const beganMs = performance.now()
  const { kept, failed, restored } = await restoreTree(memberSource(members(1_000_001)), target, {
    overwrite: 'always',
  })
  assert.deepEqual([kept.count, failed.count], [0, 0])
  assert.deepEqual([restored.directories, restored.specials], [2 * pairs, 2 * pairs])
  // With a list for each name it were minutes.
  assert.ok(performance.now() - beganMs < 10_000)
})

test('a FUSE mount of another user in the target, whose program does not answer, is told and not waited for', (t) => {
  using folder = new TemporaryFolder()
  const { target } = site(folder)
  const archived = folder.at('archived')
  mkdirSync(target + archived, { recursive: true })
  using dead = DeadMount.create(t, `${target}${archived}/mnt`, 1234)
  if (dead === null) return
  const script = join(import.meta.dirname, 'restore-over-mount.ts')
  const { stdout, signal } = spawnSync(process.execPath, [script, target, archived], {
    encoding: 'utf8',
    timeout: 20_000,
    killSignal: 'SIGKILL',
  })
  assert.equal(signal, null, 'it was waited for')
  const { failed, restored } = JSON.parse(stdout) as RestoreReport
  assert.deepEqual(
    failed.listed.map(({ path }) => `/${path}`.slice(archived.length + 1)),
    ['mnt', 'mnt/d', 'mnt/x'],
  )
  assert.equal(restored.files, 1)
})
