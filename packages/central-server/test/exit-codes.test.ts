import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ProtocolError, type ProtocolErrorCode, protocolErrors } from '@central-backup/protocol'
import { BusyError, StoppedBySignalError, StorageError } from '../src/errors.ts'
import { type ExitCode, exitCodeOfError, exitCodeOfOutcome, worstExitCode } from '../src/exit-codes.ts'

test('errors of the server and of the protocol have the exit codes that are promised', () => {
  const protocol = (code: ProtocolErrorCode) => exitCodeOfError(new ProtocolError(code))
  assert.equal(protocol('connection-refused'), 10)
  assert.equal(protocol('name-not-found'), 10)
  assert.equal(protocol('wrong-host'), 12)
  assert.equal(protocol('authentication-failed'), 12)
  assert.equal(protocol('stalled'), 1)
  assert.equal(protocol('busy'), 13)
  assert.equal(exitCodeOfError(new BusyError('x')), 13)
  assert.equal(exitCodeOfError(new StorageError('not-mounted', 'x')), 11)
  assert.equal(exitCodeOfError(new StorageError('disk-full', 'x')), 1)
  assert.equal(exitCodeOfError(new StoppedBySignalError('SIGINT')), 130)
  assert.equal(exitCodeOfError(new StoppedBySignalError('SIGTERM')), 143)
})

test('what is no error of ours is 1, and no error is ever 0', () => {
  for (const error of [
    new Error('x'),
    Object.assign(new Error('x'), { code: 'ENOENT' }),
    { code: 'constructor' },
    null,
    undefined,
    'x',
  ]) {
    assert.equal(exitCodeOfError(error), 1)
  }
  for (const code of Object.keys(protocolErrors))
    assert.notEqual(exitCodeOfError(new ProtocolError(code as ProtocolErrorCode)), 0)
})

test('outcomes have their exit codes, and --strict takes changes for incomplete', () => {
  assert.equal(exitCodeOfOutcome('complete', null, true), 0)
  assert.equal(exitCodeOfOutcome('complete-with-changes', null, false), 0)
  assert.equal(exitCodeOfOutcome('complete-with-changes', null, true), 3)
  assert.equal(exitCodeOfOutcome('incomplete', new ProtocolError('connection-lost'), false), 3)
  assert.equal(exitCodeOfOutcome('failed', new ProtocolError('connection-refused'), false), 10)
  assert.equal(exitCodeOfOutcome('failed', null, false), 1)
})

test('of several hosts the worst one wins', () => {
  const order: ExitCode[] = [0, 3, 13, 10, 12, 1, 2, 11, 130, 143]
  assert.equal(worstExitCode([]), 0)
  assert.equal(worstExitCode(order), 143)
  for (let index = 1; index < order.length; index++) {
    assert.equal(worstExitCode([order[index]!, order[index - 1]!]), order[index])
    assert.equal(worstExitCode([order[index - 1]!, order[index]!]), order[index])
  }
})
