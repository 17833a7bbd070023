/** A server that has too few descriptors, too small files or too little memory, or whose disk does not answer for a while. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { lacksMount, Mount } from './harness/mount.ts'
import { Program, type StartOptions } from './harness/program.ts'
import { lacksProgram, type RunEnded, readRun, Site } from './harness/site.ts'
import { noise, writeTree } from './harness/tree.ts'

const skip = (await lacksProgram('prlimit')) || (await lacksProgram('fsfreeze')) || lacksMount('ext4')

/** What a run may take to end by itself, on a busy machine. */
const endMsMax = 30_000

describe('a server', { concurrency: 1, skip }, () => {
  let mount: Mount
  let site: Site
  before(async () => {
    mount = Mount.ext4(64)
    site = await Site.create({ repository: join(mount.path, 'repository') })
    const host = await site.addHost('web1')
    writeTree(site.tree('web1'), { large: noise(9_000_000, 'large'), small: 'small' })
    await host.start()
  })
  after(async () => {
    await site?.[Symbol.asyncDispose]()
    mount?.[Symbol.dispose]()
  })

  async function runWithin(options: StartOptions): Promise<RunEnded> {
    return readRun(await site.startServer(['run', '--full', '--json'], options).endWithin(endMsMax))
  }

  /** It failed, for a reason that is none of its own. */
  function requireReason(run: RunEnded, code: RegExp, message: RegExp): void {
    const error = run.ends.web1?.error ?? (run.json.at(-1)?.error as { code: string; message: string })
    assert.match(error?.code, code, run.stdout + run.stderr)
    assert.match(error.message, message)
    assert.equal(run.code, 1)
  }

  async function requireService(): Promise<void> {
    const run = await site.run()
    assert.deepEqual([run.code, run.ends.web1?.outcome], [0, 'complete'], run.stdout + run.stderr)
    assert.deepEqual(site.partials('web1'), [])
  }

  test('with fewer descriptors than it needs ends with a reason, whatever it was about to open', async () => {
    // From what Node starts with to what a run needs.
    const limits = [22, 24, 26]
    for (const limit of limits) {
      const run = await runWithin({ wrapper: ['prlimit', `--nofile=${limit}`] })
      if (run.code !== 0) requireReason(run, /^(too-many-open-files|catalog-failed)$/, /EMFILE|CANTOPEN/)
      else assert.notEqual(limit, limits[0])
    }
  })

  test('that may write no file of more than 4 MiB says so, and keeps nothing of it', async () => {
    const run = await runWithin({ wrapper: ['prlimit', `--fsize=${4 << 20}`] })
    requireReason(run, /^file-too-large$/, /EFBIG/)
    assert.deepEqual(site.partials('web1'), [])
  })

  test('that has no memory dies, and the next run makes up for it', async () => {
    const run = await runWithin({ nodeOptions: ['--max-old-space-size=8'] })
    assert.equal(run.signal, 'SIGABRT', run.stderr)
    await requireService()
  })

  test('whose disk does not answer for a while waits for it', async () => {
    // It thaws whatever becomes of this test.
    const script = 'fsfreeze --freeze "$1" && echo frozen && sleep 3; fsfreeze --unfreeze "$1"'
    const freezing = new Program(['setsid', 'sh', '-c', script, 'sh', mount.path])
    await freezing.until(() => (freezing.stdout === 'frozen\n' ? true : undefined), 'a frozen disk')
    const startedMs = performance.now()
    await requireService()
    assert.ok(performance.now() - startedMs > 2000, 'it was frozen')
    await freezing.endWithin(endMsMax)
  })
})
