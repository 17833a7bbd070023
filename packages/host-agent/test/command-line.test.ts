import assert from 'node:assert/strict'
import { test } from 'node:test'
import argon2 from 'argon2'
import { backupHost, backupHostInProcess } from './run-backup-host.ts'
import { TemporaryFolder } from './temporary-folder.ts'

test('the help tells the commands, examples and exit codes', () => {
  const { status, stdout } = backupHost(['--help'])
  assert.equal(status, 0)
  for (const word of ['init', 'check', 'hash-password', '--config', '--json', 'Examples:', 'Exit codes:'])
    assert.ok(stdout.includes(word), word)
})

test('a wrong use is 2, with a message and a hint on standard error', async () => {
  for (const args of [['frob'], ['init'], ['check', '--frob'], ['--config']]) {
    const { status, stdout, stderr } = await backupHostInProcess(args)
    assert.equal(status, 2, args.join(' '))
    assert.equal(stdout, '')
    assert.match(stderr, /^backup-host: .*\nHint: /)
  }
})

test('serving with settings that cannot be used is 2, with every problem', async () => {
  using folder = new TemporaryFolder()
  folder.write('f.toml', 'name = 1\nfrob = 2\n')
  const { status, stdout, stderr } = await backupHostInProcess(['--config', folder.at('f.toml'), '--json'])
  assert.equal(status, 2)
  assert.equal(JSON.parse(stdout).error.problems.length, 3)
  for (const key of ['name', 'frob', 'password_hash'])
    assert.match(stderr, new RegExp(`f\\.toml: ${key}: found`))
})

test('a password on standard input becomes a hash, without its newline', async () => {
  const { status, stdout } = backupHost(['hash-password'], 'correct horse\n')
  assert.equal(status, 0)
  assert.ok(await argon2.verify(stdout.trim(), 'correct horse'))
  const { passwordHash } = JSON.parse(
    (await backupHostInProcess(['hash-password', '--json'], 'correct horse')).stdout,
  )
  assert.ok(await argon2.verify(passwordHash, 'correct horse'))
})

test('no password, or one that is too long, is refused', async () => {
  for (const input of ['', '\n', 'x'.repeat(1025), 'x'.repeat(100_000)]) {
    const { status, stdout, stderr } = await backupHostInProcess(['hash-password'], input)
    assert.equal(status, 2)
    assert.equal(stdout, '')
    assert.doesNotMatch(stderr, /xxx/)
  }
})
