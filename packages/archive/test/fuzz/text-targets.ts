/** The parsers of names, patterns and lists of access. */
import fc from 'fast-check'
import { attempt, type FuzzTarget, require, requireEqual, textOf } from '../../../../test/fuzz/target.ts'
import { aclGroupPermissions, aclText } from '../../src/acl.ts'
import {
  type BytePath,
  bytesFromText,
  comparePaths,
  compileExclusion,
  formatArchiveName,
  isSafePath,
  noVerdict,
  parseArchiveName,
  parsePartialName,
  quotePath,
  textFromBytes,
} from '../../src/index.ts'
import * as arbitrary from '../arbitraries.ts'

const archiveName: FuzzTarget = {
  name: 'archive-name',
  inputs: fc
    .record({
      startedAtMs: fc.integer({ min: -62_167_219_200_000, max: 253_402_300_799_999 }),
      kind: fc.constantFrom('full', 'incremental'),
      suffix: fc.constantFrom('', '.partial', '.foreign.partial', '.partial.partial'),
    })
    .map(({ suffix, ...name }) => Buffer.from(formatArchiveName(name) + suffix)),
  mutations: 'text',
  tokens: ['-full', '-incremental', '.tar.zst', '.partial', 'Z', '00', '31', '\n', '/', '..'],
  check(input) {
    const text = textOf(input)
    const name = parseArchiveName(text)
    const partial = parsePartialName(text)
    if (name !== null) requireEqual(formatArchiveName(name), text, 'it is formatted to itself')
    if (partial !== null) {
      const { archive, reason } = partial
      requireEqual(
        `${archive}${reason === null ? '' : `.${reason}`}.partial`,
        text,
        'nothing else stands in it',
      )
      require(parseArchiveName(archive) !== null, 'the name of an archive')
    }
    require(name === null || partial === null, 'one or the other')
    if (name !== null || partial !== null) require(/^[0-9A-Za-z.-]+$/.test(text), 'a name that leads nowhere')
    return name !== null || partial !== null
  },
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** An input is two paths with a NUL between them. */
const path: FuzzTarget = {
  name: 'path',
  inputs: fc.tuple(arbitrary.path, arbitrary.path).map((paths) => Buffer.from(paths.join('\0'), 'latin1')),
  mutations: 'text',
  tokens: ['/', '//', '.', '..', '/../', '\0', '\n', '\u202e', '\ufffd', 'é', '😀', '\x1b[2J'],
  check(input) {
    const [first, ...rest] = input.toString('latin1').split('\0')
    const [one, other] = [first as BytePath, rest.join('\0') as BytePath]
    for (const path of [one, other]) checkPath(path)
    const keys = [one, other].map((path) => Buffer.from(path.replaceAll('/', '\0'), 'latin1'))
    const order = comparePaths(one, other)
    require(Math.sign(order) + Math.sign(comparePaths(other, one)) === 0, 'the order has a direction')
    if (isSafePath(one) && isSafePath(other))
      require(Math.sign(order) === Buffer.compare(keys[0]!, keys[1]!), 'the order is that of the keys')
    return isSafePath(one)
  },
}

function checkPath(path: BytePath): void {
  const text = textFromBytes(path)
  require(bytesFromText(text) === path, 'no byte is lost in the text')
  const bytes = Buffer.from(path, 'latin1')
  let decoded: string | null = null
  try {
    decoded = strictUtf8.decode(bytes)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
  }
  requireEqual(text.isWellFormed(), decoded !== null, 'well-formed where it is UTF-8')
  if (decoded !== null) requireEqual(text, decoded, 'UTF-8 where it is that')
  require(!/[\p{C}\p{Zl}\p{Zp}]/u.test(quotePath(path)), 'what is quoted forges nothing')
  if (!isSafePath(path)) return
  const resolved = new URL(`file:///${path.split('/').map(encodeURIComponent).join('/')}`).pathname
  requireEqual(resolved.split('/').length - 1, path.split('/').length, 'a safe path leads down only')
}

const acl: FuzzTarget = {
  name: 'acl',
  inputs: fc
    .array(fc.tuple(fc.constantFrom(1, 2, 4, 8, 16, 32), fc.nat(7), fc.nat(0xffff_ffff)), { maxLength: 8 })
    .map((entries) => {
      const bytes = Buffer.alloc(4 + 8 * entries.length)
      bytes.writeUInt32LE(2)
      for (const [i, [tag, permissions, id]] of entries.entries()) {
        bytes.writeUInt16LE(tag, 4 + 8 * i)
        bytes.writeUInt16LE(permissions, 6 + 8 * i)
        bytes.writeUInt32LE(id, 8 + 8 * i)
      }
      return bytes
    }),
  mutations: 'bytes',
  check(input) {
    const text = aclText(input)
    const permissions = aclGroupPermissions(input)
    require(permissions === null || (permissions >= 0 && permissions <= 7), 'permissions')
    if (text === null) return false
    const lines = text.split('\n').slice(0, -1)
    requireEqual(lines.length, (input.length - 4) / 8, 'a line for each entry')
    for (const [i, line] of lines.entries()) {
      require(/^(?:user|group|mask|other):\d*:[r-][w-][x-]$/.test(line), 'a line as acl(5) has it')
      const letters = line.slice(-3)
      const bits = [4, 2, 1].filter((_, at) => letters[at] !== '-').reduce((sum, bit) => sum + bit, 0)
      requireEqual(bits, input.readUInt16LE(6 + 8 * i), 'the permissions of the entry')
    }
    return true
  },
}

const component = fc.oneof(
  fc.constantFrom(
    '*',
    '**',
    '?',
    '*.tmp',
    'a*b',
    '[a-c]',
    '[!a]',
    '{a,b}',
    '{a,{b,c}}',
    '\\*',
    'a',
    'é',
    '*a*a*a*b',
  ),
  fc.string({
    unit: fc.constantFrom('a', 'b', '*', '?', '.', '[', ']', '{', '}', ',', '\\', '!'),
    maxLength: 12,
  }),
)
/** Lines: patterns, and last a path that is judged by them. */
const patterns: FuzzTarget = {
  name: 'exclude-patterns',
  inputs: fc
    .tuple(
      fc.array(
        fc.array(component, { minLength: 1, maxLength: 4 }).map((list) => list.join('/')),
        {
          minLength: 1,
          maxLength: 3,
        },
      ),
      fc.oneof(
        fc.constantFrom('a/b/c.tmp', `x/${'a'.repeat(200)}`, `${'a/'.repeat(100)}b`, 'ab'.repeat(100)),
        fc.stringMatching(/^[abc./]{1,60}$/),
      ),
    )
    .map(([list, path]) => Buffer.from([...list, path].join('\n'))),
  mutations: 'text',
  tokens: [
    '*',
    '**',
    '/**/',
    '?',
    '*a',
    '[',
    ']',
    '[^',
    '[[:alpha:]]',
    '{',
    '}',
    ',',
    '(',
    ')',
    '|',
    '+(',
    '@(',
    '!(',
    '*(',
    '?(',
    '\\',
    '!',
    '"',
    '..',
    '{1..9}',
    'a'.repeat(100),
    '\n',
    '$',
    '^',
    '{a,b}',
    '*(a|*(a|*(a',
    '(a*)+',
    '+(*a)',
    '@(a|aa)',
    '?(a)',
  ],
  cpuMsMax: 1000,
  check(input) {
    const lines = textFromBytes(input.toString('latin1') as BytePath).split('\n')
    const path = bytesFromText(lines.pop()!)
    // What a host module may have, where each that is no plain glob takes a quarter of a millisecond; and paths as they are.
    if (lines.length > 1000 || path.length > 65_536) return false
    const exclusion = attempt(TypeError, () => compileExclusion(lines))
    if (exclusion === undefined) return false
    let verdict = noVerdict
    const names = path.split('/').slice(0, 30)
    for (const [depth, name] of names.entries()) {
      const above = verdict
      const at = names.slice(0, depth + 1).join('/') as BytePath
      verdict = exclusion.judge(at, name as BytePath, depth < names.length - 1, above)
      require(verdict >= above, 'a verdict holds until a later one')
      if (verdict !== noVerdict && verdict !== above)
        exclusion.patternFor(at, name as BytePath, depth < names.length - 1, verdict)
      if (exclusion.leavesOut(verdict)) exclusion.mayTakeBackBelow(at, name as BytePath, verdict)
    }
    return true
  },
}

export const textTargets: readonly FuzzTarget[] = [archiveName, path, acl, patterns]
