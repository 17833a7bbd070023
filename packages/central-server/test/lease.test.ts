import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { Catalog } from '../src/catalog/catalog.ts'
import { endInterruptedRuns, heartbeatMs, leaseExpiryMs, takeLease } from '../src/catalog/lease.ts'
import { identifyProcess, isKnownDead, type ProcessIdentity } from '../src/catalog/process-identity.ts'
import { LeaseLostError } from '../src/errors.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const alive = { isDead: () => false }
const dead = { isDead: () => true }

/** A catalog whose clock is moved by hand. */
function openWithClock(folder: TemporaryFolder): { catalog: Catalog; clock: { nowMs: number } } {
  const clock = { nowMs: 1_000_000 }
  return { catalog: new Catalog(folder.at('catalog.sqlite'), { now: () => clock.nowMs }), clock }
}

test('one process at a time works on a host, and hosts do not keep each other waiting', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'))
  using other = new Catalog(folder.at('catalog.sqlite'))
  const lease = takeLease(catalog, 'web1')
  assert.throws(() => takeLease(other, 'web1'), {
    code: 'busy',
    message: new RegExp(`Process ${process.pid} is at work on web1`),
  })
  takeLease(other, 'web2').release()
  lease.release()
  takeLease(other, 'web1').release()
})

test('the lease of a dead owner is taken over, and its run is marked as interrupted', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'))
  const first = takeLease(catalog, 'web1')
  const id = catalog.beginRun({ host: 'web1', kind: 'full', leaseToken: first.token, startedAtMs: 1 })
  assert.throws(() => takeLease(catalog, 'web1', alive), { code: 'busy' })
  using second = takeLease(catalog, 'web1', dead)
  assert.notEqual(second.token, first.token)
  const [run] = catalog.runs()
  assert.equal(run!.id, id)
  assert.equal(run!.outcome, 'failed')
  assert.equal(run!.error?.code, 'interrupted')
  first.release()
  second.heartbeat()
})

test('a lease is kept by its heartbeat, and may be taken over a minute after the last', () => {
  using folder = new TemporaryFolder()
  const { catalog, clock } = openWithClock(folder)
  using _catalog = catalog
  using first = takeLease(catalog, 'web1')
  clock.nowMs += leaseExpiryMs
  first.heartbeat()
  clock.nowMs += leaseExpiryMs
  assert.throws(() => takeLease(catalog, 'web1', alive), { code: 'busy' })
  clock.nowMs += 1
  using _second = takeLease(catalog, 'web1', alive)
})

test('a heartbeat from the future, before the clock was set back, does not hold a host forever', () => {
  using folder = new TemporaryFolder()
  const { catalog, clock } = openWithClock(folder)
  using _catalog = catalog
  using _first = takeLease(catalog, 'web1')
  clock.nowMs -= leaseExpiryMs + 1
  using _second = takeLease(catalog, 'web1', alive)
})

test('an owner who lost its lease notices, and can neither finish its run nor begin another', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'))
  const first = takeLease(catalog, 'web1')
  const run = { host: 'web1', kind: 'full', leaseToken: first.token, startedAtMs: 1 } as const
  const id = catalog.beginRun(run)
  using second = takeLease(catalog, 'web1', dead)
  assert.throws(() => first.heartbeat(), LeaseLostError)
  assert.throws(() => catalog.beginRun(run), LeaseLostError)
  const result = {
    outcome: 'complete',
    kind: 'full',
    error: null,
    archive: null,
    contentBytes: 0,
    counts: {},
    warningCount: 0,
    warnings: [],
  } as const
  assert.throws(() => catalog.finishRun(id, result), LeaseLostError)
  assert.equal(catalog.runs()[0]!.error?.code, 'interrupted')
  first.release()
  second.heartbeat()
})

test('the timer renews the lease, and aborts the work once the lease is lost', (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] })
  using folder = new TemporaryFolder()
  const { catalog, clock } = openWithClock(folder)
  using _catalog = catalog
  using first = takeLease(catalog, 'web1')
  for (let beat = 0; beat < 20; beat++) {
    clock.nowMs += heartbeatMs
    context.mock.timers.tick(heartbeatMs)
    assert.throws(() => takeLease(catalog, 'web1', alive), { code: 'busy' })
  }
  assert.equal(first.signal.aborted, false)
  using _second = takeLease(catalog, 'web1', dead)
  context.mock.timers.tick(heartbeatMs)
  assert.ok(first.signal.reason instanceof LeaseLostError)
})

/** A process at work on web1, and the run that it has begun. */
async function startHolder(file: string) {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'hold-lease.ts'), file, 'web1'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { child, line }
}

test('a process that was killed holds nobody up, who was at work before neither', async () => {
  using folder = new TemporaryFolder()
  const file = folder.at('catalog.sqlite')
  using catalog = new Catalog(file)
  const { child, line } = await startHolder(file)
  assert.throws(() => takeLease(catalog, 'web1'), { code: 'busy' })
  child.kill('SIGKILL')
  await once(child, 'exit')
  takeLease(catalog, 'web1').release()
  const { outcome, error } = catalog.run(Number(String(line)))!
  assert.deepEqual([outcome, error?.code], ['failed', 'interrupted'])
})

test('a process that was killed holds nobody up', async () => {
  using folder = new TemporaryFolder()
  const file = folder.at('catalog.sqlite')
  using catalog = new Catalog(file)
  const { child, line } = await startHolder(file)
  assert.throws(() => takeLease(catalog, 'web1'), { code: 'busy', message: new RegExp(String(child.pid)) })
  assert.deepEqual(endInterruptedRuns(catalog), [])
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.deepEqual(endInterruptedRuns(catalog), [Number(String(line))])
  assert.deepEqual(endInterruptedRuns(catalog), [])
  takeLease(catalog, 'web1').release()
})

test('a run whose process ended without a word, but released its lease, is ended at the next start', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'))
  const lease = takeLease(catalog, 'web1')
  const id = catalog.beginRun({ host: 'web1', kind: 'full', leaseToken: lease.token, startedAtMs: 1 })
  lease.release()
  assert.deepEqual(endInterruptedRuns(catalog), [id])
})

test('who is known to be dead: only a process of this machine whose number is gone or used again', () => {
  const self = identifyProcess()
  const known = (other: Partial<ProcessIdentity>) => isKnownDead({ ...self, ...other }, self)
  assert.equal(known({}), false)
  assert.equal(known({ processStart: '1' }), true)
  assert.equal(known({ pid: 2 ** 22 + 1 }), true)
  assert.equal(known({ bootId: 'another' }), true)
  assert.equal(known({ pid: 2 ** 22 + 1, pidNamespace: 'another container' }), false)
  assert.equal(known({ pid: 2 ** 22 + 1, machine: 'another machine', bootId: 'another' }), false)
})
