/** The units for systemd, tried: `npm run units`. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { compareTrees, readTree } from '../test/harness/compare-trees.ts'
import { makeFeatures, releaseFeatures } from '../test/harness/features.ts'
import { shownDifferences } from '../test/harness/fidelity.ts'
import { lacksProgram, readRun } from '../test/harness/site.ts'
import { Machine, makeDebian } from './debian.ts'
import { readOptions } from './options.ts'

const usage = `
Goes through the steps of README.md and docs/operating.md under a systemd, as root: npm run units [-- OPTION...]

  --root DIR   a copy of the Debian in this folder, which has systemd, dbus, procps, acl and logrotate (one that is
               made by debootstrap, which takes some minutes and a mirror)
  --keep       leaves the folder where all of it was done

Boots it by systemd-nspawn, installs what npm run build makes, and tries each unit, each drop-in, and what each of them is to
keep from happening. Exits with 1 where one is not what the documents say.
`

const checkout = join(import.meta.dirname, '..')
/** What a Debian needs for it. */
const packages = ['systemd', 'systemd-sysv', 'dbus', 'procps', 'acl', 'logrotate']
const eventMsMax = 60_000

const settings = '/etc/backup-host/backup-host.toml'
const module = '/etc/central-backup/hosts/web1.ts'
const own = 'runuser -u central-backup --'

