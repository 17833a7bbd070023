import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseTarget } from '../src/jobs/restore-to-host.ts'

test('without a wish, the one folder that the host allows is the target', () => {
  assert.equal(chooseTarget('web1', ['/srv/restore'], null), '/srv/restore')
  assert.equal(chooseTarget('web1', ['/srv/restore/'], null), '/srv/restore')
})

test('without a wish, several folders and the whole machine leave the choice to the person', () => {
  assert.throws(() => chooseTarget('web1', ['/srv/a', '/srv/b'], null), {
    code: 'usage',
    message: /\/srv\/a, \/srv\/b/,
  })
  assert.throws(() => chooseTarget('web1', ['/'], null), { code: 'usage', message: /anywhere/ })
  assert.throws(() => chooseTarget('web1', ['//'], null), { code: 'usage' })
})

test('a wish has to lie at or below an allowed folder', () => {
  assert.equal(chooseTarget('web1', ['/srv/a', '/srv/b'], '/srv/b'), '/srv/b')
  assert.equal(chooseTarget('web1', ['/srv/a', '/srv/b'], '/srv/b/../a/./x/'), '/srv/a/x')
  assert.equal(chooseTarget('web1', ['/'], '/'), '/')
  assert.equal(chooseTarget('web1', ['/'], '/etc'), '/etc')
  const refusals = ['/', '/srv', '/srv/ab', '/srv/a/../c'].map((wish) => {
    try {
      return chooseTarget('web1', ['/srv/a', '/srv/b'], wish)
    } catch (error) {
      const { code, message, hint } = error as { code: string; message: string; hint: string }
      return `${code}: ${message}. ${hint}`
    }
  })
  assert.deepEqual(new Set(refusals), new Set([refusals[0]]))
  assert.match(
    refusals[0]!,
    /^policy-denied: the settings of web1 do not allow to restore there\..* \/srv\/a, \/srv\/b\.$/,
  )
})

test('a host that allows nothing is refused, with a wish and without', () => {
  for (const wish of [null, '/', '/srv'])
    assert.throws(() => chooseTarget('web1', [], wish), { code: 'policy-denied' })
})
