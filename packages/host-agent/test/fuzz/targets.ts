/** The parsers of the agent's own files, and of paths and patterns that a server asks for. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BytePath, bytePathFromBuffer, isWithin, textFromBytes } from '@central-backup/archive'
import fc from 'fast-check'
import { type FuzzTarget, require, requireEqual, textOf } from '../../../../test/fuzz/target.ts'
import { formatBundle } from '../../../central-server/src/jobs/bundle.ts'
import { readBundle } from '../../src/bundle.ts'
import { BundleError, describeProblem } from '../../src/errors.ts'
import { findRestorePlace } from '../../src/policy.ts'
import { findMatches, whyTooSlowToFind } from '../../src/select/glob.ts'
import { type AgentSettings, parseSettings } from '../../src/settings.ts'
import { isPasswordHash, parseListenAddress } from '../../src/settings-schema.ts'

const passwordHash =
  '$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$0123456789012345678901234567890123456789012'

const wholeSettings = `# A comment
name = "web1"
listen = ["0.0.0.0:7911", "[::]:7911"]
password_hash = "${passwordHash}"

[tls]
ca = "ca.crt"

[allow]
read = ["/etc", "/srv"]
restore = ["/srv/restore"]

[local_copy]
directory = "/var/backups"
keep = 2

[limits]
sessions = 4
cpu_nice = 10

[log]
level = "info"
file = "/var/log/backup-host.log"
`

const settings: FuzzTarget = {
  name: 'agent-settings',
  inputs: fc
    .tuple(fc.subarray(wholeSettings.split('\n\n'), { minLength: 1 }), fc.constantFrom('\n\n', '\r\n'))
    .map(([sections, between]) => Buffer.from(sections.join(between))),
  mutations: 'text',
  tokens: [
    '[',
    ']',
    '[[',
    ']]',
    '{',
    '}',
    '=',
    '.',
    '"',
    '"""',
    "'''",
    '\\u0000',
    '\\',
    '#',
    '1e999',
    'nan',
    'inf',
    '0x',
    '1979-05-27',
    'true',
    'a.b.c',
    '__proto__',
    'listen',
    'name',
    'allow',
    '[allow]\n',
    '\n',
    '/../',
  ],
  check(input) {
    const { settings, problems } = parseSettings('/etc/backup-host/backup-host.toml', textOf(input))
    require((settings === null) === problems.length > 0, 'settings, or what is wrong with them')
    for (const problem of problems) require(describeProblem(problem).length < 20_000, 'a problem can be read')
    if (settings === null) return false
    for (const path of [...Object.values(settings.tls), ...settings.allow.read, ...settings.allow.restore])
      require(path.startsWith('/') &&
        !path.split('/').includes('..') &&
        !path.includes('\0'), `a path: ${path}`)
    require(Object.getPrototypeOf(settings.limits) === Object.prototype, 'no prototype is reached')
    require(isPasswordHash(settings.passwordHash), 'a hash')
    return true
  },
}

const listen: FuzzTarget = {
  name: 'listen-address',
  inputs: fc.oneof(
    fc.tuple(fc.ipV4(), fc.nat(70_000)).map(([ip, port]) => Buffer.from(`${ip}:${port}`)),
    fc.tuple(fc.ipV6(), fc.nat(70_000)).map(([ip, port]) => Buffer.from(`[${ip}]:${port}`)),
  ),
  mutations: 'text',
  tokens: ['[', ']', ':', '::', '%lo', '0', '65536', ' ', '\n'],
  check(input) {
    const parsed = parseListenAddress(textOf(input))
    if (parsed === null) return false
    const { address, port } = parsed
    require(isIP(address) !== 0 && port >= 0 && port <= 65_535, 'an address')
    const shown = isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`
    requireEqual(parseListenAddress(shown), parsed, 'it is written to itself')
    return true
  },
}

const hash: FuzzTarget = {
  name: 'password-hash',
  inputs: fc
    .record({ m: fc.nat(2_000_000), t: fc.nat(20), p: fc.nat(20) })
    .map(({ m, t, p }) => Buffer.from(passwordHash.replace('m=65536,t=3,p=4', `m=${m},t=${t},p=${p}`))),
  mutations: 'text',
  tokens: ['m=', 't=', 'p=', ',', '$', '1048577', 'argon2i', 'v=16', '=', 'keyid=', 'data='],
  check(input) {
    const text = textOf(input)
    if (!isPasswordHash(text)) return false
    // Whatever the order: no second value of a cost stands beside the one that was looked at.
    const costs = text.split('$')[3]!.split(',')
    for (const [name, max] of [
      ['m', 1_048_576],
      ['t', 16],
      ['p', 16],
    ] as const) {
      const values = costs.filter((one) => one.startsWith(`${name}=`)).map((one) => Number(one.slice(2)))
      require(values.length >= 1 && values.every((value) => value <= max), `${name} within bounds: ${text}`)
    }
    return true
  },
}

let folder: string | null = null
function scratch(): string {
  folder ??= mkdtempSync(join(tmpdir(), 'central-backup-fuzz-'))
  return folder
}
function removeScratch(): void {
  if (folder !== null) rmSync(folder, { recursive: true, force: true })
  folder = null
}

const pem = (label: string) => `-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`

const bundle: FuzzTarget = {
  name: 'bundle',
  inputs: fc
    .record({
      name: fc.stringMatching(/^[a-z][a-z0-9.-]{0,20}$/),
      port: fc.integer({ min: 1, max: 65_535 }),
      password: fc.string({ minLength: 1 }),
    })
    .map((fields) =>
      Buffer.from(
        formatBundle({
          ...fields,
          certificate: pem('CERTIFICATE'),
          key: pem('PRIVATE KEY'),
          authority: pem('CERTIFICATE'),
        }),
      ),
    ),
  mutations: 'text',
  tokens: [
    '"',
    '{',
    '}',
    ':',
    ',',
    'null',
    '1e999',
    '"__proto__"',
    '"version": 2',
    '"version": "\\u001b[2J"',
    '[',
    ']',
  ],
  async check(input) {
    const file = join(scratch(), 'bundle')
    writeFileSync(file, input, { mode: 0o600 })
    try {
      const { bundle } = await readBundle(file)
      const {
        format: _,
        version: __,
        ...fields
      } = bundle as typeof bundle & { format: string; version: number }
      requireEqual(JSON.parse(formatBundle(fields)), JSON.parse(textOf(input)), 'it is written to itself')
      return true
    } catch (error) {
      if (!(error instanceof BundleError)) throw error
      require(error.message.length < 1000, 'what is refused is told in a few words')
      return false
    }
  },
  dispose: removeScratch,
}

const allowed = ['/', '/srv/restore', '/srv//a/./b/', '/caf\u00e9', '/srv/restore2']

/** An input is the target that a server names. */
const restorePlace: FuzzTarget = {
  name: 'restore-target',
  inputs: fc
    .tuple(
      fc.constantFrom(...allowed, '/srv', '/etc'),
      fc.constantFrom('', '/x', '/x/y', '2', '/../etc', '//x', '/.'),
    )
    .map((parts) => Buffer.from(parts.join(''))),
  mutations: 'text',
  tokens: ['/', '//', '..', '.', '/../', '\0', 'srv', 'restore', 'x'],
  check(input) {
    for (const folders of [allowed.slice(1), ['/']]) {
      const place = findRestorePlace(
        { allow: { read: [], restore: folders } } as unknown as AgentSettings,
        input,
      )
      if (place === null) continue
      require(folders.includes(place.folder), 'a folder of the settings')
      const names = place.subfolder.split('/')
      require(place.subfolder === '' ||
        !names.some((name) => ['', '.', '..'].includes(name) || name.includes('\0')), 'a way down')
      const full = `/${textFromBytes(bytePathFromBuffer(input)).replace(/^\//, '')}` as BytePath
      require(folders.some((one) => isWithin(clean(full), clean(one as BytePath))), 'below what is allowed')
    }
    return (
      findRestorePlace({ allow: { read: [], restore: allowed } } as unknown as AgentSettings, input) !== null
    )
  },
}

