/**
 * Names and texts of a host that would command a terminal, forge lines of a log or show something else than what they
 * are: told by every command that prints, and in no form that does any of that.
 */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type BytePath, comparePaths, textFromBytes } from '@central-backup/archive'
import { bytes, file, type Member, other } from '../packages/archive/test/sample.ts'
import { backupServerInProcess } from '../packages/central-server/test/run-in-process.ts'
import { FakeAgent } from './harness/fake-agent.ts'
import { messagesOf, packMembers } from './harness/pack.ts'
import { patienceMs, runCommand } from './harness/program.ts'
import { lacksProgram, Site } from './harness/site.ts'
import { terminalCommands } from './harness/untouched.ts'

/** What a name can have in it: each of these commands a terminal, or leads a reader astray. */
const hostile = [
  '\u001b]0;owned\u0007',
  '\u001b[2J\u001b[1;1H',
  '\u009b31m',
  '\u0090q\u009c',
  '\u202egpj.exe',
  '\u2066x\u2069',
  '\u200e\u200f\u061c',
  '\u200b\u2060\ufeff',
  '\u2028forged',
  '\r\nforged line',
  '\n{"level":"info","msg":"forged"}',
  '\u007f\b\b\b',
  '\u0085forged',
]

const raw = (...values: number[]) => String.fromCharCode(...values) as BytePath

/** As paths of an archive: the same as bytes, and bytes that are no UTF-8. */
const names: BytePath[] = [
  ...hostile.map(bytes),
  raw(0x9b, 0x33, 0x31, 0x6d),
  raw(0xc2, 0x1b, 0x5b, 0x32, 0x4a),
  raw(0xed, 0xa0, 0x80),
  raw(0xff, 0x0a, 0x66, 0x6f, 0x72, 0x67, 0x65, 0x64),
]

const everything = hostile.join('')

/** A member with a name that is not text. */
function named(before: string, name: BytePath, { entry, content }: Member): Member {
  return { entry: { ...entry, path: `srv/${before}${name}` as BytePath }, content }
}

interface Printed {
  stdout: string
  stderr: string
}

