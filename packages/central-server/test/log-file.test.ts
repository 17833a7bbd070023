import assert from 'node:assert/strict'
import fs, { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { test } from 'node:test'
import { LogFile } from '../src/log-file.ts'
import { TemporaryFolder } from './temporary-folder.ts'

test('lines that a disk does not take are lost, and the next says how many', (context) => {
  using folder = new TemporaryFolder()
  const file = folder.at('server.log')
  const log = new LogFile(file)
  log.write('{"n":1}\n')
  const { writeSync } = fs
  let room = 4
  const full = context.mock.method(fs, 'writeSync', ((descriptor: number, bytes: Buffer, offset: number) => {
    if (room === 0) throw Object.assign(new Error('full'), { code: 'ENOSPC' })
    const length = Math.min(room, bytes.length - offset)
    room -= length
    return writeSync(descriptor, bytes, offset, length)
  }) as typeof writeSync)
  syncBuiltinESMExports()
  log.write('{"n":2}\n')
  log.write('{"n":3}\n')
  full.mock.restore()
  syncBuiltinESMExports()
  log.write('{"n":4}\n')
  log.write('{"n":5}\n')
  log.close()
  assert.deepEqual(readFileSync(file, 'utf8').split('\n'), [
    '{"n":1}',
    '{"n"',
    '{"level":"warn","msg":"2 lines were lost here"}',
    '{"n":4}',
    '{"n":5}',
    '',
  ])
})

test('what could command a terminal is escaped, and means the same', () => {
  using folder = new TemporaryFolder()
  const log = new LogFile(folder.at('server.log'))
  const path = '/etc/\u009b31m\u202e\u2028\u007f\u200b'
  log.write(`${JSON.stringify({ path })}\n`)
  log.close()
  const text = readFileSync(folder.at('server.log'), 'utf8')
  assert.match(text, /^[\x20-\x7e]+\n$/)
  assert.deepEqual(JSON.parse(text), { path })
})

test('a log that cannot be opened is an error that says why', () => {
  using folder = new TemporaryFolder()
  assert.throws(() => new LogFile(folder.at('missing', 'server.log')), {
    code: 'storage-failed',
    message: /Cannot open the log .*: ENOENT/,
  })
})