function clean(path: BytePath): BytePath {
  return path
    .split('/')
    .filter((name) => name !== '' && name !== '.')
    .join('/') as BytePath
}

let tree: BytePath | null = null
/** An input is a pattern of paths, which is looked for in a small tree. */
const pathPattern: FuzzTarget = {
  name: 'path-pattern',
  inputs: fc
    .array(
      fc.constantFrom(
        '*',
        '**',
        'a',
        'a*',
        '?',
        '[ab]',
        '*a*a*b',
        '.*',
        '[!a]',
        'b',
        '\\a',
        '*.tmp',
        'aaaa*',
      ),
      {
        minLength: 1,
        maxLength: 4,
      },
    )
    .map((names) => Buffer.from(names.join('/'))),
  mutations: 'text',
  tokens: [
    '*',
    '**',
    '?',
    '/',
    '[',
    ']',
    '[!',
    '+(',
    '@(',
    '!(',
    '(',
    ')',
    '|',
    '\\',
    '"',
    '*a',
    '..',
    '.',
    '!',
    '[[:alpha:]]',
    '(a*)+',
    '+(*a)',
    '@(a|aa)',
    '?(a)',
    '+',
  ],
  check(input) {
    tree ??= makeTree()
    const pattern = textFromBytes(bytePathFromBuffer(input))
    // As the selection gives it: without braces and empty names, and without a way up.
    if (/[{}\0]/.test(pattern) || pattern.split('/').some((name) => ['', '.', '..'].includes(name)))
      return false
    if (whyTooSlowToFind(pattern) !== null) return false
    const found = findMatches(tree, pattern, false, {
      onUnreadable() {},
      approach() {},
      isClosed: () => false,
    })
    for (const { path } of found) require(isWithin(path, tree) && path !== tree, `below its base: ${path}`)
    return found.length > 0
  },
  dispose() {
    removeScratch()
    tree = null
  },
}

function makeTree(): BytePath {
  const root = join(scratch(), 'tree')
  for (const name of ['a', 'b', 'a/b', `a/${'a'.repeat(200)}`])
    mkdirSync(join(root, name), { recursive: true })
  for (const name of ['a/x.tmp', 'b/.hidden', 'new\nline', 'caf\u00e9', 'a'.repeat(250)])
    writeFileSync(join(root, name), '')
  return root.slice(1) as BytePath
}

export const agentTargets: readonly FuzzTarget[] = [settings, listen, hash, bundle, restorePlace, pathPattern]
