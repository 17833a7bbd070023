import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeMessage } from '@central-backup/protocol'
import { parseSize } from '../src/config/size.ts'
import { describeProblem } from '../src/errors.ts'
import { backupRequest, selectionOf } from '../src/jobs/backup-request.ts'
import { HomeFolder } from './home-folder.ts'

for (const [text, bytes] of [
  ['0', 0],
  ['500', 500],
  ['1k', 1024],
  ['2G', 2 ** 31],
  ['2 GiB', 2 ** 31],
  ['1.5M', 1_572_864],
  ['1 kB', 1000],
  ['3 GB', 3_000_000_000],
  ['1T', 2 ** 40],
  [' 7b ', 7],
  ['', null],
  ['G', null],
  ['-1', null],
  ['1,5G', null],
  ['1P', null],
  ['9999999T', null],
] as const) {
  test(`the size ${JSON.stringify(text)} is ${bytes ?? 'none'}`, () => assert.equal(parseSize(text), bytes))
}

const module = (fields: string) => `{ address: '192.0.2.1', password: 'p', ${fields} }`

test('paths may have options of their own, and the host and the settings have them for all', async () => {
  using home = new HomeFolder({
    'settings.ts':
      "export default { repository: 'r', defaults: { excludeCaches: true, excludeIfPresent: ['.nobackup'], exclude: ['*.tmp'] } }",
  })
  home.writeHost(
    'web1',
    module(`paths: ['/etc', { path: '/home', exclude: ['*.iso', '!small.iso'], oneFileSystem: false, maxFileSize: '2G' }],
      exclude: ['*.o'], excludeCaches: false, excludeNodump: true, maxFileSize: 4096`),
  )
  const [host] = (await home.load()).hosts
  const request = selectionOf(host!)
  assert.deepEqual(request, {
    host: 'web1',
    paths: [
      Buffer.from('/etc'),
      {
        path: Buffer.from('/home'),
        exclude: [Buffer.from('*.iso'), Buffer.from('!small.iso')],
        oneFileSystem: false,
        maxFileBytes: 2 ** 31,
      },
    ],
    exclude: [Buffer.from('*.tmp'), Buffer.from('*.o')],
    excludeCaches: false,
    excludeIfPresent: [Buffer.from('.nobackup')],
    excludeNodump: true,
    maxFileBytes: 4096,
  })
})

test('problems of paths and options are told with the place where they stand', async () => {
  using home = new HomeFolder()
  home.writeHost(
    'web1',
    module(`paths: ['etc', { path: 'home' }, { path: '/a', maxFileSize: 'big', exclude: ['**'] }, { path: '/b', onFileSystem: true }, 7],
      excludeIfPresent: ['a/b'], oneFileSystem: 'yes', maxFileSize: -1`),
  )
  const lines = (await home.load()).problems
    .map(describeProblem)
    .map((line) => line.replace(/^.*web1\.ts: /, ''))
  const size = "expected a size like '2G', '500 MB' or '1.5 GiB', or a number of bytes"
  for (const line of [
    `paths[0]: found "etc"; expected an absolute path, like '/etc'`,
    `paths[1].path: found "home"; expected an absolute path, like '/etc'`,
    `paths[2].maxFileSize: found "big"; ${size}`,
    `paths[4]: found 7; expected an absolute path or a pattern, or an object like { path: '/home', exclude: ['*.iso'] }`,
    `excludeIfPresent[0]: found "a/b"; expected the name of a file, of 1 to 255 bytes, without '/'`,
    `oneFileSystem: found "yes"; expected true or false`,
    `maxFileSize: found -1; ${size}`,
  ])
    assert.ok(lines.includes(line), `${line}\nis not among\n${lines.join('\n')}`)
  assert.ok(lines.some((line) => line.startsWith('paths[2].exclude[0]: found "**"; expected a pattern')))
  assert.ok(lines.some((line) => /^paths\[3\]\.onFileSystem: .*did you mean 'oneFileSystem'\?$/.test(line)))
})

test('what an agent takes in one request is the most that a module may ask for', async () => {
  using home = new HomeFolder()
  const path = (at: number) =>
    `{ path: '/p${at}', exclude: ['x'], oneFileSystem: true, excludeIfPresent: Array(16).fill('m'), maxFileSize: 1 }`
  const numbers = [...Array(257).keys()]
  const paths = (count: number) => numbers.slice(0, count).map(path).join(', ')
  home.writeHost(
    'most',
    module(`paths: [${paths(256)}, ...Array(744).fill('/x')], exclude: Array(1000).fill('y')`),
  )
  home.writeHost('paths', module(`paths: [${paths(257)}]`))
  home.writeHost('patterns', module("paths: Array(5).fill({ path: '/x', exclude: Array(1000).fill('z') })"))
  home.writeHost('bytes', module("paths: ['/x'], exclude: Array(100).fill('z'.repeat(4000))"))
  const { hosts, problems } = await home.load()
  assert.deepEqual(
    problems.map((one) => describeProblem(one).replace(/^.*hosts\//, '')),
    [
      'bytes.ts: paths: found 400002 bytes of paths and patterns; expected at most 245760',
      'paths.ts: paths: found 257 paths with options; expected at most 256',
      'patterns.ts: paths: found 5000 patterns, those of its paths included; expected at most 4096',
    ],
  )
  assert.deepEqual(
    hosts.map(({ name }) => name),
    ['most'],
  )
  encodeMessage(backupRequest(hosts[0]!, { kind: 'full', startedAtMs: 0, base: null }))
})
