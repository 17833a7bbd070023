import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type BytePath,
  bufferFromBytePath,
  bytePathFromBuffer,
  bytesFromText,
  comparePaths,
  isSafePath,
  isWithin,
  joinPath,
  pathBytesMax,
  quotePath,
  textFromBytes,
} from '../src/index.ts'
import * as arbitrary from './arbitraries.ts'

const anyBytes = fc.uint8Array({ maxLength: 60 }).map(bytePathFromBuffer)

/** Bytes that are almost UTF-8: cut, overlong, surrogates, mixed with what is valid. */
const almostUtf8 = fc
  .array(
    fc.constantFrom(
      '\xc3\xa9',
      '\xc3',
      '\xa9',
      '\xe2\x82\xac',
      '\xe2\x82',
      '\xed\xa0\x80',
      '\xf0\x9f\x98\x80',
      '\xc0\xaf',
      'a',
      '\xff',
    ),
  )
  .map((pieces) => pieces.join('') as BytePath)

test('text of a path has its bytes again, whatever they are', () => {
  fc.assert(
    fc.property(fc.oneof(anyBytes, almostUtf8), (path) => {
      assert.equal(bytesFromText(textFromBytes(path)), path)
    }),
  )
})

test('text is plain where the bytes are UTF-8, and has a lone surrogate for each byte that is not', () => {
  assert.equal(textFromBytes('caf\xc3\xa9' as BytePath), 'café')
  assert.equal(textFromBytes('caf\xe9' as BytePath), 'caf\udce9')
  assert.equal(textFromBytes('\xed\xa0\x80' as BytePath), '\udced\udca0\udc80')
  assert.equal(textFromBytes('\xef\xbf\xbd' as BytePath), '\ufffd')
})

test('a path and its buffer are the same bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (buffer) => {
      assert.deepEqual(new Uint8Array(bufferFromBytePath(bytePathFromBuffer(buffer))), buffer)
    }),
  )
})

test('paths sort as their bytes do with NUL for the slash', () => {
  const key = (path: BytePath) => Buffer.from(path.replaceAll('/', '\0'), 'latin1')
  fc.assert(
    fc.property(arbitrary.path, arbitrary.path, (a, b) => {
      assert.equal(Math.sign(comparePaths(a, b)), Buffer.compare(key(a), key(b)))
      assert.equal(Math.sign(comparePaths(a, b)), -Math.sign(comparePaths(b, a)))
      assert.equal(comparePaths(a, a), 0)
    }),
  )
})

test('a directory sorts right before what is in it, and all of that before its next sibling', () => {
  const sorted = ['a', 'a/b', 'a/b/c', 'a/b-', 'a\x01', 'a b', 'a-', 'a.txt', 'a0', 'b'] as BytePath[]
  assert.deepEqual([...sorted].reverse().sort(comparePaths), sorted)
})

test('what lies within a directory is told by whole names', () => {
  const within = (path: string, ancestor: string) => isWithin(path as BytePath, ancestor as BytePath)
  assert.ok(within('etc', 'etc') && within('etc/hosts', 'etc') && within('etc', ''))
  assert.ok(!within('etc2', 'etc') && !within('et', 'etc'))
  assert.equal(joinPath('' as BytePath, 'etc' as BytePath), 'etc')
  assert.equal(joinPath('etc' as BytePath, 'hosts' as BytePath), 'etc/hosts')
})

test('only relative paths without empty, dot and dot-dot names are safe', () => {
  fc.assert(fc.property(arbitrary.path, (path) => isSafePath(path)))
  const pieces = fc.array(fc.constantFrom('/', '.', 'a', '\0', '\u00ff'), { maxLength: 12 })
  fc.assert(
    fc.property(pieces, (pieces) => {
      const path = pieces.join('') as BytePath
      const isUnsafe = ['', '.', '..'].some((name) => path.split('/').includes(name)) || path.includes('\0')
      assert.equal(isSafePath(path), !isUnsafe)
    }),
    { numRuns: 2000 },
  )
  for (const path of [
    '',
    '/',
    '/etc',
    'etc/',
    'a//b',
    '.',
    '..',
    'a/..',
    './a',
    'a/./b',
    '../a',
    'a\0b',
    '\0',
  ]) {
    assert.equal(isSafePath(path as BytePath), false, JSON.stringify(path))
  }
  assert.ok(isSafePath('...' as BytePath) && isSafePath('a/.b/..c' as BytePath))
  assert.ok(isSafePath('x'.repeat(pathBytesMax) as BytePath))
  assert.ok(!isSafePath('x'.repeat(pathBytesMax + 1) as BytePath))
})

test('a quoted path can neither break a line, nor send codes to a terminal, nor fill the screen', () => {
  const quoted = quotePath('a\nb\x1b[31m\xc2\x9b\xe2\x80\xae"\xe9' as BytePath)
  assert.equal(quoted, '"/a\\nb\\u001b[31m\\u{9b}\\u{202e}\\"\\udce9"')
  fc.assert(fc.property(anyBytes, (path) => !/[\p{C}\u2028\u2029]/u.test(quotePath(path))))
  assert.ok(quotePath('x'.repeat(5000) as BytePath).length < 400)
})
