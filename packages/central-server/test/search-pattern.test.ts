import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileSearch } from '../src/catalog/search-pattern.ts'

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
  // What would be special elsewhere.
  { pattern: '!*.txt', finds: ['/!a.txt'], not: ['/a.txt', '/a.js'] },
  { pattern: 'a.b', finds: ['/a.b'], not: ['/axb'] },
  { pattern: 'a\\b', finds: ['/a\\b'], not: ['/a/b', '/ab'] },
  { pattern: '*line', finds: ['/new\nline'], not: ['/new\nlines'] },
  { pattern: '*\udcff', finds: ['/a\udcff'], not: ['/a'] },
]) {
  test(`${JSON.stringify(pattern)} finds ${JSON.stringify(finds[0])}, and not ${JSON.stringify(not[0])}`, () => {
    const matches = compileSearch(pattern)
    for (const path of finds) assert.ok(matches(path), JSON.stringify(path))
    for (const path of not) assert.ok(!matches(path), JSON.stringify(path))
  })
}
