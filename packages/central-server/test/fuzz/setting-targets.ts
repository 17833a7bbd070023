/** The parsers of what a person writes: times, durations, sizes, addresses, patterns, settings and host modules. */
import { type BytePath, bytesFromText } from '@central-backup/archive'
import fc from 'fast-check'
import { attempt, type FuzzTarget, require, requireEqual, textOf } from '../../../../test/fuzz/target.ts'
import { compileSearch } from '../../src/catalog/search-pattern.ts'
import { sortKey } from '../../src/catalog/version-row.ts'
import { parseAddress } from '../../src/cli/address.ts'
import { parseMoment } from '../../src/cli/moment.ts'
import { durationMsMax, parseDuration } from '../../src/config/duration.ts'
import { hostSchema } from '../../src/config/hosts.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { checkShape } from '../../src/config/shape.ts'
import { parseSize } from '../../src/config/size.ts'
import { describeProblem, UsageError } from '../../src/errors.ts'
import { decodeValue, encodeValue, variedValue } from './any-value.ts'

const texts = (...list: string[]) => fc.constantFrom(...list).map((text) => Buffer.from(text))

const nowMs = Date.UTC(2026, 10, 21, 12, 34, 56)
const units = ['minute', 'hour', 'day', 'week', 'month', 'year']

const moment: FuzzTarget = {
  name: 'moment',
  inputs: fc.oneof(
    texts('latest', 'now', '12', 'today', 'yesterday', 'yesterday 14:30', '2026-11-20', '2026-11-20 14:30'),
    texts('2026-11-20T14:30:00Z', '2026-11-20 14:30+01:00', '2026-02-31', '2024-02-29', ' 3  days ago '),
    fc
      .tuple(fc.nat(999_999), fc.constantFrom(...units), fc.constantFrom('', 's'))
      .map(([count, unit, s]) => Buffer.from(`${count} ${unit}${s} ago`)),
    fc
      .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
      .map((date) => Buffer.from(date.toISOString().slice(0, 19).replace('T', ' '))),
  ),
  mutations: 'text',
  tokens: [
    ...units,
    ' ago',
    's',
    '0',
    '9',
    '-',
    ':',
    'T',
    'Z',
    '+24:00',
    '-00:01',
    '0000-01-01',
    '60',
    '99999',
    ' ',
  ],
  check(input) {
    const text = textOf(input)
    const moment = attempt(UsageError, () => parseMoment(text, nowMs))
    if (moment === undefined) return false
    if (moment === 'latest') return true
    if ('run' in moment) require(Number.isSafeInteger(moment.run), 'a run is a number')
    else {
      require(Number.isSafeInteger(moment.atMs), 'a time is a number of milliseconds')
      require(!Number.isNaN(new Date(moment.atMs).getTime()), 'a time is one that there is')
      if (/ago\s*$/i.test(text)) require(moment.atMs <= nowMs, 'what is ago is not to come')
    }
    return true
  },
}

const duration: FuzzTarget = {
  name: 'duration',
  inputs: texts('26 hours', '90m', '1.5 h', '2 days 12 hours', '500ms', '1w', '100 weeks', '0.001 s'),
  mutations: 'text',
  tokens: [
    'ms',
    's',
    'sec',
    'min',
    'm',
    'hours',
    'h',
    'd',
    'w',
    ' ',
    '.',
    '1',
    '000',
    'e9',
    '-',
    '999999999999',
  ],
  check(input) {
    const text = textOf(input)
    const ms = parseDuration(text)
    if (ms === null) return false
    require(Number.isSafeInteger(ms) && ms >= 1 && ms <= durationMsMax, 'milliseconds within bounds')
    requireEqual(parseDuration(`${ms}ms`), ms, 'the same in milliseconds')
    requireEqual(parseDuration(` ${text.toUpperCase()} `), ms, 'capital letters and spaces change nothing')
    return true
  },
}

const size: FuzzTarget = {
  name: 'size',
  inputs: texts('2G', '500 MB', '1.5 GiB', '0', '8191T', '1b', '12kB'),
  mutations: 'text',
  tokens: ['K', 'M', 'G', 'T', 'iB', 'B', ' ', '.', '0', '9', 'e3', '-', '9007199254740991'],
  check(input) {
    const bytes = parseSize(textOf(input))
    if (bytes === null) return false
    require(Number.isSafeInteger(bytes) && bytes >= 0, 'a size that a file can have')
    requireEqual(parseSize(String(bytes)), bytes, 'the same in bytes')
    return true
  },
}

