/** Enrolment with the real programs: what works, what a person is told when it does not, and what can be run again. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { createEnrolmentCode, formatEnrolmentCode, parseEnrolmentCode } from '@central-backup/protocol'
import {
  configOf,
  dialAndProve,
  errorOf,
  hostFiles,
  makeGrant,
  requireEnrolled,
  serverFiles,
  startEnroll,
  wholeHost,
} from './harness/enrolment.ts'
import { patienceMs } from './harness/program.ts'
import { readRun, Site } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

let site: Site
before(async () => {
  site = await Site.create()
})
after(() => site?.[Symbol.asyncDispose]())

test('the line that a host prints makes it one that is backed up, and its key stays where it is', async () => {
  writeTree(site.tree('web1'), { 'etc/motd': 'hello\n' })
  const host = await startEnroll(site, 'web1')
  const line = host.line.with(2, 'web1')
  const server = await site.server('--json', ...line, '--path', site.tree('web1'))
  assert.equal(server.code, 0, server.stderr)
  const { host: name, isConfirmed, wasKnown, files } = JSON.parse(server.stdout)
  assert.deepEqual([name, isConfirmed, wasKnown], ['web1', true, false])
  const ended = await host.program.endWithin(patienceMs)
  assert.equal(ended.code, 0, ended.stderr)
  assert.equal(ended.json[1]!.event, 'enrolled')
  assert.deepEqual([ended.json[1]!.name, ended.json[1]!.problems], ['web1', []])
  await requireEnrolled(site, 'web1', host.config)

  const key = readFileSync(join(host.config, '../host.key'), 'utf8').split('\n')[1]!
  const password = readFileSync(files.secret, 'utf8').trim()
  for (const entry of readdirSync(site.home, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    assert.ok(!readFileSync(join(entry.parentPath, entry.name), 'utf8').includes(key), entry.name)
  }
  for (const file of wholeHost)
    assert.ok(!readFileSync(join(host.config, '..', file), 'utf8').includes(password))
  for (const output of [server, ended]) assert.ok(!`${output.stdout}${output.stderr}`.includes(password))

  // The same line once more: nothing waits there any more, and then the agent itself does.
  const again = await site.server('--json', ...host.line.with(2, 'web2'))
  assert.equal(again.code, 10)
  assert.match(errorOf(again).hint, /ten minutes/)
  const agent = site.startAgent(['--config', host.config])
  await agent.untilLogged(({ msg }) => msg?.includes(' listens on ') ?? false)
  const third = await site.server('--json', ...host.line.with(2, 'web2'))
  assert.equal(third.code, 12)
  assert.match(errorOf(third).message, /does not wait for an enrolment/)
  assert.deepEqual(serverFiles(site, 'web2'), [])

  const run = readRun(await site.server('run', '--json', 'web1'))
  assert.equal(run.code, 0, run.stderr)
  assert.equal(run.ends.web1!.outcome, 'complete')
})

test('a person sees one line to copy, and in the end what comes next', async () => {
  const config = configOf(site, 'people')
  const host = site.startAgent([
    '--config',
    config,
    'enroll',
    '--listen',
    '127.0.0.1:0',
    '--address',
    'web.example:7000',
  ])
  await host.until(() => {
    return host.stdout.endsWith('\n') && /Ctrl-C ends this/.test(host.stderr) ? true : undefined
  })
  const [line, ...more] = host.stdout.trim().split('\n')
  assert.deepEqual(more, [])
  assert.match(line!, /^backup-server host enroll \S+ web\.example:7000 ([0-9A-Z]{4}-){6}[0-9A-Z]{4}$/)
  host.kill('SIGINT')
  const ended = await host.endWithin(patienceMs)
  assert.equal(ended.code, 130)
  assert.match(ended.stderr, /not enrolled: stopped by Ctrl-C\nHint: /)
  assert.deepEqual(hostFiles(config), [])
})

test('a mistyped code, another code, and no key of the authority are told apart, and then the right line works', async () => {
  const host = await startEnroll(site, 'db1')
  const line = host.line.with(2, 'db1')
  const mistyped = await site.server(
    ...line.with(
      4,
      host.code.replace(/.$/, (last) => (last === 'Z' ? 'Y' : 'Z')),
    ),
  )
  assert.equal(mistyped.code, 2)
  assert.match(mistyped.stderr, /no enrolment code: a character is wrong/)

  const other = formatEnrolmentCode(createEnrolmentCode())
  const wrong = await site.server('--json', ...line.with(4, other))
  assert.equal(wrong.code, 12)
  assert.equal(errorOf(wrong).code, 'enrolment-code-wrong')
  await host.program.until(() =>
    /do not have the same enrolment code/.test(host.program.stderr) ? true : undefined,
  )

  const key = join(site.home, 'certs/ca.key')
  renameSync(key, `${key}.away`)
  const refused = host.program.stderr
  const keyless = await site.server('--json', ...line)
  renameSync(`${key}.away`, key)
  assert.equal(keyless.code, 2)
  assert.equal(errorOf(keyless).code, 'authority-missing')
  assert.equal(host.program.stderr, refused, 'nobody connected')
  assert.deepEqual([serverFiles(site, 'db1'), hostFiles(host.config)], [[], ['enrolment.key']])

  const right = await site
    .startServer(line.slice(0, 4), { input: `${host.code.toLowerCase()}\n` })
    .endWithin(patienceMs)
  assert.equal(right.code, 0, right.stderr)
  assert.equal((await host.program.endWithin(patienceMs)).code, 0)
  await requireEnrolled(site, 'db1', host.config)
})

test('nobody comes in time: the host says so, and leaves nothing', async () => {
  const host = await startEnroll(site, 'late', ['--seconds', '1'])
  const ended = await host.program.endWithin(patienceMs)
  assert.equal(ended.code, 1)
  assert.match(ended.stderr, /no server came with the code before its time was over/)
  assert.deepEqual(hostFiles(host.config), [])
})

test('a host that is set up already is not enrolled again, unless --force says so', async () => {
  const args = ['--config', configOf(site, 'web1'), 'enroll', '--listen', '127.0.0.1:0', '--seconds', '1']
  const refused = await site.startAgent(args).endWithin(patienceMs)
  assert.equal(refused.code, 2)
  assert.match(refused.stderr, /host\.key.* are there already/)
  const forced = await site.startAgent([...args, '--force']).endWithin(patienceMs)
  assert.match(forced.stderr, /no server came/)
  await requireEnrolled(site, 'web1', configOf(site, 'web1'))
})

test('who has a host set up anew in the place of another is told which certificate is still taken', async () => {
  const before = new X509Certificate(readFileSync(join(site.home, 'certs/hosts/web1.crt')))
  const host = await startEnroll(site, 'anew')
  const server = await site.server(...host.line.with(2, 'web1'), '--replace')
  assert.equal(server.code, 0, server.stderr)
  assert.match(
    server.stdout,
    new RegExp(`is still taken.*\n.*backup-server certs revoke ${before.serialNumber}\n`),
  )
  assert.equal((await host.program.endWithin(patienceMs)).code, 0)
  const revoked = await site.ask('certs', 'revoke', before.serialNumber)
  assert.equal(revoked.code, 0, revoked.stderr)
})

test('a host that is killed when it has written its files is enrolled by running both again, with the same key', async () => {
  const first = await startEnroll(site, 'killed')
  // A server that dies when the host is ready.
  const server = await dialAndProve(first.port, parseEnrolmentCode(first.code)!)
  await server.channel.send(await makeGrant(site, 'killed', server))
  await server.channel.receive(['enrolment-ready'])
  first.program.kill('SIGKILL')
  await first.program.ended
  assert.deepEqual(hostFiles(first.config), [
    'backup-host.toml',
    'ca.crt',
    'enrolment.key',
    'host.crt',
    'host.key',
  ])
  const key = readFileSync(join(first.config, '../host.key'), 'utf8')

  const second = await startEnroll(site, 'killed')
  const done = await site.server('--json', ...second.line.with(2, 'killed'))
  assert.equal(done.code, 0, done.stderr)
  assert.equal((await second.program.endWithin(patienceMs)).code, 0)
  await requireEnrolled(site, 'killed', first.config)
  assert.equal(readFileSync(join(first.config, '../host.key'), 'utf8'), key)
})
