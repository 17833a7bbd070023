import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

const folder = mkdtempSync(join(tmpdir(), 'central-backup-compile-cache-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** The program as it is installed, but with next to nothing in it. */
const installed = join(folder, 'installed')
cpSync(join(import.meta.dirname, '..', 'bin'), join(installed, 'bin'), { recursive: true })
mkdirSync(join(installed, 'dist'))
writeFileSync(join(installed, 'package.json'), '{ "type": "module" }')
writeFileSync(join(installed, 'dist', 'main.js'), "console.log('it runs')\n")

function start(environment: NodeJS.ProcessEnv): void {
  const program = join(installed, 'bin', 'backup-server.js')
  const ended = spawnSync(process.execPath, [program], {
    env: { PATH: process.env.PATH, ...environment },
    encoding: 'utf8',
    timeout: 30_000,
  })
  assert.deepEqual([ended.stdout, ended.stderr, ended.status], ['it runs\n', '', 0])
}

function newHome(name: string): { home: string; cache: string } {
  const home = join(folder, name)
  mkdirSync(home, { mode: 0o755 })
  return { home, cache: join(home, '.cache', 'central-backup') }
}

test('what was compiled is kept, where only its user can get at it', () => {
  const { home, cache } = newHome('home')
  start({ HOME: home })
  assert.equal(readdirSync(cache).length, 1)
  assert.equal(statSync(cache).mode & 0o777, 0o700)
  start({ HOME: home })
  start({ HOME: '/nowhere', XDG_CACHE_HOME: join(home, 'xdg') })
  assert.equal(readdirSync(join(home, 'xdg', 'central-backup')).length, 1)
  start({ HOME: '/nowhere', CACHE_DIRECTORY: `${join(home, 'unit')}:/elsewhere` })
  assert.equal(readdirSync(join(home, 'unit')).length, 1)
})

test('a folder that others can write to, or to one that it is in, is not used, nor by a link', () => {
  const { home, cache } = newHome('open-home')
  mkdirSync(cache, { recursive: true })
  for (const open of [cache, join(home, '.cache'), home]) {
    chmodSync(open, 0o775)
    start({ HOME: home })
    assert.deepEqual(readdirSync(cache), [], open)
    const { home: linking } = newHome(`link-to-${open.length}`)
    symlinkSync(join(home, '.cache'), join(linking, '.cache'))
    start({ HOME: linking })
    assert.deepEqual(readdirSync(cache), [], `${open}, by a link`)
    chmodSync(open, 0o755)
  }
  start({ HOME: home })
  assert.equal(readdirSync(cache).length, 1)
})

test('a folder of somebody else is not used', { skip: process.geteuid!() !== 0 && 'needs root' }, () => {
  const { home, cache } = newHome('home-of-another')
  mkdirSync(cache, { recursive: true })
  for (const foreign of [cache, join(home, '.cache'), home]) {
    chownSync(foreign, 12_345, 0)
    start({ HOME: home })
    assert.deepEqual(readdirSync(cache), [], foreign)
    chownSync(foreign, 0, 0)
  }
})

test('without a home, or with one that cannot be written, the program starts all the same', () => {
  start({})
  start({ HOME: 'relative' })
  start({ HOME: '/proc' })
  start({ HOME: join(installed, 'package.json') })
})
