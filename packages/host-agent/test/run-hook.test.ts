import assert from 'node:assert/strict'
import { chmodSync, chownSync, closeSync, existsSync, openSync, readFileSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { findCommandProblems, findCommandRisks } from '../src/hooks/command-trust.ts'
import type { Hook } from '../src/hooks/hook.ts'
import { runHook } from '../src/hooks/run-hook.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const uid = process.geteuid!()

/** Writes a script of sh into the folder. Returns its path. */
function script(folder: TemporaryFolder, text: string, name = 'hook'): string {
  folder.write(name, `#!/bin/sh\n${text}\n`)
  chmodSync(folder.at(name), 0o700)
  return folder.at(name)
}

function hookOf(command: string[], fields: Partial<Hook> = {}): Hook {
  return {
    name: 'a-hook',
    command,
    when: 'before',
    always: false,
    timeLimitMs: 60_000,
    failsRun: true,
    runsPerHour: 12,
    tellsOutput: true,
    ...fields,
  }
}

const patient = { timeLimitMs: 60_000 }

/** Whether a process is there that is no zombie. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function gone(pid: number): Promise<void> {
  const untilMs = performance.now() + 20_000
  while (isAlive(pid)) {
    assert.ok(performance.now() < untilMs, `process ${pid} is still there`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

test('a hook gets its arguments as they are, and nothing of the agent: no environment, input, file or terminal', async () => {
  using folder = new TemporaryFolder()
  process.env.SECRET_OF_THE_AGENT = 'x'
  const held = openSync(folder.write('held', ''), 'r+')
  const listener = createServer().listen(0, '127.0.0.1').unref()
  const command = script(
    folder,
    `printf '%s|' "$@" > ${folder.at('arguments')}
     env | sort > ${folder.at('environment')}
     pwd > ${folder.at('folder')}
     cat > ${folder.at('input')}
     ls -l /proc/self/fd > ${folder.at('descriptors')}
     cut -d' ' -f5,6 /proc/$$/stat > ${folder.at('group')}; echo $$ > ${folder.at('pid')}`,
  )
  const hook = hookOf([command, '$(id)', 'a b', '*', ''])
  const end = await runHook(hook, { CENTRAL_BACKUP_RUN_ID: 'run; rm -rf /' }, patient)
  assert.deepEqual([end.failure, end.lines], [null, []])
  assert.equal(folder.textOf('arguments'), '$(id)|a b|*||')
  // A shell sets the last two by itself.
  assert.deepEqual(
    folder
      .textOf('environment')
      .split('\n')
      .filter((line) => line !== '' && !/^(?:_|PWD|SHLVL|OLDPWD)=/.test(line)),
    [
      'CENTRAL_BACKUP_HOOK=a-hook',
      'CENTRAL_BACKUP_RUN_ID=run; rm -rf /',
      'HOME=/',
      'LANG=C.UTF-8',
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ],
  )
  assert.equal(folder.textOf('folder'), '/\n')
  assert.equal(folder.textOf('input'), '')
  // Beyond the first three, whoever started the test may have left something.
  const open = [...folder.textOf('descriptors').matchAll(/ (\d+) -> (.*)$/gm)]
  assert.ok(open.length >= 3)
  for (const [line, number, target] of open)
    if (Number(number) > 2)
      assert.ok(!/^socket:|^anon_inode:/.test(target!) && target !== folder.at('held'), line)
  const pid = folder.textOf('pid').trim()
  assert.equal(folder.textOf('group').trim(), `${pid} ${pid}`, 'its own process group and session')
  closeSync(held)
  listener.close()
})

test('how a hook ended is told in words', async () => {
  using folder = new TemporaryFolder()
  const ends = async (text: string) => (await runHook(hookOf([script(folder, text)]), {}, patient)).failure
  assert.equal(await ends('exit 0'), null)
  assert.equal(await ends('exit 3'), 'failed with exit code 3')
  assert.equal(await ends('kill -SEGV $$'), 'was ended by SIGSEGV')
  const none = await runHook(hookOf([folder.at('nothing')]), {}, patient)
  assert.match(none.failure!, /is not run: .* found no file/)
  folder.write('bad', '#!/no/such/interpreter\n')
  chmodSync(folder.at('bad'), 0o700)
  assert.match(
    (await runHook(hookOf([folder.at('bad')]), {}, patient)).failure!,
    /cannot be started: .*ENOENT/,
  )
})

test('a hook that takes too long is killed with all that it has started, also where that ignores the signal', async () => {
  using folder = new TemporaryFolder()
  const command = script(
    folder,
    `trap '' TERM; sleep 1000 & echo $! > ${folder.at('child')}
     (trap '' TERM HUP; echo $$ > ${folder.at('pid')}; sleep 1001 & echo $! > ${folder.at('grandchild')}; wait; sleep 1002) &
     wait; wait; sleep 1003`,
  )
  const end = await runHook(hookOf([command]), {}, { timeLimitMs: 1500 })
  assert.match(end.failure!, /^was stopped after 1\.5 s, its time limit$/)
  assert.ok(end.seconds < 20, `${end.seconds} s`)
  for (const name of ['child', 'grandchild', 'pid']) await gone(Number(folder.textOf(name)))
})

test('a hook that nobody needs any more is ended at once, and one that was not begun does not begin', async () => {
  using folder = new TemporaryFolder()
  const command = script(folder, `echo $$ > ${folder.at('pid')}; exec sleep 1000`)
  const leaving = new AbortController()
  const running = runHook(hookOf([command]), {}, { ...patient, signal: leaving.signal })
  while (!existsSync(folder.at('pid')) || folder.textOf('pid') === '')
    await new Promise((resolve) => setTimeout(resolve, 5))
  leaving.abort()
  assert.match((await running).failure!, /as the session ended/)
  await gone(Number(folder.textOf('pid')))
  const late = script(folder, `touch ${folder.at('late')}`, 'late-hook')
  const end = await runHook(hookOf([late]), {}, { ...patient, signal: leaving.signal })
  assert.match(end.failure!, /was not begun/)
  assert.ok(!existsSync(folder.at('late')))
})

test('what a hook leaves behind in its group does not outlive it, nor hold it up', async () => {
  using folder = new TemporaryFolder()
  const command = script(folder, `sleep 1000 & echo $! > ${folder.at('child')}`)
  const end = await runHook(hookOf([command]), {}, patient)
  assert.equal(end.failure, null)
  assert.ok(end.seconds < 20)
  await gone(Number(folder.textOf('child')))
})

test('what a hook says is cut in the middle and cleaned, however much it is', async () => {
  using folder = new TemporaryFolder()
  const flood = script(folder, `echo first; yes 'a line of many' | head -c 30000000; echo; echo last >&2`)
  const before = process.memoryUsage().rss
  const { failure, lines } = await runHook(hookOf([flood]), {}, patient)
  assert.equal(failure, null)
  assert.equal(lines[0], 'first')
  assert.equal(lines.at(-1), 'last')
  assert.equal(lines.length, 201)
  assert.match(lines[100]!, /^\[29\d{6} bytes or more are left out\]$/)
  assert.ok(process.memoryUsage().rss - before < 64 * 1024 * 1024)

  const dirty = script(
    folder,
    `printf '\\033]0;x\\007red\\r\\nfake\\342\\200\\256line\\n\\n\\377\\n'; head -c 5000 /dev/zero | tr '\\0' x`,
  )
  const { lines: cleaned } = await runHook(hookOf([dirty]), {}, patient)
  assert.deepEqual(cleaned.slice(0, 3), ['\ufffd]0;x\ufffdred', 'fake\ufffdline', '\ufffd'])
  assert.equal(cleaned[3]!.length, 1000)
})

test('a command that others may change, or put another in the place of by a link, is no command', (t) => {
  using folder = new TemporaryFolder()
  const problems = (program: string) =>
    findCommandProblems(program, uid, '/f.toml', 'hooks.x.command').map(({ found }) => found)
  const command = script(folder, 'exit 0')
  assert.deepEqual(problems(command), [])
  chmodSync(command, 0o720)
  assert.deepEqual(problems(command), ['mode 0720'])
  chmodSync(command, 0o600)
  if (uid !== 0) t.diagnostic('without root, what may not be executed cannot be told from the rest')
  assert.deepEqual(problems(command), [`${command}, which may not be executed`])
  chmodSync(command, 0o700)
  symlinkSync(command, folder.at('link'))
  symlinkSync('.', folder.at('here'))
  assert.deepEqual(problems(folder.at('here/here/link')), [])
  folder.write('open/hook', '')
  chmodSync(folder.at('open/hook'), 0o700)
  chmodSync(folder.at('open'), 0o777)
  assert.deepEqual(problems(folder.at('open/hook')), ['mode 0777'])
  // What it leads to is fine, but whoever may write to its folder can lead it elsewhere.
  symlinkSync(command, folder.at('open/link'))
  symlinkSync('open', folder.at('way'))
  assert.deepEqual(problems(folder.at('open/link')), ['mode 0777'])
  assert.deepEqual(problems(folder.at('way/link')), ['mode 0777'])
  symlinkSync('open/link', folder.at('two'))
  assert.deepEqual(problems(folder.at('two')), ['mode 0777'])
  symlinkSync('circle', folder.at('circle'))
  assert.match(problems(folder.at('circle'))[0]!, /cannot be looked at \(ELOOP\)/)
  assert.deepEqual(problems(folder.at('none')), [`no file ${folder.at('none')}`])
  if (uid !== 0) return
  chownSync(command, 65_534, 65_534)
  assert.deepEqual(problems(command), ['user 65534 as its owner'])
})

test('a script that others may write to is told, where it is an argument', () => {
  using folder = new TemporaryFolder()
  const own = script(folder, '', 'own')
  folder.write('theirs/script', '')
  chmodSync(folder.at('theirs'), 0o777)
  assert.deepEqual(findCommandRisks(['/usr/bin/python3', own, '-x', '/none'], uid), [])
  const [risk, ...others] = findCommandRisks(['/usr/bin/python3', folder.at('theirs/script')], uid)
  assert.match(risk!, /which others may write to/)
  assert.deepEqual(others, [])
})