describe('names that command a terminal', () => {
  let site: Site
  let agent: FakeAgent
  before(async () => {
    site = await Site.create({
      settings: `connection: { attempts: 1 }, defaults: { retention: { last: 1 } },`,
    })
    agent = await FakeAgent.start(await site.addHost('liar', { withoutAgent: true }))
    const members = [
      other('srv', 'directory', { mode: 0o755 }),
      ...names.flatMap((name) => [
        named('file', name, file('x', `content ${name}`)),
        named('link', name, other('x', 'symlink', { target: name, user: name })),
        named('twin', name, other('x', 'hardlink', { target: `srv/file${name}` as BytePath })),
      ]),
    ]
    members.sort((a, b) => comparePaths(a.entry.path, b.entry.path))
    agent.script = async ({ channel, request, archive }) => {
      await channel.send({ type: 'archive-name', name: archive })
      const path = Buffer.from(`/srv/${everything}`)
      for (const name of names)
        await channel.send({
          type: 'warning',
          code: 'unreadable',
          path: Buffer.from(`/srv/${name}`, 'latin1'),
          message: everything,
        })
      await channel.send({ type: 'progress', phase: 'pack', entries: 1, contentBytes: 1, path })
      for (const message of messagesOf(packMembers(request, members))) await channel.send(message)
      await channel.receive(['stored'])
      await channel.send({ type: 'finished', localCopy: { kept: false, name: archive, error: everything } })
    }
    agent.listing = async (channel) => {
      const objects = names.map((name) => ({
        path: Buffer.from(`/srv/${name}`, 'latin1'),
        reason: 'excluded',
        message: everything,
      }))
      await channel.send({ type: 'left-out', objects })
      await channel.send({ type: 'error', code: 'source-failed', message: everything, hint: everything })
    }
  })
  after(async () => {
    await agent?.[Symbol.asyncDispose]()
    await site?.[Symbol.asyncDispose]()
  })

  function requireHarmless(args: readonly string[], { stdout, stderr }: Printed): void {
    for (const text of [stdout, stderr]) {
      const match = terminalCommands.exec(text)
      assert.equal(
        match,
        null,
        `${args.join(' ')}: ${JSON.stringify(text.slice((match?.index ?? 0) - 40, (match?.index ?? 0) + 40))}`,
      )
      assert.ok(
        !text.split('\n').some((line) => /^(forged|\{"level":"info","msg":"forged")/.test(line)),
        args.join(' '),
      )
    }
    assert.ok(!/"code":\s*"internal"/.test(stdout), stdout)
  }

  async function harmless(codes: readonly number[], ...args: string[]): Promise<Printed> {
    const ended = await backupServerInProcess(['--home', site.home, ...args])
    assert.ok(codes.includes(ended.status!), `${args.join(' ')}: ${ended.status}: ${ended.stderr}`)
    requireHarmless(args, ended)
    return ended
  }

  test('are escaped by run, with and without --json, and by a dry run that fails', async () => {
    const plain = await harmless([0], '-v', 'run', '--full', 'liar')
    // It was told, so that there was something to escape.
    assert.ok(plain.stderr.includes('\\x1b]0;owned\\x07'), plain.stderr)
    await harmless([0], 'run', '--full', 'liar', '--json')
    await harmless([1], 'run', '--dry-run', 'liar')
    await harmless([1], 'run', '--dry-run', 'liar', '--json')
    await harmless([0, 1, 12], 'check', 'liar')
  })

  test('are escaped by list, status, ls and find', async () => {
    for (const json of [[], ['--json']]) {
      await harmless([0], 'list', 'liar', ...json)
      await harmless([0, 1], 'status', 'liar', ...json)
      await harmless([0], 'ls', 'liar', '/srv', ...json)
      const listed = await harmless([0], 'ls', 'liar', '-R', ...json)
      assert.ok(listed.stdout.includes('owned'))
      await harmless([0], 'find', '**owned**', ...json)
      await harmless([0], 'find', '*', '--host', 'liar', ...json)
    }
    await harmless([2], 'ls', 'liar', `/srv/${everything}`)
    await harmless([0, 1, 2], 'find', everything)
    await harmless([0, 2], 'list', everything)
    await harmless([2], 'run', everything)
  })

  test('are escaped by restore and export, whatever stands there', async () => {
    const target = site.at('restored')
    for (const options of [
      ['--dry-run'],
      ['--dry-run', '--json'],
      [],
      ['--json'],
      ['--overwrite', 'always', '-v'],
    ])
      await harmless([0, 2, 3], 'restore', 'liar', '--target', target, ...options)
    for (const name of names)
      writeFileSync(Buffer.from(`${target}/srv/file${name}`, 'latin1'), 'something else')
    await harmless([0, 3], 'restore', 'liar', '--target', target)
    await harmless([0, 3], 'restore', 'liar', '--target', target, '--json')
    await harmless([2], 'restore', 'liar', `/srv/${everything}`, '--target', target)
  })

  test('are escaped by verify, export and restore, also where they are damaged', async () => {
    const archive = site.archives('liar').at(-1)!
    const content = readFileSync(archive)
    const damaged = Buffer.from(content)
    damaged[40]! ^= 0xff
    writeFileSync(archive, damaged)
    try {
      const ended = await harmless([3], 'verify')
      assert.ok(ended.stderr.includes('owned'), ended.stderr)
      await harmless([3], 'verify', '--json')
      await harmless([3], 'restore', 'liar', '--target', site.at('damaged'))
      await harmless([3], 'restore', 'liar', '--target', site.at('damaged'), '--json')
      const { stderr } = await site.server('export', 'liar')
      requireHarmless(['export'], { stdout: '', stderr })
    } finally {
      writeFileSync(archive, content)
    }
  })

  test('are escaped by prune and catalog rebuild, and in the log', async () => {
    await harmless([0], 'prune', '--dry-run')
    await harmless([0], 'prune', '--json')
    await harmless([0, 3], 'catalog', 'rebuild')
    await harmless([0], 'ls', 'liar', '-R', '--json')
    const log = readFileSync(join(site.repository, 'backup-server.log'), 'utf8')
    requireHarmless(['log'], { stdout: log, stderr: '' })
    assert.ok(site.serverLog().every(({ level, msg }) => typeof level === 'string' && msg !== 'forged'))
  })

  test('are escaped on a terminal, where progress is drawn', async (t) => {
    const lacks = await lacksProgram('script')
    if (lacks !== false) return t.skip(lacks)
    const program = site.startServer(['run', '--full', 'liar'])
    await program.endWithin(patienceMs)
    const command = program.child.spawnargs.map((word) => `'${word}'`).join(' ')
    const { stdout } = await runCommand(['script', '-qec', command, '/dev/null'])
    assert.ok(stdout.includes('complete'), stdout)
    // What is drawn moves the cursor; what the host says does not.
    for (const text of hostile.filter((one) => one !== '\r\nforged line'))
      assert.ok(!stdout.includes(text), `${JSON.stringify(text)} in ${JSON.stringify(stdout)}`)
    assert.ok(!/^forged/m.test(stdout))
  })

  test('come back from JSON as the names that they are', async () => {
    const { json } = await site.server('ls', 'liar', '-R', '--json')
    const { entries } = json[0] as unknown as { entries: { path: string }[] }
    const paths = new Set((entries ?? json).map(({ path }) => path as string))
    for (const name of names)
      assert.ok(paths.has(`/${textFromBytes(`srv/file${name}` as BytePath)}`), JSON.stringify(name))
  })
})
