/**
 * Commands that a host runs before and after backups: its own settings have them, a server only names them. With real
 * programs, and with a server that is in the wrong hands.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { type Channel, type Message, type MessageOf, ProtocolError } from '@central-backup/protocol'
import { encodePayload } from '../packages/protocol/src/payload.ts'
import { serverCredentials } from './harness/certificates.ts'
import { bytesOf, dialTls, provoke, rawMessage } from './harness/dialer.ts'
import { authenticationOf, helloOf, requestOf } from './harness/in-process-run.ts'
import { patienceMs } from './harness/program.ts'
import { logIn } from './harness/restore-session.ts'
import { Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

/** A host with scripts for hooks, which tell in a file that they were run. */
class HookedHost {
  readonly site: Site
  readonly host: TestHost
  readonly folder: string

  constructor(site: Site, host: TestHost) {
    this.site = site
    this.host = host
    this.folder = site.at('hooks')
    mkdirSync(this.folder, { recursive: true })
  }

  /** Writes a script, and its section of the settings. It tells its name and outcome in `told`, and then does `text`. */
  add(name: string, when: string, text = '', fields = ''): void {
    const path = join(this.folder, name)
    const tell = `echo "${name} $CENTRAL_BACKUP_WHEN \${CENTRAL_BACKUP_OUTCOME:--}" >> ${this.folder}/told`
    writeFileSync(path, `#!/bin/sh\n${tell}\n${text}\n`)
    chmodSync(path, 0o700)
    const section = `\n[hooks.${name}]\ncommand = [${JSON.stringify(path)}]\nwhen = "${when}"\n${fields}\n`
    this.host.configure((before) => before + section)
  }

  /** What hooks were run since this was asked for the last time. */
  told(): string[] {
    const file = join(this.folder, 'told')
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []
    writeFileSync(file, '')
    return lines
  }

  /** Resolves when so many hooks were run. */
  async untilTold(count: number): Promise<string[]> {
    const file = join(this.folder, 'told')
    await eventually(() => existsSync(file) && readFileSync(file, 'utf8').split('\n').length > count)
    return this.told()
  }

  /** What the host module asks for. */
  ask(hooks: string): void {
    this.host.changeModule((text) =>
      text.replace(/(?:\n {2}hooks:.*)?\n\} satisfies/, `\n  hooks: ${hooks},\n} satisfies`),
    )
  }
}

async function makeHost(site: Site): Promise<HookedHost> {
  const host = await site.addHost('web1', { settings: `[limits]\ncompress_threads = 1` })
  host.configure((text) => `state_directory = ${JSON.stringify(site.at('state'))}\n${text}`)
  writeTree(site.tree('web1'), { 'etc/motd': 'hello\n' })
  return new HookedHost(site, host)
}