const address: FuzzTarget = {
  name: 'address',
  inputs: fc.oneof(
    texts(
      'web1',
      'web1.example.org:7911',
      '192.0.2.10',
      '192.0.2.10:1',
      '[2001:db8::1]:65535',
      '::1',
      '[::1]',
    ),
    fc.tuple(fc.ipV4(), fc.nat(70_000)).map(([ip, port]) => Buffer.from(`${ip}:${port}`)),
    fc.tuple(fc.ipV6(), fc.nat(70_000)).map(([ip, port]) => Buffer.from(`[${ip}]:${port}`)),
    fc.domain().map((name) => Buffer.from(name)),
  ),
  mutations: 'text',
  tokens: ['[', ']', ':', '::', '.', '-', '_', '%eth0', '0', '65536', '\n', '/', '@', ' '],
  check(input) {
    const parsed = attempt(UsageError, () => parseAddress(textOf(input)))
    if (parsed === undefined) return false
    const { address, port } = parsed
    require(/^[\w.:%-]+$/.test(address), 'an address has nothing that means something elsewhere')
    require(port === null || (Number.isInteger(port) && port >= 1 && port <= 65_535), 'a port')
    const shown = address.includes(':') && port !== null ? `[${address}]` : address
    requireEqual(parseAddress(port === null ? shown : `${shown}:${port}`), parsed, 'it is written to itself')
    return true
  },
}

/** An input is a pattern, a newline, and the path that is looked at. */
const search: FuzzTarget = {
  name: 'find-pattern',
  inputs: fc
    .tuple(
      fc.oneof(
        fc.constantFrom(
          'host',
          '*.conf',
          'etc/*.conf',
          '/etc/**',
          'file?',
          '[ab].txt',
          '*.{js,ts}',
          '**/a/**/b',
        ),
        fc.string({
          unit: fc.constantFrom('a', 'b', '/', '*', '**', '?', '[', ']', '{', ',', '}', '.'),
          maxLength: 12,
        }),
      ),
      fc.oneof(
        fc.constantFrom(
          '/etc/a.conf',
          '/a/b',
          '/x/a/y/b',
          '/file1',
          `/${'a'.repeat(200)}`,
          `/${'a/'.repeat(60)}b`,
        ),
        fc.stringMatching(/^\/[ab./]{0,20}$/),
      ),
    )
    .map((lines) => Buffer.from(lines.join('\n'))),
  mutations: 'text',
  tokens: [
    '*',
    '**',
    '?',
    '/',
    '[',
    ']',
    '[!',
    '{',
    '}',
    ',',
    '(',
    '|',
    ')',
    '+(',
    '@(',
    '!(',
    '\\',
    '"',
    '*a',
    '{1..3}',
  ],
  check(input) {
    const text = textOf(input)
    const at = text.indexOf('\n')
    const [pattern, path] = [text.slice(0, at), text.slice(at + 1)]
    // An argument of a command has no NUL, and neither has a path, nor names that are empty.
    if (at < 0 || !path.startsWith('/') || path.includes('//') || text.includes('\0')) return false
    const search = attempt(UsageError, () => compileSearch(pattern))
    if (search === undefined || !search.matches(path)) return false
    const key = sortKey(bytesFromText(path.slice(1)) as BytePath)
    require(search.needle === null ||
      key.includes(search.needle), 'what is looked for first keeps nothing out')
    require(search.prefix === null || key.indexOf(search.prefix) === 0, 'nor does what keys begin with')
    return true
  },
}

const wholeHost = {
  address: '192.0.2.10',
  port: 7911,
  password: { file: '../secrets/web1' },
  paths: [
    '/etc',
    { path: '/home', exclude: ['*.iso', '!small.iso'], maxFileSize: '2G', oneFileSystem: false },
  ],
  exclude: ['**/node_modules', '*.tmp'],
  excludeIfPresent: ['.nobackup'],
  excludeCaches: true,
  maxFileSize: 5_000_000,
  expectEvery: '26 hours',
  compressionLevel: 3,
  fullEvery: '30 days',
  retention: { last: 3, within: '3 days', hourly: 24, daily: 7, weekly: 4, monthly: 12, yearly: 'always' },
  disabled: false,
}

const wholeSettings = {
  repository: '/srv/backup',
  certs: 'certs',
  concurrency: 4,
  connection: { timeout: '20 seconds', attempts: 3, pause: '5 seconds' },
  log: { file: null, level: 'info' },
  defaults: {
    port: 7911,
    compressionLevel: 3,
    expectEvery: '26 hours',
    exclude: ['*.tmp'],
    fullEvery: '30 days',
    retention: { last: 1 },
    excludeCaches: true,
  },
  prune: 'after-run',
  trash: '7 days',
}

function shapeTarget(name: string, schema: Parameters<typeof checkShape>[0], whole: object): FuzzTarget {
  return {
    name,
    inputs: variedValue(whole).map(encodeValue),
    mutations: 'none',
    check(input) {
      const decoded = decodeValue(input)
      if (decoded === undefined) return false
      const { data, problems } = checkShape(schema, decoded.value, '/etc/x.ts', ['password'])
      if (data !== null) {
        requireEqual(problems, [], 'what is taken has no problems')
        return true
      }
      require(problems.length > 0, 'what is refused has a reason')
      for (const problem of problems) {
        const told = describeProblem(problem)
        require(told.length < 20_000, `a problem can be read: ${told.length} characters`)
        require(!/undefined|\[object/.test(
          `${problem.found}${problem.key}`,
        ), `a problem says what was found: ${told}`)
      }
      return false
    },
  }
}

export const settingTargets: readonly FuzzTarget[] = [
  moment,
  duration,
  size,
  address,
  search,
  shapeTarget('host-module', hostSchema, wholeHost),
  shapeTarget('server-settings', settingsSchema, wholeSettings),
]
