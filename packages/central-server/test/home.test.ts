import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { test } from 'node:test'
import { chooseHome, findHome, homeDefault } from '../src/config/home.ts'
import { TemporaryFolder } from './temporary-folder.ts'

test('--home comes before the environment, that before the current folder, that before the default', () => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('here/hosts'), { recursive: true })
  const all = { option: 'a', environment: '/b', workingDirectory: folder.at('here') }
  assert.deepEqual(chooseHome(all), { home: folder.at('here/a'), chosenBy: '--home' })
  assert.deepEqual(chooseHome({ ...all, option: undefined }).home, '/b')
  assert.deepEqual(chooseHome({ ...all, option: undefined, environment: '' }).home, folder.at('here'))
  const nowhere = { option: undefined, environment: undefined, workingDirectory: folder.path }
  assert.equal(chooseHome(nowhere).home, homeDefault)
})

test('a home without hosts/ is refused with what was found and what to do', () => {
  using folder = new TemporaryFolder()
  const find = (option: string) => findHome({ option, environment: undefined, workingDirectory: folder.path })
  assert.throws(() => find('.'), { code: 'configuration', hint: /init/ })
  assert.throws(() => find('not-there'), { message: /not-there \(--home\) is no home/ })
  mkdirSync(folder.at('hosts'))
  assert.equal(find('.'), folder.path)
})
