import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { ProtocolError } from '@central-backup/protocol'
import argon2 from 'argon2'
import { PasswordGate } from '../src/password-gate.ts'

const right = 'the right password'
let hash = ''

before(async () => {
  // As cheap as argon2 goes: what is tested is the waiting.
  hash = await argon2.hash(right, { type: argon2.argon2id, memoryCost: 1024, timeCost: 2, parallelism: 1 })
})

const noHurry = new AbortController().signal

async function measure(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await work()
  return performance.now() - startedMs
}

test('the right password is right, and any other is not', async () => {
  const gate = new PasswordGate()
  assert.equal(await gate.verify('a', hash, right, noHurry), true)
  assert.equal(await gate.verify('b', hash, '', noHurry), false)
  assert.equal(await gate.verify('c', hash, `${right} `, noHurry), false)
  assert.equal(await gate.verify('d', hash, right.toUpperCase(), noHurry), false)
})

test('each failed attempt makes the next one wait longer, and a right one ends that', async () => {
  const gate = new PasswordGate()
  const attempt = (password: string) => measure(() => gate.verify('server', hash, password, noHurry))
  await attempt('wrong')
  const delays = [await attempt('wrong'), await attempt('wrong')]
  for (const [i, ms] of delays.entries()) {
    assert.ok(ms >= 245 * 2 ** i, `the wait after ${i + 1} failures took ${ms} ms`)
  }
  assert.ok((await attempt(right)) >= 995, 'the right password waits like any other')
  // Without the reset these two would wait for a second each.
  assert.ok((await attempt(right)) + (await attempt(right)) < 1_500, 'a right password forgets the failures')
})

test('the failures of one server are no delay for another', async () => {
  const gate = new PasswordGate()
  for (let i = 0; i < 3; i++) await gate.verify('clumsy', hash, 'wrong', noHurry)
  const clumsy = gate.verify('clumsy', hash, right, noHurry)
  let clumsyDone = false
  void clumsy.then(() => {
    clumsyDone = true
  })
  assert.equal(await gate.verify('careful', hash, right, noHurry), true)
  assert.equal(clumsyDone, false, 'the careful one was done while the clumsy one still waited')
  assert.equal(await clumsy, true)
})

test('attempts of one server come one after the other, so that none gets past the delay of another', async () => {
  const gate = new PasswordGate()
  const startedMs = performance.now()
  const all = await Promise.all(
    ['wrong', 'wrong', right].map((password) => gate.verify('server', hash, password, noHurry)),
  )
  assert.deepEqual(all, [false, false, true])
  assert.ok(performance.now() - startedMs >= 250 + 500 - 5)
})

test('of too many attempts at once those beyond the eighth are turned away', async () => {
  const gate = new PasswordGate()
  const leave = new AbortController()
  const attempts = Array.from({ length: 20 }, () => gate.verify('server', hash, 'wrong', leave.signal))
  const turnedAway = attempts.slice(8)
  for (const result of await Promise.allSettled(turnedAway)) {
    assert.ok(result.status === 'rejected' && result.reason instanceof ProtocolError)
    assert.equal(result.reason.code, 'busy')
  }
  assert.equal(await gate.verify('another', hash, right, noHurry), true)
  leave.abort(new Error('gone'))
  const waiting = await Promise.allSettled(attempts.slice(0, 8))
  // The first of them had nothing to wait for.
  assert.ok(waiting.slice(1).every(({ status }) => status === 'rejected'))
})

test('who hangs up while waiting makes room at once, and still counts what failed', async () => {
  const gate = new PasswordGate()
  for (let i = 0; i < 3; i++) await gate.verify('server', hash, 'wrong', noHurry)
  const gone = new Error('the server hung up')
  const leave = new AbortController()
  const waiting = Array.from({ length: 8 }, () => gate.verify('server', hash, right, leave.signal))
  await assert.rejects(gate.verify('server', hash, right, noHurry), { code: 'busy' })
  leave.abort(gone)
  for (const result of await Promise.allSettled(waiting)) {
    assert.ok(result.status === 'rejected' && result.reason === gone)
  }
  const ms = await measure(() => gate.verify('server', hash, right, noHurry))
  assert.ok(ms >= 995, `the wait after three failures took ${ms} ms`)
})

test('who has hung up before it began is not verified', async () => {
  const gone = new Error('gone')
  await assert.rejects(
    new PasswordGate().verify('server', hash, right, AbortSignal.abort(gone)),
    (error) => error === gone,
  )
})

test('a hash that argon2 cannot read throws, and the next attempt is verified all the same', async () => {
  const gate = new PasswordGate()
  await assert.rejects(gate.verify('server', 'no hash', right, noHurry))
  assert.equal(await gate.verify('server', hash, right, noHurry), true)
})

test('10,000 wrong passwords, one after the other or all at once, change nothing but the wait', async () => {
  const cheap = await argon2.hash(right, {
    type: argon2.argon2id,
    memoryCost: 8,
    timeCost: 2,
    parallelism: 1,
  })
  const gate = new PasswordGate()
  const told = { wrong: 0, busy: 0 }
  const left = new AbortController()
  const all = Array.from({ length: 5000 }, async () => {
    try {
      assert.equal(await gate.verify('crowd', cheap, 'wrong', left.signal), false)
      told.wrong++
    } catch (error) {
      if ((error as ProtocolError).code === 'busy') told.busy++
    }
    // The others of the eight would wait ever longer.
    if (told.wrong === 2) left.abort(new ProtocolError('connection-lost'))
  })
  await Promise.all(all)
  assert.deepEqual(told, { wrong: 2, busy: 4992 })

  const waits: number[] = []
  const hurried = new PasswordGate(async (ms) => void waits.push(ms))
  const round = async () => {
    for (let i = 0; i < 1250; i++)
      assert.equal(await hurried.verify('patient', cheap, 'wrong', noHurry), false)
    return process.memoryUsage().rss
  }
  const [first, ...later] = [await round(), await round(), await round(), await round()]
  assert.ok(later.at(-1)! - first! < 32 * 1024 * 1024, 'memory grows with failures')
  assert.deepEqual(waits.slice(0, 8), [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000])
  assert.deepEqual([waits.length, waits.at(-1)], [4999, 15_000])
  assert.equal(await hurried.verify('patient', cheap, right, noHurry), true)
})