async function eventually(look: () => boolean): Promise<void> {
  const untilMs = performance.now() + patienceMs
  while (!look()) {
    assert.ok(performance.now() < untilMs, 'it never came to that')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Says `request` after a login. Returns what comes after it, up to `until` or the error that ends it. */
async function say(
  { host }: HookedHost,
  request: Message,
  until: (message: Message) => boolean,
): Promise<{ channel: Channel; messages: Message[]; error: ProtocolError | null }> {
  const { channel } = await logIn(host)
  const messages: Message[] = []
  try {
    await channel.send(request)
    for (;;) {
      const types = [
        'archive-name',
        'entries',
        'frame',
        'warning',
        'progress',
        'summary',
        'finished',
      ] as const
      const message = await channel.receive(types)
      messages.push(message)
      if (until(message)) return { channel, messages, error: null }
    }
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String(error))
    return { channel, messages, error }
  }
}

describe('hooks of a host', () => {
  let site: Site
  let hooked: HookedHost
  before(async () => {
    site = await Site.create()
    hooked = await makeHost(site)
    const dump = join(site.tree('web1'), 'dump.sql')
    hooked.add('dump-db', 'before', `echo dumped > ${dump}; echo "dumping $CENTRAL_BACKUP_KIND"`)
    hooked.add(
      'thaw',
      'after-always',
      `ls ${site.repository}/archives/web1 > ${site.at('stored')}`,
      'run = "always"',
    )
    hooked.add(
      'report',
      'after',
      `rm -f ${dump}; test ! -e ${site.at('break-report')} || { echo no mail; exit 7; }`,
    )
    hooked.add('broken', 'before', `printf 'it\\033[2J is\\nbroken\\n' >&2; exit 3`)
    hooked.add('shaky', 'before', 'exit 4', 'on_failure = "warn"\ntell_output = false')
    await hooked.host.start()
  })
  after(() => site?.[Symbol.asyncDispose]())
  beforeEach(() => void hooked.told())

  test('run before anything is read and after the archive is stored, as the settings and the module say', async () => {
    hooked.ask(`{ before: ['dump-db'], after: ['report'] }`)
    const { code, stderr, ends } = await site.run()
    assert.equal(code, 0, stderr)
    const { outcome, counts, archive, warningCount } = ends.web1!
    assert.deepEqual([outcome, counts.files, warningCount], ['complete', 2, 0])
    assert.deepEqual(hooked.told(), ['dump-db before -', 'thaw after complete', 'report after complete'])
    assert.equal(readFileSync(site.at('stored'), 'utf8'), `${archive!.name}\n`)
    const line = await hooked.host.agent.untilLogged(({ msg }) => msg === 'dump-db: dumping full')
    assert.equal(line.hook, 'dump-db')
    assert.deepEqual(readdirSync(site.at('state')), [], 'nothing is owed')
  })

  test('are told by check, and one that the host does not have is a problem of the module', async () => {
    hooked.ask(`{ before: ['dump-db'] }`)
    const good = await site.server('check', 'web1')
    assert.equal(good.code, 0, good.stdout)
    assert.match(
      good.stdout,
      /runs dump-db \(before\), thaw \(after-always, always\), report \(after\), broken/,
    )
    hooked.ask(`{ before: ['report'], after: ['nothing'] }`)
    const bad = await site.server('check', 'web1')
    assert.equal(bad.code, 1)
    assert.match(bad.stdout, /have no hook report before or nothing after a backup/)
    const { ends } = await site.run()
    assert.equal(ends.web1!.error!.code, 'policy-denied')
    assert.deepEqual(hooked.told(), [])
  })

  test('that fail before the run fail it in words, before anything is read, and what always comes after runs', async () => {
    hooked.ask(`{ before: ['broken', 'dump-db'], after: ['report'] }`)
    const files = site.files('web1')
    const { code, ends, warnings } = await site.run()
    assert.equal(code, 1)
    const { outcome, error } = ends.web1!
    assert.equal(outcome, 'failed')
    assert.deepEqual(
      [error!.code, error!.message],
      ['hook-failed', 'the hook broken failed with exit code 3'],
    )
    assert.deepEqual(
      warnings.map(({ code, message }) => [code, message]),
      [
        ['hook-failed', 'the hook broken failed with exit code 3'],
        ['hook-output', 'broken: it\ufffd[2J is'],
        ['hook-output', 'broken: broken'],
      ],
    )
    assert.deepEqual(await hooked.untilTold(2), ['broken before -', 'thaw after failed'])
    assert.deepEqual(site.files('web1'), files)
  })

  test('that may fail, and those after a run, cost a warning, which the catalog keeps', async () => {
    writeFileSync(site.at('break-report'), '')
    hooked.ask(`{ before: ['shaky'], after: ['report'] }`)
    const { code, ends, warnings } = await site.run()
    assert.equal(code, 0)
    assert.deepEqual([ends.web1!.outcome, ends.web1!.warningCount], ['complete', 3])
    const told = [
      'the hook shaky failed with exit code 4',
      'the hook report failed with exit code 7',
      'report: no mail',
    ]
    assert.deepEqual(
      warnings.map(({ message }) => message),
      told,
    )
    const [list] = (await site.ask('list', 'web1', '--json')).json as unknown as [
      { runs: { id: number; warnings: { message: string }[] }[] },
    ]
    const listed = list.runs.find(({ id }) => id === ends.web1!.run)
    assert.deepEqual(
      listed!.warnings.map(({ message }) => message),
      told,
    )
  })
})

describe('a server in the wrong hands', () => {
  let site: Site
  let hooked: HookedHost
  const hooksOf = (hooks: MessageOf<'backup'>['hooks']) => requestOf(hooked.host, { hooks })
  before(async () => {
    site = await Site.create()
    hooked = await makeHost(site)
    hooked.add('freeze', 'before', `cat ${site.at('gate')}`)
    hooked.add('seldom', 'before', '', 'runs_per_hour = 2')
    hooked.add('thaw', 'after-always')
    await hooked.host.start()
  })
  after(() => site?.[Symbol.asyncDispose]())
  beforeEach(() => {
    hooked.told()
    writeFileSync(site.at('gate'), '')
  })

  test('runs no hook that is not listed, nor at another time, nor with words of its own', async () => {
    for (const hooks of [
      { before: ['rm'], after: [] },
      { before: ['thaw'], after: [] },
      { before: [], after: ['freeze'] },
      { before: ['constructor'], after: ['__proto__'.replaceAll('_', 'x')] },
    ]) {
      const { error, messages } = await say(hooked, hooksOf(hooks), () => false)
      assert.equal(error!.code, 'policy-denied')
      assert.deepEqual(messages, [])
    }
    for (const name of ['', 'freeze -f', '../freeze', '/bin/sh', 'freeze\n', 'a'.repeat(64)]) {
      const { type: _, ...fields } = hooksOf({ before: [name], after: [] })
      const socket = await dialTls(hooked.host.port, serverCredentials(site))
      const login = [helloOf(site), authenticationOf(hooked.host)].map(bytesOf)
      const code = await provoke(socket, ...login, rawMessage(5, encodePayload(fields)))
      assert.equal(code, 'message-malformed', name)
    }
    assert.deepEqual(hooked.told(), [])
  })

  test('runs each no more often than the settings say, however often it is named', async () => {
    const request = hooksOf({ before: ['seldom', 'seldom', 'seldom'], after: [] })
    for (let count = 1; count <= 2; count++) {
      const { channel } = await say(hooked, request, ({ type }) => type === 'summary')
      channel.destroy()
      assert.deepEqual(await hooked.untilTold(1), ['seldom before -'])
      await hooked.host.agent.until(
        () => (failures(hooked).length >= count ? true : undefined),
        'the end of the session',
      )
    }
    const { error, messages } = await say(hooked, request, () => false)
    assert.equal(error!.code, 'busy')
    assert.match(
      error!.message,
      /^the hook seldom has run 2 times within an hour, and may not run again for \d+ min$/,
    )
    assert.deepEqual([messages, hooked.told()], [[], []])
  })

  test('that goes away ends the hook at work, and what always comes after runs, once, while others wait for it', async () => {
    // Somebody holds the gate open, so that the hook reads from it for ever.
    spawnSync('sh', ['-c', `rm ${site.at('gate')}; mkfifo ${site.at('gate')}`])
    const holder = spawn('sh', ['-c', `exec sleep 1000 3<> ${site.at('gate')}`])
    try {
      const isPreparing = (message: Message) => message.type === 'progress' && message.phase === 'prepare'
      const request = hooksOf({ before: ['freeze'], after: ['thaw'] })
      const { channel, messages } = await say(hooked, request, isPreparing)
      assert.deepEqual(
        messages.map(({ type }) => type),
        ['archive-name', 'progress'],
        'an agent whose hook is at work says so',
      )
      const other = await say(hooked, hooksOf({ before: ['seldom'], after: ['thaw'] }), () => false)
      assert.equal(other.error!.code, 'busy')
      assert.deepEqual(hooked.told(), ['freeze before -'])
      channel.destroy()
      assert.deepEqual(await hooked.untilTold(1), ['thaw after failed'])
      assert.equal((await say(hooked, requestOf(hooked.host), ({ type }) => type === 'summary')).error, null)
    } finally {
      holder.kill('SIGKILL')
    }
  })
})

function failures({ host }: HookedHost) {
  return host.agent.log.filter(({ msg }) => msg?.startsWith('session failed'))
}

describe('an agent', () => {
  let site: Site
  let hooked: HookedHost
  before(async () => {
    site = await Site.create()
    hooked = await makeHost(site)
    hooked.add('snapshot', 'before', `test ! -e ${site.at('slow')} || exec sleep 1000`, 'run = "always"')
    hooked.add(
      'drop',
      'after-always',
      `echo "$CENTRAL_BACKUP_RUN_ID $CENTRAL_BACKUP_INTERRUPTED" >> ${site.at('dropped')}`,
      'run = "always"',
    )
    hooked.add('mail', 'after', '', 'run = "always"')
    writeFileSync(site.at('slow'), '')
    await hooked.host.start()
  })
  after(() => site?.[Symbol.asyncDispose]())
  beforeEach(() => void hooked.told())

  const begin = async () => {
    const { channel } = await say(hooked, requestOf(hooked.host), ({ type }) => type === 'archive-name')
    channel.receive(['progress']).catch(() => {})
    assert.deepEqual(await hooked.untilTold(1), ['snapshot before -'])
  }

  test('that is told to end stops the hook at work, and runs what always comes after before it does', async () => {
    await begin()
    const { code } = await hooked.host.stop()
    assert.equal(code, 0)
    assert.deepEqual(hooked.told(), ['drop after failed'])
    assert.deepEqual(readdirSync(site.at('state')), [])
    await hooked.host.start()
    assert.deepEqual(hooked.told(), [])
  })

  test('that is killed makes up for it at the next start, once', async () => {
    await begin()
    await hooked.host.stop('SIGKILL')
    assert.deepEqual(hooked.told(), [])
    assert.deepEqual(readdirSync(site.at('state')), ['owed-hooks.json'])
    await hooked.host.start()
    assert.deepEqual(await hooked.untilTold(1), ['drop after failed'])
    await eventually(() => readdirSync(site.at('state')).length === 0)
    assert.match(readFileSync(site.at('dropped'), 'utf8'), /Z-full 1\n$/)
    await hooked.host.stop()
    await hooked.host.start()
    assert.deepEqual(hooked.told(), [])
  })

  test('that is started beside one at work leaves alone what that has to make up for', async () => {
    const { config, port } = hooked.host
    const before = readFileSync(config, 'utf8')
    hooked.host.configure((text) => text.replace(/^listen = .*$/m, `listen = "127.0.0.1:${port}"`))
    try {
      await begin()
      const second = await site.startAgent(['--config', config]).endWithin(patienceMs)
      assert.equal(second.code, 1)
      assert.match(second.stderr, /^backup-host: Cannot listen: listen EADDRINUSE/)
      assert.deepEqual(hooked.told(), [])
      assert.deepEqual(readdirSync(site.at('state')), ['owed-hooks.json'])
      await hooked.host.stop()
      assert.deepEqual(hooked.told(), ['drop after failed'])
    } finally {
      hooked.host.configure(() => before)
      if (!hooked.host.isRunning) await hooked.host.start()
    }
  })

  test('does not believe a note of what it owes that others can have written', async () => {
    await hooked.host.stop()
    const note = { hooks: ['drop'], variables: {} }
    writeFileSync(site.at('state', 'owed-hooks.json'), JSON.stringify(note))
    chmodSync(site.at('state', 'owed-hooks.json'), 0o666)
    const agent = await hooked.host.start()
    await agent.untilLogged(({ msg }) => msg?.includes('others may have written') ?? false)
    assert.deepEqual(hooked.told(), [])
  })

  test('runs no command that others may write to, whether they could at the start or only later', async () => {
    const command = join(hooked.folder, 'snapshot')
    chmodSync(command, 0o777)
    const { error } = await say(hooked, requestOf(hooked.host), () => false)
    assert.equal(error!.code, 'hook-failed')
    assert.match(error!.message, /^the hook snapshot is not run: .*found mode 0777/)
    assert.deepEqual(await hooked.untilTold(1), ['drop after failed'])
    await hooked.host.stop()
    const refused = await site.startAgent(['--config', hooked.host.config]).ended
    assert.equal(refused.code, 2)
    assert.match(
      refused.stderr,
      /hooks\/snapshot: found mode 0777; expected a file that only its owner may write to/,
    )
  })
})
