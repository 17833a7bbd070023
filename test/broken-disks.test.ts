/**
 * Disks that are full, read-only, not there, or lose their power in the middle of a run, and deaths at the very calls that
 * matter. What was there stays whole, the server says what is wrong, and goes on when the disk does.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { requireWholeArchives } from './harness/archives.ts'
import { lacksMount, Mount } from './harness/mount.ts'
import { runCommand } from './harness/program.ts'
import { BreakingProxy, type Fault } from './harness/proxy.ts'
import { readRun, Site, type TestHost } from './harness/site.ts'
import { fillTree, noise } from './harness/tree.ts'

const noTmpfs = lacksMount('tmpfs')
const noExt4 = lacksMount('ext4')
const noStrace =
  (await runCommand(['strace', '-o', '/dev/null', 'true'])).code === 0
    ? false
    : 'strace is not installed, or may not trace here'

/** What a run on a broken disk may take to end by itself, on a busy machine. */
const endMsMax = 30_000

/** More calls of a kind than a run makes. */
const callsMax = 60

/** A site whose repository is on the mount, with a host whose agent is at work. */
async function makeSite(
  mount: Mount | null,
  treeMegabytes: number,
  settings = '',
): Promise<{ site: Site; host: TestHost }> {
  const site = await Site.create(mount === null ? {} : { repository: join(mount.path, 'repository') })
  const host = await site.addHost('web1', { settings })
  fillTree(site.tree('web1'), treeMegabytes)
  await host.start()
  return { site, host }
}

/** A run that fails for a reason of the disk. */
async function failedRun(site: Site, code: string, exit = 1): Promise<void> {
  const run = readRun(await site.startServer(['run', '--full', '--json']).endWithin(endMsMax))
  const error =
    run.ends.web1?.error ?? (run.json.at(-1)?.error as { code: string; message: string; hint?: string })
  assert.equal(error?.code, code, run.stdout + run.stderr)
  assert.equal(run.code, exit)
  assert.notEqual(error.hint ?? '', '', 'a person is told what to do')
}

async function requireService(site: Site): Promise<void> {
  const run = await site.run('--full')
  assert.equal(run.code, 0, run.stdout + run.stderr)
  assert.deepEqual(site.partials('web1'), [])
  await requireWholeArchives(site, 'web1')
}

/** What people look at first works, whatever the disk does. */
async function requireViews(site: Site, runs: number): Promise<void> {
  const listed = await site.ask('list', '--json')
  assert.equal(listed.code, 0, listed.stderr)
  assert.equal((listed.json[0] as unknown as { runs: unknown[] }).runs.length, runs)
  const status = await site.ask('status')
  assert.equal(status.code, 0, status.stderr)
}

