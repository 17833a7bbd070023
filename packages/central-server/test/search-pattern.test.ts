import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bytesFromText } from '@central-backup/archive'
import { compileSearch } from '../src/catalog/search-pattern.ts'
import { sortKey } from '../src/catalog/version-row.ts'

for (const { pattern, finds, not } of [
  {
    pattern: 'host',
    finds: ['/etc/hosts', '/var/host/x', '/a/ghostly'],
    not: ['/etc/Hosts', '/etc/hots'],
  },
  { pattern: 'etc/hosts', finds: ['/etc/hosts', '/srv/etc/hosts.bak'], not: ['/etc/x/hosts'] },
  {
    pattern: '*.conf',
    finds: ['/etc/a.conf', '/.conf', '/x/.hidden.conf'],
    not: ['/etc/a.conf/b', '/a.config'],
  },
  {
    pattern: 'etc/*.conf',
    finds: ['/etc/a.conf', '/srv/etc/b.conf'],
    not: ['/etc/a/b.conf', '/xetc/a.conf'],
  },
  { pattern: '/etc/*.conf', finds: ['/etc/a.conf'], not: ['/srv/etc/a.conf', '/etc/x/a.conf'] },
  { pattern: '/etc/**', finds: ['/etc/a', '/etc/a/b/.c'], not: ['/srv/etc/a'] },
  { pattern: 'file?', finds: ['/a/file1', '/filex'], not: ['/a/file', '/a/file12'] },
  { pattern: '[ab].txt', finds: ['/a.txt', '/x/b.txt'], not: ['/c.txt', '/ab.txt'] },
  { pattern: '*.{js,ts}', finds: ['/a.js', '/x/a.ts'], not: ['/a.tsx', '/a.c'] },
  { pattern: '/etc/**', finds: ['/etc'], not: ['/etcetera'] },
  { pattern: '**/a/**/b', finds: ['/a/b', '/x/a/y/b'], not: ['/a/c'] },
  { pattern: '/srv/www/*/x*', finds: ['/srv/www/a/xy'], not: ['/srv/www/xy'] },
  // What would be special elsewhere.
  { pattern: '!*.txt', finds: ['/!a.txt'], not: ['/a.txt', '/a.js'] },
  { pattern: 'a.b', finds: ['/a.b'], not: ['/axb'] },
  { pattern: 'a\\b', finds: ['/a\\b'], not: ['/a/b', '/ab'] },
  { pattern: '*line', finds: ['/new\nline'], not: ['/new\nlines'] },
  { pattern: '*\udcff', finds: ['/a\udcff'], not: ['/a'] },
]) {
  test(`${JSON.stringify(pattern)} finds ${JSON.stringify(finds[0])}, and not ${JSON.stringify(not[0])}`, () => {
    const { matches, needle, prefix } = compileSearch(pattern)
    for (const path of finds) {
      assert.ok(matches(path), JSON.stringify(path))
      const key = sortKey(bytesFromText(path.slice(1)))
      assert.ok(key.includes(needle ?? ''), 'what is looked for first keeps nothing out')
      assert.ok(key.indexOf(prefix ?? '') === 0)
    }
    for (const path of not) assert.ok(!matches(path), JSON.stringify(path))
  })
}

test('what a pattern surely has is looked for first', () => {
  const told = (pattern: string) => {
    const { needle, prefix } = compileSearch(pattern)
    return [needle, prefix].map((bytes) => bytes?.toString('latin1').replaceAll('\0', '/') ?? null)
  }
  assert.deepEqual(told('etc/hosts'), ['etc/hosts', null])
  assert.deepEqual(told('*.conf'), ['.conf', null])
  assert.deepEqual(told('/srv/*/very-long-name*'), ['very-long-name', 'srv'])
  assert.deepEqual(told('/*'), [null, null])
  assert.deepEqual(told('*.{js,ts}'), [null, null])
})