const { values: options } = readOptions(usage, {
  options: { root: { type: 'string' }, keep: { type: 'boolean', default: false } },
})

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** A Debian with both programs in it, and what packaging/ has in /root. */
function prepareRoot(work: string): string {
  const root = join(work, 'debian')
  if (options.root === undefined) {
    say('== debootstrap: a small Debian')
    makeDebian(root, packages)
  } else execFileSync('cp', ['-a', '--reflink=auto', resolve(options.root), root])
  say('== build and install')
  execFileSync(process.execPath, [join(checkout, 'scripts', 'build.ts')], { stdio: 'ignore' })
  copyFileSync(process.execPath, join(root, 'usr/local/bin/node'))
  const tarballs = globSync(join(checkout, 'dist', '*.tgz'))
  const scripts = '--allow-scripts=zstd-napi,koffi,argon2,msgpackr-extract'
  const prefix = ['--prefix', join(root, 'usr/local')]
  execFileSync('npm', ['install', '-g', '--loglevel=error', ...prefix, scripts, ...tarballs], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}` },
  })
  for (const kind of ['systemd', 'logrotate'])
    execFileSync('cp', ['-r', join(checkout, 'packaging', kind), join(root, 'root')])
  return root
}

function change(machine: Machine, path: string, edit: (text: string) => string): void {
  const file = machine.at(path)
  const before = readFileSync(file, 'utf8')
  const after = edit(before)
  assert.notEqual(after, before, `${path} is not as it was expected to be`)
  writeFileSync(file, after)
}

/** What the unit of the agent has said since a moment. */
async function logSince(machine: Machine, since: string): Promise<string> {
  return (await machine.run(`journalctl -u backup-host -o cat --no-pager --since '${since}'`)).stdout
}

async function now(machine: Machine): Promise<string> {
  return (await machine.run('date "+%F %T"')).stdout.trim()
}

/** Restarts the agent, or does what `how` says instead, and waits until it listens. */
async function restart(machine: Machine, how = 'systemctl restart backup-host'): Promise<void> {
  await machine.run(how)
  await machine.until(() => listens(machine), eventMsMax, 'an agent that listens')
}

async function listens(machine: Machine): Promise<boolean> {
  // 1EE7 is 7911, and 0A a socket that listens.
  return (await machine.run('cat /proc/net/tcp')).stdout.includes('00000000:1EE7 00000000:0000 0A')
}

async function dropIn(machine: Machine, unit: string, name: string, text: string): Promise<void> {
  await machine.run(`mkdir -p /etc/systemd/system/${unit}.service.d`)
  writeFileSync(machine.at(`/etc/systemd/system/${unit}.service.d/${name}.conf`), text)
  await machine.run('systemctl daemon-reload')
}

const packaged = (name: string) => readFileSync(join(checkout, 'packaging', 'systemd', name), 'utf8')

/** A run that must come through, and what it said. */
async function backUp(machine: Machine, ...args: string[]) {
  const run = readRun(await machine.run(`${own} backup-server run --json ${args.join(' ')}`))
  return { end: run.ends.web1!, warnings: run.warnings }
}

type Step = (machine: Machine) => Promise<string | undefined>

const steps: Record<string, Step> = {
  'systemd has nothing to say of the units and drop-ins': async (machine) => {
    await machine.run('cp /root/systemd/*.service /root/systemd/*.timer /etc/systemd/system/')
    const units = 'backup-host.service backup-server.service backup-server.timer'
    for (const name of ['restore', 'hooks'])
      await dropIn(machine, 'backup-host', name, packaged(`backup-host-${name}.conf`))
    const { stdout, stderr } = await machine.run(`cd /etc/systemd/system; systemd-analyze verify ${units}`)
    assert.equal(stdout + stderr, '')
    await machine.run('rm -r /etc/systemd/system/backup-host.service.d; systemctl daemon-reload')
    return (await machine.run('systemd-analyze security --no-pager backup-host backup-server')).stdout
      .split('\n')
      .filter((line) => line.startsWith('backup-'))
      .join('; ')
  },

  'a server is set up, and a host enrolled by one line': async (machine) => {
    await machine.run(
      'useradd --system --home-dir /var/lib/central-backup --shell /usr/sbin/nologin central-backup; ' +
        'install -d -m 700 -o central-backup -g central-backup /etc/central-backup /var/lib/central-backup',
    )
    await machine.run(`${own} backup-server init`)
    const enrolment = machine.start('backup-host enroll --address 127.0.0.1 --json')
    const line = await enrolment.until(() => enrolment.json.find(({ event }) => event === 'waiting')?.line)
    const renamed = String(line).replace(/ enroll \S+ /, ' enroll web1 ')
    await machine.run(`${own} ${renamed} --path /etc --path /srv/features`)
    assert.equal((await enrolment.endWithin(eventMsMax)).code, 0)
    await machine.run('backup-host check')
  },

  'the agent is a service with three capabilities': async (machine) => {
    await restart(machine, 'systemctl enable --now backup-host')
    const pid = (await machine.run('systemctl show -P MainPID backup-host')).stdout.trim()
    const { stdout } = await machine.run(`grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/${pid}/status`)
    assert.match(stdout, /CapEff:\t000000000020000c\nCapBnd:\t000000000020000c\nNoNewPrivs:\t1\nSeccomp:\t2/)
    await machine.run(`${own} backup-server check`)
  },

  'runs by hand, by the unit, and by the timer at night': async (machine) => {
    assert.equal((await backUp(machine)).end.outcome, 'complete')
    await machine.run('systemctl enable --now backup-server.timer; systemctl start backup-server')
    const { stdout } = await machine.run('systemctl list-timers --no-pager backup-server.timer')
    assert.match(stdout, / 03:\d\d:\d\d .*backup-server\.service/)
    return (await machine.run(`${own} backup-server list`)).stdout.trim().split('\n').at(-1)
  },

  'the whole machine is read within the sandbox': async (machine) => {
    change(machine, module, (text) => text.replace(/paths: .*/, "paths: ['/'],"))
    const { end, warnings } = await backUp(machine)
    assert.match(end.outcome, /^complete/)
    assert.equal(end.counts.unreadable! + end.counts.attributes!, 0, JSON.stringify(warnings))
    change(machine, module, (text) => text.replace(/paths: .*/, "paths: ['/etc', '/srv/features'],"))
    return `${end.counts.files! + end.counts.unchanged!} files and more, ${end.outcome}, ${end.warningCount} warnings`
  },

  'without the drop-in nothing is restored, and SIGHUP reads the settings': async (machine) => {
    await machine.run('install -d -m 700 /srv/restore')
    change(machine, settings, (text) => text.replace(/^read = .*$/m, '$&\nrestore = ["/srv/restore"]'))
    await machine.run('backup-host check; systemctl reload backup-host')
    const { stderr } = await machine.run(
      `until ${own} backup-server check | grep 'may restore to'; do sleep 0.2; done; ${own} backup-server ` +
        'restore web1 /srv/features --to-host web1 --target /srv/restore',
      [1],
    )
    assert.match(stderr, /read-only file system[\s\S]*backup-host-restore\.conf/)
    assert.ok(!existsSync(machine.at('/srv/restore/srv')))
  },

  'with it all comes back: kinds, owners, capabilities, devices, flags, attributes': async (machine) => {
    await dropIn(machine, 'backup-host', 'restore', packaged('backup-host-restore.conf'))
    await restart(machine)
    const { stderr } = await machine.run(
      `${own} backup-server restore web1 /srv/features --to-host web1 --target /srv/restore`,
    )
    const expected = readTree(machine.at('/srv/features'))
    const differences = compareTrees(readTree(machine.at('/srv/restore/srv/features')), expected)
    assert.deepEqual(shownDifferences(differences), [], `${differences.length} differ: ${stderr}`)
    return `${expected.size} objects, no difference`
  },

  'hooks write nothing without their drop-in, and with it become another user': async (machine) => {
    writeFileSync(
      machine.at('/usr/local/sbin/dump-db'),
      '#!/bin/sh\nset -e\nid -un\necho "$CENTRAL_BACKUP_RUN_ID" > /var/backups/dumps/db.sql\ntouch /etc/no && exit 9 || exit 0\n',
      { mode: 0o755 },
    )
    await machine.run('chmod 755 /usr/local/sbin/dump-db; install -d -o games /var/backups/dumps')
    const command = '["/usr/sbin/runuser", "-u", "games", "--", "/usr/local/sbin/dump-db"]'
    const outside =
      '["/usr/bin/systemd-run", "--quiet", "--pipe", "--wait", "--collect", "/bin/touch", "/srv/outside"]'
    const owed = '["/bin/sh", "-c", "echo owed $CENTRAL_BACKUP_OUTCOME $CENTRAL_BACKUP_INTERRUPTED"]'
    appendFileSync(
      machine.at(settings),
      `[hooks.dump-db]\ncommand = ${command}\nwhen = "before"\non_failure = "warn"\n` +
        `[hooks.outside]\ncommand = ${outside}\nwhen = "before"\n` +
        `[hooks.owed]\ncommand = ${owed}\nwhen = "after-always"\nrun = "always"\n` +
        '[hooks.waits]\ncommand = ["/bin/sleep", "600"]\nwhen = "before"\n',
    )
    change(machine, module, (text) =>
      text.replace(/paths:/, "hooks: { before: ['dump-db', 'outside'] },\n  paths:"),
    )
    await restart(machine)
    const { warnings } = await backUp(machine)
    assert.deepEqual(
      warnings.map(({ code }) => code),
      ['hook-failed', 'hook-output'],
      JSON.stringify(warnings),
    )
    assert.ok(existsSync(machine.at('/srv/outside')), 'what systemd-run runs is in no sandbox')
    await dropIn(machine, 'backup-host', 'hooks', packaged('backup-host-hooks.conf'))
    await restart(machine)
    const since = await now(machine)
    const { end, warnings: none } = await backUp(machine)
    assert.deepEqual([end.outcome, none], ['complete', []])
    assert.match(readFileSync(machine.at('/var/backups/dumps/db.sql'), 'utf8'), /-incremental$/m)
    assert.match(await logSince(machine, since), /dump-db: games[\s\S]*owed complete/)
    assert.ok(!existsSync(machine.at('/etc/no')))
  },

  'an agent that is stopped ends its hooks, and runs those that it owes': async (machine) => {
    change(machine, module, (text) => text.replace("'outside'", "'waits'"))
    const since = await now(machine)
    await machine.run('systemctl start --no-block backup-server')
    await machine.until(async () => (await hooksAtWork(machine)) === 1, eventMsMax, 'a hook at work')
    const startedMs = performance.now()
    await machine.run('systemctl stop backup-host')
    const seconds = (performance.now() - startedMs) / 1000
    assert.match(await logSince(machine, since), /owed failed"/)
    assert.equal(await hooksAtWork(machine), 0)
    const result = 'systemctl show -P Result backup-host'
    assert.equal((await machine.run(result)).stdout.trim(), 'success')
    await machine.until(
      async () => (await machine.run('systemctl is-failed backup-server', [0, 1, 3])).code === 0,
      eventMsMax,
      'a unit of the server that has failed',
    )
    return `in ${seconds.toFixed(1)} s`
  },

  'one that is killed is started again, and makes up for them': async (machine) => {
    await restart(machine, 'systemctl start backup-host')
    await machine.run('systemctl start --no-block backup-server')
    await machine.until(async () => (await hooksAtWork(machine)) === 1, eventMsMax, 'a hook at work')
    const since = await now(machine)
    await machine.run('systemctl kill --kill-who=main --signal=KILL backup-host')
    const isOwed = async () => /owed failed 1/.test(await logSince(machine, since))
    await machine.until(isOwed, eventMsMax, 'a hook that was made up for')
    assert.equal(await hooksAtWork(machine), 0)
    change(machine, module, (text) => text.replace(", 'waits'", ''))
    await machine.until(() => listens(machine), eventMsMax, 'an agent that listens')
  },

  'local copies are kept': async (machine) => {
    await machine.run('install -d -m 700 /var/backups/central-backup')
    appendFileSync(
      machine.at(settings),
      '[local_copy]\ndirectory = "/var/backups/central-backup"\nkeep = 2\n',
    )
    await restart(machine)
    const { end } = await backUp(machine)
    assert.ok(end.localCopy?.kept, JSON.stringify(end.localCopy))
    const copy = machine.at(`/var/backups/central-backup/${end.archive!.name}`)
    const archive = machine.at(`/var/lib/central-backup/archives/web1/${end.archive!.name}`)
    assert.deepEqual(readFileSync(copy), readFileSync(archive))
  },

  'certificates are renewed and revoked, on both sides within their units': async (machine) => {
    const key = () => readFileSync(machine.at('/etc/backup-host/host.key'), 'utf8')
    const before = key()
    await dropIn(
      machine,
      'backup-server',
      'renew',
      '[Service]\nExecStart=\nExecStart=backup-server certs renew\n',
    )
    await machine.run('systemctl start backup-server')
    assert.notEqual(key(), before)
    await dropIn(machine, 'backup-server', 'renew', '')
    await machine.run(`${own} backup-server certs revoke --server`)
    await machine.run('systemctl start backup-server')
    assert.ok(existsSync(machine.at('/etc/backup-host/revoked.crl')))
    await machine.run(`${own} backup-server check`)
  },

  'logs are rotated, and one that cannot be opened is told': async (machine) => {
    await machine.run('cp /root/logrotate/* /etc/logrotate.d/')
    const log = (file: string) =>
      change(machine, settings, (text) =>
        text.replace(/^(file = .*|# \[log\])$/m, (line) =>
          line.startsWith('#') ? `[log]\nfile = "${file}"` : `file = "${file}"`,
        ),
      )
    log('/var/log/backup-host/backup-host.log')
    await restart(machine)
    await machine.run('logrotate -f /etc/logrotate.d/backup-host /etc/logrotate.d/backup-server')
    const newest = machine.at('/var/log/backup-host/backup-host.log')
    const isRead = () => readFileSync(newest, 'utf8').includes('SIGHUP: the settings were read again')
    await machine.until(isRead, eventMsMax, 'a line in the new log')
    log('/var/log/elsewhere.log')
    const since = await now(machine)
    await machine.run('systemctl restart backup-host')
    const isTold = async () =>
      /Cannot open the log .*EROFS.*\n.*\/var\/log\/backup-host/.test(await logSince(machine, since))
    await machine.until(isTold, eventMsMax, 'a reason')
    log('/var/log/backup-host/backup-host.log')
    await restart(machine)
  },

  'settings that cannot be used are not tried again and again': async (machine) => {
    change(machine, settings, (text) => text.replace(/^name = /m, 'nme = '))
    await machine.run('systemctl restart backup-host')
    const state = async () => (await machine.run('systemctl show -P SubState backup-host')).stdout.trim()
    await machine.until(async () => (await state()) === 'failed', eventMsMax, 'a unit that has failed')
    assert.equal((await machine.run('systemctl show -P ExecMainStatus backup-host')).stdout.trim(), '2')
    change(machine, settings, (text) => text.replace(/^nme = /m, 'name = '))
    await restart(machine)
  },

  'a repository elsewhere needs its drop-in': async (machine) => {
    await machine.run('install -d -m 700 -o central-backup -g central-backup /srv/backup')
    change(machine, '/etc/central-backup/settings.ts', (text) =>
      text.replace(/repository: .*/, "repository: '/srv/backup',"),
    )
    await machine.run(`${own} backup-server init`)
    await machine.run('systemctl start backup-server', [1])
    await dropIn(
      machine,
      'backup-server',
      'repository',
      '[Unit]\nRequiresMountsFor=/srv/backup\n\n[Service]\nReadWritePaths=/srv/backup\n',
    )
    await machine.run('systemctl start backup-server')
  },

  'systemd itself is content': async (machine) => {
    assert.equal((await machine.run('systemctl --failed --quiet --plain')).stdout, '')
  },
}

async function hooksAtWork(machine: Machine): Promise<number> {
  return Number((await machine.run('pgrep -cx sleep || true')).stdout)
}

async function main(): Promise<number> {
  if (process.geteuid!() !== 0) throw new Error('only root can boot a machine')
  for (const program of [
    'systemd-nspawn',
    'nsenter',
    ...(options.root === undefined ? ['debootstrap'] : []),
  ]) {
    const lacks = await lacksProgram(program)
    if (lacks) throw new Error(`${lacks}; on Debian: apt-get install systemd-container debootstrap`)
  }
  const work = mkdtempSync(join(tmpdir(), 'central-backup-units-'))
  try {
    const root = prepareRoot(work)
    mkdirSync(join(root, 'srv/features'))
    const { made, lacking } = await makeFeatures(join(root, 'srv/features'))
    say(
      `== boot; ${made.length} kinds of objects to be kept, ${lacking.size} that this file system cannot have`,
    )
    await using machine = await Machine.boot(root)
    say(`   ${(await machine.run('systemctl --version')).stdout.split('\n')[0]}`)
    for (const [name, step] of Object.entries(steps)) {
      const startedMs = performance.now()
      try {
        const told = await step(machine)
        say(`ok ${name} (${((performance.now() - startedMs) / 1000).toFixed(1)} s)${told ? `: ${told}` : ''}`)
      } catch (error) {
        say(`FAILED ${name}\n${(error as Error).stack}`)
        say((await machine.run('journalctl -o cat --no-pager -n 30')).stdout)
        return 1
      }
    }
    return 0
  } finally {
    if (options.keep) say(`kept: ${work}`)
    else {
      releaseFeatures(work)
      execFileSync('rm', ['-rf', '--one-file-system', work])
    }
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exitCode = 1
}