describe('a repository', { concurrency: 2 }, () => {
  describe('on a disk', { concurrency: 1, skip: noTmpfs }, () => {
    test('that fills up in the middle of a run keeps nothing of it, and works on', async () => {
      using mount = Mount.tmpfs('size=32m')
      await using made = await makeSite(mount, 6).then(({ site }) => site)
      await requireService(made)
      fillTree(made.tree('web1'), 80)
      await failedRun(made, 'disk-full')
      assert.deepEqual(made.files('web1').length, 1, 'what was begun is removed, as it fills the disk')
      await requireViews(made, 2)
      mount.remount('size=128m')
      await requireService(made)
    })

    test('that is full before a run begins is said to be so, and works on', async () => {
      using mount = Mount.tmpfs('size=32m')
      await using site = await makeSite(mount, 2).then((made) => made.site)
      await requireService(site)
      const filler = join(mount.path, 'filler')
      fillUp(filler)
      await failedRun(site, 'disk-full')
      await requireViews(site, 1)
      rmSync(filler)
      await requireService(site)
    })

    test('that has no room for another file is said to be full, and works on', async () => {
      using mount = Mount.tmpfs('size=32m,nr_inodes=200')
      await using site = await makeSite(mount, 2).then((made) => made.site)
      await requireService(site)
      const folder = join(mount.path, 'many')
      mkdirSync(folder)
      assert.throws(() => {
        for (let number = 0; number < 300; number++) writeFileSync(join(folder, String(number)), '')
      }, /ENOSPC/)
      await failedRun(site, 'disk-full')
      await requireViews(site, 1)
      rmSync(folder, { recursive: true })
      await requireService(site)
    })

    test('that is read-only is said to be so, shows what it has, and works on', async () => {
      using mount = Mount.tmpfs('size=32m')
      await using site = await makeSite(mount, 2).then((made) => made.site)
      await requireService(site)
      mount.remount('ro')
      await failedRun(site, 'read-only')
      await requireViews(site, 1)
      mount.remount('rw')
      await requireService(site)
    })
  })

  test('that is not mounted is not made anew in its place', async () => {
    await using site = await makeSite(null, 2).then((made) => made.site)
    await requireService(site)
    renameSync(site.repository, `${site.repository}.away`)
    mkdirSync(site.repository)
    await failedRun(site, 'not-mounted', 11)
    assert.deepEqual(readdirSync(site.repository), [])
    for (const command of ['list', 'status']) {
      const { code, stderr } = await site.server(command)
      assert.equal(code, 11, stderr)
      assert.match(stderr, /Mount the destination/)
    }
    rmSync(site.repository, { recursive: true })
    renameSync(`${site.repository}.away`, site.repository)
    await requireService(site)
  })

  describe('whose power fails', { concurrency: 1, skip: noExt4 }, () => {
    const moments: { name: string; fault: Omit<Fault, 'what'> | null; stored: boolean }[] = [
      { name: 'before the first frame', fault: { direction: 'fromAgent', afterBytes: 2500 }, stored: false },
      {
        name: 'in the middle of a run',
        fault: { direction: 'fromAgent', afterBytes: 2_000_000 },
        stored: false,
      },
      {
        name: 'when a run has just been stored',
        fault: { direction: 'fromServer', afterBytes: 0, afterOtherBytes: 4_000_000 },
        stored: true,
      },
      { name: 'right after a run', fault: null, stored: true },
    ]
    for (const { name, fault, stored } of moments) {
      test(`${name} has every archive that was reported, whole, and works on`, async () => {
        using mount = Mount.ext4(96)
        await using made = await makeSite(mount, 8).then(({ site, host }) => ({
          site,
          host,
          [Symbol.asyncDispose]: () => site[Symbol.asyncDispose](),
        }))
        const { site, host } = made
        await requireService(site)
        using proxy = await BreakingProxy.start(host.port)
        host.setPort(proxy.port)
        if (fault !== null) proxy.arm({ ...fault, what: 'none', onStrike: () => mount.losePower() })
        const run = readRun(await site.startServer(['run', '--full', '--json']).endWithin(endMsMax))
        if (fault === null) mount.losePower()
        const reported = run.ends.web1?.archive?.name
        assert.equal(reported !== undefined, stored, run.stdout)
        if (!stored) assert.equal(run.code, 1, run.stdout)

        mount.restore()
        await requireWholeArchives(site, 'web1')
        assert.equal(site.archives('web1').length, stored ? 2 : 1)
        const listed = await site.ask('list', '--json')
        const { runs } = listed.json[0] as unknown as {
          runs: { outcome: string; archive: { name: string } | null }[]
        }
        assert.equal(
          runs.filter(({ outcome, archive }) => outcome === 'complete' && archive !== null).length,
          stored ? 2 : 1,
        )
        await requireService(site)
      })
    }
  })

  describe('whose server dies', { concurrency: 1, skip: noStrace }, () => {
    const every = process.env.CENTRAL_BACKUP_DEATHS === 'all'
    for (const [what, calls, step] of [
      ['rename', 'rename,renameat,renameat2', 1],
      ['fsync', 'fsync,fdatasync', every ? 1 : 2],
      ['unlink', 'unlink,unlinkat', 1],
    ] as const) {
      test(`at any ${what} has nothing but whole archives, and works on`, async () => {
        await using site = await makeSite(null, 2).then((made) => made.site)
        await requireService(site)
        const stale = join(site.repository, 'archives', 'web1', '2001-01-01T000000Z-full.tar.zst.partial')
        // It is killed at the first such call, then at a later one, and so on, until it comes through.
        let deaths = 0
        for (let when = 1; ; when += step) {
          assert.ok(when <= callsMax, 'it never came through')
          // There is something to remove.
          writeFileSync(stale, 'stale')
          // Without --seccomp-bpf: with it, strace strikes once at most, and often not at all.
          const trace = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls}`]
          const wrapper = ['strace', ...trace, '-e', `inject=${calls}:signal=KILL:when=${when}`]
          // Node is not to make such calls of its own, and strace counts those of each thread apart.
          const env = { NODE_DISABLE_COMPILE_CACHE: '1', UV_THREADPOOL_SIZE: '1' }
          const server = site.startServer(['run', '--full', '--json'], { wrapper, env })
          const run = readRun(await server.endWithin(endMsMax))
          await requireWholeArchives(site, 'web1')
          if (run.code === 0) break
          assert.equal(run.signal, 'SIGKILL', run.stderr)
          deaths++
        }
        assert.ok(deaths >= 2, `${deaths} deaths: it did not die at more than one call`)
        await requireService(site)
      })
    }
  })

  test('with an archive that cannot be read says which, keeps its catalog, and without one backs its hosts up all the same', {
    skip: noStrace,
  }, async () => {
    await using site = await makeSite(null, 1).then((made) => made.site)
    await requireService(site)
    const [archive] = site.archives('web1')
    const calls = 'read,pread64'
    const trace = ['strace', '-f', '-qq', '-o', '/dev/null', '-P', archive!]
    const wrapper = [...trace, '-e', `trace=${calls}`, '-e', `inject=${calls}:error=EIO`]
    const rebuilt = await site.startServer(['catalog', 'rebuild', '--json'], { wrapper }).endWithin(endMsMax)
    assert.equal(rebuilt.code, 1, rebuilt.stdout)
    const { error } = rebuilt.json.at(-1) as { error?: { code: string; message: string } }
    assert.equal(error?.code, 'io-error', rebuilt.stdout)
    assert.ok(error.message.includes(archive!), error.message)
    await requireViews(site, 1)
    rmSync(join(site.repository, 'catalog.sqlite'))
    const run = readRun(await site.startServer(['run', '--json'], { wrapper }).endWithin(endMsMax))
    assert.equal(run.code, 0, run.stdout + run.stderr)
    assert.equal(run.ends.web1?.kind, 'full')
    assert.equal((await site.server('catalog', 'rebuild')).code, 0)
    await requireViews(site, 2)
    // As if a run had broken off when all of its archive was there.
    const partial = join(dirname(archive!), '2001-01-01T000000Z-full.tar.zst.partial')
    copyFileSync(archive!, partial)
    trace[trace.indexOf(archive!)] = partial
    const inject = ['-e', `trace=${calls}`, '-e', `inject=${calls}:error=EIO`]
    const again = readRun(
      await site.startServer(['run', '--json'], { wrapper: [...trace, ...inject] }).endWithin(endMsMax),
    )
    assert.equal(again.code, 0, again.stdout + again.stderr)
    assert.ok(existsSync(partial.replace('.partial', '.unreadable.partial')))
    await requireViews(site, 3)
  })
})

describe('a log', { concurrency: 2 }, () => {
  test('whose disk reports an error when it is synced in the end keeps no program from ending', {
    skip: noStrace,
  }, async () => {
    await using site = await makeSite(null, 1).then((made) => made.site)
    const wrapper = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'inject=fsync:error=EIO']
    for (const program of [
      site.startServer(['--version'], { wrapper }),
      site.startAgent(['--version'], { wrapper }),
    ])
      assert.equal((await program.endWithin(endMsMax)).code, 0)
  })

  test('of the server on a full disk costs the log, not the run', async () => {
    await using site = await makeSite(null, 2).then((made) => made.site)
    site.configure(`connection: { attempts: 1 }, log: { file: '/dev/full' },`)
    await requireService(site)
  })

  test('of the agent on a full disk costs the log, not the run, and the agent ends when it is told to', async () => {
    await using site = await Site.create()
    const host = await site.addHost('web1', { settings: '[log]\nfile = "/dev/full"\n' })
    fillTree(site.tree('web1'), 2)
    const port = await freePort()
    host.configure((text) => text.replace('127.0.0.1:0', `127.0.0.1:${port}`))
    host.setPort(port)
    const agent = site.startAgent(['--config', host.config])
    // It cannot say when it listens.
    let run = await site.run()
    for (let again = 0; again < 20 && run.code === 10; again++) run = await site.run()
    assert.equal(run.code, 0, run.stdout)
    agent.kill('SIGTERM')
    assert.equal((await agent.endWithin(endMsMax)).code, 0)
  })
})

describe('the copy on the host', { concurrency: 2 }, () => {
  /** The run is as good as without the copy, and says that there is none. */
  async function requireRunWithoutCopy(site: Site): Promise<void> {
    const run = await site.run('--full')
    assert.equal(run.code, 0, run.stdout)
    const { outcome, warningCount } = run.ends.web1!
    assert.equal(outcome, 'complete')
    assert.equal(warningCount, 1)
    assert.equal(run.warnings[0]?.code, 'local-copy-failed')
    await requireWholeArchives(site, 'web1')
  }

  const copiesTo = (directory: string) => `[local_copy]\ndirectory = ${JSON.stringify(directory)}\nkeep = 2\n`

  test('that does not fit costs the copy, not the run', { skip: noTmpfs }, async () => {
    using mount = Mount.tmpfs('size=4m')
    const copies = join(mount.path, 'copies')
    await using site = await makeSite(null, 12, copiesTo(copies)).then((made) => made.site)
    await requireRunWithoutCopy(site)
    assert.deepEqual(readdirSync(copies), [])
    mount.remount('size=64m')
    const run = await site.run('--full')
    assert.equal(run.ends.web1!.localCopy?.kept, true)
  })

  test('that cannot be written costs the copy, not the run', { skip: noTmpfs }, async () => {
    using mount = Mount.tmpfs('size=4m')
    await using site = await makeSite(null, 2, copiesTo(join(mount.path, 'copies'))).then((made) => made.site)
    mount.remount('ro')
    await requireRunWithoutCopy(site)
  })

  test('whose folder is open to others is not made, and costs the copy, not the run', async () => {
    await using site = await makeSite(null, 2, copiesTo('/tmp')).then((made) => made.site)
    await requireRunWithoutCopy(site)
  })
})

/** A port that nobody listens on, for an agent that cannot tell its own. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Writes to `file` until the disk is full. */
function fillUp(file: string): void {
  const block = noise(1 << 16, 'filler')
  assert.throws(() => {
    for (;;) writeFileSync(file, block, { flag: 'a' })
  }, /ENOSPC/)
  // The last bytes, too.
  assert.throws(() => {
    for (;;) writeFileSync(file, 'x', { flag: 'a' })
  }, /ENOSPC/)
}
